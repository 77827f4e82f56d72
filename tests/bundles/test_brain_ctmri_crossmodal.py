"""The cross-modal bundle as a user runs it: train, resume, fit, evaluate, infer with what there is, distribute, 3D."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from ignite.engine import Events
from monai.bundle import ConfigParser, create_workflow, verify_net_in_out
from PIL import Image

from monai_ctmri.engines import latest_checkpoint
from monai_ctmri.engines.precision import prefers_bfloat16
from monai_ctmri.errors import InputError, find_input_error
from monai_ctmri.networks.denoiser import GPU_FEATURES, CrossModalDenoiser

NAME = "brain_ctmri_crossmodal"
SIZE = 32
FEATURES = [8, 8, 8, 8, 16, 8]
SHAPES = ((40, 32), (32, 48))
COMBINATIONS = (
    *("train", "train+evaluate", "train+fit_detectors", "inference"),
    *(
        f"{base}+{overlay}"
        for overlay in ("image_256", "gpu", "patches_3d")
        for base in ("train", "train+evaluate", "train+fit_detectors", "inference")
    ),
)


@pytest.fixture(scope="module", autouse=True)
def keep_logging() -> Iterator[None]:
    """Undo what the bundle's logging.conf sets up for the process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    return repository / "bundles" / NAME


def head(shape: tuple[int, ...], generator: np.random.Generator, lesion: bool, tissue: float, rim: float) -> np.ndarray:
    """A head of any number of dimensions in grey levels: textured tissue in a rim, air around; a bright lesion."""
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    radius = np.sqrt(sum((axis / 0.85) ** 2 for axis in grid))
    texture = tissue + 15 * np.sin(5 * grid[0]) * np.cos(4 * grid[1]) + generator.normal(0, 4, shape)
    pixels = np.select([radius < 0.85, radius < 1], [texture, rim], 0.0)
    if lesion:
        pixels[sum((axis - 0.3) ** 2 for axis in grid) < 0.06] = 240
    return np.clip(pixels, 0, 255)


def write_manifest(folder: Path, rows: list[list[object]]) -> Path:
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["ct", "mri", "subject", "label", "split"], *rows])
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven subjects of two slices, of two shapes; two are abnormal, the last has one modality a slice."""
    folder = tmp_path_factory.mktemp("cohort")
    generator = np.random.default_rng(0)
    rows: list[list[object]] = []
    for subject in range(7):
        abnormal = subject >= 5
        part = ("train", "train", "train", "validation", "test", "test", "test")[subject]
        for index in range(2):
            files = {}
            for modality, tissue, rim in (("ct", 90, 255), ("mri", 140, 40)):
                pixels = head(SHAPES[subject % 2], generator, abnormal, tissue + 4 * index, rim)
                files[modality] = f"s{subject}_{index}_{modality}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(folder / files[modality])
            if subject == 6:
                files["mri" if index == 0 else "ct"] = ""
            rows.append([files["ct"], files["mri"], f"s{subject}", int(abnormal), part])
    write_manifest(folder, rows)
    return folder


def options(cohort: Path, output_dir: Path, **further: Any) -> dict[str, Any]:
    return {
        "dataset_dir": str(cohort),
        "output_dir": str(output_dir),
        "cache_dir": str(output_dir / "cache"),
        "image_size": SIZE,
        "features": FEATURES,
        "batch_size": 4,
        "max_epochs": 2,
        **further,
    }


def workflow(bundle: Path, files: str, **given: Any) -> Any:
    configs = bundle / "configs"
    return create_workflow(
        config_file=[str(configs / f"{name}.yaml") for name in files.split("+")],
        meta_file=str(configs / "metadata.json"),
        workflow_type="infer" if files.startswith("inference") else "train",
        **given,
    )


def run(bundle: Path, files: str, **given: Any) -> Any:
    made = workflow(bundle, files, **given)
    made.run()
    made.finalize()
    return made


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def command(bundle: Path, files: str, given: dict[str, Any], launcher: tuple[str, ...] = ()) -> list[str]:
    configs = [str(bundle / "configs" / f"{name}.yaml") for name in files.split("+")]
    words = [sys.executable, *launcher, "-m", "monai.bundle", "run", "--config_file", str(configs)]
    return words + [word for key, value in given.items() for word in (f"--{key}", str(value))]


def environment(repository: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "models" / "model.pt", weights_only=True)


@pytest.fixture(scope="module")
def trained(bundle: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for two epochs, then its scorers fitted."""
    output_dir = tmp_path_factory.mktemp("trained")
    run(bundle, "train", **options(cohort, output_dir))
    run(bundle, "train+fit_detectors", **options(cohort, output_dir))
    return output_dir


