"""Patch densities against formulas, on a backbone whose features are known: means of blocks, and their squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.networks import CrossModalDenoiser
from monai_ctmri.networks.feature_maps import FeatureMaps
from monai_ctmri.scoring.patch_density import GaussianPatchScorer, PatchMemoryScorer
from monai_ctmri.transforms.residual import MapScore

SIDE, GRID = 32, 8


class Blocks(nn.Module):
    """Sum and difference of the modalities and the spread of their sum, in blocks of 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.runs.append(image)
        sums = image.sum(dim=1)
        raw = torch.stack([sums, image[:, 0] - 2 * image[:, 1], sums.square()], dim=1)
        return nn.functional.avg_pool2d(raw, SIDE // GRID)


def case_of(seed: int) -> dict:
    """A picture with an anatomy: bright on the left, dark on the right, and noise."""
    generator = np.random.default_rng(seed)
    level = np.linspace(0.7, 0.3, SIDE)[None, None, :] + generator.normal(0, 0.02, size=(2, 1, 1))
    image = level + generator.normal(0, 0.05, size=(2, SIDE, SIDE))
    return {keys.CASE: f"case-{seed}", keys.IMAGE: torch.from_numpy(image.clip(0.1, 0.9).astype(np.float32))}


def absent(case: dict, channel: int) -> dict:
    image = case[keys.IMAGE].clone()
    image[channel] = 0.0
    return {**case, keys.IMAGE: image}


def patch_at(case: dict, row: int, column: int, value: float) -> dict:
    image = case[keys.IMAGE].clone()
    image[:, row : row + 8, column : column + 8] = value
    return {**case, keys.IMAGE: image}


def rows_of(case: dict, channel: int | None) -> np.ndarray:
    """Features (64, K) by hand: of one modality alone, or of all side by side."""
    if channel is None:
        return np.concatenate([rows_of(case, 0), rows_of(case, 1)], axis=1)
    one = case[keys.IMAGE][channel].double().numpy()
    step = SIDE // GRID
    means = [plane.reshape(GRID, step, GRID, step).mean(axis=(1, 3)).ravel() for plane in (one, one**2)]
    return np.stack([means[0], (1, -2)[channel] * means[0], means[1]], axis=1)


def enlarged(values: np.ndarray) -> np.ndarray:
    grid = torch.from_numpy(values.reshape(1, 1, GRID, GRID)).float()
    return nn.functional.interpolate(grid, (SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0].numpy()


NORMALS = [case_of(seed) for seed in range(20)]
VIEWS = {"ct": 0, "mri": 1, "joint": None}
EVERYWHERE = {"mask": lambda image: torch.ones(1, *image.shape[1:]), "map_score": MapScore(erode=0, median=1)}


def label(name: str, view: str) -> str:
    return name if view == "joint" else f"{name}_{view}"


@pytest.fixture(scope="module")
def padim() -> GaussianPatchScorer:
    return GaussianPatchScorer(Blocks(), shrinkage=0.1, **EVERYWHERE).fit(iter(NORMALS))


@pytest.fixture(scope="module")
def patchcore() -> PatchMemoryScorer:
    return PatchMemoryScorer(Blocks(), rows=64 * 20, neighbourhood=1, **EVERYWHERE).fit(iter(NORMALS))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shrinkage", [0.1, 1.0, None])
def test_the_gaussian_map_is_the_mahalanobis_distance(view: str, shrinkage: float | None) -> None:
    scorer = GaussianPatchScorer(Blocks(), shrinkage=shrinkage, **EVERYWHERE).fit(NORMALS)
    rows = np.stack([rows_of(case, VIEWS[view]) for case in NORMALS])  # (n, places, K)
    count, places, size = rows.shape
    covariances = np.stack([np.cov(rows[:, place].T) for place in range(places)])
    share = size / (size + count) if shrinkage is None else shrinkage
    typical = np.trace(covariances, axis1=1, axis2=2).mean() / size
    fresh = patch_at(case_of(90), 8, 16, 0.9)
    deviation = rows_of(fresh, VIEWS[view]) - rows.mean(axis=0)
    expected = [
        np.sqrt(one @ np.linalg.solve((1 - share) * covariance + share * typical * np.eye(size), one))
        for one, covariance in zip(deviation, covariances, strict=True)
    ]
    found = scorer.score(fresh).maps[label("padim", view)]
    np.testing.assert_allclose(found, enlarged(np.array(expected)), rtol=2e-3)


def test_few_channels_are_a_fixed_projection() -> None:
    one, same, other = (GaussianPatchScorer(Blocks(), channels=2, seed=seed).fit(NORMALS) for seed in (0, 0, 1))
    projection = one.models_["ct"]["projection"]
    assert projection.shape == (3, 2)
    torch.testing.assert_close(projection.T @ projection, torch.eye(2))
    assert torch.equal(projection, same.models_["ct"]["projection"])
    assert not torch.allclose(projection, other.models_["ct"]["projection"])
    assert one.score(NORMALS[0]).scores == same.score(NORMALS[0]).scores


def test_distances_of_fresh_normals_are_near_the_root_of_the_channels(padim: GaussianPatchScorer) -> None:
    fresh = [padim.score(case_of(seed)).scores["padim_ct_mean"] for seed in range(60, 70)]
    assert 0.5 < np.mean(fresh) < 2.5  # shrinkage makes it less than the root of 3, 20 normals more


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("k", [1, 3])
def test_the_memory_map_is_the_distance_to_the_nearest_patch(view: str, k: int) -> None:
    scorer = PatchMemoryScorer(Blocks(), rows=64 * 20, neighbours=k, neighbourhood=1, **EVERYWHERE).fit(NORMALS)
    memory = np.concatenate([rows_of(case, VIEWS[view]) for case in NORMALS])
    fresh = patch_at(case_of(90), 8, 16, 0.9)
    apart = np.sqrt(((rows_of(fresh, VIEWS[view])[:, None] - memory[None]) ** 2).sum(axis=2))
    expected = np.sort(apart, axis=1)[:, :k].mean(axis=1)
    found = scorer.score(fresh).maps[label("patchcore", view)]
    np.testing.assert_allclose(found, enlarged(expected), rtol=1e-3, atol=1e-5)


def test_patches_are_averaged_over_their_neighbours() -> None:
    scorer = PatchMemoryScorer(Blocks(), neighbourhood=3, rows=64).fit(NORMALS[:1])
    grid = np.pad(rows_of(NORMALS[0], 0)[:, 0].reshape(GRID, GRID), 1, constant_values=np.nan)
    local = [np.nanmean(grid[row : row + 3, column : column + 3]) for row in range(GRID) for column in range(GRID)]
    memory = scorer.models_["ct"]["memory"][:, 0].double().numpy()
    np.testing.assert_allclose(np.sort(memory), np.sort(local), rtol=1e-5)


@pytest.mark.parametrize("which", ["padim", "patchcore"])
@pytest.mark.parametrize(("row", "column"), [(4, 20), (16, 8)])
def test_a_planted_patch_is_found_where_it_is(which: str, row: int, column: int, request) -> None:
    scorer, clean = request.getfixturevalue(which), case_of(91)
    bad = patch_at(clean, row, column, 0.9)
    for view in VIEWS:
        found = scorer.score(bad).maps[label(which, view)]
        peak = np.unravel_index(found.argmax(), found.shape)
        assert row <= peak[0] < row + 8
        assert column <= peak[1] < column + 8
        top = f"{label(which, view)}_top"
        assert scorer.score(bad).scores[top] > 1.5 * scorer.score(clean).scores[top]


def test_only_a_memory_of_places_finds_normal_tissue_in_the_wrong_place() -> None:
    clean = case_of(92)
    bad = {**clean, keys.IMAGE: clean[keys.IMAGE].clone()}
    bad[keys.IMAGE][:, 8:16, :8] = clean[keys.IMAGE][:, 8:16, -8:]  # of the dark side, on the bright one
    settings = {"blind": {}, "radius": {"position_radius": 0.15}, "weight": {"position_weight": 2.0}}
    ratios = {}
    for name, options in settings.items():
        scorer = PatchMemoryScorer(Blocks(), rows=600, neighbourhood=1, **options, **EVERYWHERE).fit(NORMALS)
        found = {
            kind: scorer.score(case).maps["patchcore_ct"][8:16, :8].mean()
            for kind, case in (("bad", bad), ("clean", clean))
        }
        ratios[name] = found["bad"] / found["clean"]
    assert ratios["radius"] > 2 * ratios["blind"]
    assert ratios["weight"] > 2 * ratios["blind"]


def test_a_coreset_is_smaller_and_covers(patchcore: PatchMemoryScorer) -> None:
    small = PatchMemoryScorer(Blocks(), rows=50, neighbourhood=1, candidates=400, **EVERYWHERE).fit(NORMALS)
    assert {len(learnt["memory"]) for learnt in small.models_.values()} == {50}
    whole, fewer = (one.score(case_of(93)).maps["patchcore"] for one in (patchcore, small))
    assert fewer.mean() > whole.mean()
    bad = patch_at(case_of(93), 8, 8, 0.9)
    assert small.score(bad).maps["patchcore"].max() > 1.5 * fewer.max()


@pytest.mark.parametrize("which", ["padim", "patchcore"])
def test_each_view_is_what_its_normals_were(which: str, request) -> None:
    scorer = request.getfixturevalue(which)
    both, ct_only = scorer.score(NORMALS[0]), scorer.score(absent(NORMALS[0], 1))
    assert set(both.maps) == {which, f"{which}_ct", f"{which}_mri"}
    assert set(both.scores) == {f"{name}_{number}" for name in both.maps for number in ("mean", "top")}
    assert set(ct_only.maps) == {f"{which}_ct"}
    np.testing.assert_array_equal(ct_only.maps[f"{which}_ct"], both.maps[f"{which}_ct"])
    make = type(scorer)
    lone = make(Blocks(), **EVERYWHERE).fit([absent(case, 0) for case in NORMALS[:6]])
    assert set(lone.score(NORMALS[0]).maps) == {f"{which}_mri"}
    assert not lone.score(absent(NORMALS[0], 1)).scores
    single = make(lambda image: Blocks()(torch.cat([image, image], dim=1)), modalities=["ct"])
    cases = [{**case, keys.IMAGE: case[keys.IMAGE][:1]} for case in NORMALS[:4]]
    assert set(single.fit(cases).score(cases[0]).maps) == {f"{which}_ct"}


def test_the_backbone_sees_one_modality_at_a_time() -> None:
    network = Blocks()
    GaussianPatchScorer(network).fit([NORMALS[0], absent(NORMALS[1], 0), NORMALS[2]])
    seen = torch.cat(network.runs)
    assert len(seen) == 5
    assert ((seen != 0).flatten(2).any(dim=2).sum(dim=1) == 1).all()


@pytest.mark.parametrize("make", [GaussianPatchScorer, PatchMemoryScorer])
def test_a_case_in_a_mixed_batch_scores_as_alone(make: type) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CrossModalDenoiser(features=(8, 8, 8, 8, 16, 8), mirror=True)
    scorer = make(FeatureMaps(network, ["down_1", "down_2"])).fit(NORMALS[:6])
    mixed = [NORMALS[7], absent(NORMALS[8], 0), NORMALS[9], absent(NORMALS[10], 1)]
    for case, together in zip(mixed, scorer.score_batch(mixed, batch_size=3), strict=True):
        alone = scorer.score(case)
        assert set(together.scores) == set(alone.scores)
        for name, value in alone.scores.items():
            assert together.scores[name] == pytest.approx(value, rel=1e-4)
    with_mirror = {**mixed[0], keys.IMAGE: torch.cat([mixed[0][keys.IMAGE], mixed[0][keys.IMAGE].flip(-1)])}
    assert scorer.score(with_mirror).scores == scorer.score(mixed[0]).scores


@pytest.mark.parametrize("which", ["padim", "patchcore"])
def test_bad_input_is_refused(which: str, request, tmp_path) -> None:
    scorer = request.getfixturevalue(which)
    make = type(scorer)
    with pytest.raises(RuntimeError, match="fit it on normal cases first"):
        make(Blocks()).score(NORMALS[0])
    with pytest.raises(RuntimeError, match="fit it on normal cases first"):
        make(Blocks()).state_dict()
    with pytest.raises(InputError, match=f"score {which}: .* normal case"):
        make(Blocks()).fit([])
    with pytest.raises(InputError, match="case-0: the image is 0 everywhere"):
        scorer.score({**NORMALS[0], keys.IMAGE: torch.zeros(2, SIDE, SIDE)})
    with pytest.raises(InputError, match=r"case-1: features of shape \(3, 4, 4\), fitted on \(3, 8, 8\)"):
        scorer.score({**NORMALS[1], keys.IMAGE: NORMALS[1][keys.IMAGE][:, :16, :16]})
    with pytest.raises(InputError, match="case-0: the backbone's features holds NaN"):
        make(lambda image: Blocks()(image) / 0.0).fit(NORMALS[:2])
    with pytest.raises(ValueError, match=r"the backbone must return one tensor \(4, C, h, w\)"):
        make(lambda image: image.mean(dim=(1, 2, 3))).fit(NORMALS[:2])
    state = scorer.state_dict()
    del state["ct.shape"]
    with pytest.raises(InputError, match=rf"state of {which}: has no ct.shape"):
        make(Blocks()).load_state_dict(state)
    with pytest.raises(InputError, match="has no view"):
        make(Blocks()).load_state_dict({})


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (GaussianPatchScorer, {"channels": 0}),
        (GaussianPatchScorer, {"shrinkage": 0.0}),
        (GaussianPatchScorer, {"shrinkage": 1.5}),
        (PatchMemoryScorer, {"rows": 0}),
        (PatchMemoryScorer, {"neighbours": 0}),
        (PatchMemoryScorer, {"neighbourhood": 2}),
        (PatchMemoryScorer, {"position_radius": 0.0}),
        (PatchMemoryScorer, {"position_weight": -1.0}),
    ],
)
def test_numbers_out_of_range_are_refused(make: type, options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        make(Blocks(), **options)
