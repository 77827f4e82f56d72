"""The table of features: order, gaps, file; gathering from several processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from monai_ctmri.engines import FeatureCollector, gathering
from monai_ctmri.engines.gathering import rows_of_all_processes

CASES: list[tuple[int, dict[str, Any]]] = [
    (0, {"a": torch.tensor(1.5), "b": 2.0}),
    (-1, {"b": -1.0, "c": 3.0}),
    (1, {}),
]


def collected(path: Path | None = None, runs: int = 1) -> FeatureCollector:
    def step(engine: Engine, number: int) -> list[dict[str, Any]]:
        label, features = CASES[number]
        engine.state.batch = [{"case": f"c{number}", "subject": f"s{number}", "label": torch.tensor(label)}]
        return [{"features": features}]

    collector = FeatureCollector(path)
    engine = Engine(step)
    collector.attach(engine)
    for _ in range(runs):
        engine.run(range(len(CASES)))
    return collector


@pytest.mark.parametrize("runs", [1, 2])
def test_a_row_a_case_in_order(runs: int) -> None:
    collector = collected(runs=runs)
    assert collector.names == ["a", "b", "c"]
    np.testing.assert_array_equal(
        collector.values(), [[1.5, 2.0, np.nan], [np.nan, -1.0, 3.0], [np.nan, np.nan, np.nan]]
    )
    assert [row["case"] for row in collector.rows] == ["c0", "c1", "c2"]
    assert [row["label"] for row in collector.rows] == [0, -1, 1]


def test_the_file_says_the_same(tmp_path: Path) -> None:
    collected(tmp_path / "deep" / "features.csv")
    with (tmp_path / "deep" / "features.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["case", "subject", "label", "a", "b", "c"]
    assert [list(row.values()) for row in rows] == [
        ["c0", "s0", "0", "1.5", "2.0", ""],
        ["c1", "s1", "", "", "-1.0", "3.0"],
        ["c2", "s2", "1", "", "", ""],
    ]


def test_nothing_collected_is_an_empty_table() -> None:
    assert FeatureCollector().values().shape == (0, 0)


def test_rows_of_processes_come_in_the_order_of_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes dealt five cases in turn; the sampler gave the first one again to fill up the second share."""
    shares = [["c0", "c2", "c4"], ["c1", "c3", "c0"]]
    texts = [
        json.dumps([turn, rank, {"case": name}]) for rank, own in enumerate(shares) for turn, name in enumerate(own)
    ]
    monkeypatch.setattr(gathering.idist, "get_world_size", lambda: 2)
    monkeypatch.setattr(gathering.idist, "get_rank", lambda: 1)
    sent: list[str] = []
    monkeypatch.setattr(gathering, "string_list_all_gather", lambda own: sent.extend(own) or [*texts, ""])
    found = rows_of_all_processes([{"case": name} for name in shares[1]])
    assert [row["case"] for row in found] == ["c0", "c1", "c2", "c3", "c4"]
    assert sent == texts[3:]
