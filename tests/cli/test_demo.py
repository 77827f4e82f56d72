"""``monai-ctmri demo --short`` from end to end, as a newcomer calls it; and once more into the same folder."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

PROGRAM = Path(sys.executable).with_name("monai-ctmri")


def call(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "demo", "--short", "--subjects", "10", "--epochs", "2", "--out", out, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@dataclass(frozen=True)
class Demo:
    out: Path
    stdout: str
    stderr: str

    @property
    def metrics(self) -> dict:
        return json.loads((self.out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Demo:
    out = tmp_path_factory.mktemp("demo") / "run"
    done = call(out)
    assert done.returncode == 0, done.stderr
    return Demo(out, done.stdout, done.stderr)


def test_last_line_is_the_path_of_the_report(demo):
    assert demo.stdout.splitlines()[-1] == f"Report: {demo.out / 'report.html'}"
    assert "A phantom result" in demo.stdout


def test_nothing_but_progress_and_warnings_on_stderr(demo):
    assert "Traceback" not in demo.stderr
    assert "Drawing the phantom: done (10)" in demo.stderr.splitlines()


def test_config_is_what_was_asked_for(demo):
    config = yaml.safe_load((demo.out / "config.yaml").read_text())
    assert config["settings"]["image_size"] == 64
    assert config["settings"]["max_epochs"] == 2
    assert config["manifest"] == str(demo.out / "phantom" / "manifest.csv")


def test_metrics_are_strict_json_and_called_a_phantom_result(demo):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    metrics = json.loads((demo.out / "metrics.json").read_text(), parse_constant=refuse)
    assert metrics["data"]["kind"] == "phantom"
    assert any("phantom result" in note for note in metrics["notes"])
    parts = {part["name"]: part for part in metrics["data"]["parts"]}
    assert set(parts) == {"train", "validation", "calibration", "test"}
    assert sum(part["subjects"] for part in parts.values()) == 10
    assert sum(part["cases"] for part in parts.values()) == 60
    assert metrics["training"]["epochs_run"] == 2


def test_command_in_the_metrics_is_the_one_given(demo):
    assert demo.metrics["command"] == f"monai-ctmri demo --short --subjects 10 --epochs 2 --out {demo.out}"


def test_scores_hold_every_test_slice_and_its_twins(demo):
    with (demo.out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (injected,) = (one for one in demo.metrics["sets"] if one["name"] == "Injected lesions")
    assert sum(row["label"] == "0" for row in rows) == injected["n_normal"] == 12
    assert sum(row["label"] == "1" for row in rows) == injected["n_abnormal"] == 48
    assert all(0 < float(row["p_value"]) <= 1 for row in rows)
    tested = {row["subject"] for row in rows}
    with (demo.out / "manifest.csv").open(newline="") as file:
        assert tested == {row["subject"] for row in csv.DictReader(file) if row["split"] == "test"}


def test_auroc_in_the_metrics_follows_from_the_scores(demo):
    from sklearn.metrics import roc_auc_score

    with (demo.out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (injected,) = (one for one in demo.metrics["sets"] if one["name"] == "Injected lesions")
    labels = [int(row["label"]) for row in rows]
    for method in injected["methods"]:
        truth = roc_auc_score(labels, [float(row[method["name"]]) for row in rows])
        # Scores have eight digits in the table.
        assert method["auroc"]["value"] == pytest.approx(truth, abs=2e-3)


def test_the_table_of_detectors_follows_from_the_scores(demo):
    """False alarms at 10 %, from the number of calibration slices and the p-values they allow."""
    table = demo.metrics["detectors"]
    assert [one["alpha"] for one in table["alphas"]] == [0.01, 0.05, 0.1]
    assert {one["units"] for one in table["alphas"]} == {6}  # one subject of six slices
    assert not any(one["reached"] for one in table["alphas"])
    assert {"iforest", "ocsvm", "mahalanobis", "fused", "l1_mean"} <= {row["name"] for row in table["rows"]}
    page = (demo.out / "report.html").read_text(encoding="utf-8")
    assert "Detectors calibrated" in page
    with (demo.out / "detectors.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in table["rows"]]


def test_figures_are_pictures_and_maps_are_readable(demo):
    import numpy as np
    from PIL import Image

    figures, maps = sorted((demo.out / "figures").rglob("*.png")), sorted((demo.out / "maps").glob("*.tif"))
    assert len(figures) > 5
    assert len(maps) >= 12
    for file in figures:
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 50
    for file in maps:
        values = np.asarray(Image.open(file))
        assert values.shape == (64, 64)
        assert np.isfinite(values).all()


def test_report_is_one_page_that_loads_nothing(demo):
    page = (demo.out / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "Demo on the embedded phantom" in page
    assert 'src="http' not in page
    assert 'src="figures' not in page


def test_no_temporary_file_is_left(demo):
    assert not list(demo.out.rglob(".*.tmp.*"))


def test_another_run_is_refused_and_changes_nothing(demo):
    before = {file: file.stat().st_mtime_ns for file in demo.out.rglob("*") if file.is_file()}
    done = call(demo.out, "--seed", "1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert done.stderr.splitlines()[-1].startswith(f"Error: {demo.out / 'phantom'}: ")
    assert {file: file.stat().st_mtime_ns for file in demo.out.rglob("*") if file.is_file()} == before


def test_the_same_call_again_works_and_neither_draws_nor_trains_again(demo):
    kept = [demo.out / "phantom" / "manifest.csv", demo.out / "config.yaml", *demo.out.rglob("phantom/ct/*.png")]
    before = {file: file.stat().st_mtime_ns for file in kept}
    first = demo.metrics
    done = call(demo.out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == demo.stdout.splitlines()[-1]
    assert "Drawing the phantom" not in done.stderr
    assert {file: file.stat().st_mtime_ns for file in kept} == before
    again = demo.metrics
    for metrics in (first, again):
        del metrics["created"], metrics["seconds"], metrics["training"]["seconds"]
        for row in metrics["detectors"]["rows"]:
            del row["cost"]
    assert again == first
