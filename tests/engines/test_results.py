"""Rows, maps and numbers agree with a computation by hand and with scikit-learn."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image
from sklearn.metrics import roc_auc_score

from monai_ctmri.engines import CaseResults
from monai_ctmri.transforms import MapScore

PLAIN = MapScore(top_fraction=0.25, erode=0, median=1)


def run(
    folder: Path, labels: list[int], **options: object
) -> tuple[list[dict[str, str]], list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    outputs = []
    for _ in labels:
        image, pred = torch.rand(2, 1, 4, 6, generator=generator)
        outputs.append(
            {
                "image": image,
                "pred": pred,
                "anomaly_map": (image - pred).abs(),
                "head": torch.ones(1, 4, 6),
                "native": torch.rand(1, 3, 5, generator=generator),
            }
        )
    batches = [[index] for index in range(len(labels))]

    def step(engine: Engine, batch: list[int]) -> list[dict[str, torch.Tensor]]:
        index = batch[0]
        engine.state.batch = [{"case": f"c{index}", "subject": f"s{index}", "label": torch.tensor(labels[index])}]
        return [outputs[index]]

    engine = Engine(step)
    CaseResults(folder, map_score=PLAIN, **options).attach(engine)  # type: ignore[arg-type]
    engine.run(batches)
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file)), outputs


def test_rows(tmp_path: Path) -> None:
    rows, outputs = run(tmp_path, [0, 1, -1])
    assert [row["case"] for row in rows] == ["c0", "c1", "c2"]
    assert [row["label"] for row in rows] == ["0", "1", ""]
    for row, output in zip(rows, outputs, strict=True):
        difference = np.abs(output["image"].numpy() - output["pred"].numpy()).astype(float).ravel()
        assert float(row["mse"]) == pytest.approx((difference**2).mean(), rel=1e-5)
        assert float(row["l1_mean"]) == pytest.approx(difference.mean(), rel=1e-5)
        assert float(row["l1_top"]) == pytest.approx(np.sort(difference)[-6:].mean(), rel=1e-5)
    assert not (tmp_path / "metrics.json").exists()
    assert not (tmp_path / "maps").exists()


def test_maps_are_exact_floats(tmp_path: Path) -> None:
    _, outputs = run(tmp_path, [0, 0], save_key="native")
    for index, output in enumerate(outputs):
        with Image.open(tmp_path / "maps" / f"c{index}.tif") as picture:
            assert picture.mode == "F"
            assert np.array_equal(np.asarray(picture), output["native"][0].numpy())


def test_metrics_with_both_classes(tmp_path: Path) -> None:
    rows, _ = run(tmp_path, [0, 1, 0, 1, 1, 0, -1], metrics=True, extra={"split": "test"})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["cases"] == {"all": 7, "normal": 3, "abnormal": 3}
    known = [row for row in rows if row["label"]]
    for name in ("mse", "l1_mean", "l1_top"):
        truth = roc_auc_score([int(row["label"]) for row in known], [float(row[name]) for row in known])
        assert metrics["auroc"][name] == pytest.approx(truth)
        assert metrics["mean"]["all"][name] == pytest.approx(np.mean([float(row[name]) for row in rows]))


@pytest.mark.parametrize("label", [0, 1, -1])
def test_metrics_with_one_class_have_errors_only(label: int, tmp_path: Path) -> None:
    run(tmp_path, [label, label], metrics=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "auroc" not in metrics
    assert set(metrics["mean"]) == {"all"} | ({"normal"} if label == 0 else {"abnormal"} if label == 1 else set())


def test_a_second_run_starts_anew(tmp_path: Path) -> None:
    handler = CaseResults(tmp_path, map_score=PLAIN)
    item = {"image": torch.ones(1, 2, 2), "pred": torch.zeros(1, 2, 2), "anomaly_map": torch.ones(1, 2, 2)}

    def step(engine: Engine, batch: int) -> list[dict[str, torch.Tensor]]:
        engine.state.batch = [{"case": "c", "subject": "s", "label": 0}]
        return [item | {"head": torch.ones(1, 2, 2)}]

    engine = Engine(step)
    handler.attach(engine)
    engine.run([0])
    engine.run([0])
    assert len(handler.rows) == 1


def named(folder: Path, cases: list[tuple[int, dict[str, float]]], decide: Any = None) -> list[dict[str, str]]:
    """Run with named scores; the mask and the prediction are not asked for."""

    def step(engine: Engine, number: int) -> list[dict[str, object]]:
        label, scores = cases[number]
        engine.state.batch = [{"case": f"c{number}", "subject": "s", "label": label}]
        return [{"scores": {name: torch.tensor(value) for name, value in scores.items()}}]

    engine = Engine(step)
    CaseResults(folder, scores_key="scores", metrics=True, decide=decide).attach(engine)
    engine.run(list(range(len(cases))))
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_named_scores(tmp_path: Path) -> None:
    """A case without MRI has no mismatch: its place is empty, and its mean and area leave it out."""
    cases = [
        (0, {"error_ct": 0.25}),
        (0, {"error_ct": 0.5, "mismatch": 2.0}),
        (1, {"error_ct": 0.375, "mismatch": 3.0}),
        (1, {"error_ct": 1.0, "mismatch": 1.0}),
    ]
    rows = named(tmp_path, cases)
    assert list(rows[0]) == ["case", "subject", "label", "error_ct", "mismatch"]
    assert rows[0]["mismatch"] == ""
    assert [float(row["error_ct"]) for row in rows] == [0.25, 0.5, 0.375, 1.0]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["mean"]["all"] == {"error_ct": 0.53125, "mismatch": 2.0}
    assert metrics["mean"]["normal"]["mismatch"] == 2.0
    assert metrics["auroc"] == {"error_ct": 0.75, "mismatch": 0.5}


def test_a_score_of_one_class_only_has_no_area(tmp_path: Path) -> None:
    named(tmp_path, [(0, {"a": 0.0}), (1, {"a": 1.0, "b": 1.0})])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["auroc"] == {"a": 1.0}
    assert metrics["mean"]["normal"] == {"a": 0.0}


def test_what_is_decided_comes_before_the_scores(tmp_path: Path) -> None:
    """A p-value is no score: lower is more abnormal, so it has no area and no mean."""
    cases = [(0, {"error": 1.0}), (1, {"error": 3.0}), (1, {"other": 3.0})]
    rows = named(
        tmp_path,
        cases,
        lambda scores: (
            {"score": 2 * scores["error"], "p_value": 0.5, "flagged": 0}
            if "error" in scores
            else {"score": "", "p_value": "", "flagged": ""}
        ),
    )
    assert list(rows[0]) == ["case", "subject", "label", "score", "p_value", "flagged", "error", "other"]
    assert [list(row.values())[3:6] for row in rows] == [["2.0", "0.5", "0"], ["6.0", "0.5", "0"], ["", "", ""]]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["auroc"] == {"score": 1.0, "error": 1.0}
    assert metrics["mean"]["abnormal"] == {"score": 6.0, "error": 3.0, "other": 3.0}
