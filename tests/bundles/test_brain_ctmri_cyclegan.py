"""The bundle for unpaired pictures as a user runs it, on tiny pictures: what only this bundle does."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bundle_runs import (
    MAP_SIZES,
    SCHEMA,
    SIZE,
    command,
    config_files,
    environment,
    metadata_of,
    options,
    rows_of,
    run,
    workflow,
)
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from PIL import Image

from monai_ctmri.engines import latest_checkpoint
from monai_ctmri.engines.bundle_training import train_bundle
from monai_ctmri.networks.cycle_networks import CycleNetworks, ModalityDiscriminators

NAME = "brain_ctmri_cyclegan"
TINY = {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1, "pool_size": 5}
EPOCHS = 4


def tiny(cohort: Path, output_dir: Path, **further: Any) -> dict[str, Any]:
    return options(cohort, output_dir, **{**TINY, "max_epochs": EPOCHS, **further})


def last_state(output_dir: Path) -> dict[str, Any]:
    newest = latest_checkpoint(output_dir / "checkpoints")
    assert newest is not None
    return dict(torch.load(newest, weights_only=True))


def generators() -> CycleNetworks:
    return CycleNetworks(width=TINY["width"], blocks=TINY["blocks"])


@pytest.fixture(scope="module")
def bundle(repository: Path) -> Path:
    return repository / "bundles" / NAME


@pytest.fixture(scope="module")
def trained(bundle: Path, unpaired_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("trained")
    run(bundle, "train", **tiny(unpaired_cohort, output_dir))
    return output_dir


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def test_training_writes_its_folder(trained: Path) -> None:
    generators().load_state_dict(torch.load(trained / "models" / "model.pt", weights_only=True))
    content = last_state(trained)
    expected = {"model", "optimizer", "lr_scheduler", "image_pool", "best_model", "trainer"}
    assert set(content) == expected | {f"discriminator{part}" for part in ("s", "_optimizer", "_lr_scheduler")}
    ModalityDiscriminators(channels=4, layers=1).load_state_dict(content["discriminators"])
    assert content["image_pool"]["images"]
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    assert (settings["max_epochs"], settings["decay_from"], settings["cycle_weight"]) == (EPOCHS, EPOCHS // 2, 10.0)
    history = json.loads((trained / "history.json").read_text())
    assert len(history) == EPOCHS
    best = min(range(EPOCHS), key=lambda epoch: history[epoch]["val_cycle_error"])
    assert content["best_model"]["best_epoch"] == best + 1  # the lowest error is the best
    assert history[-1]["val_cycle_error"] < history[0]["val_cycle_error"]
    assert {path.name for path in (trained / "tensorboard").iterdir()}


def test_rates_fall_linearly_to_nothing(trained: Path) -> None:
    content = torch.load(trained / "checkpoints" / f"checkpoint_epoch={EPOCHS - 1}.pt", weights_only=True)
    for name in ("optimizer", "discriminator_optimizer"):
        (group,) = content[name]["param_groups"]
        assert group["lr"] == pytest.approx(0.0002 / 2)  # constant to epoch 2, then 1/2 and 0
        assert list(group["betas"]) == [0.5, 0.999]


def test_killed_training_ends_as_one_that_was_not(
    bundle: Path, unpaired_cohort: Path, trained: Path, tmp_path: Path, repository: Path
) -> None:
    given = tiny(unpaired_cohort, tmp_path, progress_bar=False)
    process = subprocess.Popen(
        command(bundle, "train", given),
        env=environment(repository),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while not list((tmp_path / "checkpoints").glob("checkpoint_epoch=*.pt")):
            assert process.poll() is None, "the training ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    newest = latest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    assert int(newest.stem.partition("=")[2]) < EPOCHS
    made = run(bundle, "train", **given)
    assert made.trainer.state.epoch == EPOCHS
    whole, parts = last_state(trained), last_state(tmp_path)
    for name in whole:
        assert same(whole[name], parts[name]), name
    first, second = (torch.load(d / "models" / "model.pt", weights_only=True) for d in (trained, tmp_path))
    assert same(first, second)


def test_pictures_of_a_pair_are_taken_apart(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    made = workflow(bundle, "train", **tiny(cohort, tmp_path))
    for data in (made.train_dataset, made.val_dataset):
        for index in range(len(data)):
            item = data[index]
            assert item["paired"] is False
            assert item["ct_case"] != item["mri_case"]
            assert item["image"].shape == (2, SIZE, SIZE)
            assert 0 <= item["image"].min() <= item["image"].max() <= 1
            assert (item["image"].flatten(1).max(dim=1).values > 0.3).all()
    pictures = {entry["case"] for entry in made.train_dataset.data}
    assert not pictures & {"s5_0", "s5_1"}  # the abnormal subject


def test_evaluation(bundle: Path, unpaired_cohort: Path, trained: Path) -> None:
    run(bundle, "train+evaluate", **tiny(unpaired_cohort, trained))
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    scores = rows_of(trained / "evaluation" / "scores.csv")
    assert metrics["cases"]["all"] == len(scores)
    assert metrics["cases"]["abnormal"] == 4
    assert 0 <= metrics["auroc"]["cycle_top"] <= 1
    for row in scores:
        own = "ct" if row["subject"].startswith("ct") else "mri"
        assert float(row["cycle_mean"]) == pytest.approx(float(row[f"cycle_{own}_mean"]))
        assert row[f"cycle_{'mri' if own == 'ct' else 'ct'}_mean"] == ""


def test_inference_of_unpaired_pictures(bundle: Path, unpaired_cohort: Path, trained: Path) -> None:
    run(bundle, "inference", **tiny(unpaired_cohort, trained))
    scores = rows_of(trained / "inference" / "scores.csv")
    assert len(scores) == 24
    assert not any(name.startswith("translated_mismatch") for name in scores[0])
    for row in scores:
        height, width = MAP_SIZES["odd" if int(row["subject"][-1]) % 2 else "even"]
        with Image.open(trained / "inference" / "maps" / f"{row['case']}.tif") as picture:
            assert picture.mode == "F"
            assert picture.size == (width, height)
            assert np.isfinite(np.asarray(picture)).all()


def test_inference_of_pairs_has_the_mismatch(bundle: Path, cohort: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "models", tmp_path / "models")
    run(bundle, "inference", **tiny(cohort, tmp_path, map_name="translated_mismatch"))
    scores = rows_of(tmp_path / "inference" / "scores.csv")
    assert len(scores) == 12
    for row in scores:
        for name in ("cycle_mean", "cycle_ct_top", "cycle_mri_top", "translated_mismatch_mean"):
            assert float(row[name]) >= 0


def test_maps_lie_on_the_grid_of_their_input(bundle: Path, unpaired_cohort: Path, tmp_path: Path) -> None:
    """Generators that answer black make the cycle error the picture itself: it must come back where it was."""
    networks = generators()
    for parameter in networks.parameters():
        torch.nn.init.zeros_(parameter)
    for generator in (networks.ct_to_mri, networks.mri_to_ct):
        last = [module for module in generator.modules() if isinstance(module, torch.nn.Conv2d)][-1]
        assert last.bias is not None
        torch.nn.init.constant_(last.bias, -30.0)
    (tmp_path / "models").mkdir()
    torch.save(networks.state_dict(), tmp_path / "models" / "model.pt")
    run(bundle, "inference", **tiny(unpaired_cohort, tmp_path))
    for row in rows_of(tmp_path / "inference" / "scores.csv"):
        if row["case"] in ("s5_0_ct", "s4_1_mri"):
            found = np.asarray(Image.open(tmp_path / "inference" / "maps" / f"{row['case']}.tif"))
            picture = np.asarray(Image.open(unpaired_cohort / f"{row['case']}.png"), dtype=float)
            full = 255 if row["case"].endswith("ct") else np.percentile(picture[picture > 0], 99.5)
            assert found.shape == picture.shape
            assert np.corrcoef(found.ravel(), picture.ravel())[0, 1] > 0.95
            middle = np.s_[14:18, 14:18]  # inside the lesion, away from its blurred rim
            assert found[middle].mean() == pytest.approx(picture[middle].mean() / full, abs=0.06)


def test_as_a_part_of_a_program(unpaired_cohort: Path, tmp_path: Path) -> None:
    given = tiny(unpaired_cohort, tmp_path, max_epochs=1, bf16=True, num_workers=1, progress_bar=False)
    given.pop("output_dir")
    done = train_bundle(NAME, tmp_path, **given)
    case = {"mri": str(unpaired_cohort / "s1_0_mri.png"), "case": "c", "subject": "s", "label": -1}
    image = done.preprocess(case)["image"]
    assert image.shape == (2, SIZE, SIZE)
    assert (image[0] == 0).all()
    with torch.inference_mode():
        pred = done.network(image[None].as_tensor())
    assert (pred[:, 1] == 0).all()
    assert (pred[:, 0] > 0).all()


@pytest.mark.parametrize("files", ["train", "train+evaluate", "train+size_256+gpu", "inference"])
def test_properties(files: str, bundle: Path, unpaired_cohort: Path, tmp_path: Path) -> None:
    made = workflow(bundle, files, **tiny(unpaired_cohort, tmp_path))
    assert made.check_properties() == []
    assert made.version == "0.1.0"


def test_overlays_change_size_and_width(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config(config_files(bundle, "train+size_256+gpu"))
    assert (parser["image_size"], parser["width"], parser["blocks"], parser["batch_size"]) == (256, 64, 9, 4)
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(2 * 11.4e6, rel=0.05)


def test_metadata(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(tmp_path / "schema.json"))
    metadata = metadata_of(bundle)
    assert metadata["version"] in metadata["changelog"]


def test_network_fits_its_metadata(bundle: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=config_files(bundle, "inference"),
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
    assert not any(
        "/home/" in path.read_text() or "/work/" in path.read_text() for path in (bundle / "configs").iterdir()
    )


def test_configurations_share_their_preprocessing(bundle: Path) -> None:
    train, inference = (yaml.safe_load((bundle / "configs" / f"{n}.yaml").read_text()) for n in ("train", "inference"))
    assert train["deterministic_transforms"][:-1] == inference["preprocessing"]["transforms"]
    assert train["deterministic_transforms"][-1]["_target_"].endswith("SelectItemsd")
    assert train["network_def"] == inference["network_def"]
