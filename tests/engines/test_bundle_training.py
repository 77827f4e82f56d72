"""Training a bundle inside a program: what comes back, and what the program keeps."""

from __future__ import annotations

import logging
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from monai.transforms import Compose

from monai_ctmri.bundle import bundle_root
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.engines import bundle_training
from monai_ctmri.engines.bundle_training import train_bundle
from monai_ctmri.errors import InputError, find_input_error
from monai_ctmri.networks.variational_autoencoder import VariationalAutoencoder

NAME = "brain_ctmri_autoencoder"
TINY = {"image_size": 32, "max_epochs": 2, "batch_size": 4, "progress_bar": False}


@pytest.fixture(scope="module")
def manifest(phantom_manifest, tmp_path_factory):
    cases = Manifest.read(phantom_manifest)
    parts = dict(zip(cases.subjects[:3], ("train", "train", "validation"), strict=True))
    path = tmp_path_factory.mktemp("parts") / "manifest.csv"
    cases.select(subjects=parts).with_splits(parts).write_csv(path)
    return path


def random_states():
    return random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002


def assert_equal_states(one, other):
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])
    assert torch.equal(one[2], other[2])


@pytest.fixture(scope="module")
def trained(manifest, tmp_path_factory):
    out, epochs = tmp_path_factory.mktemp("trained"), []
    states, root = random_states(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    found = train_bundle(NAME, out, each_epoch=lambda *step: epochs.append(step), dataset_dir=str(manifest), **TINY)
    after = SimpleNamespace(states=random_states(), handlers=list(root.handlers), level=root.level)
    return SimpleNamespace(
        found=found, out=out, epochs=epochs, states=states, handlers=handlers, level=level, after=after
    )


def test_the_random_state_is_as_before(trained):
    assert_equal_states(trained.states, trained.after.states)


def test_the_programs_logging_is_as_before(trained):
    """The bundle's ``logging.conf`` is for the bundle run on its own."""
    assert trained.after.handlers == trained.handlers
    assert trained.after.level == trained.level
    assert not logging.getLogger("monai.bundle.workflows").disabled


def test_the_network_has_the_best_weights_and_is_ready(trained):
    network, weights = trained.found.network, trained.found.weights
    assert weights == trained.out / "models" / "model.pt"
    assert not any(module.training for module in network.modules())
    saved = torch.load(weights, weights_only=True)
    assert set(saved) == set(network.state_dict())
    for name, value in network.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, saved[name])


def test_the_history_has_every_epoch_and_each_was_told(trained):
    assert [entry["epoch"] for entry in trained.found.history] == [1, 2]
    assert all(np.isfinite([entry["train_loss"], entry["val_mse"]]).all() for entry in trained.found.history)
    assert trained.epochs == [(1, 2), (2, 2)]


def test_the_validation_error_of_the_best_epoch_is_that_of_the_network(trained, manifest):
    """The mean squared error over the validation slices, with no metric of MONAI's."""
    cases = Manifest.read(manifest).select(split="validation")
    errors = []
    for case in cases:
        item = {"case": case.name, "subject": case.subject, "label": 0, "ct": str(case.ct), "mri": str(case.mri)}
        image = torch.as_tensor(np.asarray(trained.found.preprocess(item)["image"]))
        with torch.inference_mode():
            errors.append(float((trained.found.network(image[None])[0] - image).square().mean()))
    best = min(entry["val_mse"] for entry in trained.found.history)
    assert np.mean(errors) == pytest.approx(best, rel=1e-3)


def test_the_preprocessing_is_the_deterministic_part(trained, manifest):
    case = Manifest.read(manifest)[0]
    item = {"case": case.name, "subject": case.subject, "label": 0, "ct": str(case.ct), "mri": str(case.mri)}
    assert isinstance(trained.found.preprocess, Compose)
    one, two = (np.asarray(trained.found.preprocess(dict(item))["image"]) for _ in range(2))
    assert one.shape == (2, 32, 32)
    np.testing.assert_array_equal(one, two)
    assert one.min() >= 0
    assert one.max() <= 1


def test_the_seed_alone_decides(trained, manifest, tmp_path):
    random.seed(99)
    torch.manual_seed(99)
    again = train_bundle(NAME, tmp_path, dataset_dir=str(manifest), **TINY)
    for name, value in again.network.state_dict().items():
        assert torch.equal(value, trained.found.network.state_dict()[name]), name


