"""The autoencoder bundle with its overlays: denoising, variational, search in the latent; on tiny pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bundle_runs import BUNDLES, SIZE, config_files, options, rows_of, run, workflow
from ignite.engine import Events
from monai.bundle import ConfigParser, verify_net_in_out
from monai.data import DataLoader
from PIL import Image

from monai_ctmri.engines import latest_checkpoint
from monai_ctmri.networks.variational_autoencoder import VariationalAutoencoder
from monai_ctmri.scoring.latent_search import LatentSearchScorer
from monai_ctmri.scoring.probability import ReconstructionProbabilityScorer
from monai_ctmri.scoring.reconstruction import ReconstructionScorer

BUNDLE = BUNDLES / "brain_ctmri_autoencoder"
SMALL = {"latent_dim": 8, "kl_warmup_epochs": 4, "kl_weight": 0.5}


def train_and_watch(cohort: Path, output_dir: Path, **further: Any) -> SimpleNamespace:
    """Train the variational autoencoder; the weight of the divergence is looked at in every iteration."""
    made = workflow(BUNDLE, "train+vae", **options(cohort, output_dir, **SMALL, **further))
    loss, seen = made.parser.get_parsed_content("loss"), {}
    made.trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda engine: seen.setdefault(engine.state.epoch, set()).add(loss.kl_weight)
    )
    made.run()
    made.finalize()
    return SimpleNamespace(folder=output_dir, weights=seen, made=made)


@pytest.fixture(scope="module")
def variational(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return train_and_watch(cohort, tmp_path_factory.mktemp("vae"), max_epochs=3)


@pytest.fixture(scope="module")
def denoising(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("denoising")
    return SimpleNamespace(folder=folder, made=run(BUNDLE, "train+denoising", **options(cohort, folder)))


def loaded(folder: Path) -> VariationalAutoencoder:
    network = VariationalAutoencoder(2, (SIZE, SIZE), 8).eval()
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    return network


def test_the_weight_of_the_divergence_warms_up_by_epochs(variational: SimpleNamespace) -> None:
    assert variational.weights == {1: {0.125}, 2: {0.25}, 3: {0.375}}


def test_the_warm_up_goes_on_after_a_resume(cohort: Path, variational: SimpleNamespace, tmp_path: Path) -> None:
    whole = train_and_watch(cohort, tmp_path / "whole", max_epochs=5)
    assert whole.weights == {1: {0.125}, 2: {0.25}, 3: {0.375}, 4: {0.5}, 5: {0.5}}
    shutil.copytree(variational.folder, tmp_path / "parts")
    parts = train_and_watch(cohort, tmp_path / "parts", max_epochs=5)
    assert parts.weights == {4: {0.5}, 5: {0.5}}
    first, second = (
        torch.load(latest_checkpoint(each.folder / "checkpoints"), weights_only=True) for each in (whole, parts)
    )
    assert all(torch.equal(first["model"][name], second["model"][name]) for name in first["model"])


def test_no_warm_up_starts_with_the_whole_weight(cohort: Path, tmp_path: Path) -> None:
    made = workflow(BUNDLE, "train+vae", **options(cohort, tmp_path, **SMALL | {"kl_warmup_epochs": 0}))
    made.trainer.state.epoch = 1
    made.parser.get_parsed_content("loss").set_kl_weight(0.0)
    made.trainer.fire_event(Events.EPOCH_STARTED)
    assert made.parser.get_parsed_content("loss").kl_weight == 0.5


def test_the_metric_of_the_training_is_of_the_reconstruction(variational: SimpleNamespace) -> None:
    """Log-scales and divergence, which the network returns as well, are cut off before it."""
    assert 0 < variational.made.trainer.state.metrics["train_mse"] < 1
    assert variational.made.trainer.state.output[0]["pred"].shape == (2, SIZE, SIZE)


def test_the_settings_of_the_run_are_kept(variational: SimpleNamespace, denoising: SimpleNamespace) -> None:
    found = yaml.safe_load((variational.folder / "config.yaml").read_text())
    assert (found["kl_weight"], found["kl_warmup_epochs"], found["likelihood"]) == (0.5, 4, "laplace")
    assert (found["scale"], found["latent_dim"], found["image_size"]) == (None, 8, SIZE)
    found = yaml.safe_load((denoising.folder / "config.yaml").read_text())
    assert (found["noise_std"], found["noise_grid"], found["noise_probability"]) == ([0.2, 0.2], 16, 1.0)


def test_a_variational_training_learns(cohort: Path, tmp_path: Path) -> None:
    given = {"max_epochs": 12, "augmentation_probability": 0.0, "learning_rate": 0.01, "patience": None}
    made = train_and_watch(cohort, tmp_path, **given).made
    history = json.loads((tmp_path / "history.json").read_text())
    all_black = torch.stack([item["image"].square().mean() for item in made.val_dataset]).mean()
    assert min(entry["val_mse"] for entry in history) < 0.65 * float(all_black)
    assert history[-1]["train_loss"] < history[0]["train_loss"] - 0.3


@pytest.mark.parametrize("search", [False, True])
def test_inference_writes_the_scores_and_maps_of_the_scorer(
    search: bool, cohort: Path, variational: SimpleNamespace, tmp_path: Path
) -> None:
    shutil.copytree(variational.folder / "models", tmp_path / "models")
    files = "inference+vae_inference" + ("+latent_search" if search else "")
    given = {"latent_dim": 8} | ({"search_steps": 3} if search else {"samples": 4})
    made = run(BUNDLE, files, **options(cohort, tmp_path, **given))
    network = loaded(tmp_path)
    scorer: Any = (
        LatentSearchScorer(network, steps=3) if search else ReconstructionProbabilityScorer(network, samples=4)
    )
    name = "restoration" if search else "improbability"
    rows = {row["case"]: row for row in rows_of(tmp_path / "inference" / "scores.csv")}
    assert len(rows) == 12
    for item in made.dataset:
        expected, row = scorer.score(item), rows[item["case"]]
        assert set(row) == {"case", "subject", "label", "score", "p_value", "flagged", *expected.scores}
        assert row["score"] == row[f"{name}_top"]
        for column, value in expected.scores.items():
            assert float(row[column]) == pytest.approx(value, rel=1e-3, abs=1e-4), column
        with Image.open(tmp_path / "inference" / "maps" / f"{item['case']}.tif") as picture:
            found = np.asarray(picture)
        size = max(found.shape)
        assert found.shape == ((32, 48) if int(row["subject"][1]) % 2 else (40, 32))
        # Back on the grid of the input the map is the scorer's, enlarged, without its padding.
        full = np.asarray(Image.fromarray(expected.maps[name]).resize((size, size), Image.Resampling.BILINEAR))
        rows_off, columns_off = ((size - side) // 2 for side in found.shape)
        inner = full[rows_off : rows_off + found.shape[0], columns_off : columns_off + found.shape[1]]
        likeness = [np.corrcoef(found.ravel(), turned.ravel())[0, 1] for turned in (inner, inner[:, ::-1])]
        assert likeness[0] > 0.9
        if row["subject"] == "s5":  # its square lies to one side
            assert likeness[0] > likeness[1]


@pytest.mark.parametrize("search", [False, True])
def test_evaluation_judges_by_the_scorer(
    search: bool, cohort: Path, variational: SimpleNamespace, tmp_path: Path
) -> None:
    shutil.copytree(variational.folder / "models", tmp_path / "models")
    files = "train+vae+evaluate+vae_evaluate" + ("+latent_search" if search else "")
    made = run(BUNDLE, files, **options(cohort, tmp_path, **SMALL, **({"search_steps": 2} if search else {})))
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    scores = rows_of(tmp_path / "evaluation" / "scores.csv")
    name = "restoration_top" if search else "improbability_top"
    normal, abnormal = ([float(row[name]) for row in scores if row["label"] == label] for label in ("0", "1"))
    pairs = [(a > n) + 0.5 * (a == n) for a in abnormal for n in normal]
    assert metrics["auroc"][name] == pytest.approx(sum(pairs) / len(pairs))
    network = loaded(tmp_path)
    scorer: Any = LatentSearchScorer(network, steps=2) if search else ReconstructionProbabilityScorer(network)
    rows = {row["case"]: float(row[name]) for row in scores}
    for item in made.val_dataset:
        assert rows[item["case"]] == pytest.approx(scorer.score(item).scores[name], rel=1e-3, abs=1e-4)


def test_one_modality(cohort: Path, tmp_path: Path) -> None:
    given = options(cohort, tmp_path, **SMALL, modalities=["mri"], max_epochs=1)
    run(BUNDLE, "train+vae", **given)
    run(BUNDLE, "inference+vae_inference", **given, samples=2)
    (row, *_) = rows_of(tmp_path / "inference" / "scores.csv")
    assert float(row["improbability_mean"]) == pytest.approx(float(row["improbability_mean_mri"]))
    assert not any(name.endswith("_ct") for name in row)


def test_a_given_scale_and_a_normal_likelihood(cohort: Path, tmp_path: Path) -> None:
    given = options(cohort, tmp_path, **SMALL, scale=0.1, likelihood="normal", max_epochs=1, bf16=True)
    made = run(BUNDLE, "train+vae", **given)
    assert np.isfinite(made.trainer.state.output[0]["loss"])
    made = run(BUNDLE, "inference+vae_inference", **given, samples=1)
    case = made.dataset[0]
    image = torch.as_tensor(np.asarray(case["image"]))
    network = made.network_def
    evidence = ReconstructionProbabilityScorer(network, samples=1, likelihood="normal").score(case)
    draw = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        mean, log_variance = network.posterior(image[None])
        pred = network.decode(mean + torch.exp(log_variance / 2) * draw)[0]
    expected = ((image - pred) / 0.1) ** 2 / 2 + np.log(0.1) + np.log(2 * np.pi) / 2
    np.testing.assert_allclose(evidence.maps["improbability_ct"], expected[0].numpy(), rtol=1e-3, atol=1e-3)


def test_the_denoiser_gets_noise_and_has_to_give_the_clean_image(denoising: SimpleNamespace) -> None:
    item = denoising.made.train_dataset[0]
    noise = np.asarray(item["image"]) - np.asarray(item["target"])
    head = np.asarray(item["target"]) > 0.01
    assert 0.08 < noise[head].std() < 0.3  # 0.2 before the interpolation between the points of the grid
    assert np.abs(noise[~head]).max() < 1e-6
    trainer = denoising.made.trainer
    image, target = trainer.prepare_batch(next(iter(DataLoader(denoising.made.train_dataset, batch_size=2))))
    assert (image - target).abs().max() > 0.1
    for output in trainer.state.output:
        assert (output["image"] - output["label"]).abs().max() > 0.1


def test_the_denoiser_is_validated_and_used_without_noise(cohort: Path, denoising: SimpleNamespace) -> None:
    assert "target" not in denoising.made.val_dataset[0]
    best = min(entry["val_mse"] for entry in json.loads((denoising.folder / "history.json").read_text()))
    network = denoising.made.network_def
    network.load_state_dict(torch.load(denoising.folder / "models" / "model.pt", weights_only=True))
    network.eval()
    with torch.inference_mode():
        errors = [
            float((network(item["image"][None])[0] - item["image"]).square().mean())
            for item in denoising.made.val_dataset
        ]
    assert np.mean(errors) == pytest.approx(best, rel=1e-3)
    made = run(BUNDLE, "inference", **options(cohort, denoising.folder))
    row = rows_of(denoising.folder / "inference" / "scores.csv")[0]
    evidence = ReconstructionScorer(network, kinds=("l1",)).score(made.dataset[0])
    assert float(row["l1_mean"]) == pytest.approx(evidence.scores["l1_mean"], rel=1e-3)


def test_a_denoising_training_resumes(cohort: Path, denoising: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(denoising.folder, tmp_path / "parts")
    run(BUNDLE, "train+denoising", **options(cohort, tmp_path / "parts", max_epochs=3))
    run(BUNDLE, "train+denoising", **options(cohort, tmp_path / "whole", max_epochs=3))
    first, second = (
        torch.load(latest_checkpoint(tmp_path / each / "checkpoints"), weights_only=True) for each in ("whole", "parts")
    )
    assert all(torch.equal(first["model"][name], second["model"][name]) for name in first["model"])


@pytest.mark.parametrize(
    "files",
    [
        "train+denoising",
        "train+denoising+evaluate",
        "train+vae",
        "train+vae+evaluate+vae_evaluate",
        "train+vae+evaluate+vae_evaluate+latent_search",
        "inference+vae_inference",
        "inference+vae_inference+latent_search",
    ],
)
def test_properties(files: str, cohort: Path, tmp_path: Path) -> None:
    made = workflow(BUNDLE, files, **options(cohort, tmp_path, **({"latent_dim": 8} if "vae" in files else {})))
    assert made.check_properties() == []


@pytest.mark.parametrize("files", ["train+vae", "inference+vae_inference"])
def test_the_network_fits_the_metadata(files: str) -> None:
    meta = str(BUNDLE / "configs" / "metadata.json")
    verify_net_in_out(net_id="network_def", meta_file=meta, config_file=config_files(BUNDLE, files), device="cpu")


def test_overlays_agree_on_the_network() -> None:
    training, inference = (
        yaml.safe_load((BUNDLE / "configs" / f"{name}.yaml").read_text()) for name in ("vae", "vae_inference")
    )
    for name in ("network_def", "latent_dim", "scale", "likelihood", "output_dir"):
        assert training[name] == inference[name], name
    evaluation = yaml.safe_load((BUNDLE / "configs" / "vae_evaluate.yaml").read_text())
    assert evaluation["scorers"] == inference["scorers"]
    assert evaluation["samples"] == inference["samples"]


def test_each_overlay_trains_into_a_folder_of_its_own() -> None:
    """A run continues what lies in its folder: two kinds of training must not share one."""
    folders = []
    for files in ("train", "train+denoising", "train+vae"):
        parser = ConfigParser()
        parser.read_config(config_files(BUNDLE, files))
        folders.append(parser["output_dir"])
    assert len(set(folders)) == 3
