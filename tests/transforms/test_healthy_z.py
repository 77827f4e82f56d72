"""Healthy statistics against numpy's mean and standard deviation, and z-maps of drawn cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.healthy_z import HealthyStatistics, HealthyZMap, HealthyZMapd


def healthy(count: int = 12, shape: tuple[int, ...] = (1, 24, 20), seed: int = 0) -> list[np.ndarray]:
    """Maps whose mean and spread rise along the first spatial axis."""
    rng = np.random.default_rng(seed)
    level = np.linspace(1, 5, shape[1]).reshape(1, -1, *(1,) * (len(shape) - 2))
    return [level + 0.1 * level * rng.standard_normal(shape) for _ in range(count)]


@pytest.mark.parametrize("shape", [(1, 24, 20), (2, 24, 20), (1, 8, 7, 6)])
def test_without_smoothing_they_are_numpys(shape: tuple[int, ...]):
    maps = healthy(shape=shape)
    made = HealthyStatistics.of(iter(maps), smoothing=0, floor=1e-6)
    np.testing.assert_allclose(made.mean, np.mean(maps, axis=0), rtol=1e-5)
    np.testing.assert_allclose(made.sd, np.std(maps, axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_array_equal(made.count, 12)


def test_smoothing_is_scipys_gaussian_of_mean_and_variance():
    maps = healthy()
    made = HealthyStatistics.of(maps, smoothing=1.5, floor=1e-6)
    smooth = lambda values: ndimage.gaussian_filter(values, (0, 1.5, 1.5))  # noqa: E731
    np.testing.assert_allclose(made.mean, smooth(np.mean(maps, axis=0)), rtol=1e-4)
    np.testing.assert_allclose(made.sd**2, smooth(np.var(maps, axis=0, ddof=1)), rtol=1e-4)


def test_only_masks_count():
    maps, rng = healthy(), np.random.default_rng(3)
    masks = [rng.random(maps[0].shape) > 0.3 for _ in maps]
    hidden = [np.where(mask, one, 1e6) for one, mask in zip(maps, masks, strict=True)]
    hidden[0][~masks[0]] = np.nan
    seen = np.ma.masked_array(maps, ~np.array(masks))
    made = HealthyStatistics.of(hidden, masks, smoothing=0, floor=1e-6)
    enough = np.array(masks).sum(0) >= 2
    np.testing.assert_allclose(made.mean[enough], seen.mean(0).filled(0)[enough], rtol=1e-5)
    np.testing.assert_allclose(made.sd[enough], seen.std(0, ddof=1).filled(0)[enough], rtol=1e-4)
    np.testing.assert_array_equal(made.count, np.array(masks).sum(0))


def test_never_seen_gets_the_values_of_all():
    maps, mask = healthy(), np.ones((1, 24, 20))
    mask[0, :, :12] = 0
    made = HealthyStatistics.of(maps, [mask] * len(maps), smoothing=1.0)
    inside = np.array(maps)[:, 0, :, 12:]
    assert made.mean[0, 5, 0] == pytest.approx(inside.mean(), rel=1e-5)
    pooled = np.sqrt(inside.var(axis=0, ddof=1).mean())
    assert made.sd[0, 5, 0] == pytest.approx(pooled, rel=1e-5)
    assert np.isfinite(made.mean).all()


def test_floor_of_the_spread():
    maps = healthy()
    for one in maps:
        one[0, 3, 3] = 2.0  # never varies
    made = HealthyStatistics.of(maps, smoothing=0, floor=0.5)
    assert made.sd.min() == pytest.approx(0.5 * np.median(np.std(maps, axis=0, ddof=1)), rel=0.02)
    assert made.sd[0, 3, 3] == made.sd.min()
    constant = HealthyStatistics.of([np.ones((1, 4, 4))] * 3, smoothing=0)
    assert (constant.sd > 0).all()


def test_z_of_new_healthy_cases_is_standard_normal_everywhere():
    made = HealthyZMap(smoothing=2.0).fit(healthy(60, (1, 40, 40)))
    z = np.array([np.asarray(made(one)) for one in healthy(40, (1, 40, 40), seed=9)])
    for rows in (slice(4, 14), slice(26, 36)):  # where the raw maps' level differs threefold
        assert abs(z[:, :, rows].mean()) < 0.15
        assert z[:, :, rows].std() == pytest.approx(1.0, abs=0.1)


def test_a_lesion_where_maps_are_quiet_beats_the_usual_error():
    made = HealthyZMap().fit(healthy(30))
    case = healthy(1, seed=5)[0]
    case[0, 4:7, 8:11] += 1.0  # far less than the level at the other end
    assert np.unravel_index(np.argmax(case), case.shape)[1] > 15
    z = np.asarray(made(case))
    assert 4 <= np.unravel_index(np.argmax(z), z.shape)[1] < 7
    assert z[0, 4:7, 8:11].min() > 3


def test_saved_and_loaded(tmp_path):
    made = HealthyZMap().fit(healthy())
    path = made.statistics.save(tmp_path / "new" / "healthy.npz")
    assert [file.name for file in path.parent.iterdir()] == ["healthy.npz"]
    again, case = HealthyZMap(path), healthy(1, seed=5)[0]
    np.testing.assert_array_equal(again(case), made(case))
    np.testing.assert_array_equal(HealthyZMapd(statistics=path)({"anomaly_map": case})["anomaly_map"], made(case))


def test_pickled_and_broken_files_are_refused(tmp_path):
    np.savez(tmp_path / "pickled.npz", mean=np.array([{}], dtype=object), sd=np.ones(1), count=np.ones(1))
    np.savez(tmp_path / "part.npz", mean=np.ones((1, 2, 2)))
    np.savez(tmp_path / "flat.npz", mean=np.ones((1, 2, 2)), sd=np.zeros((1, 2, 2)), count=np.ones((1, 2, 2)))
    (tmp_path / "broken.npz").write_bytes(b"not numpy")
    for name in ("pickled.npz", "part.npz", "flat.npz", "broken.npz", "missing.npz"):
        with pytest.raises(InputError, match=name):
            HealthyStatistics.load(tmp_path / name)


def test_unusable_input():
    maps = healthy(3)
    with pytest.raises(InputError, match="at least two"):
        HealthyZMap().fit(maps[:1])
    with pytest.raises(InputError, match="one grid"):
        HealthyZMap().fit([maps[0], maps[1][:, :5]])
    with pytest.raises(InputError, match="not finite"):
        HealthyZMap().fit([maps[0], np.full_like(maps[0], np.nan)])
    with pytest.raises(InputError, match="mask"):
        HealthyZMap().fit(maps, [np.ones((1, 3, 3))] * 3)
    halves = [np.zeros_like(maps[0]) for _ in range(2)]
    halves[0][:, :12], halves[1][:, 12:] = 1, 1
    with pytest.raises(InputError, match="two masks"):
        HealthyZMap(smoothing=0).fit(maps[:2], halves)
    with pytest.raises(InputError, match="fit"):
        HealthyZMap()(maps[0])
    with pytest.raises(InputError, match="grid"):
        HealthyZMap().fit(maps)(maps[0][:, :5])
    with pytest.raises(ValueError, match="floor"):
        HealthyZMap(floor=0).fit(maps)