def test_training_writes_its_folder(trained: Path) -> None:
    CrossModalDenoiser(features=FEATURES, mirror=True).load_state_dict(weights_of(trained))
    assert latest_checkpoint(trained / "checkpoints") == trained / "checkpoints" / "checkpoint_epoch=2.pt"
    assert list((trained / "tensorboard").glob("events.*"))
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    assert (settings["image_size"], settings["features"], settings["modalities"]) == (SIZE, FEATURES, ["ct", "mri"])
    assert settings["bf16"] is prefers_bfloat16()
    history = json.loads((trained / "history.json").read_text())
    assert [set(entry) for entry in history] == [{"epoch", "train_loss", "val_separation", "val_nll"}] * 2
    best = torch.load(trained / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=True)["best_model"]
    assert best["best"] == pytest.approx(max(entry["val_separation"] for entry in history))


def test_rate_falls_along_a_cosine(trained: Path) -> None:
    for epoch in (1, 2):
        content = torch.load(trained / "checkpoints" / f"checkpoint_epoch={epoch}.pt", weights_only=True)
        expected = 0.001 * (1 + math.cos(math.pi * epoch / 2)) / 2
        assert content["optimizer"]["param_groups"][0]["lr"] == pytest.approx(expected, abs=1e-12)


def test_an_interrupted_training_ends_as_one_that_was_not(
    bundle: Path, cohort: Path, trained: Path, tmp_path: Path
) -> None:
    made = workflow(bundle, "train", **options(cohort, tmp_path))
    made.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
    made.run()
    assert made.trainer.state.epoch == 1
    made = run(bundle, "train", **options(cohort, tmp_path))
    assert made.trainer.state.epoch == 2
    whole, parts = (torch.load(latest_checkpoint(d / "checkpoints"), weights_only=True) for d in (trained, tmp_path))
    assert all(torch.equal(whole["model"][name], parts["model"][name]) for name in whole["model"])
    assert whole["best_model"] == parts["best_model"]
    assert whole["lr_scheduler"] == parts["lr_scheduler"]


