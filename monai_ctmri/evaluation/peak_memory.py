"""How much memory a piece of work holds at most, beyond what the process held before."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from types import TracebackType

__all__ = ["PeakMemory"]

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measure a ``with`` block.

    Memory that was freed before but kept by the allocator would be used again without a trace, so it goes back to the
    system first. What libraries load in the block counts too: do a small piece of the same work before.

    Attributes:
        megabytes: the most memory resident in the block minus what was before it, at least 0, after the block or at
            :meth:`read` (10^6 bytes). None where the system cannot forget an earlier peak (others than Linux).
    """

    megabytes: float | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        _give_back_freed()
        self._before = _peak() if _forget_peak() else None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.read()

    def read(self) -> float | None:
        """Bring :attr:`megabytes` up to now, and return it."""
        now = None if self._before is None else _peak()
        self.megabytes = None if now is None or self._before is None else max(now - self._before, 0.0)
        return self.megabytes


def _give_back_freed() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)  # the C library of GNU has it, others do not
    except (OSError, AttributeError, TypeError):
        return


def _forget_peak() -> bool:
    """Set the peak to what is held now."""
    try:
        _FORGET.write_text("5")
    except OSError:
        return False
    return True


def _peak() -> float | None:
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        return None
