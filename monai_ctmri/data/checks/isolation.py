"""Calls in other processes, so that a decoder that brings its process down costs one file and not the run."""

from __future__ import annotations

import logging
import multiprocessing
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

__all__ = ["map_isolated"]

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def map_isolated(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    lost: Callable[[Item], Result],
    progress: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Apply a function to every item in a pool of processes; one that dies takes only its item with it.

    When a process dies, nobody knows at which of the items in flight. They are tried again one at a time, and the ones
    at which a process dies again are given up. Processes are spawned, not forked: a fork of a process with threads can
    hang. Where none can be started (a script without ``if __name__ == "__main__"``), the work is done in this process.

    Args:
        function: importable by name, as are items and results by pickle; what it raises is raised here.
        items: of any number.
        workers: processes at a time, from 1.
        lost: gives the result of an item that was given up; called in this process.
        progress: called after each item with the number of items done and of all.

    Returns:
        The results in the order of the items.
    """
    results: dict[int, Result] = {}

    def done(index: int, result: Result) -> None:
        results[index] = result
        if progress is not None:
            progress(len(results), len(items))

    waiting = deque(range(len(items)))
    while waiting:
        pool = _start(min(workers, len(waiting)))
        if pool is None:
            logger.warning("no process could be started; the files are opened in this one")
            for index in sorted(waiting):
                done(index, function(items[index]))
            break
        try:
            suspects = _drain(pool, function, items, waiting, 2 * workers, done)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        for index in suspects:
            done(index, _alone(function, items[index], lost))
    return [results[index] for index in range(len(items))]


def _drain(
    pool: ProcessPoolExecutor,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    waiting: deque[int],
    window: int,
    done: Callable[[int, Result], None],
) -> list[int]:
    """Work through ``waiting``; when a process dies, return the items that were in flight."""
    running: dict[Future[Result], int] = {}
    suspects: list[int] = []
    while (waiting and not suspects) or running:
        # Few at a time, so that few are under suspicion when a process dies.
        while waiting and not suspects and len(running) < window:
            try:
                running[pool.submit(function, items[waiting[0]])] = waiting[0]
            except BrokenProcessPool:
                break
            waiting.popleft()
        if not running:
            break
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            index = running.pop(future)
            try:
                result = future.result()
            except BrokenProcessPool:
                suspects.append(index)
            else:
                done(index, result)
    return sorted(suspects)


def _alone(function: Callable[[Item], Result], item: Item, lost: Callable[[Item], Result]) -> Result:
    pool = _start(1)
    if pool is None:
        return lost(item)
    try:
        return pool.submit(function, item).result()
    except BrokenProcessPool:
        return lost(item)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start(workers: int) -> ProcessPoolExecutor | None:
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        pool.submit(_nothing).result()  # processes that die at their start must not look like broken files
    except BrokenProcessPool:
        pool.shutdown(wait=False)
        return None
    return pool


def _nothing() -> None:
    """What the first call of a pool does."""
