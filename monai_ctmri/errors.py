"""The one exception for bad input: what a user gave is wrong, and one line says which file, what, and what to do."""

from __future__ import annotations

from os import PathLike


class InputError(ValueError):
    """What a user gave cannot be used.

    Args:
        message: one line that names the file (or option), what is wrong and what to do.

    The command line prints the message and exits with code 2. One positional argument only, so that the exception
    survives pickling between data-loading workers.
    """

    @classmethod
    def about(cls, path: str | PathLike[str], problem: str, remedy: str) -> InputError:
        """Build the message ``<path>: <problem>; <remedy>``."""
        return cls(f"{path}: {problem}; {remedy}")


def find_input_error(error: BaseException) -> InputError | None:
    """Return the :class:`InputError` behind ``error`` (itself, its cause or its context), or None.

    MONAI wraps what a transform raises in ``RuntimeError``; the chain still holds the original.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, InputError):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None