def test_a_training_that_was_cut_off_continues(trained, manifest, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    states = random_states()
    with pytest.raises(KeyboardInterrupt):
        train_bundle(NAME, tmp_path, each_epoch=interrupt, dataset_dir=str(manifest), **TINY)
    assert_equal_states(states, random_states())
    epochs = []
    resumed = train_bundle(
        NAME, tmp_path, each_epoch=lambda *step: epochs.append(step), dataset_dir=str(manifest), **TINY
    )
    assert epochs == [(2, 2)]
    assert [entry["epoch"] for entry in resumed.history] == [1, 2]
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, trained.found.network.state_dict()[name]), name


def test_one_modality_trains_one_channel(phantom_manifest, manifest, tmp_path):
    found = train_bundle(NAME, tmp_path, dataset_dir=str(manifest), modalities=["mri"], **{**TINY, "max_epochs": 1})
    assert found.network(torch.zeros(1, 1, 32, 32)).shape == (1, 1, 32, 32)


@pytest.mark.parametrize("place", ["last", "nested"])
def test_training_on_test_anomalies_is_refused(manifest, tmp_path, monkeypatch, place):
    """A copy of the bundle whose augmentation injects hemorrhages, which only test."""
    root = tmp_path / "bundle"
    shutil.copytree(bundle_root(NAME), root)
    file = root / "configs" / "train.yaml"
    config = yaml.safe_load(file.read_text())
    injection = {"_target_": "monai_ctmri.transforms.InjectHemorrhaged", "keys": ["ct", "mri"], "prob": 0.5}
    if place == "nested":
        injection = {"_target_": "monai.transforms.OneOf", "transforms": [injection]}
    config["train"]["random_transforms"].append(injection)
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    monkeypatch.setattr(bundle_training, "bundle_root", lambda name: root)
    states = random_states()
    with pytest.raises(InputError, match=r"InjectHemorrhaged: trains on anomalies of family B"):
        train_bundle(NAME, tmp_path / "out", dataset_dir=str(manifest), **TINY)
    assert_equal_states(states, random_states())
    assert not list((tmp_path / "out").rglob("*.pt"))


def test_an_unknown_bundle_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing_like_it"):
        train_bundle("nothing_like_it", tmp_path)


def test_bad_data_is_an_input_error_behind_whatever_the_configuration_raises(tmp_path):
    with pytest.raises((InputError, RuntimeError)) as caught:
        train_bundle(NAME, tmp_path / "out", dataset_dir=str(tmp_path / "none.csv"), **TINY)
    assert "none.csv" in str(find_input_error(caught.value))
    assert not logging.getLogger("monai.bundle.workflows").disabled


def test_an_overlay_by_name_and_one_by_path(manifest, tmp_path):
    """The second lies over the first; what is given by name lies over both."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("kl_warmup_epochs: 2\nlatent_dim: 4\nkl_weight: 0.5\n")
    given = {**TINY, "max_epochs": 1, "kl_weight": 0.25}
    found = train_bundle(NAME, tmp_path / "out", overlays=["vae", str(mine)], dataset_dir=str(manifest), **given)
    assert isinstance(found.network, VariationalAutoencoder)
    settings = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (settings["kl_warmup_epochs"], settings["latent_dim"], settings["kl_weight"]) == (2, 4, 0.25)
    assert settings["likelihood"] == "laplace"
    image = torch.rand(1, 2, 32, 32)
    assert found.network.encode(image).shape == (1, 4)
    assert found.network(image).shape == image.shape


def test_an_overlay_that_is_not_there_is_named(manifest, tmp_path):
    with pytest.raises(InputError, match=r"overlay vea: no such configuration.*vae") as caught:
        train_bundle(NAME, tmp_path, overlays=["vea"], dataset_dir=str(manifest), **TINY)
    assert "\n" not in str(caught.value)
    assert not logging.getLogger("monai.bundle.workflows").disabled


def test_anomalies_for_testing_hide_in_no_overlay(manifest, tmp_path):
    mine = tmp_path / "mine.yaml"
    injection = {"_target_": "monai_ctmri.transforms.InjectTumourd", "keys": ["ct", "mri"], "prob": 0.5}
    mine.write_text(yaml.safe_dump({"+train#random_transforms": [injection]}))
    with pytest.raises(InputError, match=r"InjectTumourd: trains on anomalies of family B"):
        train_bundle(NAME, tmp_path / "out", overlays=[str(mine)], dataset_dir=str(manifest), **TINY)
