"""Feature mapping on a backbone whose features are known, between modalities with a linear relation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.networks import CrossModalDenoiser
from monai_ctmri.networks.feature_maps import FeatureMaps
from monai_ctmri.scoring.feature_mapping import FeatureMappingScorer
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.transforms.residual import MapScore

SIDE, CELL = 32, 4


class Moments(nn.Module):
    """Means in blocks of 4 x 4 of the one modality that is there, and of its left and upper halves."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        one = image.sum(dim=1, keepdim=True)
        halves = [nn.functional.avg_pool2d(one, CELL)]
        halves.append(nn.functional.avg_pool2d(one, (CELL, CELL // 2))[..., ::2])
        halves.append(nn.functional.avg_pool2d(one, (CELL // 2, CELL))[..., ::2, :])
        return torch.cat(halves, dim=1)


def case_of(seed: int, wrong: tuple[slice, slice] | None = None) -> dict:
    """Tissue with MRI = 0.9 - 0.8 CT; but MRI = 0.1 + 0.8 CT at ``wrong``, with values as likely as anywhere."""
    generator = np.random.default_rng(seed)
    ct = generator.uniform(0.1, 0.9, size=(8, 8)).repeat(4, axis=0).repeat(4, axis=1)
    ct = ct + generator.normal(0, 0.03, size=ct.shape)
    mri = 0.9 - 0.8 * ct
    if wrong is not None:
        ct[wrong] = 0.8 + generator.normal(0, 0.03, size=ct[wrong].shape)
        mri[wrong] = 0.1 + 0.8 * ct[wrong]
    image = np.stack([ct, mri]).clip(0.02, 1.0) + 1e-3
    return {keys.CASE: f"case-{seed}", keys.IMAGE: torch.from_numpy(image.astype(np.float32))}


def absent(case: dict, channel: int) -> dict:
    image = case[keys.IMAGE].clone()
    image[channel] = 0.0
    return {**case, keys.IMAGE: image}


def everywhere(image: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, *image.shape[1:])


NORMALS = [case_of(seed) for seed in range(12)]
TRAINING = {"steps": 200, "batch": 128, "learning_rate": 0.02}
WRONG = (slice(8, 20), slice(12, 24))
OPTIONS = {"mask": everywhere, "map_score": MapScore(erode=0, median=1), "box_repeats": 1}


@pytest.fixture(scope="module")
def euclidean() -> FeatureMappingScorer:
    return FeatureMappingScorer(Moments(), distance="euclidean", **TRAINING, **OPTIONS).fit(iter(NORMALS))


@pytest.fixture(scope="module")
def cosine() -> FeatureMappingScorer:
    return FeatureMappingScorer(Moments(), **TRAINING, **OPTIONS).fit(iter(NORMALS))


def features(case: dict, channel: int) -> torch.Tensor:
    alone = torch.zeros_like(case[keys.IMAGE])
    alone[channel] = case[keys.IMAGE][channel]
    return Moments()(alone[None])[0]


def test_a_linear_relation_is_learnt(euclidean: FeatureMappingScorer) -> None:
    """What is left of the variance of fresh features, each in units of its spread."""
    for seed in range(50, 53):
        case = case_of(seed)
        for source, target in ((0, 1), (1, 0)):
            names = euclidean.modalities[source], euclidean.modalities[target]
            given, wanted = (features(case, channel).flatten(1).T for channel in (source, target))
            known = [euclidean.statistics_[name] for name in names]
            pred = euclidean.mappings_[names[1]]((given - known[0]["mean"]) / known[0]["spread"])
            left = (pred * known[1]["spread"] + known[1]["mean"] - wanted).square().mean()
            assert left < 0.02 * wanted.var()


@pytest.mark.parametrize("which", ["euclidean", "cosine"])
def test_its_violation_is_found_where_it_is(which: str, request) -> None:
    scorer = request.getfixturevalue(which)
    inside = np.zeros((SIDE, SIDE), dtype=bool)
    inside[WRONG] = True
    for seed in range(60, 63):
        clean, bad = scorer.score(case_of(seed)), scorer.score(case_of(seed, WRONG))
        for name, found in bad.maps.items():
            assert inside[np.unravel_index(found.argmax(), found.shape)], name
            assert found[inside].mean() > 2 * found[~inside].mean(), name
            assert bad.scores[f"{name}_top"] > 1.3 * clean.scores[f"{name}_top"]
            assert bad.scores[f"{name}_mean"] > clean.scores[f"{name}_mean"]
        assert bad.scores["feature_mapping"] > clean.scores["feature_mapping"]


def test_maps_are_distances_in_units_of_those_of_normals(euclidean: FeatureMappingScorer) -> None:
    for name in ("feature_mapping_ct", "feature_mapping_mri"):
        means = [euclidean.score(case).scores[f"{name}_mean"] for case in NORMALS]
        assert np.mean(means) == pytest.approx(1.0, rel=0.05)  # 1 but for the interpolation


@pytest.mark.parametrize("kind", ["cosine", "euclidean"])
def test_the_map_of_a_direction_is_the_formula(kind: str, request) -> None:
    scorer = request.getfixturevalue(kind)
    case = case_of(70, WRONG)
    known = scorer.statistics_
    given, wanted = (
        ((features(case, channel).flatten(1).T - known[name]["mean"]) / known[name]["spread"]).double().numpy()
        for channel, name in enumerate(scorer.modalities)
    )
    pred = scorer.mappings_["mri"](torch.from_numpy(given).float()).double().numpy()
    if kind == "cosine":
        norms = np.linalg.norm(pred, axis=1) * np.linalg.norm(wanted, axis=1)
        apart = np.sqrt(2 - 2 * (pred * wanted).sum(axis=1) / norms)
    else:
        apart = np.sqrt(((pred - wanted) ** 2).mean(axis=1))
    coarse = torch.from_numpy(apart / float(known["mri"]["typical"])).reshape(1, 1, 8, 8).float()
    expected = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0].numpy()
    np.testing.assert_allclose(scorer.score(case).maps["feature_mapping_mri"], expected, rtol=1e-3, atol=1e-3)


def test_the_map_is_the_filtered_product_and_the_score_its_peak(euclidean: FeatureMappingScorer) -> None:
    evidence = euclidean.score(case_of(71, WRONG))
    product = evidence.maps["feature_mapping_ct"] * evidence.maps["feature_mapping_mri"]
    padded = np.pad(product, 2)
    boxed = sum(padded[row : row + SIDE, column : column + SIDE] for row in range(5) for column in range(5)) / 25
    np.testing.assert_allclose(evidence.maps["feature_mapping"], boxed, rtol=1e-4)
    assert evidence.scores["feature_mapping"] == pytest.approx(boxed.max() / np.sqrt(boxed[boxed > 0].mean()), rel=1e-4)


def test_nothing_outside_the_head_counts(euclidean: FeatureMappingScorer) -> None:
    def left(image: torch.Tensor) -> torch.Tensor:
        return (torch.arange(SIDE) < SIDE // 2).float().expand(1, SIDE, SIDE)

    options = {**OPTIONS, "mask": left, "box_repeats": 3}
    scorer = FeatureMappingScorer(Moments(), distance="euclidean", steps=1, **options)
    scorer.load_state_dict(euclidean.state_dict())
    evidence = scorer.score(case_of(72, WRONG))
    for found in evidence.maps.values():
        assert not found[:, SIDE // 2 :].any()
        assert found[:, : SIDE // 2].any()
    # Patches of the other half teach nothing either.
    noise = [{**case, keys.IMAGE: case[keys.IMAGE].clone()} for case in NORMALS[:4]]
    for case in noise:
        case[keys.IMAGE][:, :, SIDE // 2 :] = 0.5
    fits = [FeatureMappingScorer(Moments(), steps=2, **options).fit(cases) for cases in (noise, NORMALS[:4])]
    one, other = (fit.state_dict() for fit in fits)
    assert all(torch.equal(one[label], other[label]) for label in one)


def test_a_missing_modality_has_no_evidence_and_teaches_nothing(euclidean: FeatureMappingScorer) -> None:
    assert euclidean.score(absent(NORMALS[0], 0)) == euclidean.score(absent(NORMALS[0], 1)) == Evidence()
    make = {"steps": 2, **OPTIONS}
    mixed = [absent(case_of(80), 0), *NORMALS[:3], absent(case_of(81), 1)]
    one, other = (FeatureMappingScorer(Moments(), **make).fit(cases).state_dict() for cases in (mixed, NORMALS[:3]))
    assert all(torch.equal(one[label], other[label]) for label in one)
    together = euclidean.score_batch([absent(NORMALS[0], 0), NORMALS[1], NORMALS[2]], batch_size=2)
    assert [bool(evidence.scores) for evidence in together] == [False, True, True]
    assert together[1].scores == pytest.approx(euclidean.score(NORMALS[1]).scores, rel=1e-4)
    with pytest.raises(InputError, match="score feature_mapping: no normal case that shows a head in both modalities"):
        FeatureMappingScorer(Moments()).fit([absent(NORMALS[0], 0)])
    with pytest.raises(InputError, match="no normal case that shows a head"):
        FeatureMappingScorer(Moments(), mask=lambda image: 0 * everywhere(image)).fit(NORMALS[:2])


def test_the_seed_decides_and_the_process_does_not() -> None:
    def state(seed: int) -> dict[str, torch.Tensor]:
        return FeatureMappingScorer(Moments(), seed=seed, steps=3, patches=50, **OPTIONS).fit(NORMALS[:3]).state_dict()

    torch.manual_seed(1)
    first, before = state(0), torch.get_rng_state()
    torch.manual_seed(2)
    again = state(0)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[label], again[label]) for label in first)
    assert not torch.equal(first["ct.mapping.0.weight"], state(1)["ct.mapping.0.weight"])


def test_it_learns_and_scores_where_gradients_are_off() -> None:
    make = {"steps": 20, **OPTIONS}
    normal = FeatureMappingScorer(Moments(), **make).fit(NORMALS[:4])
    with torch.inference_mode():
        quiet = FeatureMappingScorer(Moments(), **make).fit(NORMALS[:4])
        assert quiet.score(NORMALS[5]).scores == normal.score(NORMALS[5]).scores
    assert quiet.score(NORMALS[5]).scores == normal.score(NORMALS[5]).scores


def test_it_runs_on_the_denoiser_with_few_patches() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CrossModalDenoiser(features=(8, 8, 8, 8, 16, 8))
    scorer = FeatureMappingScorer(FeatureMaps(network, ["conv_0"]), steps=20, patches=100).fit(NORMALS[:3])
    evidence = scorer.score(NORMALS[4])
    assert set(evidence.maps) == {"feature_mapping", "feature_mapping_ct", "feature_mapping_mri"}
    assert np.isfinite(list(evidence.scores.values())).all()


def test_bad_states_and_images_are_refused(euclidean: FeatureMappingScorer) -> None:
    with pytest.raises(RuntimeError, match="fit it on normal cases first"):
        FeatureMappingScorer(Moments()).score(NORMALS[0])
    with pytest.raises(RuntimeError, match="fit it on normal cases first"):
        FeatureMappingScorer(Moments()).state_dict()
    state = euclidean.state_dict()
    wrong = {**state, "mri.mapping.0.weight": torch.ones(2, 2)}
    for bad in ({}, wrong, {label: one for label, one in state.items() if label != "ct.typical"}):
        with pytest.raises(InputError, match="state of feature_mapping: lacks an entry, or one has another shape"):
            FeatureMappingScorer(Moments()).load_state_dict(bad)
    small = {**NORMALS[0], keys.IMAGE: NORMALS[0][keys.IMAGE][:, :16, :16]}
    with pytest.raises(InputError, match=r"case-0: features of shape \(3, 4, 4\), fitted on \(3, 8, 8\)"):
        euclidean.score(small)


@pytest.mark.parametrize(
    "options",
    [
        {"modalities": ["ct"]},
        {"distance": "taxi"},
        {"steps": 0},
        {"batch": 0},
        {"patches": 0},
        {"box": 4},
        {"box_repeats": -1},
        {"learning_rate": 0.0},
    ],
)
def test_numbers_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"must be|between two"):
        FeatureMappingScorer(Moments(), **options)
