"""A process that dies, or never ends, costs its item and no other."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_ctmri.data.checks.isolation import CRASHED, TOO_LONG, map_isolated

WORK = """
import os, signal, sys, time

def work(item):
    if item < 0:
        os.kill(os.getpid(), signal.SIGSEGV) if item % 2 else os._exit(3)
    if item == 99:
        raise KeyError(item)
    if item == 98:
        raise EOFError("from inside")
    if item == 97:
        return lambda: None
    if 60 <= item < 70:
        time.sleep(3600)
    return item * item, os.getpid()
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """A function that spawned processes can import."""
    (tmp_path / "isolated_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    import isolated_work  # type: ignore[import-not-found]

    yield isolated_work.work
    del sys.modules["isolated_work"]


def lost(item: int, reason: str) -> tuple[str, int]:
    return reason, item


def test_results_are_in_order_and_from_elsewhere(work: Callable[[int], Any]) -> None:
    import os

    calls: list[tuple[int, int]] = []
    results = map_isolated(work, range(9), 2, lost, lambda *numbers: calls.append(numbers))
    assert [value for value, _ in results] == [item * item for item in range(9)]
    assert os.getpid() not in {process for _, process in results}
    assert calls == [(done, 9) for done in range(1, 10)]


def test_only_the_deadly_items_are_lost(work: Callable[[int], Any]) -> None:
    items = [1, -1, 2, 3, 4, 5, 6, -2, 7]
    calls: list[tuple[int, int]] = []
    results = map_isolated(work, items, 2, lost, lambda *numbers: calls.append(numbers))
    for item, result in zip(items, results, strict=True):
        assert result == (CRASHED, item) if item < 0 else result[0] == item * item
    assert calls == [(done, 9) for done in range(1, 10)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_never_ends_is_ended(work: Callable[[int], Any], workers: int) -> None:
    """Each sleeper would sleep an hour; the items behind it are still worked on, in order."""
    items = [1, 60, 2, 61, 3, -1, 4]
    began = time.monotonic()
    results = map_isolated(work, items, workers, lost, time_limit=0.5)
    assert time.monotonic() - began < 30
    assert [result if result[0] in (CRASHED, TOO_LONG) else result[0] for result in results] == [
        1, (TOO_LONG, 60), 4, (TOO_LONG, 61), 9, (CRASHED, -1), 16,
    ]  # fmt: skip


def test_no_process_outlives_the_call(work: Callable[[int], Any]) -> None:
    map_isolated(work, [1, 60, 2], 2, lost, time_limit=0.5)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("item", "error", "text"), [(99, KeyError, "99"), (98, EOFError, "from inside")])
def test_an_exception_comes_through(work: Callable[[int], Any], item: int, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        map_isolated(work, [1, item, 2], 2, lost)


def test_a_result_that_cannot_be_sent_is_an_error_and_no_crash(work: Callable[[int], Any]) -> None:
    with pytest.raises(RuntimeError, match="lambda"):
        map_isolated(work, [1, 97, 2], 2, lost)


def test_nothing_to_do(work: Callable[[int], Any]) -> None:
    assert map_isolated(work, [], 4, lost) == []


def test_an_unguarded_script_gets_its_results_all_the_same(tmp_path: Path) -> None:
    """Spawned processes import the script and would start processes themselves: they die, and that is no crash."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            from monai_ctmri.data.checks.isolation import map_isolated
            print(map_isolated(abs, [-1, 2, -3], 2, lambda item, reason: "lost"))
        """)
    )
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=root, env={"PYTHONPATH": str(root)}
    )
    assert run.returncode == 0
    assert run.stdout == "[1, 2, 3]\n"
