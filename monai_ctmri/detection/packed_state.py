"""A state of arrays, tensors, numbers and texts to bytes and back: torch's file format, opened without running code."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from monai_ctmri.errors import InputError

__all__ = ["pack_state", "unpack_state"]

# The key of a dictionary that stands for an array; torch opens tensors alone.
_ARRAY = "numpy array"


def pack_state(state: Any, what: str) -> bytes:
    """Bytes of a ``.pt`` file for a state of tensors, numpy arrays, numbers, texts and None, in lists and dictionaries.

    Raises:
        InputError: something else is in it.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(_packed(state, what), buffer)
    return buffer.getvalue()


def unpack_state(data: bytes, path: str | os.PathLike[str]) -> Any:
    """The state :func:`pack_state` was given; tuples have become lists and numpy numbers Python's, arrays are the same.

    Raises:
        InputError: the file holds anything but such a state; then nothing of it was run.
    """
    import torch

    try:
        return _unpacked(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except Exception as error:  # files of another kind raise nearly anything
        raise InputError.about(
            path,
            "holds more than tensors, numbers and texts, or is no such file",
            "do not use it; fit and save it again",
        ) from error


def _packed(value: Any, what: str) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        # A copy: the whole memory behind a view would be stored.
        return value.detach().cpu().clone()
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {_ARRAY: torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="K"))}
    if isinstance(value, (list, tuple)):
        return [_packed(item, what) for item in value]
    if isinstance(value, Mapping) and _ARRAY not in value and all(isinstance(key, str) for key in value):
        return {key: _packed(item, what) for key, item in value.items()}
    raise InputError.about(
        what, f"cannot be saved: its state holds a {type(value).__name__}", "keep numbers, texts, arrays and tensors"
    )


def _unpacked(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor) or value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_unpacked(item) for item in value]
    if type(value) is dict:
        if set(value) == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {key: _unpacked(item) for key, item in value.items()}
    raise TypeError(type(value).__name__)
