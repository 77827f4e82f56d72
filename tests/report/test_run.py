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
from monai_ctmri.evaluation.protocol import ASSUMED_NORMAL
from monai_ctmri.evaluation.settings import BenchmarkSettings
from monai_ctmri.report.run import choose_modalities, run_and_report


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
        "Fitting detectors",
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


@pytest.fixture
def unpaired(phantom_manifest, tmp_path):
    """Phantom slices as an unpaired set: CT of some subjects, MRI of others, no labels, one case quarantined."""
    cases = Manifest.read(phantom_manifest)
    split = [
        replace(case, mri=None, label=None) if number % 2 else replace(case, ct=None, label=None)
        for number, case in enumerate(cases)
    ]
    split[0] = replace(split[0], note="quarantined: wrong_modality")
    Manifest(split).write_csv(tmp_path / "manifest.csv")
    return tmp_path / "manifest.csv"


def test_modalities_of_a_run(phantom_manifest, unpaired, tmp_path):
    assert choose_modalities(phantom_manifest) == [("ct", "mri")]
    assert choose_modalities(phantom_manifest, "mri") == [("mri",)]
    assert choose_modalities(unpaired) == [("ct",), ("mri",)]
    assert choose_modalities(unpaired, "both") == [("ct", "mri")]
    with pytest.raises(InputError, match="modality 'pet': unknown"):
        choose_modalities(unpaired, "pet")


def test_a_quarantined_case_does_not_decide_the_modalities(phantom_manifest, tmp_path):
    cases = Manifest.read(phantom_manifest)
    only = [replace(case, mri=None) for case in cases]
    only[3] = replace(cases[3], ct=None, note="quarantined: blank")
    Manifest(only).write_csv(tmp_path / "manifest.csv")
    assert choose_modalities(tmp_path) == [("ct",)]


def test_one_modality_of_an_unpaired_set_without_labels(unpaired, tmp_path):
    settings = BenchmarkSettings(image_size=64, max_epochs=1, repeats=50)
    results, _ = run_and_report(unpaired, tmp_path / "run", settings, title="t", command="c", modalities=("mri",))
    assert results["data"]["modalities"] == ["mri"]
    used = Manifest.read(tmp_path / "run" / "manifest.csv")
    assert len(used) == sum(case.mri is not None for case in Manifest.read(unpaired)) - 1
    assert all(case.modalities == ("mri",) for case in used)
    assert results["notes"][0] == ASSUMED_NORMAL
    with pytest.raises(InputError, match="other settings or data"):
        run_and_report(unpaired, tmp_path / "run", settings, title="t", command="c", modalities=("ct",))


def test_pairs_asked_of_an_unpaired_set_are_refused(unpaired, tmp_path):
    with pytest.raises(InputError, match="no case has ct and mri"):
        run_and_report(
            unpaired, tmp_path / "run", BenchmarkSettings(), title="t", command="c", modalities=("ct", "mri")
        )
    assert not (tmp_path / "run").exists()
