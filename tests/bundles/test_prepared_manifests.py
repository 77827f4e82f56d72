"""What ``prepare`` writes goes into the bundle's training as it is: volumes, unpaired sets, no labels, quarantine."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.data.preparation import prepare
from monai_ctmri.engines.bundle_training import train_bundle

QUICK = {"image_size": 64, "max_epochs": 1, "batch_size": 4, "progress_bar": False}


def train(manifest: Path, out: Path, **options: object) -> dict:
    trained = train_bundle("brain_ctmri_autoencoder", out, dataset_dir=str(manifest), **QUICK, **options)
    assert len(trained.history) == 1
    case = Manifest.read(manifest)[-1]
    files = {name: str(getattr(case, name)) for name in case.modalities}
    return trained.preprocess({**files, "case": case.name, "subject": case.subject, "label": -1})


def test_volumes_cut_into_slices(tmp_path):
    write_phantom(tmp_path / "data", 5, size=64, form="volumes")
    prepared = prepare(tmp_path / "data", tmp_path / "m.csv", every_mm=20.0)
    assert prepared.pairing == "paired"
    item = train(tmp_path / "m.csv", tmp_path / "run")
    assert item["image"].shape == (2, 64, 64)
    assert 0 <= float(item["image"].min()) < float(item["image"].max()) <= 1


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_an_unpaired_set_without_labels(phantom_manifest, tmp_path, modality, caplog):
    root = tmp_path / "data"
    for name, letter in (("ct", "A"), ("mri", "B")):
        for number, path in enumerate(sorted((phantom_manifest.parent / name).iterdir())):
            place = root / f"train{letter}" / f"{name}{number * (5 if name == 'mri' else 1) % 27}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    (root / "trainB" / "mri99.png").write_bytes(b"\x89PNG")
    prepared = prepare(root, tmp_path / "m.csv")
    assert prepared.pairing == "unpaired"
    assert len(prepared.quarantined) == 1
    with caplog.at_level(logging.WARNING):
        trained = train_bundle(
            "brain_ctmri_autoencoder",
            tmp_path / "run",
            dataset_dir=str(tmp_path / "m.csv"),
            modalities=[modality],
            **QUICK,
        )
    assert len(trained.history) == 1
    assert next(iter(trained.network.parameters())).shape[1] == 1
    assert "no case has a label" in caplog.text
    assert "1 of 55 cases are quarantined" in caplog.text
