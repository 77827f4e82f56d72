"""Mass effect of tumours: an option that changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_ctmri.transforms import anomalies, tumour_anomalies
from monai_ctmri.transforms.tumour_anomalies import InjectTumourd

SIZE = 160
ROWS, COLUMNS = np.indices((SIZE, SIZE))
BRAIN = ((ROWS - 79.5) / 60) ** 2 + ((COLUMNS - 79.5) / 48) ** 2 <= 1
FALX = BRAIN & (np.abs(COLUMNS - 79.5) < 1.5)


def case(noise: float = 0.0):
    """Uniform tissue with a thin bright plane between the hemispheres."""
    random = np.random.RandomState(0)
    data = {"case": "a", "subject": "a", "brain": torch.as_tensor(BRAIN[None].astype(np.float32))}
    for key, value in (("ct", 0.375), ("mri", 0.4)):
        image = np.where(FALX, 0.6, np.where(BRAIN, value, 0.0)) + noise * random.standard_normal(BRAIN.shape) * BRAIN
        data[key] = torch.as_tensor(image[None].astype(np.float32))
    return data


def injected(seed: int = 0, noise: float = 0.0, **options):
    transform = InjectTumourd(pixel_spacing_mm=1.5, **options)
    transform.set_random_state(seed=seed)
    return transform(case(noise)), transform


def plane(d, key: str) -> np.ndarray:
    return np.asarray(d[key])[0].astype(np.float64)


def midline(d, key: str, core) -> float:
    """Mean column of the plane between the hemispheres, in the rows of the core."""
    rows = (core.sum(axis=1) > 0)[:, None] & (np.abs(COLUMNS - 79.5) < 9) & ~(plane(d, "mask") > 0.5)
    weight = np.where(rows, np.clip(plane(d, key) - 0.5, 0, None), 0)
    return float((weight * COLUMNS).sum() / weight.sum())


@pytest.mark.parametrize("key", ["ct", "mri"])
def test_midline_shifts_away_from_the_core(key):
    for seed, place in enumerate([(0.5, 0.22), (0.5, 0.78), (0.4, 0.75)]):
        options = {"size_mm": (44, 48), "location": place}
        still, one = injected(seed, **options)
        out, transform = injected(seed, mass_effect_mm=6.0, **options)
        core = transform._drawn.regions[1].profile > 0.5
        shift = (midline(out, key, core) - midline(still, key, core)) * 1.5
        assert np.sign(shift) == (1 if place[1] < 0.5 else -1)
        assert 0.7 < abs(shift) < 6
        assert one._drawn.warp is None


@pytest.mark.parametrize("asked", [2.0, 5.0, 8.0])
def test_displacement_is_recorded_and_limited(asked):
    for seed in range(3):
        out, transform = injected(seed, size_mm=(45, 50), mass_effect_mm=asked)
        record = out["anomaly"]
        assert 0 < record["displacement_mm"] <= asked + 1e-6
        assert record["displacement_mm"] <= 0.6 * record["core_mm"] / 2 + 1e-6
        assert record["displacement_mm"] == pytest.approx(np.hypot(*transform._drawn.warp).max() * 1.5)
        assert record["warped"] is True


def test_option_leaves_the_drawn_lesion_alone():
    for seed in range(3):
        still, one = injected(seed)
        out, other = injected(seed, mass_effect_mm=4.0)
        np.testing.assert_array_equal(still["mask"], out["mask"])
        for a, b in zip(one._drawn.regions, other._drawn.regions, strict=True):
            np.testing.assert_array_equal(a.profile, b.profile)
            assert a.pick == b.pick
        assert {"warped", "displacement_mm"} == set(out["anomaly"]) - set(still["anomaly"])


def test_noise_around_a_pushing_tumour_is_as_strong_as_elsewhere():
    """Smoothness that interpolation leaves behind would give every displacement away."""
    ratio = []
    for seed in range(4):
        out, transform = injected(seed, noise=0.02, mass_effect_mm=6.0, size_mm=(40, 45))
        moved = np.hypot(*transform._drawn.warp) > 0.2
        around = moved & (ndimage.distance_transform_edt(~(plane(out, "mask") > 0.5)) > 4)
        around &= ndimage.binary_erosion(BRAIN, iterations=4) & (np.abs(COLUMNS - 79.5) > 12)
        high = [plane(d, "ct") - ndimage.gaussian_filter(plane(d, "ct"), 1) for d in (case(0.02), out)]
        ratio.append(high[1][around].std() / high[0][around].std())
    assert 0.9 < np.median(ratio) < 1.1


def test_names_are_where_they_were():
    for name in tumour_anomalies.__all__:
        assert getattr(tumour_anomalies, name) is getattr(anomalies, name) is InjectTumourd
