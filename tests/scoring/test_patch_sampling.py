"""Sample, coreset and distances against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from monai_ctmri.scoring.patch_sampling import PatchSample, greedy_coreset, grid_positions, nearest_distances


def drawn(count: int, channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


def pairwise(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    return np.sqrt(((one.double().numpy()[:, None] - other.double().numpy()[None]) ** 2).sum(axis=-1))


def covering_radius(patches: torch.Tensor, kept: torch.Tensor) -> float:
    return float(pairwise(patches, patches[kept]).min(axis=1).max())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_coreset_covers_within_twice_the_optimum(seed: int, count: int) -> None:
    patches = drawn(12, 2, seed)
    everything = pairwise(patches, patches)
    optimum = min(everything[:, list(some)].min(axis=1).max() for some in combinations(range(12), count))
    kept = greedy_coreset(patches, count, seed)
    assert len(kept) == len(set(kept.tolist())) == count
    assert optimum <= covering_radius(patches, kept) + 1e-9
    assert covering_radius(patches, kept) <= 2 * optimum + 1e-6


def test_each_further_patch_is_the_farthest_and_the_radius_falls() -> None:
    patches = drawn(200, 5)
    kept = greedy_coreset(patches, 30, seed=3)
    for count in range(1, 30):
        apart = pairwise(patches, patches[kept[:count]]).min(axis=1)
        assert apart[kept[count]] == pytest.approx(apart.max(), rel=1e-5)
    radii = [covering_radius(patches, kept[:count]) for count in (1, 5, 10, 20, 30)]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] < 0.6 * radii[0]


def test_a_rare_kind_of_patch_is_kept() -> None:
    patches = torch.cat([drawn(500, 4), drawn(2, 4, 1) + 20])
    assert (greedy_coreset(patches, 5) >= 500).any()


def test_seeds_are_local_and_equal_patches_are_taken_once() -> None:
    patches = drawn(50, 3)
    state = torch.get_rng_state()
    first = greedy_coreset(patches, 10, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, greedy_coreset(patches, 10, seed=1))
    assert first[0] != greedy_coreset(patches, 10, seed=2)[0]
    assert len(greedy_coreset(torch.ones(40, 3), 10)) == 1
    assert len(greedy_coreset(patches[:4], 10)) == 4


def test_with_a_radius_every_place_is_covered() -> None:
    positions = grid_positions(6, 6)
    kept = greedy_coreset(torch.zeros(36, 2), 35, positions=positions, radius=0.25)
    assert covering_radius(positions, kept) <= 0.25
    assert len(kept) < 30  # places within the radius need no patch of their own


def test_grid_positions_are_the_centres_of_cells() -> None:
    positions = grid_positions(2, 4)
    assert positions[0].tolist() == [0.25, 0.125]
    assert positions[3].tolist() == [0.25, 0.875]
    assert positions[4].tolist() == [0.75, 0.125]


@pytest.mark.parametrize("k", [1, 3])
def test_distances_are_those_of_brute_force(k: int) -> None:
    patches, rows = drawn(30, 6), drawn(40, 6, 1) + 5
    expected = np.sort(pairwise(patches, rows), axis=1)[:, :k].mean(axis=1)
    np.testing.assert_allclose(nearest_distances(patches, rows, k).numpy(), expected, rtol=1e-6)


def test_a_known_patch_is_at_no_distance_however_large_its_values() -> None:
    rows = drawn(40, 6) + 1000
    assert nearest_distances(rows[:5], rows).max() < 1e-3
    assert nearest_distances(rows[:3], rows[:2], k=9).shape == (3,)


def test_a_radius_asks_only_neighbours_and_else_the_nearest_in_position() -> None:
    patches, rows = drawn(20, 3), drawn(15, 3, 1)
    positions = torch.rand(20, 2, generator=torch.Generator().manual_seed(2))
    places = torch.rand(15, 2, generator=torch.Generator().manual_seed(3)) * 0.6  # some patches have no neighbour
    apart, features = pairwise(positions, places), pairwise(patches, rows)
    found = nearest_distances(patches, rows, 2, positions, places, radius=0.2).numpy()
    alone = 0
    for index in range(20):
        near = apart[index] <= 0.2
        alone += not near.any()
        asked = features[index][near] if near.any() else features[index][[apart[index].argmin()]]
        assert found[index] == pytest.approx(np.sort(asked)[:2].mean(), rel=1e-6)
    assert 0 < alone < 20


def test_a_sample_is_uniform_local_and_ordered() -> None:
    state = torch.get_rng_state()
    kept = []
    for seed in range(60):
        sample = PatchSample(20, seed)
        for start in range(0, 100, 7):
            sample.add(torch.arange(start, min(start + 7, 100))[:, None].float())
        rows = sample.rows()[:, 0]
        assert len(set(rows.tolist())) == 20
        assert torch.equal(rows, rows.sort().values)
        kept.append(rows)
    assert torch.equal(torch.get_rng_state(), state)
    # 240 of 1,200 draws are expected in each fifth; a standard deviation is below 14.
    counts = torch.histc(torch.cat(kept), bins=5, min=0, max=100)
    assert ((counts - 240).abs() < 60).all()


def test_a_small_stream_is_kept_whole() -> None:
    sample = PatchSample(20)
    sample.add(torch.arange(6.0)[:, None])
    sample.add(torch.arange(6.0, 11.0)[:, None])
    assert sample.rows()[:, 0].tolist() == list(range(11))
