"""Rows of a distributed evaluation brought together: in the order of the data set, each case once."""

from __future__ import annotations

import json
from typing import Any

import ignite.distributed as idist
from monai.utils import string_list_all_gather

from monai_ctmri import keys

__all__ = ["rows_of_all_processes"]


def rows_of_all_processes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gather the rows of all processes; to be called in every one of them.

    Args:
        rows: this process's, in the order it saw them, each with ``case``; values are what JSON holds.

    Returns:
        All rows in every process. A sampler deals the cases out in turn, so the n-th rows of all processes follow one
        another; a case that it dealt twice, to fill up its shares, is there once.
    """
    if idist.get_world_size() == 1:
        return rows
    own = [json.dumps([turn, idist.get_rank(), row]) for turn, row in enumerate(rows)]
    # A process without a case sends an empty text.
    dealt = sorted((json.loads(text) for text in string_list_all_gather(own) if text), key=lambda item: item[:2])
    once: dict[str, dict[str, Any]] = {}
    for _, _, row in dealt:
        once.setdefault(row[keys.CASE], row)
    return list(once.values())
