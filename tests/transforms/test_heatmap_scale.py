"""The fixed scale against numpy's quantile and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.heatmap_scale import HeatmapScale, HeatmapScaled


def normals(count: int = 7) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.random((1, 30, 30))).astype(np.float32) for _ in range(count)]


def test_values_by_hand():
    values = np.array([[[-1.0, 0.0, 1.0, 2.0, 4.0, 9.0]]])
    np.testing.assert_allclose(HeatmapScale(4.0)(values)[0, 0], [0, 0, 0.25, 0.5, 1, 1])
    np.testing.assert_allclose(HeatmapScale(4.0, 2.0)(values)[0, 0], [0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize("shape", [(1, 20, 20), (1, 8, 8, 8), (2, 20, 20)])
def test_upper_is_the_median_quantile(shape: tuple[int, ...]):
    rng = np.random.default_rng(1)
    maps = [rng.random(shape) for _ in range(5)]
    made = HeatmapScale(quantile=0.9, headroom=1.0).fit(maps)
    assert made.upper == pytest.approx(np.median([np.quantile(one, 0.9) for one in maps]))
    assert HeatmapScale(quantile=0.9, headroom=3.0).fit(maps).upper == pytest.approx(3 * made.upper)


def test_headroom_counts_from_lower():
    maps = [np.full((1, 4, 4), 3.0)] * 2
    assert HeatmapScale(lower=1.0, headroom=2.0).fit(maps).upper == pytest.approx(5.0)


def test_only_the_mask_counts():
    maps, masks = normals(), []
    for one in maps:
        mask = np.ones((1, 30, 30))
        mask[0, :10] = 0
        one[0, :10] = 50
        masks.append(mask)
    assert HeatmapScale().fit(maps, masks).upper < 0.25
    assert HeatmapScale().fit(maps, [*masks[:-1], np.zeros((1, 30, 30))]).upper < 0.25


def test_a_bad_case_among_normals_does_not_decide():
    clean = HeatmapScale().fit(normals()).upper
    assert HeatmapScale().fit([*normals()[:-1], 100 * normals()[-1]]).upper == pytest.approx(clean, rel=0.05)


def test_one_scale_for_every_case():
    made = HeatmapScale().fit(iter(normals()))
    normal, abnormal = normals(1)[0], normals(1)[0].copy()
    abnormal[0, 5:15, 5:15] = 0.5
    out = [np.asarray(made(one)) for one in (normal, abnormal)]
    assert out[0].max() < 0.6  # a normal case does not glow
    np.testing.assert_array_equal(out[1][0, 5:15, 5:15], 1.0)
    np.testing.assert_array_equal(out[0][0, 20:], out[1][0, 20:])


@pytest.mark.parametrize(
    ("options", "word"),
    [({"upper": 0.0}, "upper"), ({"quantile": 0}, "quantile"), ({"quantile": 1.1}, "quantile"), ({"headroom": 0}, "h")],
)
def test_arguments(options: dict, word: str):
    with pytest.raises(ValueError, match=word):
        HeatmapScale(**options)


def test_unusable_normals():
    for maps in ([], [np.zeros((1, 4, 4))]):
        with pytest.raises(InputError, match="normal maps"):
            HeatmapScale().fit(maps)
    with pytest.raises(InputError, match="fit"):
        HeatmapScale()(np.zeros((1, 4, 4)))


def test_dictionary():
    values = normals(1)[0]
    case = {"anomaly_map": values}
    np.testing.assert_array_equal(HeatmapScaled(upper=0.1)(case)["anomaly_map"], HeatmapScale(0.1)(values))
    assert case["anomaly_map"] is values
