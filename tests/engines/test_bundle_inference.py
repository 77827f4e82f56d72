"""A bundle or a run's folder as a judge: the bundle's own numbers, and what is refused before anything is executed."""

from __future__ import annotations

import csv
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import create_workflow
from PIL import Image

from monai_ctmri.bundle import bundle_root
from monai_ctmri.data.dataset import datalist
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.engines import write_settings
from monai_ctmri.engines.bundle_inference import load_bundle
from monai_ctmri.engines.randomness import preserved_random_state
from monai_ctmri.errors import InputError, find_input_error
from monai_ctmri.networks import ConvolutionalAutoencoder
from monai_ctmri.networks.denoiser import CrossModalDenoiser
from monai_ctmri.networks.variational_autoencoder import VariationalAutoencoder

SIZE = 32
FEATURES = [8, 8, 8, 8, 16, 8]
CROSSMODAL, AUTOENCODER = "brain_ctmri_crossmodal", "brain_ctmri_autoencoder"


@pytest.fixture(scope="module", autouse=True)
def keep_logging() -> Iterator[None]:
    """Undo what a bundle's logging.conf sets up for the process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def write_run(folder: Path, name: str, network: torch.nn.Module, **settings: Any) -> Path:
    """What a training run leaves: settings, and weights that are random here."""
    given = {"bundle": name, "modalities": ["ct", "mri"], "image_size": SIZE, "batch_size": 3, "seed": 5, **settings}
    write_settings(folder / "config.yaml", given | {"dataset_dir": "/no/such $(place)"})
    (folder / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


def random_network(kind: Any, **arguments: Any) -> torch.nn.Module:
    with preserved_random_state():
        torch.manual_seed(1)
        return kind(**arguments)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both modalities, CT alone, MRI alone; pictures of two shapes, none of them the network's."""
    folder, generator = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)
    rows = []
    for number, (shape, present) in enumerate((((40, 36), "both"), ((30, 44), "ct"), ((40, 36), "mri"))):
        y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
        files = {"ct": "", "mri": ""}
        for modality, grey in (("ct", 90), ("mri", 150)):
            if present in (modality, "both"):
                head = np.where(x**2 + y**2 < 0.7, grey + generator.normal(0, 9, shape), 0)
                files[modality] = f"{number}_{modality}.png"
                Image.fromarray(np.clip(head, 0, 255).astype(np.uint8)).save(folder / files[modality])
        rows.append([files["ct"], files["mri"], f"s{number}"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["ct", "mri", "subject"], *rows])
    return folder


@pytest.fixture(scope="module")
def crossmodal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = random_network(CrossModalDenoiser, features=FEATURES)
    folder = tmp_path_factory.mktemp("crossmodal")
    return write_run(folder, CROSSMODAL, network, features=FEATURES, align=True, mirror=False, spatial_dims=2)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = random_network(ConvolutionalAutoencoder, in_channels=2)
    return write_run(tmp_path_factory.mktemp("autoencoder"), AUTOENCODER, network, latent_dim=None)


def by_the_bundle(name: str, run: Path, cohort: Path, files: str = "inference", **given: Any) -> Path:
    """What ``python -m monai.bundle run`` writes, in this process and in one batch."""
    configs = bundle_root(name) / "configs"
    made = create_workflow(
        config_file=[str(configs / f"{file}.yaml") for file in files.split("+")],
        meta_file=str(configs / "metadata.json"),
        workflow_type="infer",
        dataset_dir=str(cohort),
        output_dir=str(run),
        image_size=SIZE,
        **given,
    )
    made.run()
    made.finalize()
    return run / "inference"


