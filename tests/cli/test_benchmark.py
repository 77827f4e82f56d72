"""``monai-ctmri benchmark``: what it hands on; the run itself is tested by the demo and in tests/evaluation."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from monai_ctmri import cli
from monai_ctmri.evaluation.settings import BenchmarkSettings


@pytest.fixture
def handed_on(monkeypatch):
    """Call the command with the work itself replaced; return what the work was given."""
    import monai_ctmri.cli.console as console
    import monai_ctmri.report.run as run

    given: dict = {}

    def instead(manifest, out, settings, **rest):
        given.update(manifest=manifest, out=out, settings=settings, **rest)
        return {}, out / "report.html"

    monkeypatch.setattr(run, "run_and_report", instead)
    monkeypatch.setattr(run, "choose_modalities", lambda manifest, wanted: [(wanted,)])
    monkeypatch.setattr(console, "show_summary", lambda results, report: given.update(report=report))
    level = logging.root.manager.disable

    def call(*arguments: object) -> dict:
        monkeypatch.setattr("sys.argv", ["monai-ctmri", "benchmark", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        return given

    yield call
    logging.disable(level)


def test_defaults(handed_on, tmp_path):
    given = handed_on(tmp_path / "manifest.csv", "--out", tmp_path / "run")
    settings: BenchmarkSettings = given["settings"]
    assert given["manifest"] == tmp_path / "manifest.csv"
    assert given["out"] == tmp_path / "run"
    assert (settings.image_size, settings.max_epochs, settings.batch_size, settings.alpha) == (128, 20, 16, 0.05)
    assert settings.seed == 0
    assert settings.detectors == "all"
    assert given["report"] == tmp_path / "run" / "report.html"


def test_every_option_arrives(handed_on, tmp_path):
    given = handed_on(
        "m.csv", "--out", tmp_path, "--image-size", 64, "--epochs", 3, "--batch-size", 8, "--learning-rate", 0.01,
        "--seed", 5, "--alpha", 0.1, "--bf16", "--modality", "mri", "--detectors", "KNN,lof",
    )  # fmt: skip
    assert given["modalities"] == ("mri",)
    settings = given["settings"]
    assert (settings.image_size, settings.max_epochs, settings.batch_size) == (64, 3, 8)
    assert (settings.learning_rate, settings.seed, settings.alpha, settings.bf16) == (0.01, 5, 0.1, True)
    assert settings.detectors == "KNN,lof"
    assert handed_on("m.csv", "--out", tmp_path, "--no-bf16")["settings"].bf16 is False


def test_precision_is_the_processors_by_default(handed_on, tmp_path, monkeypatch):
    for answer in (True, False):
        monkeypatch.setattr("monai_ctmri.engines.precision.prefers_bfloat16", lambda answer=answer: answer)
        assert handed_on("m.csv", "--out", tmp_path)["settings"].bf16 is answer


def test_the_command_in_the_report_has_every_option_and_is_quoted(handed_on, tmp_path):
    out = tmp_path / "a folder"
    given = handed_on("m.csv", "--out", out, "--alpha", 0.1, "--image-size", 64)
    assert given["command"] == f"monai-ctmri benchmark m.csv --out '{out}' --alpha 0.1 --image-size 64"


@pytest.mark.parametrize("name", ["pairs", "pairs.v2"])
def test_title_is_the_folder_of_the_manifest(handed_on, tmp_path, monkeypatch, name):
    folder = tmp_path / name
    folder.mkdir()
    for manifest in (folder, folder / "manifest.csv", folder / "list.json"):
        assert handed_on(manifest, "--out", tmp_path / "run")["title"] == f"Benchmark: {name}"
    monkeypatch.chdir(folder)
    for manifest in (".", "manifest.csv"):
        assert handed_on(manifest, "--out", tmp_path / "run")["title"] == f"Benchmark: {name}"


def test_a_result_on_the_phantom_is_called_one(handed_on, tmp_path):
    from monai_ctmri.data.phantom import write_phantom

    manifest: Path = write_phantom(tmp_path / "p", 1, size=16, slices=1)
    assert handed_on(manifest, "--out", tmp_path / "run")["phantom"] is True
    assert handed_on(manifest.parent, "--out", tmp_path / "run")["phantom"] is True
    assert handed_on(tmp_path / "manifest.csv", "--out", tmp_path / "run")["phantom"] is False
