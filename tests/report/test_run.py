"""From a manifest to a report in one call; here with one modality."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.methods import list_methods
from monai_ctmri.evaluation.settings import BenchmarkSettings
from monai_ctmri.report.run import run_and_report


@pytest.fixture(scope="module")
def ct_alone(phantom_manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct_alone")
    cases = Manifest.read(phantom_manifest)
    five = cases.select(subjects=cases.subjects[:5])
    Manifest([replace(case, mri=None) for case in five]).write_csv(folder / "ct.csv")
    steps = []
    results, report = run_and_report(
        folder / "ct.csv",
        folder / "run",
        BenchmarkSettings(image_size=64, max_epochs=1, repeats=50),
        title="CT alone",
        command="monai-ctmri benchmark ct.csv --out run",
        progress=lambda *step: steps.append(step),
    )
    return SimpleNamespace(out=folder / "run", results=results, report=report, steps=steps)


def test_the_report_and_the_results_are_those_on_disk(ct_alone):
    assert ct_alone.report == ct_alone.out / "report.html"
    metrics = json.loads((ct_alone.out / "metrics.json").read_text())
    # the note on the examples is the report's
    assert {**metrics, "examples_note": ""} == {**ct_alone.results, "examples_note": ""}
    assert metrics["title"] == "CT alone"
    assert metrics["command"] == "monai-ctmri benchmark ct.csv --out run"
    assert metrics["subtitle"].startswith("Convolutional autoencoder on CT, trained on normal slices only")
    assert metrics["data"]["kind"] == "real"
    assert metrics["data"]["modalities"] == ["ct"]


def test_one_modality_has_no_wrong_pair_and_no_both(ct_alone):
    with (ct_alone.out / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["kind"] for row in rows} == {"", "hemorrhage", "infarct", "tumour"}
    assert not [name for name in rows[0] if name.endswith(("_ct", "_mri"))]
    (one,) = ct_alone.results["sets"]
    assert {entry["modality"] for entry in one["methods"]} == {"ct"}
    assert one["single_modality_methods"] == []
    assert [entry["name"] for entry in one["methods"]] == [method.name for method in list_methods(("ct",))]
    assert "both" not in json.dumps([entry["modality"] for entry in one["methods"]])


def test_every_stage_says_how_far_it_is_and_comes_to_its_end(ct_alone):
    last = {stage: (done, total) for stage, done, total in ct_alone.steps}
    assert list(last) == [
        "Checking files",
        "Training",
        "Calibrating (final)",
        "Scoring",
        "Zero-contrast control",
        "Drawing figures",
    ]
    assert all(done == total for done, total in last.values())


def test_maps_and_examples_are_there(ct_alone):
    assert len(list((ct_alone.out / "maps").glob("*.tif"))) == 3
    assert (ct_alone.out / "figures" / "examples.png").is_file()


def test_bad_input_writes_nothing(tmp_path):
    (tmp_path / "m.csv").write_text("ct,mri,subject,label\nno.png,,s,0\n")
    with pytest.raises(InputError, match=r"no\.png"):
        run_and_report(tmp_path / "m.csv", tmp_path / "run", BenchmarkSettings(), title="t", command="c")
    assert not (tmp_path / "run").exists()