def demand_equal(folder: Path, model: Path, cohort: Path, require: str = "any") -> None:
    bundle = load_bundle(model)
    with (folder / "scores.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    items = datalist(Manifest.read(cohort), None, bundle.modalities, require=require)
    assert set(rows) == {item["case"] for item in items}
    for item in items:
        judged = bundle.judge(item)
        row = {name: text for name, text in rows[item["case"]].items() if text}
        expected = {name: float(row[name]) for name in row if name not in ("case", "subject", "label", "score")}
        assert row["score"] == next(row[name] for name in bundle.default_scores if name in row)  # nothing is calibrated
        assert judged.scores.keys() == expected.keys()
        for name, value in expected.items():
            assert judged.scores[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
        with Image.open(folder / "maps" / f"{item['case']}.tif") as picture:
            saved = np.asarray(picture)
        assert judged.map is not None
        assert judged.map.dtype == np.float32
        with Image.open(item.get("ct") or item["mri"]) as picture:
            assert judged.map.shape == saved.shape == picture.size[::-1]
        np.testing.assert_allclose(judged.map, saved, rtol=1e-3, atol=1e-4)
        assert judged.map.max() > judged.map.min()


def test_the_cross_modal_bundle_gives_the_same_numbers(crossmodal, cohort):
    folder = by_the_bundle(CROSSMODAL, crossmodal, cohort, features=FEATURES, mirror=False)
    demand_equal(folder, crossmodal, cohort)


def test_the_autoencoder_bundle_gives_the_same_numbers(autoencoder, cohort):
    demand_equal(by_the_bundle(AUTOENCODER, autoencoder, cohort), autoencoder, cohort, require="all")


def test_a_variational_run_is_read_with_its_overlay(tmp_path, cohort):
    network = random_network(VariationalAutoencoder, in_channels=2, spatial_size=(SIZE, SIZE), latent_dim=8)
    own = {"latent_dim": 8, "scale": None, "likelihood": "laplace", "kl_weight": 1.0, "kl_warmup_epochs": 2}
    run = write_run(tmp_path, AUTOENCODER, network, **own)
    bundle = load_bundle(run)
    assert [path.name for path in bundle.configs] == ["inference.yaml", "vae_inference.yaml"]
    assert bundle.default_scores == ("improbability_top",)
    folder = by_the_bundle(AUTOENCODER, run, cohort, "inference+vae_inference", latent_dim=8)
    demand_equal(folder, run, cohort, require="all")


def test_what_the_run_says_of_itself_is_used_and_of_its_training_not(crossmodal):
    bundle = load_bundle(crossmodal)
    assert bundle.name == CROSSMODAL
    expected = {"modalities": ["ct", "mri"], "image_size": SIZE, "features": FEATURES}
    assert bundle.settings == {**expected, "align": True, "mirror": False, "spatial_dims": 2}
    assert bundle.default_scores == ("asymmetry_error_top", "error_top")
    assert not bundle.network.training
    saved = torch.load(crossmodal / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value.cpu(), saved[name]) for name, value in bundle.network.state_dict().items())


def test_a_mirrored_network_is_built_as_it_was_trained(tmp_path, cohort):
    network = random_network(CrossModalDenoiser, features=FEATURES, mirror=True)
    bundle = load_bundle(write_run(tmp_path, CROSSMODAL, network, features=FEATURES, mirror=True, align=True))
    item = datalist(Manifest.read(cohort), None, require="any")[0]
    assert {"mirrored_top", "mirrored_error_top"} <= bundle.judge(item).scores.keys()


def test_every_training_names_its_bundle(repository):
    for folder in sorted((repository / "bundles").iterdir()):
        content = yaml.safe_load((folder / "configs" / "train.yaml").read_text())
        assert content["settings"]["bundle"] == folder.name


def test_randomness_of_the_process_is_left_alone(crossmodal, cohort):
    item = datalist(Manifest.read(cohort), None, require="any")[0]
    with preserved_random_state():
        before, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
        load_bundle(crossmodal).judge(item)
        assert torch.equal(before, torch.get_rng_state())
        assert numbers == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_a_bundle_itself_and_the_name_of_one(crossmodal, tmp_path, monkeypatch):
    own = tmp_path / "my_bundle"
    shutil.copytree(bundle_root(CROSSMODAL) / "configs", own / "configs")
    text = (own / "configs" / "inference.yaml").read_text()
    for name, value in (
        ("image_size", SIZE),
        ("features", FEATURES),
        ("mirror", "false"),
        ("default_score", "mismatch_top"),
    ):
        text, count = re.subn(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
        assert count == 1
    (own / "configs" / "inference.yaml").write_text(text)
    (own / "models").mkdir()
    shutil.copy(crossmodal / "models" / "model.pt", own / "models")
    bundle = load_bundle(own)
    assert (bundle.name, bundle.settings, bundle.default_scores) == ("my_bundle", {}, ("mismatch_top",))
    assert bundle.files == load_bundle(crossmodal).files
    assert bundle.fingerprint != load_bundle(crossmodal).fingerprint
    monkeypatch.chdir(tmp_path)
    if (bundle_root(AUTOENCODER) / "models" / "model.pt").is_file():
        assert load_bundle(AUTOENCODER).folder == bundle_root(AUTOENCODER)


def test_a_case_without_what_the_model_needs_is_named(autoencoder, cohort):
    both, ct_alone, _ = datalist(Manifest.read(cohort), None, require="any")
    bundle = load_bundle(autoencoder)
    with pytest.raises(InputError, match=r"1_ct: has no mri, and this model needs ct and mri"):
        bundle.judge(ct_alone)
    with pytest.raises(InputError, match="has no ct or mri"):
        bundle.judge({name: both[name] for name in ("case", "subject", "label")})
    with pytest.raises(Exception, match=r".") as caught:
        bundle.judge(both | {"ct": str(cohort / "absent.png")})
    assert "absent.png: no such file" in str(find_input_error(caught.value))


@pytest.mark.parametrize("what", ["image_size", "features", "modalities"])
@pytest.mark.parametrize(
    "planted",
    ["$__import__('pathlib').Path('{0}').touch()", "@network", "%other.yaml::x", {"_target_": "pathlib.Path"}],
    ids=["expression", "reference", "macro", "component"],
)
def test_a_runs_settings_are_data_and_never_evaluated(crossmodal, tmp_path, what, planted):
    run, witness = tmp_path / "run", tmp_path / "witness"
    shutil.copytree(crossmodal, run)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    value = planted.format(witness) if isinstance(planted, str) else planted
    (run / "config.yaml").write_text(yaml.safe_dump(settings | {what: [1, value]}))
    with pytest.raises(InputError, match=f"config.yaml: {what} is no plain value"):
        load_bundle(run)
    assert not witness.exists()


def spoil(run: Path, how: str) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    changes: dict[str, Any] = {
        "volumes": {"spatial_dims": 3},
        "unnamed": {"bundle": None},
        "path": {"bundle": os.fspath(run)},
        "stranger": {"bundle": "no_bundle"},
        "other network": {"features": [8, 8, 8, 8, 8, 8]},
        "impossible": {"features": [1]},
    }
    if how in changes:
        (run / "config.yaml").write_text(yaml.safe_dump(settings | changes[how]))
    elif how == "no weights":
        (run / "models" / "model.pt").unlink()
    elif how == "cut off":
        content = (run / "models" / "model.pt").read_bytes()
        (run / "models" / "model.pt").write_bytes(content[: len(content) // 2])
    elif how == "no yaml":
        (run / "config.yaml").write_bytes(b"\xff{[")
    elif how == "a list":
        (run / "config.yaml").write_text("- 1\n")
    elif how == "empty":
        shutil.rmtree(run)
        run.mkdir()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("volumes", "trained on volumes"),
        ("unnamed", "does not say which bundle"),
        ("path", "not found"),
        ("stranger", "'no_bundle': not found"),
        ("other network", "not weights of this network"),
        ("impossible", "cannot be set up"),
        ("no weights", "no trained weights"),
        ("cut off", "not weights of this network"),
        ("no yaml", "cannot be read as YAML"),
        ("a list", "holds no settings"),
        ("empty", "no model"),
    ],
)
def test_a_bad_folder_is_one_line(crossmodal, tmp_path, how, words):
    run = tmp_path / "run"
    shutil.copytree(crossmodal, run)
    spoil(run, how)
    with pytest.raises(InputError, match=words) as caught:
        load_bundle(run)
    assert "\n" not in str(caught.value)


def test_no_folder_and_a_file(crossmodal, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_bundle(tmp_path / "absent")
    with pytest.raises(InputError, match="no such folder"):
        load_bundle("no_bundle_of_ours")
    with pytest.raises(InputError, match="a file, not a folder"):
        load_bundle(crossmodal / "config.yaml")


def test_weights_that_are_a_pickle_of_code_do_not_run(crossmodal, tmp_path):
    run, witness = tmp_path / "run", tmp_path / "witness"
    shutil.copytree(crossmodal, run)

    class Planted:
        def __reduce__(self):
            return (Path.touch, (witness,))

    torch.save({"weight": Planted()}, run / "models" / "model.pt")
    with pytest.raises(InputError, match="not weights of this network"):
        load_bundle(run)
    assert not witness.exists()
