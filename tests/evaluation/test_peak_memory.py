"""Peak memory of a block, against arrays of known size."""

from __future__ import annotations

import subprocess
import sys

import pytest

from monai_ctmri.evaluation import peak_memory
from monai_ctmri.evaluation.peak_memory import PeakMemory

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets an earlier peak")


def measured(block: str, before: str = "") -> float:
    """Megabytes of a block in a process of its own: one that has run for long holds memory that anything may reuse."""
    lines = ["import numpy as np", "from monai_ctmri.evaluation.peak_memory import PeakMemory", *before.splitlines()]
    lines += ["with PeakMemory() as peak:", *(f"    {line}" for line in block.splitlines()), "print(peak.megabytes)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@linux
@pytest.mark.parametrize("megabytes", [40, 160])
def test_an_array_held_in_the_block_counts_although_it_is_freed_in_it(megabytes):
    found = measured(f"array = np.ones({megabytes * 125_000})\ndel array")
    assert found == pytest.approx(megabytes, rel=0.1)


@linux
def test_what_was_held_before_and_an_earlier_peak_do_not_count():
    before = "held, gone = np.ones(12_500_000), np.ones(25_000_000)\ndel gone"
    assert measured("held.sum()", before) < 10


@linux
def test_freed_memory_used_again_counts():
    """Many small pieces stay with the allocator when they are freed; without giving them back nothing would show."""
    pieces = "pieces = [bytes(60_000) for _ in range(1000)]"
    assert 40 < measured(pieces, f"{pieces}\ndel pieces") < 80


@linux
def test_reading_within_the_block():
    block = "assert peak.read() < 10\narray = np.ones(5_000_000)\nassert 34 < peak.read() < 46"
    assert measured(block) >= 30


def test_where_a_peak_cannot_be_forgotten_there_is_no_number(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "_FORGET", tmp_path / "no" / "such")
    with PeakMemory() as peak:
        pass
    assert peak.megabytes is None
    monkeypatch.undo()
    monkeypatch.setattr(peak_memory, "_FORGET", tmp_path / "file")
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "nothing")
    with PeakMemory() as peak:
        pass
    assert peak.megabytes is None
