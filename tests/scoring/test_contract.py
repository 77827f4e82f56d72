"""What every scorer keeps. A scorer that CASES lacks fails; so does one that CASES names and its module lacks."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import math
import pkgutil
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_ctmri import keys, scoring
from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.errors import InputError
from monai_ctmri.networks import CrossModalDenoiser
from monai_ctmri.networks.feature_maps import FeatureMaps
from monai_ctmri.scoring.scorer import Evidence, Scorer

SIDE = 32
LEVEL = 0.4
ROOM = "monai_ctmri.scoring"


class FlatDenoiser(nn.Module):
    """Expects every head to be flat; its latent is the image in small. Misbehaves in training."""

    mirror = False

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(LEVEL))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Identity()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = self.dropout(self.level * (image != 0).any(dim=1, keepdim=True).expand(-1, 2, -1, -1))
        return torch.cat([mean, torch.full_like(mean, math.log(0.1))], dim=1)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.dropout(nn.functional.avg_pool2d(image[:, :2], 4))


class FlatAutoencoder(FlatDenoiser):
    """The same as a reconstruction, a translation, and a decoder whose images are flat altogether."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image)[:, :2]

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.dropout(image.mean(dim=(2, 3)))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent[:, :, None, None].expand(-1, -1, SIDE, SIDE)

    def posterior(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.encode(image)
        return mean, torch.full_like(mean, -6.0)

    def likelihood(self, latent: torch.Tensor) -> torch.Tensor:
        mean = self.decode(latent)
        return torch.cat([mean, torch.full_like(mean, math.log(0.1))], dim=1)


def real_denoiser() -> CrossModalDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CrossModalDenoiser(features=(8, 8, 8, 8, 16, 8), mirror=True)


def flat_maps() -> FeatureMaps:
    return FeatureMaps(FlatDenoiser(), ["dropout"])


def real_maps() -> FeatureMaps:
    return FeatureMaps(real_denoiser(), ["down_1", "down_2"])


def of(module: str, name: str) -> Any:
    """``name`` of a module of this room, or of another one that is named in full.

    Skips while there is no such module, fails when the module lacks it.
    """
    place = module if "." in module else f"{ROOM}.{module}"
    if importlib.util.find_spec(place) is None:
        pytest.skip(f"{place} is not there")
    found = getattr(importlib.import_module(place), name, None)
    assert found is not None, f"{place} has no {name}"
    return found


@dataclass(frozen=True)
class Case:
    """How to build one scorer and what to expect of it.

    Attributes:
        module: of this room, or with its full name.
        name: of the class.
        build: makes one from the class.
        score: must be higher for a bright blob in the CT, on average; None where nothing can be expected.
        absent: ``left out`` (the absent modality has no names, the other one is judged), ``refused`` (InputError),
            ``no score`` (no evidence at all), or ``unaware`` (finite, and no more is promised).
        keeps_state: has ``state_dict`` and ``load_state_dict``.
    """

    module: str
    name: str
    build: Callable[[Any], Any]
    score: str | None
    absent: str = "left out"
    keeps_state: bool = True


def baseline(name: str, build: Callable[[Any], Any], score: str | None, absent: str = "refused") -> Case:
    return Case("baselines", name, build, score, absent, keeps_state=False)


def latent(make: Any) -> Any:
    return make(of("reconstruction", "ReconstructionScorer")(FlatAutoencoder()), OutlierDetector("OCSVM"))


def outlier(make: Any) -> Any:
    return make(of("denoising", "DenoiserScorer")(FlatDenoiser()), OutlierDetector("KNN"))


def joint(make: Any) -> Any:
    denoiser = of("denoising", "DenoiserScorer")(FlatDenoiser())
    return make(
        {"denoiser": denoiser, "latents": of("latent_inconsistency", "LatentInconsistencyScorer")(FlatDenoiser())}
    )


def witnesses(make: Any) -> Any:
    factors = {
        "asymmetry": of("asymmetry", "AsymmetryScorer")(align=False),  # the search for the midline costs seconds
        "denoiser": of("denoising", "DenoiserScorer")(FlatDenoiser()),
    }
    return make(of("joint", "JointScorer")(factors))


CASES = {
    "mean": baseline("IntensityStatisticScorer", lambda make: make("mean"), "mean"),
    "spread": baseline("IntensityStatisticScorer", lambda make: make("spread"), "spread"),
    "percentile": baseline("IntensityStatisticScorer", lambda make: make("percentile"), "percentile"),
    "raw mean": baseline("IntensityStatisticScorer", lambda make: make("mean", two_sided=False), "raw_mean"),
    "bright": baseline("IntensityThresholdScorer", lambda make: make(), "bright"),
    "atlas": baseline("AtlasScorer", lambda make: make(), "atlas", absent="unaware"),
    "random": baseline("RandomScorer", lambda make: make(), None, absent="unaware"),
    "reconstruction": Case("reconstruction", "ReconstructionScorer", lambda make: make(FlatAutoencoder()), "l1_top"),
    "latent": Case("reconstruction", "LatentScorer", latent, "latent", absent="unaware", keeps_state=False),
    "denoiser": Case("denoising", "DenoiserScorer", lambda make: make(FlatDenoiser()), "error_top"),
    "mismatch": Case("denoising", "DenoiserScorer", lambda make: make(FlatDenoiser(), kind="nll"), "mismatch_top"),
    "real denoiser": Case("denoising", "DenoiserScorer", lambda make: make(real_denoiser()), None),
    "latent inconsistency": Case(
        "latent_inconsistency",
        "LatentInconsistencyScorer",
        lambda make: make(FlatDenoiser(), latent_pool=2),
        "latent_inconsistency",
        absent="no score",
    ),
    "joint": Case("joint", "JointScorer", joint, "error_top"),
    "probability": Case(
        "probability", "ReconstructionProbabilityScorer", lambda make: make(FlatAutoencoder()), "improbability_top"
    ),
    "outlier": Case("monai_ctmri.detection.outlier_scorer", "OutlierScorer", outlier, "outlier_ct"),
    "latent search": Case(
        "latent_search", "LatentSearchScorer", lambda make: make(FlatAutoencoder(), steps=5), "restoration_top"
    ),
    "padim": Case("patch_density", "GaussianPatchScorer", lambda make: make(flat_maps(), channels=3), "padim_ct_top"),
    "patchcore": Case("patch_density", "PatchMemoryScorer", lambda make: make(flat_maps()), "patchcore_top"),
    "patchcore, places": Case(
        "patch_density",
        "PatchMemoryScorer",
        lambda make: make(real_maps(), rows=80, position_radius=0.2, position_weight=0.5),
        None,
    ),
    "feature mapping": Case(
        "feature_mapping",
        "FeatureMappingScorer",
        lambda make: make(flat_maps(), distance="euclidean", steps=60, box_repeats=1),
        "feature_mapping_top",
        absent="no score",
    ),
    "cycle": Case("cycle", "CycleScorer", lambda make: make(FlatAutoencoder(), pixel_spacing_mm=1.0), "cycle_top"),
    "asymmetry": Case("asymmetry", "AsymmetryScorer", lambda make: make(), "asymmetry_top"),
    "witnesses": Case("witnesses", "WitnessScorer", witnesses, None),
}
OF_VOLUMES = {"VolumeDenoiserScorer"}
"""They keep the contract with volumes (C, X, Y, Z), in tests of their own."""
every_scorer = pytest.mark.parametrize("name", CASES)


def head(seed: int) -> torch.Tensor:
    """An oval head of noise around 0.4, nearly its own mirror image, on a background of 0."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    inside = (rows / 15) ** 2 + (columns / 12) ** 2 < 1
    half = generator.normal(LEVEL, 0.03, size=(2, SIDE, SIDE))
    image = (half + half[..., ::-1]) / 2 + generator.normal(0, 0.01, size=half.shape)
    return torch.from_numpy((np.clip(image, 0.1, 0.9) * inside).astype(np.float32))


def case_of(image: torch.Tensor, name: str) -> dict[str, Any]:
    return {keys.CASE: name, keys.IMAGE: image}


NORMALS = [case_of(head(seed), f"normal-{seed}") for seed in range(12)]


def with_blob(case: dict[str, Any]) -> dict[str, Any]:
    """A bright blob beside the midline, in the CT alone."""
    image = case[keys.IMAGE].clone()
    image[0, 11:19, 18:25] = 1.0
    return {**case, keys.IMAGE: image}


def built(name: str) -> Any:
    return CASES[name].build(of(CASES[name].module, CASES[name].name))


@functools.cache
def fitted(name: str) -> Any:
    """One scorer, fitted on the normals, for all tests that only score."""
    scorer = built(name)
    assert isinstance(scorer, Scorer)
    assert scorer.fit(iter(NORMALS)) is scorer  # a generator is enough: one pass
    return scorer


def assert_same(one: Evidence, other: Evidence) -> None:
    assert one.scores == other.scores
    assert one.features == other.features
    assert list(one.maps) == list(other.maps)
    for label, image in one.maps.items():
        np.testing.assert_array_equal(image, other.maps[label], err_msg=label)


def labels_of(evidence: Evidence) -> list[str]:
    return [*evidence.maps, *evidence.scores, *evidence.features]


def random_states() -> list[Any]:
    kind, numbers, *rest = np.random.get_state()  # noqa: NPY002 - the state that must stay untouched
    return [kind, numbers.tolist(), rest, random.getstate(), torch.get_rng_state().tolist()]


def networks_of(scorer: Any) -> list[nn.Module]:
    """Networks in the attributes of a scorer and of the scorers it holds."""
    held = list(vars(scorer).values())
    held += [one for each in held if isinstance(each, dict) for one in each.values()]
    held += [one for each in held if isinstance(each, list | tuple) for one in each]
    inner = [each for each in held if isinstance(each, Scorer) and not inspect.isclass(each)]
    return [each for each in held if isinstance(each, nn.Module)] + [n for each in inner for n in networks_of(each)]


def test_cases_name_every_scorer_of_the_room() -> None:
    found = set()
    for info in pkgutil.iter_modules(scoring.__path__):
        for label, made in vars(importlib.import_module(f"{ROOM}.{info.name}")).items():
            ours = inspect.isclass(made) and made.__module__ == f"{ROOM}.{info.name}" and not label.startswith("_")
            if (
                ours
                and made is not Scorer
                and not inspect.isabstract(made)
                and callable(getattr(made, "fit", None))
                and hasattr(made, "score")
            ):
                found.add(label)
    assert found - OF_VOLUMES <= {case.name for case in CASES.values()}


@every_scorer
def test_evidence_is_named_maps_scores_and_features(name: str) -> None:
    for case in [*NORMALS[:2], with_blob(NORMALS[0])]:
        evidence = fitted(name).score(case)
        assert isinstance(evidence, Evidence)
        assert evidence.scores
        for label, image in evidence.maps.items():
            assert type(label) is str
            assert type(image) is np.ndarray, label
            assert image.shape == (SIDE, SIDE), label
            assert image.dtype == np.float32, label
            assert np.isfinite(image).all(), label
        for part in (evidence.scores, evidence.features):
            assert all(type(label) is str and type(value) is float for label, value in part.items())
            assert np.isfinite(list(part.values())).all()


@every_scorer
def test_every_case_gets_the_same_names(name: str) -> None:
    found = {tuple(labels_of(fitted(name).score(case))) for case in [*NORMALS[:3], with_blob(NORMALS[3])]}
    assert len(found) == 1


@every_scorer
def test_a_case_scores_the_same_in_any_company(name: str) -> None:
    scorer, some = fitted(name), NORMALS[:3]
    first = [scorer.score(case) for case in some]
    again = [scorer.score(case) for case in reversed(some)][::-1]
    for one, other in zip(first, again, strict=True):
        assert_same(one, other)
    if hasattr(scorer, "score_batch"):
        for one, other in zip(first, scorer.score_batch(iter(some)), strict=True):
            assert other.scores == pytest.approx(one.scores, rel=1e-5, abs=1e-5)
            assert other.features == pytest.approx(one.features, rel=1e-4, abs=1e-4)
            for label, image in one.maps.items():
                np.testing.assert_allclose(other.maps[label], image, rtol=1e-5, atol=1e-5, err_msg=label)


@every_scorer
def test_scoring_changes_neither_case_nor_process_nor_network(name: str) -> None:
    scorer, case = built(name), dict(NORMALS[0])
    before = case[keys.IMAGE].clone()
    networks = networks_of(scorer)
    for network in networks:
        network.train()
        if hasattr(network, "frozen"):
            network.frozen.eval()
    flags = [[module.training for module in network.modules()] for network in networks]
    weights = [[weight.clone() for weight in network.parameters()] for network in networks]
    states = random_states()
    scorer.fit(NORMALS[:6])
    evidence = scorer.score(case)
    assert random_states() == states
    assert [[module.training for module in network.modules()] for network in networks] == flags
    for network, then in zip(networks, weights, strict=True):
        assert all(torch.equal(now, old) for now, old in zip(network.parameters(), then, strict=True))
        assert all(weight.grad is None for weight in network.parameters())
    assert set(case) == {keys.CASE, keys.IMAGE}
    assert torch.equal(case[keys.IMAGE], before)
    # In training the networks draw random numbers: equal evidence shows that they were in evaluation.
    assert_same(scorer.score(case), evidence)


@every_scorer
def test_what_was_learnt_survives_a_file(name: str, tmp_path) -> None:
    scorer = fitted(name)
    assert hasattr(scorer, "state_dict") == CASES[name].keeps_state
    if not CASES[name].keeps_state:
        return
    torch.save(scorer.state_dict(), tmp_path / "scorer.pt")
    other = built(name)
    other.load_state_dict(torch.load(tmp_path / "scorer.pt", weights_only=True))
    for case in (NORMALS[0], with_blob(NORMALS[1])):
        assert_same(other.score(case), scorer.score(case))


@every_scorer
@pytest.mark.parametrize(("channel", "absent", "there"), [(0, "ct", "mri"), (1, "mri", "ct")])
def test_an_absent_modality_has_no_names(name: str, channel: int, absent: str, there: str) -> None:
    image = NORMALS[0][keys.IMAGE].clone()
    image[channel] = 0.0
    scorer, case, rule = fitted(name), case_of(image, "subject-9"), CASES[name].absent
    if rule == "refused":
        with pytest.raises(InputError, match=f"subject-9: {absent}"):
            scorer.score(case)
        return
    evidence = scorer.score(case)
    assert np.isfinite([*evidence.scores.values(), *evidence.features.values()]).all()
    assert all(np.isfinite(one).all() for one in evidence.maps.values())
    assert bool(evidence.scores) == (rule != "no score")
    if rule in ("left out", "no score"):
        assert not [label for label in labels_of(evidence) if absent in label.split("_")]
    if rule == "left out":
        assert [label for label in evidence.scores if there in label.split("_")]


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].score])
def test_higher_is_more_abnormal(name: str) -> None:
    scorer, score = fitted(name), CASES[name].score
    clean = [case_of(head(seed), f"fresh-{seed}") for seed in range(50, 54)]
    found = {
        what: [scorer.score(case).scores[score] for case in some]
        for what, some in {"clean": clean, "blob": [with_blob(case) for case in clean]}.items()
    }
    assert np.mean(found["blob"]) > np.mean(found["clean"])
