"""The bundle as a user runs it: train, evaluate, infer, resume, distribute; from anywhere, on tiny pictures."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from bundle_runs import (
    MAP_SIZES,
    SCHEMA,
    SIZE,
    command,
    environment,
    options,
    rows_of,
    run,
    run_distributed,
    workflow,
)
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from PIL import Image

from monai_ctmri.engines import latest_checkpoint
from monai_ctmri.errors import InputError, find_input_error
from monai_ctmri.networks import ConvolutionalAutoencoder

NAME = "brain_ctmri_autoencoder"


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    return repository / "bundles" / NAME


@pytest.fixture(scope="module")
def trained(bundle: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("trained")
    run(bundle, "train", **options(cohort, output_dir))
    return output_dir


def test_training_writes_its_folder(trained: Path) -> None:
    weights = torch.load(trained / "models" / "model.pt", weights_only=True)
    ConvolutionalAutoencoder(in_channels=2).load_state_dict(weights)
    assert latest_checkpoint(trained / "checkpoints") == trained / "checkpoints" / "checkpoint_epoch=2.pt"
    assert list((trained / "tensorboard").glob("events.*"))
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    assert (settings["image_size"], settings["max_epochs"], settings["modalities"]) == (SIZE, 2, ["ct", "mri"])
    expected = {"models", "checkpoints", "tensorboard", "config.yaml", "history.json"}
    assert {path.name for path in trained.iterdir()} - {"evaluation", "inference"} == expected


def test_training_is_repeatable(bundle: Path, cohort: Path, trained: Path, tmp_path: Path) -> None:
    run(bundle, "train", **options(cohort, tmp_path))
    first, second = (torch.load(d / "models" / "model.pt", weights_only=True) for d in (trained, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_lowers_the_error(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    made = run(bundle, "train", **options(cohort, tmp_path, max_epochs=12, augmentation_probability=0.0))
    content = torch.load(tmp_path / "checkpoints" / "checkpoint_epoch=12.pt", weights_only=True)
    all_black = torch.stack([item["image"].square().mean() for item in made.val_dataset]).mean()
    assert content["best_model"]["best"] < 0.5 * float(all_black)


def test_training_continues_from_the_last_epoch(bundle: Path, cohort: Path, trained: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(bundle, "train", **options(cohort, whole, max_epochs=4))
    shutil.copytree(trained, parts)
    made = run(bundle, "train", **options(cohort, parts, max_epochs=4))
    assert made.trainer.state.epoch == 4
    first, second = (torch.load(latest_checkpoint(d / "checkpoints"), weights_only=True) for d in (whole, parts))
    assert all(torch.equal(first["model"][name], second["model"][name]) for name in first["model"])
    assert first["best_model"] == second["best_model"]


def test_early_stop(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    given = options(cohort, tmp_path, max_epochs=9, patience=2, learning_rate=0.0)
    assert run(bundle, "train", **given).trainer.state.epoch == 3


def test_evaluation_with_both_classes(bundle: Path, cohort: Path, trained: Path) -> None:
    run(bundle, "train+evaluate", **options(cohort, trained))
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    scores = rows_of(trained / "evaluation" / "scores.csv")
    assert metrics["cases"]["abnormal"] == 2
    assert metrics["cases"]["all"] == len(scores) >= 4
    normal, abnormal = ([float(r["l1_top"]) for r in scores if r["label"] == label] for label in ("0", "1"))
    pairs = [(a > n) + 0.5 * (a == n) for a in abnormal for n in normal]
    assert metrics["auroc"]["l1_top"] == pytest.approx(sum(pairs) / len(pairs))
    assert metrics["mean"]["all"]["mse"] == pytest.approx(np.mean([float(r["mse"]) for r in scores]))


def test_evaluation_with_normals_only(bundle: Path, cohort: Path, trained: Path) -> None:
    run(bundle, "train+evaluate", **options(cohort, trained, evaluated_split="validation"))
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    assert "auroc" not in metrics
    assert metrics["cases"] == {"all": 2, "normal": 2, "abnormal": 0}


def test_inference_scores_every_case(bundle: Path, cohort: Path, trained: Path) -> None:
    run(bundle, "inference", **options(cohort, trained))
    scores = rows_of(trained / "inference" / "scores.csv")
    assert len(scores) == 12
    for row in scores:
        with Image.open(trained / "inference" / "maps" / f"{row['case']}.tif") as picture:
            assert picture.mode == "F"
            height, width = MAP_SIZES["odd" if int(row["subject"][1]) % 2 else "even"]
            assert picture.size == (width, height)
            assert np.isfinite(np.asarray(picture)).all()


def test_maps_lie_on_the_grid_of_their_input(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    """With a network that answers black the map is the image itself: it must come back where it was."""
    network = ConvolutionalAutoencoder()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(network.decoder[-2].bias, -30.0)
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    run(bundle, "inference", **options(cohort, tmp_path))
    for name in ("s5_0", "s4_1"):
        found = np.asarray(Image.open(tmp_path / "inference" / "maps" / f"{name}_ct.tif"))
        ct, mri = (np.asarray(Image.open(cohort / f"{name}_{m}.png"), dtype=float) for m in ("ct", "mri"))
        expected = (ct / 255 + mri / np.percentile(mri[mri > 0], 99.5)) / 2
        assert found.shape == expected.shape
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
        for flipped in (expected[::-1], expected[:, ::-1]):  # a map turned over would fit better the other way
            if name == "s5_0":
                assert np.abs(found - expected).mean() <= np.abs(found - flipped).mean()


def test_inference_without_labels(bundle: Path, cohort: Path, trained: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "mine.csv"
    manifest.write_text(f"ct,mri,subject\n{cohort}/s1_0_ct.png,{cohort}/s1_0_mri.png,someone\n")
    shutil.copytree(trained / "models", tmp_path / "models")
    run(bundle, "inference", **options(manifest, tmp_path))
    (row,) = rows_of(tmp_path / "inference" / "scores.csv")
    assert (row["subject"], row["label"]) == ("someone", "")


def test_inference_without_weights_says_so(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    with pytest.raises((InputError, RuntimeError)) as caught:  # MONAI wraps what an expression raises
        run(bundle, "inference", **options(cohort, tmp_path, bundle_root=str(tmp_path)))
    error = find_input_error(caught.value)
    assert isinstance(error, InputError)
    assert "train first" in str(error)


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_one_modality(modality: str, bundle: Path, cohort: Path, tmp_path: Path) -> None:
    given = options(cohort, tmp_path, modalities=[modality], max_epochs=1)
    made = run(bundle, "train", **given)
    assert made.train_dataset[0]["image"].shape == (1, SIZE, SIZE)
    run(bundle, "train+evaluate", **given)
    run(bundle, "inference", **given)
    assert len(rows_of(tmp_path / "inference" / "scores.csv")) == 12


def test_bf16_and_workers(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    run(bundle, "train", **options(cohort, tmp_path, max_epochs=1, bf16=True, num_workers=1))
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_images_are_in_range_and_hold_both(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    made = workflow(bundle, "train", **options(cohort, tmp_path))
    for data in (made.train_dataset, made.val_dataset):
        for item in data:
            assert item["image"].shape == (2, SIZE, SIZE)
            assert 0 <= item["image"].min() <= item["image"].max() <= 1
            assert item["label"] == 0


def test_a_tiny_cohort_validates_on_its_training_part(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"ct,mri,subject,label,split\n{cohort}/s1_0_ct.png,{cohort}/s1_0_mri.png,one,0,train\n")
    run(bundle, "train", **options(manifest, tmp_path, max_epochs=1))
    assert (tmp_path / "models" / "model.pt").is_file()


def test_dense_latent_of_the_notes(bundle: Path) -> None:
    configs = bundle / "configs"
    for base in ("train", "inference"):
        parser = ConfigParser()
        parser.read_config([str(configs / f"{base}.yaml"), str(configs / "notes_256.yaml")])
        assert (parser["image_size"], parser["batch_size"], parser["learning_rate"]) == (256, 16, 1e-4)
        assert (parser["max_epochs"], parser["latent_dim"]) == (100, 128)
        assert parser["fractions"] == {"train": 0.7, "validation": 0.15, "test": 0.15}
        parser.update({"image_size": SIZE})
        network = parser.get_parsed_content("network_def")
        assert network.encode(torch.rand(1, 2, SIZE, SIZE)).shape == (1, 128)


def test_dense_latent_trains(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    given = options(cohort, tmp_path, max_epochs=1, latent_dim=8)
    run(bundle, "train+notes_256", **given)
    run(bundle, "inference+notes_256", **given)
    assert (tmp_path / "inference" / "scores.csv").is_file()


@pytest.mark.parametrize("files", ["train", "train+evaluate", "train+notes_256", "inference"])
def test_properties(files: str, bundle: Path, cohort: Path, tmp_path: Path) -> None:
    made = workflow(bundle, files, **options(cohort, tmp_path, latent_dim=None))
    assert made.check_properties() == []
    assert Path(made.bundle_root) == bundle
    assert made.version == "0.1.0"


def test_metadata(bundle: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(schema))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]


def test_schema_of_this_test_bites(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    del metadata["network_data_format"]["inputs"]["image"]["dtype"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="dtype"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(tmp_path / "schema.json"))


def test_network_fits_its_metadata(bundle: Path) -> None:
    configs = bundle / "configs"
    for name in ("train", "inference"):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / f"{name}.yaml"),
            device="cpu",
        )


def test_files_of_the_convention(bundle: Path) -> None:
    for name in (
        "LICENSE",
        "docs/README.md",
        "configs/metadata.json",
        "configs/inference.yaml",
        "configs/logging.conf",
    ):
        assert (bundle / name).is_file()
    assert "Apache License" in (bundle / "LICENSE").read_text()
    texts = [path.read_text() for path in (bundle / "configs").iterdir()]
    assert not any("/home/" in text or "/work/" in text for text in texts)


def test_configurations_share_their_preprocessing(bundle: Path) -> None:
    """What is trained on is what is inferred on, but for the entries that inference keeps to go back to the input."""
    configs = bundle / "configs"
    train = yaml.safe_load((configs / "train.yaml").read_text())["deterministic_transforms"]
    inference = yaml.safe_load((configs / "inference.yaml").read_text())["preprocessing"]["transforms"]
    assert train[:-1] == inference
    assert train[-1]["_target_"].endswith("SelectItemsd")


def test_killed_training_resumes(bundle: Path, cohort: Path, tmp_path: Path, repository: Path) -> None:
    given = options(cohort, tmp_path, max_epochs=500, patience="None")
    process = subprocess.Popen(
        command(bundle, "train", given),
        env=environment(repository),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 90
        while not list((tmp_path / "checkpoints").glob("checkpoint_epoch=*.pt")):
            assert process.poll() is None, "the training ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    newest = latest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    done = int(newest.stem.partition("=")[2])
    assert done < 500
    made = run(bundle, "train", **options(cohort, tmp_path, max_epochs=done + 2))
    assert made.trainer.state.epoch == done + 2
    content = torch.load(latest_checkpoint(tmp_path / "checkpoints"), weights_only=True)
    assert content["trainer"] == {"epoch": done + 2}
    assert content["best_model"]["best_epoch"] >= 1
    ConvolutionalAutoencoder().load_state_dict(torch.load(tmp_path / "models" / "model.pt", weights_only=True))


def test_from_another_folder(bundle: Path, cohort: Path, tmp_path: Path, repository: Path) -> None:
    """The default output_dir is relative to where the user stands; the bundle itself is found and stays clean."""
    given = options(cohort, tmp_path, max_epochs=1)
    del given["output_dir"], given["cache_dir"]
    done = subprocess.run(
        command(bundle, "train", given), cwd=tmp_path, env=environment(repository), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "runs" / NAME / "models" / "model.pt").is_file()
    assert "best val_mse so far" in done.stdout


def test_two_processes(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    run_distributed(bundle, "train+multi_gpu_train", options(cohort, tmp_path))
    weights = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    ConvolutionalAutoencoder().load_state_dict(weights)  # no prefix of the distributed wrapper
    content = torch.load(tmp_path / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=True)
    assert set(content["model"]) == set(weights)
    # Curves of training and validation, and pictures: of the first process alone.
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) <= 3
    made = run(bundle, "train", **options(cohort, tmp_path, max_epochs=3))  # one process goes on where two stopped
    assert made.trainer.state.epoch == 3