def test_images_targets_and_what_is_hidden(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    made = workflow(bundle, "train", **options(cohort, tmp_path, modality_dropout=0.99, mirror=False))
    for item in made.train_dataset:
        assert item["image"].shape == item["target"].shape == (2, SIZE, SIZE)
        assert 0 <= item["target"].min() <= item["target"].max() <= 1
        assert (item["target"] != 0).flatten(1).any(dim=1).all()
        assert int((item["image"] != 0).flatten(1).any(dim=1).sum()) == 1  # one modality is never withheld
        assert item["label"] == 0
    first, again = (
        made.val_dataset[0],
        workflow(bundle, "train", **options(cohort, tmp_path, mirror=False)).val_dataset[0],
    )
    assert torch.equal(first["target"], again["target"])
    clean = made.parser.get_parsed_content("validate")["preprocessing"]
    assert torch.equal(clean(made.val_dataset_data[0])["image"], first["image"])  # drawn from the name alone
    noise = (first["image"] - first["target"])[(first["image"] != 0).flatten(1).any(dim=1)]
    assert noise.std() > 0.05
    assert {"planted", "planted_mask"} <= set(first)


def test_a_clip_of_nothing_leaves_the_weights(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    given = options(cohort, tmp_path, max_epochs=1, gradient_clip=0.0, weight_decay=0.0, bf16=False)
    made = workflow(bundle, "train", **given)
    before = {name: tensor.clone() for name, tensor in made.network_def.state_dict().items()}
    made.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.network_def.state_dict().items())


def test_evaluation_with_both_classes(bundle: Path, cohort: Path, trained: Path) -> None:
    run(bundle, "train+evaluate", **options(cohort, trained))
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    scores = rows_of(trained / "evaluation" / "scores.csv")
    assert metrics["cases"] == {"all": 6, "normal": 2, "abnormal": 4}
    for name in ("error_mean", "error_ct_top", "mismatch_mean", "latent_inconsistency", "asymmetry_error_top"):
        found = {label: [float(r[name]) for r in scores.values() if r["label"] == label and r[name]] for label in "01"}
        pairs = [(a > n) + 0.5 * (a == n) for a in found["1"] for n in found["0"]]
        assert metrics["auroc"][name] == pytest.approx(sum(pairs) / len(pairs))
    assert sum(bool(row["error_ct_top"]) for row in scores.values()) == 5
    assert sum(bool(row["mismatch_mean"]) for row in scores.values()) == 4


def test_evaluation_with_normals_only(bundle: Path, cohort: Path, trained: Path) -> None:
    run(bundle, "train+evaluate", **options(cohort, trained, evaluated_split="validation"))
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    assert "auroc" not in metrics
    assert metrics["cases"] == {"all": 2, "normal": 2, "abnormal": 0}


def test_inference_with_ct_with_mri_and_with_both(bundle: Path, cohort: Path, trained: Path, tmp_path: Path) -> None:
    rows = [[f"{cohort}/s{s}_0_ct.png", f"{cohort}/s{s}_0_mri.png", f"s{s}", "", ""] for s in (5, 4)]
    rows += [[f"{cohort}/s5_1_ct.png", "", "s5", "", ""], ["", f"{cohort}/s5_1_mri.png", "s5", "", ""]]
    manifest = write_manifest(tmp_path, rows)
    shutil.copytree(trained / "models", tmp_path / "models")
    run(bundle, "inference", **options(manifest, tmp_path))
    scores = list(rows_of(tmp_path / "inference" / "scores.csv").values())
    assert [bool(row["error_ct_mean"]) for row in scores] == [True, True, True, False]
    assert [bool(row["error_mri_mean"]) for row in scores] == [True, True, False, True]
    assert [bool(row["mismatch_top"]) for row in scores] == [True, True, False, False]
    assert [bool(row["latent_inconsistency"]) for row in scores] == [True, True, False, False]
    assert {row["label"] for row in scores} == {""}
    for row, shape in zip(scores, (SHAPES[1], SHAPES[0], SHAPES[1], SHAPES[1]), strict=True):
        found = np.asarray(Image.open(tmp_path / "inference" / "maps" / f"{row['case']}.tif"))
        assert found.shape == shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


@pytest.mark.parametrize("align", [True, False])
def test_maps_lie_on_the_grid_of_their_input(bundle: Path, cohort: Path, tmp_path: Path, align: bool) -> None:
    """A network of zeros expects what it is shown, with a scale of 1: what it is not shown is the map of mismatch."""
    network = CrossModalDenoiser(features=FEATURES, mirror=True)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    generator, files = np.random.default_rng(0), {}
    for modality in ("ct", "mri"):
        pixels = np.roll(head((36, 44), generator, True, 90, 200), 2, axis=1)  # off the centre: alignment moves it
        files[modality] = pixels.astype(np.uint8)
        Image.fromarray(files[modality]).save(tmp_path / f"{modality}.png")
    manifest = write_manifest(tmp_path, [["ct.png", "mri.png", "s", "", ""]])
    run(bundle, "inference", **options(manifest, tmp_path, align=align, smoothing_mm=0, map_name=["mismatch"]))
    (path,) = (tmp_path / "inference" / "maps").iterdir()
    found = np.asarray(Image.open(path))
    ct, mri = (files[name].astype(float) for name in ("ct", "mri"))
    expected = (ct / 255 + np.minimum(1, mri / np.percentile(mri[mri > 0], 99.5))) / 2
    assert found.shape == expected.shape
    agreement = [np.corrcoef(found.ravel(), other.ravel())[0, 1] for other in (expected, expected[:, ::-1])]
    assert agreement[0] > 0.9
    assert agreement[1] < agreement[0] - 0.1
    assert np.corrcoef(found.ravel(), np.roll(expected, 2, axis=1).ravel())[0, 1] < agreement[0] - 0.03


def test_scorers_are_plain_and_belong_to_their_weights(
    bundle: Path, cohort: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(trained / "models" / "scorers.pt", weights_only=True)
    assert set(content["scorers"]) == {"latent_inconsistency", "latent_outlier"}
    shutil.copytree(trained / "models", tmp_path / "models")
    (tmp_path / "models" / "scorers.pt").unlink()
    run(bundle, "inference", **options(cohort, tmp_path))
    printed = capsys.readouterr().out.splitlines()
    said = [line for line in printed if "fit_detectors" in line]
    assert len(said) == 1
    assert "Without latent_inconsistency, latent_outlier: " in said[0]
    assert len([line for line in printed if "run calibrate" in line]) == 1
    assert "latent_inconsistency" not in next(iter(rows_of(tmp_path / "inference" / "scores.csv").values()))


def test_inference_without_weights_says_so(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    with pytest.raises((InputError, RuntimeError)) as caught:  # MONAI wraps what an expression raises
        run(bundle, "inference", **options(cohort, tmp_path, bundle_root=str(tmp_path)))
    assert "train first" in str(find_input_error(caught.value))


def test_mirror(bundle: Path, cohort: Path, trained: Path, tmp_path: Path) -> None:
    given = options(cohort, tmp_path, modality_dropout=0.0, mirror_dropout=0.0, noise_std=[0.0, 0.0])
    item = workflow(bundle, "train", **given).train_dataset[0]
    assert torch.equal(item["image"][2:], item["image"][:2].flip(-1))
    assert item["target"].shape == (2, SIZE, SIZE)
    run(bundle, "train+evaluate", **options(cohort, trained))
    row = next(iter(rows_of(trained / "evaluation" / "scores.csv").values()))
    assert float(row["mirrored_mean"]) > 0
    assert float(row["given_all_top"]) > 0


def test_without_the_mirror(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    given = options(cohort, tmp_path, max_epochs=1, mirror=False)
    run(bundle, "train", **given)
    CrossModalDenoiser(features=FEATURES).load_state_dict(weights_of(tmp_path))
    run(bundle, "inference", **given)
    row = next(iter(rows_of(tmp_path / "inference" / "scores.csv").values()))
    assert "error_mean" in row
    assert "mirrored_mean" not in row


def test_any_modality_trains_on_request(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    rows = [[f"{cohort}/s0_0_ct.png", "", "a", 0, "train"], ["", f"{cohort}/s1_0_mri.png", "b", 0, "train"]]
    given = options(write_manifest(tmp_path, rows), tmp_path, max_epochs=1, bf16=True, num_workers=1)
    made = run(bundle, "train", **given | {"require": "any"})
    assert len(made.train_dataset) == 2
    assert {tensor.dtype for tensor in weights_of(tmp_path).values()} == {torch.float32}


def test_volumes_by_patches(bundle: Path, tmp_path: Path) -> None:
    """Volumes stored turned and flipped come back on their own grid."""
    affine = np.array([[0, -8.0, 0, 90], [8, 0, 0, -100], [0, 0, 9, -50], [0, 0, 0, 1]])
    generator, rows = np.random.default_rng(0), []
    for subject in range(2):
        for modality, scale in (("ct", 0.3), ("mri", 3.0)):
            values = (head((26, 24, 14), generator, False, 100, 250) * scale).astype(np.float32)
            if modality == "ct":
                values[values == 0] = -1000
            nib.save(nib.Nifti1Image(values, affine), tmp_path / f"{modality}{subject}.nii.gz")
        rows.append([f"ct{subject}.nii.gz", "" if subject else "mri0.nii.gz", f"s{subject}", 0, "train"])
    manifest = write_manifest(tmp_path, rows)
    given = options(manifest, tmp_path, max_epochs=1, batch_size=1, patch_size=32, patches=1, spacing_mm=9.0)
    run(bundle, "train+patches_3d", **given | {"noise_grid": 4, "bf16": False})
    CrossModalDenoiser(spatial_dims=3, features=FEATURES).load_state_dict(weights_of(tmp_path))
    run(bundle, "inference+patches_3d", **given)
    scores = rows_of(tmp_path / "inference" / "scores.csv")
    assert len(scores) == 2
    assert sorted(bool(row["mismatch_mean"]) for row in scores.values()) == [False, True]
    for name in scores:
        found = nib.load(tmp_path / "inference" / "maps" / f"{name}.nii.gz")
        assert found.shape == (26, 24, 14)
        np.testing.assert_allclose(found.affine, affine, atol=1e-4)
        values = found.get_fdata()
        assert np.isfinite(values).all()
        assert values.std() > 0


@pytest.mark.parametrize("files", COMBINATIONS)
def test_properties(files: str, bundle: Path, cohort: Path, tmp_path: Path) -> None:
    made = workflow(bundle, files, **options(cohort, tmp_path, cache_rate=0.0))  # these pictures are no volumes
    assert made.check_properties() == []
    assert Path(made.bundle_root) == bundle
    assert made.version == "0.1.0"


def test_network_fits_its_metadata(bundle: Path) -> None:
    configs = bundle / "configs"
    for name in ("train", "inference"):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / f"{name}.yaml"),
            device="cpu",
        )


def test_overlays_say_what_they_are_for(bundle: Path) -> None:
    configs = bundle / "configs"
    for base in ("train", "inference"):
        found = {}
        for overlay in ("image_256", "gpu", "patches_3d"):
            parser = ConfigParser()
            parser.read_config([str(configs / f"{base}.yaml"), str(configs / f"{overlay}.yaml")])
            found[overlay] = parser
        assert found["image_256"]["image_size"] == 256
        assert tuple(found["gpu"]["features"]) == GPU_FEATURES
        assert found["patches_3d"].get_parsed_content("network_def").spatial_dims == 3


def test_configurations_share_their_parts(bundle: Path) -> None:
    """What is trained on and fitted is what is inferred on."""
    train, inference = (yaml.safe_load((bundle / "configs" / f"{n}.yaml").read_text()) for n in ("train", "inference"))
    for name in ("deterministic_transforms", "network_def", "inferer", "scorers", "joint_scorer", "scorer"):
        assert train[name] == inference[name]
    for name in ("autocast", "memory_format", "pixel_spacing_mm", "brain_mask", "map_score"):
        assert train[name] == inference[name]
    detectors = ("detectors", "detector_name", "detector_parameters", "explained_variance")
    for name in ("modalities", "image_size", "align", "features", "mirror", "spatial_dims", *detectors):
        assert train[name] == inference[name]


def test_files_of_the_convention(bundle: Path) -> None:
    names = ("LICENSE", "docs/README.md", "configs/metadata.json", "configs/inference.yaml", "configs/logging.conf")
    assert all((bundle / name).is_file() for name in names)
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    texts = [path.read_text() for path in (bundle / "configs").iterdir()]
    assert not any("/home/" in text or "/work/" in text for text in texts)


def test_documented_overrides_exist(bundle: Path) -> None:
    """A misspelt override is silent in MONAI, so the README must not have one."""
    readme = (bundle / "docs" / "README.md").read_text()
    commands = re.findall(r"^(?:python|torchrun)(?:.*\\\n)*.*", readme, flags=re.MULTILINE)
    runs = [each for each in commands if "monai.bundle run" in each]
    assert len(runs) >= 10
    for each in runs:
        config: dict[str, Any] = {}
        for name in re.findall(r"BUNDLE/configs/(\w+)\.yaml", each):
            config |= yaml.safe_load((bundle / "configs" / f"{name}.yaml").read_text())
        given = set(re.findall(r"--(\w+)", each.partition("bundle run")[2])) - {"config_file"}
        assert given <= set(config), f"{given - set(config)} in {each}"


def test_killed_training_resumes_and_has_learnt(bundle: Path, cohort: Path, tmp_path: Path, repository: Path) -> None:
    """Killed at any moment; started from another folder, with the default output_dir relative to it."""
    easy = {"learning_rate": 0.005, "augmentation_probability": 0.0, "domain_probability": 0.0}
    given = options(cohort, tmp_path, max_epochs=400, **easy)
    del given["output_dir"], given["cache_dir"]
    output_dir = tmp_path / "runs" / NAME
    process = subprocess.Popen(
        command(bundle, "train", given),
        cwd=tmp_path,
        env=environment(repository),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while not list((output_dir / "checkpoints").glob("checkpoint_epoch=*.pt")):
            assert process.poll() is None, "the training ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.03)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    newest = latest_checkpoint(output_dir / "checkpoints")
    assert newest is not None
    done = int(newest.stem.partition("=")[2])
    last = max(done + 1, 24)
    made = run(bundle, "train", **options(cohort, output_dir, max_epochs=last, **easy))
    assert made.trainer.state.epoch == last
    history = json.loads((output_dir / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, last + 1))
    # Who knows the range alone says the middle, at best with the mean distance from it as scale.
    target = torch.stack([item["target"].as_tensor() for item in made.val_dataset]).flatten(2)
    ignorant = float((1 + (target - 0.5).abs().mean(dim=2).log()).mean())
    assert history[-1]["val_nll"] < ignorant - 0.2
