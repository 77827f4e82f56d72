"""Calls in other processes, so that a decoder that dies or never ends costs one file and not the run."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

__all__ = ["CRASHED", "TIME_LIMIT", "TOO_LONG", "map_isolated"]

Item = TypeVar("Item")
Result = TypeVar("Result")

TIME_LIMIT = 120.0
"""Seconds for one item: several times what the largest volume that is read takes on a slow machine."""
CRASHED, TOO_LONG = "crashed", "too long"
"""Why an item was given up."""

_START_LIMIT = 120.0  # seconds to import what the function needs
_LEAVE = 5.0  # seconds
_READY = "ready"

logger = logging.getLogger(__name__)


def map_isolated(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    lost: Callable[[Item, str], Result],
    progress: Callable[[int, int], None] | None = None,
    time_limit: float = TIME_LIMIT,
) -> list[Result]:
    """Apply a function to every item in other processes; one that dies or hangs takes only its item with it.

    A process has one item at a time, so it is known at which item it died; another process takes its place. Processes
    are spawned, not forked: a fork of a process with threads can hang. Where none can be started (a script without
    ``if __name__ == "__main__"``), the work is done in this process, without a time limit.

    Args:
        function: importable by name, as are items and results by pickle; what it raises is raised here.
        items: of any number.
        workers: processes at a time, from 1.
        lost: gives the result of an item that was given up, and why (:data:`CRASHED` or :data:`TOO_LONG`); called in
            this process.
        progress: called after each item with the number of items done and of all.
        time_limit: seconds after which the process of an item is ended.

    Returns:
        The results in the order of the items.
    """
    results: dict[int, Result] = {}

    def done(index: int, result: Result) -> None:
        results[index] = result
        if progress is not None:
            progress(len(results), len(items))

    waiting = deque(range(len(items)))
    crew: list[_Worker] = []
    try:
        while waiting or any(worker.index is not None for worker in crew):
            while waiting and len(crew) < min(workers, len(items)):
                crew.append(_Worker(function))
            for worker in _heard(crew):
                index = worker.index
                try:
                    good, answer = worker.answer()
                except (EOFError, OSError):
                    if not worker.ready:  # processes that die at their start must not look like broken files
                        logger.warning("no process could be started; the files are opened in this one")
                        return _here(function, items, waiting, crew, results, done)
                    crew.remove(worker)
                    worker.end()
                    if index is not None:
                        done(index, lost(items[index], TOO_LONG if worker.late else CRASHED))
                    continue
                if not good:
                    raise answer if isinstance(answer, BaseException) else RuntimeError(answer)
                if index is not None:
                    done(index, answer)
                if waiting:
                    worker.give(waiting.popleft(), items, time_limit)
    finally:
        for worker in crew:
            worker.dismiss()
        for worker in crew:
            worker.end()
    return [results[index] for index in range(len(items))]


class _Worker:
    """A process and the item that it has."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, function), daemon=True)
        self.ready, self.late = False, False
        self.index: int | None = None
        self.deadline = time.monotonic() + _START_LIMIT
        self.process.start()
        other.close()  # so that the end of the process is the end of the pipe

    def give(self, index: int, items: Sequence[Any], time_limit: float) -> None:
        self.index, self.deadline = index, time.monotonic() + time_limit
        with contextlib.suppress(OSError):  # it has died; the answer tells
            self.pipe.send(items[index])

    def answer(self) -> tuple[bool, Any]:
        """Return whether the function came to its end, and what it returned or raised; EOFError where it cannot."""
        if self.late:
            raise EOFError
        answer: tuple[bool, Any] = self.pipe.recv()
        self.ready, self.index, self.deadline = True, None, math.inf
        return answer

    def dismiss(self) -> None:
        """Let a process without an item come to its end by itself: it reads the end of its pipe."""
        self.pipe.close()

    def end(self) -> None:
        self.pipe.close()
        if self.ready and self.index is None:
            self.process.join(_LEAVE)
        self.process.kill()
        self.process.join()


def _heard(crew: Sequence[_Worker]) -> list[_Worker]:
    """Wait for the next workers with an answer, at their end, or over their time."""
    soonest = min(worker.deadline for worker in crew)
    pipes: dict[Any, _Worker] = {worker.pipe: worker for worker in crew}
    spoke = wait(list(pipes), None if soonest == math.inf else max(0.0, soonest - time.monotonic()))
    if spoke:
        return [pipes[pipe] for pipe in spoke]
    overdue = [worker for worker in crew if worker.deadline <= time.monotonic()]
    for worker in overdue:
        worker.late = True
    return overdue


def _here(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    waiting: deque[int],
    crew: Sequence[_Worker],
    results: dict[int, Result],
    done: Callable[[int, Result], None],
) -> list[Result]:
    begun = [worker.index for worker in crew if worker.index is not None]
    for index in sorted([*waiting, *begun]):
        done(index, function(items[index]))
    return [results[index] for index in range(len(items))]


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """What a process does until the pipe ends."""
    pipe.send((True, _READY))
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            answer = (True, function(item))
        except Exception as error:  # raised again by the caller
            answer = (False, error)
        try:
            pipe.send(answer)
        except Exception as error:  # no pickle of it
            pipe.send((False, f"{type(error).__name__}: {error}"))
