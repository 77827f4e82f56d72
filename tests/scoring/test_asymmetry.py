"""The asymmetry scorer: a lesion on one side is found, one on both is not, on the grid of the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.scoring.asymmetry import AsymmetryScorer
from monai_ctmri.scoring.scorer import Scorer

SIZE = 96
SPACING = 2.5


def head(*lesions, angle=0.0, value=1.0, skull=1.0):
    """A symmetric head (1, H, W) with discs (row, column) of a value, turned clockwise as a whole."""
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    distance = np.hypot(rows / 42, columns / 34)
    image = np.where(distance < 1, skull, 0.0)
    image[distance < 0.86] = 0.45
    image[(np.hypot((rows + 6) / 14, (np.abs(columns) - 7) / 4)) < 1] = 0.2
    image[(np.abs(columns) < 1) & (distance < 0.86) & (np.abs(rows) > 20)] = 0.6
    for row, column in lesions:
        image[np.hypot(rows - row, columns - column) < 6] = value
    image = ndimage.rotate(ndimage.gaussian_filter(image, 0.7), -angle, reshape=False, order=1)
    return image.astype(np.float32)[None]


def scorer(*modalities, **options):
    return AsymmetryScorer(modalities or ("mri",), pixel_spacing_mm=SPACING, **options)


def scored(image, **options):
    return scorer(**options).score({"image": torch.as_tensor(image), "case": "one"})


def test_names_shapes_and_contract():
    one = scorer("ct", "mri")
    assert isinstance(one, Scorer)
    assert one.fit([]) is one
    assert one.state_dict() == {}
    one.load_state_dict({})
    evidence = one.score({"image": torch.as_tensor(np.concatenate([head(), head((10, 18))]))})
    names = {"asymmetry", "asymmetry_ct", "asymmetry_mri"}
    assert set(evidence.maps) == names
    assert set(evidence.scores) == {f"{name}_{number}" for name in names for number in ("mean", "top")}
    assert set(evidence.features) == {"midsagittal_confidence"}
    for one_map in evidence.maps.values():
        assert one_map.shape == (SIZE, SIZE)
        assert one_map.dtype == np.float32
        assert one_map.min() >= 0
    mean = (evidence.maps["asymmetry_ct"] + evidence.maps["asymmetry_mri"]) / 2
    np.testing.assert_allclose(evidence.maps["asymmetry"], mean, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 9.0, -12.0])
def test_one_sided_lesion_is_found_where_it_is(angle):
    evidence = scored(head((12, 18), angle=angle))
    clean = scored(head(angle=angle))
    assert clean.scores["asymmetry_top"] < 0.05
    assert evidence.scores["asymmetry_top"] > 0.3
    peak = np.array(ndimage.center_of_mass(evidence.maps["asymmetry"] > 0.2)) - (SIZE - 1) / 2
    # Clockwise on the screen, rows down: (row, column) turns like this.
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    np.testing.assert_allclose(peak, [c * 12 + s * 18, -s * 12 + c * 18], atol=2.0)


def test_what_both_sides_have_is_not_seen():
    two_sided = scored(head((12, 18), (12, -18)))
    assert two_sided.scores["asymmetry_top"] < 0.05
    midline = scored(head((12, 0)))
    assert midline.scores["asymmetry_top"] < 0.05


def test_signed_sees_its_sign_alone():
    for value, seen, blind in ((1.0, "brighter", "darker"), (0.0, "darker", "brighter")):
        image = head((12, 18), value=value)
        assert scored(image, signed=seen).scores["asymmetry_top"] > 0.3
        assert scored(image, signed=blind).scores["asymmetry_top"] < 0.05
    assert scored(head((12, 18)), signed=True).scores == scored(head((12, 18)), signed="brighter").scores


def test_the_lesion_is_blamed_and_not_its_healthy_twin():
    found = scored(head((12, 18), value=0.0)).maps["asymmetry"]
    middle = (SIZE - 1) / 2
    assert found[round(middle + 12), round(middle + 18)] > 0.3
    assert found[round(middle + 12), round(middle - 18)] < 0.05


def test_absent_modality_is_left_out():
    image = np.concatenate([np.zeros_like(head()), head((12, 18))])
    evidence = scorer("ct", "mri").score({"image": torch.as_tensor(image)})
    assert set(evidence.maps) == {"asymmetry", "asymmetry_mri"}
    alone = scored(head((12, 18)))
    assert evidence.scores["asymmetry_top"] == pytest.approx(alone.scores["asymmetry_top"])
    nothing = scorer("ct", "mri").score({"image": torch.zeros(2, SIZE, SIZE)})
    assert nothing.maps == nothing.scores == {}
    assert nothing.features == {"midsagittal_confidence": 0.0}


def test_without_alignment_the_centre_column_is_the_mirror():
    image = head((12, 18))
    np.testing.assert_allclose(scored(image, align=False).maps["asymmetry"], scored(image).maps["asymmetry"], atol=0.1)
    turned = head(angle=12.0)
    assert scored(turned, align=False).scores["asymmetry_mean"] > 2 * scored(turned).scores["asymmetry_mean"]


def test_more_tolerance_means_less_asymmetry_and_history_stays_away():
    image = MetaTensor(torch.as_tensor(head((12, 18), (-15, -12))), applied_operations=[{"class": "Earlier", "id": 1}])
    tops = [scored(image, tolerance_mm=tolerance).scores["asymmetry_mean"] for tolerance in (0.0, 3.0, 6.0)]
    assert tops == sorted(tops, reverse=True)
    assert len(image.applied_operations) == 1


def test_top_fraction_and_mask_are_options():
    image = head((12, 18))
    wide, narrow = (scored(image, top_fraction=share).scores["asymmetry_top"] for share in (0.5, 0.005))
    assert narrow > wide
    for options in ({"mask_method": "inset"}, {"erode_mm": 10.0}, {"median_mm": 0.0}):
        assert scored(image, **options).scores["asymmetry_top"] > 0.2


def test_bad_input():
    with pytest.raises(InputError, match="signed"):
        scorer(signed="sideways")
    with pytest.raises(InputError, match="tolerance_mm"):
        scorer(tolerance_mm=-1.0)
    with pytest.raises(ValueError, match="method"):
        scorer(mask_method="none")
    with pytest.raises(InputError, match="channels"):
        scored(np.zeros((2, 8, 8)))
    with pytest.raises(InputError, match="NaN"):
        scored(np.full((1, 8, 8), np.nan))
    with pytest.raises(InputError, match="pixel_spacing_mm"):
        AsymmetryScorer(("mri",), pixel_spacing_mm=None).score({"image": torch.as_tensor(head())})


def test_smoothing_changes_map_and_scores_and_stays_in_the_brain():
    from monai.transforms import GaussianSmooth

    image = head((12, 18))
    plain, smooth = scored(image, align=False), scored(image, align=False, smoothing=GaussianSmooth(2.0))
    inside = plain.maps["asymmetry"] > 0
    rough = ndimage.gaussian_filter(plain.maps["asymmetry"], 2.0)
    np.testing.assert_allclose(smooth.maps["asymmetry"][inside], rough[inside], atol=5e-3)
    beyond = np.hypot(*(np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) / np.array([42, 34])[:, None, None]) > 1
    assert smooth.maps["asymmetry"][beyond].max() == 0
    assert smooth.scores["asymmetry_top"] < plain.scores["asymmetry_top"]
    assert smooth.scores["asymmetry_top"] > 0.3
