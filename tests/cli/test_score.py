"""``monai-ctmri score`` as it is typed: exit codes, what it says, and the numbers of the bundle itself."""

from __future__ import annotations

import csv
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from monai_ctmri import cli
from monai_ctmri.bundle import bundle_root
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.engines import preserved_random_state, write_settings
from monai_ctmri.networks.denoiser import CrossModalDenoiser

NAME = "brain_ctmri_crossmodal"
FEATURES = [8, 8, 8, 8, 16, 8]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_settings(folder / "config.yaml", {"bundle": NAME, "image_size": 32, "features": FEATURES, "mirror": False})
    (folder / "models").mkdir()
    with preserved_random_state():
        torch.manual_seed(0)
        torch.save(CrossModalDenoiser(features=FEATURES).state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantom subjects of a slice, of 40 x 40 pixels."""
    return write_phantom(tmp_path_factory.mktemp("phantom"), 3, size=40, slices=1)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable]:
    """Type the command; returns the exit code and both streams."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable

    def typed(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["monai-ctmri", "score", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    yield typed
    root.handlers[:], root.level = handlers, level
    logging.disable(disabled)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_cohort_gets_its_tables_maps_and_report(call, model, phantom, tmp_path):
    out = tmp_path / "out"
    code, said, aside = call(phantom, "--model", model, "--out", out, "--alpha", 0.1)
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == "Cases judged: 3"
    assert lines[1].startswith("No p-value and no flag: the model has no saved calibration.")
    assert lines[-2:] == [f"Scores: {out / 'scores.csv'}", f"Report: {out / 'report.html'}"]
    assert "Scoring cases: done (3)" in aside
    rows = rows_of(out / "scores.csv")
    assert [row["case"] for row in rows] == [case.name for case in Manifest.read(phantom)]
    assert {path.stem for path in (out / "maps").iterdir()} == {row["case"] for row in rows}
    assert rows_of(out / "failures.csv") == []
    page = (out / "report.html").read_text()
    assert "a phantom result" in page
    assert "--alpha 0.1" in page


def test_the_numbers_are_those_of_monai_bundle_run(call, model, phantom, tmp_path):
    from monai.bundle import run

    call(phantom, "--model", model, "--out", tmp_path / "out")
    run(
        config_file=str(bundle_root(NAME) / "configs" / "inference.yaml"),
        dataset_dir=str(phantom),
        output_dir=str(tmp_path / "run"),
        bundle_root=str(model),
        image_size=32,
        features=FEATURES,
        mirror=False,
    )
    ours = rows_of(tmp_path / "out" / "scores.csv")
    theirs = {row["case"]: row for row in rows_of(tmp_path / "run" / "inference" / "scores.csv")}
    assert len(ours) == len(theirs) == 3
    for row in ours:
        for name, text in list(theirs[row["case"]].items())[3:]:
            if text == "":  # no p-value, no flag: nothing is calibrated
                assert row[name] == "", name
            else:
                assert float(row[name]) == pytest.approx(float(text), rel=1e-4, abs=1e-5), name


def test_a_broken_file_among_good_ones_exits_3(call, model, phantom, tmp_path):
    cases = list(Manifest.read(phantom))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    cases[1] = replace(cases[1], ct=tmp_path / "bad.png")
    Manifest(cases).write_csv(tmp_path / "manifest.csv")
    code, said, _ = call(tmp_path, "--model", model, "--out", tmp_path / "out")
    assert code == 3
    assert f"Not judged: 1, see {tmp_path / 'out' / 'failures.csv'}" in said
    assert [(row["case"], row["file"]) for row in rows_of(tmp_path / "out" / "failures.csv")] == [
        (cases[1].name, "../bad.png")
    ]
    assert [bool(row["score"]) for row in rows_of(tmp_path / "out" / "scores.csv")] == [True, False, True]
    shutil.copy(cases[0].ct, tmp_path / "bad.png")
    assert call(tmp_path, "--model", model, "--out", tmp_path / "out")[0] == 0
    assert rows_of(tmp_path / "out" / "failures.csv") == []


def test_bad_input_is_one_line_and_exits_2(call, model, phantom, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for arguments, words in (
        ((phantom, "--model", tmp_path / "absent", "--out", tmp_path / "out"), "no such folder"),
        ((phantom, "--model", tmp_path / "empty", "--out", tmp_path / "out"), "no model"),
        ((tmp_path / "absent.csv", "--model", model, "--out", tmp_path / "out"), "absent.csv"),
        ((phantom, "--model", model, "--out", tmp_path / "out", "--alpha", 0), "alpha"),
        ((phantom, "--model", model, "--out", tmp_path / "file"), "a file, not a folder"),
        ((phantom, "--model", model, "--out", model), "holds a model"),
    ):
        code, said, aside = call(*arguments)
        assert (code, said) == (2, "")
        assert aside.startswith("Error: ")
        assert words in aside
        assert aside.count("\n") == 1
        assert not (tmp_path / "out").exists()
