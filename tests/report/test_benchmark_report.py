"""A run on disk."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from monai_ctmri.evaluation.methods import list_methods
from monai_ctmri.evaluation.results import count_results, scores_table
from monai_ctmri.report.benchmark_report import _latent_plane, write_benchmark_report
from monai_ctmri.report.examples import EXAMPLES_NOTE, choose_examples

FIGURES = {
    "examples",
    "auroc_forest",
    "kind_by_method",
    "score_distributions",
    "roc_curves",
    "precision_recall_curves",
    "latent_view",
    "p_values",
    "calibration_curve",
    "confusion_matrix",
    "training_curves",
}


@pytest.fixture(params=["phantom_benchmark", "few_subjects_benchmark"])
def finished(request):
    return request.getfixturevalue(request.param)


def strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_folder_of_a_run(finished):
    assert {path.name for path in finished.out.iterdir()} == {
        "config.yaml",
        "manifest.csv",
        "metrics.json",
        "scores.csv",
        "detectors.csv",
        "figures",
        "maps",
        "report.html",
        "training",
    }
    assert not [path for path in finished.out.rglob("*") if ".tmp." in path.name]


def test_metrics_are_the_results_and_hold_no_nan(finished):
    assert strict_json(finished.out / "metrics.json") == {**finished.results, "examples_note": EXAMPLES_NOTE}


def test_metrics_on_disk_name_every_method(finished):
    for one in strict_json(finished.out / "metrics.json")["sets"]:
        names = {entry["name"] for entry in one["methods"]} | {
            entry["name"] for entry in one["single_modality_methods"]
        }
        assert names == {method.name for method in list_methods(("ct", "mri"))}


def test_scores_on_disk_are_the_table(finished):
    with (finished.out / "scores.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.DictReader(stream)) == finished.rows


def test_every_figure_is_there_for_light_and_dark(finished):
    files = {path.stem for path in (finished.out / "figures").glob("*.png")}
    assert files == FIGURES | {f"{name}_dark" for name in FIGURES}
    for name in FIGURES:
        sizes = set()
        for suffix in ("", "_dark"):
            with Image.open(finished.out / "figures" / f"{name}{suffix}.png") as picture:
                picture.load()
                sizes.add(picture.size)
        assert len(sizes) == 1


def test_each_example_has_a_heatmap_on_its_anatomy(finished):
    files = {path.stem for path in (finished.out / "figures" / "heatmaps").iterdir()}
    assert files == {case.case for case in choose_examples(finished.run)}
    for path in (finished.out / "figures" / "heatmaps").iterdir():
        with Image.open(path) as picture:
            assert picture.mode == "RGB"


def test_the_report_is_written_last_and_needs_nothing_beside_it(finished):
    others = [finished.out / name for name in ("metrics.json", "scores.csv")]
    assert finished.report == finished.out / "report.html"
    assert all(finished.report.stat().st_mtime_ns >= path.stat().st_mtime_ns for path in others)
    text = finished.report.read_text(encoding="utf-8")
    assert "Title &lt;1&gt;" in text
    assert "<1>" not in text
    for caption in ("What the network marks", "Every method beside the baselines", "ROC curves", "Training"):
        assert caption in text
    assert 'src="http' not in text


def test_progress_counts_the_figures(phantom_benchmark, tmp_path, monkeypatch):
    """The drawings themselves are stubbed: their files are checked above."""
    from monai_ctmri.report import benchmark_report

    picture = next((phantom_benchmark.out / "figures").glob("roc_curves.png")).read_bytes()

    def save(figure, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)

    drawings = [(name, name, "caption", lambda theme: None) for name in ("one", "two")]
    monkeypatch.setattr(benchmark_report, "save_figure", save)
    monkeypatch.setattr(benchmark_report, "_drawings", lambda *arguments: drawings)
    steps = []
    write_benchmark_report(
        phantom_benchmark.run, phantom_benchmark.results, tmp_path, progress=lambda *step: steps.append(step)
    )
    assert steps == [("Drawing figures", 1, 2), ("Drawing figures", 2, 2)]


@pytest.mark.parametrize("label", [1, None], ids=["abnormal", "unknown"])
def test_a_test_part_without_normal_cases_still_gets_a_report(few_subjects_benchmark, tmp_path, label):
    """Nothing can be compared then, but cases are shown, mapped and decided on."""
    run = few_subjects_benchmark.run
    kind = "abnormal" if label else ""
    cases = [replace(case, label=label, kind=kind) for case in run.originals]
    run = replace(run, cases=cases, zero_contrast=([], []))
    results = count_results(run, title="t", subtitle="s", command="c", phantom=False)
    report = write_benchmark_report(run, results, tmp_path)
    assert report.is_file()
    assert strict_json(tmp_path / "metrics.json")["sets"] == []
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {
        f"{name}{suffix}" for name in ("examples", "confusion_matrix", "training_curves") for suffix in ("", "_dark")
    }
    assert len(list((tmp_path / "maps").iterdir())) == 3
    assert (tmp_path / "scores.csv").read_text() == scores_table(run)


def test_latent_distance_is_one_for_a_typical_healthy_case(phantom_benchmark):
    run = phantom_benchmark.run
    healthy = [replace(run.cases[0], features=row) for row in run.healthy_features]
    coordinates, distances = _latent_plane(run, healthy)
    assert np.sqrt(np.mean(np.square(distances))) == pytest.approx(1, rel=1e-3)
    assert np.abs(coordinates.mean(axis=0)).max() < 1e-2 * np.abs(coordinates).max()
