"""Peak memory of a block, against arrays of known size."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from monai_ctmri.evaluation import peak_memory
from monai_ctmri.evaluation.peak_memory import PeakMemory

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets an earlier peak")


@linux
@pytest.mark.parametrize("megabytes", [40, 160])
def test_an_array_held_in_the_block_counts_although_it_is_freed_in_it(megabytes):
    with PeakMemory() as peak:
        array = np.ones(megabytes * 125_000)
        del array
    assert peak.megabytes == pytest.approx(megabytes, rel=0.1)


@linux
def test_what_was_held_before_and_an_earlier_peak_do_not_count():
    held, gone = np.ones(12_500_000), np.ones(25_000_000)
    del gone
    with PeakMemory() as peak:
        held.sum()
    assert peak.megabytes < 10


@linux
def test_freed_memory_used_again_counts():
    """Many small pieces stay with the allocator when they are freed; without giving them back nothing would show."""
    pieces = [bytes(60_000) for _ in range(1000)]
    del pieces
    with PeakMemory() as peak:
        pieces = [bytes(60_000) for _ in range(1000)]
    assert 40 < peak.megabytes < 80
    del pieces


@linux
def test_reading_within_the_block():
    with PeakMemory() as peak:
        assert peak.read() < 10
        array = np.ones(5_000_000)
        assert peak.read() == pytest.approx(40, rel=0.15)
    assert peak.megabytes >= 30
    del array


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
