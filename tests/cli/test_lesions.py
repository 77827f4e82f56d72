"""``monai-ctmri lesions``."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from monai_ctmri import cli
from monai_ctmri.data.manifest import Manifest


@pytest.fixture
def call(monkeypatch, capsys):
    level = logging.root.manager.disable

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["monai-ctmri", "lesions", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    yield run
    logging.disable(level)


def test_twins_and_the_path_of_their_manifest(call, phantom_manifest: Path, tmp_path):
    code, out, _ = call(
        phantom_manifest, "--out", tmp_path / "t", "--kinds", "hemorrhage, ct_rings", "--sizes", "small"
    )
    assert code == 0
    assert out.splitlines()[-1] == f"Manifest: {tmp_path / 't' / 'manifest.csv'}"
    manifest = Manifest.read(tmp_path / "t")
    kinds = {case.name.rpartition("__")[2] for case in manifest if case.label == 1}
    assert kinds == {"hemorrhage_small", "ct_rings_small"}


def test_bad_input_is_one_line(call, phantom_manifest, tmp_path):
    code, _, err = call(phantom_manifest, "--out", tmp_path / "t", "--kinds", "measles")
    assert code == 2
    assert err.splitlines()[-1].startswith("Error: kind 'measles': unknown; use one of hemorrhage")
    assert not (tmp_path / "t").exists()
