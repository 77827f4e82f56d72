"""N4: a known smooth gain put on phantom slices and volumes is found again."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor

from monai_ctmri.data.phantom import PhantomSettings, draw_subject
from monai_ctmri.transforms.bias_correction import CorrectBiasField, CorrectBiasFieldd
from monai_ctmri.transforms.mri import head_mask


@pytest.fixture(scope="module")
def subject():
    return draw_subject(2, PhantomSettings(size=128, slices=8, contrast="T1"))


@pytest.fixture(scope="module")
def image(subject) -> np.ndarray:
    return subject.mri[4][None]


@pytest.fixture(scope="module")
def gain() -> np.ndarray:
    """Log gain (128, 128), from about -0.8 to 0.6."""
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    return 0.35 * x - 0.25 * y + 0.2 * x * y - 0.2 * x**2


def variation(image: np.ndarray, where: np.ndarray) -> float:
    return float(image[where].std() / image[where].mean())


def test_known_field_is_recovered(image: np.ndarray, gain: np.ndarray):
    inside = head_mask(image)[0].numpy()
    correct = CorrectBiasField()
    found = correct.log_field(image * np.exp(gain)) - correct.log_field(image)  # the phantom has a gain of its own
    assert np.corrcoef(found[0][inside], gain[inside])[0, 1] > 0.9
    wanted = gain - gain[inside].mean()
    assert np.abs(found[0] - wanted)[inside].mean() < 0.5 * np.abs(wanted)[inside].mean()


def test_white_matter_is_even_again(subject, image: np.ndarray, gain: np.ndarray):
    white = subject.tissue[4] == 3
    shaded = image * np.exp(gain).astype(np.float32)
    corrected = np.asarray(CorrectBiasField()(shaded))[0]
    assert variation(shaded[0], white) > 1.6 * variation(image[0], white)
    assert variation(corrected, white) < 1.15 * variation(image[0], white)


def test_field_is_smooth_centred_and_of_full_resolution(image: np.ndarray, gain: np.ndarray):
    shaded = image * np.exp(gain)
    inside = head_mask(shaded)[0].numpy()
    field = CorrectBiasField().log_field(shaded)
    assert field.shape == image.shape
    assert field[0][inside].mean() == pytest.approx(0, abs=1e-5)
    assert np.abs(np.diff(field[0], axis=1)).max() < 0.1


def test_volume():
    volume = np.moveaxis(draw_subject(2, PhantomSettings(size=64, slices=16, contrast="T1")).mri, 0, -1)[None]
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    known = (0.35 * x - 0.25 * y + 0.2 * x * y - 0.2 * x**2)[..., None] + np.linspace(-0.2, 0.2, 16)
    found = CorrectBiasField(iterations=(20, 20)).log_field(volume * np.exp(known))
    inside = head_mask(volume)[0].numpy()
    assert np.corrcoef(found[0][inside], known[inside])[0, 1] > 0.9


def test_result_is_the_image_over_the_field(image: np.ndarray):
    correct = CorrectBiasField(iterations=(10,))
    np.testing.assert_allclose(correct(image), image / np.exp(correct.log_field(image)), rtol=1e-6)


def test_deterministic(image: np.ndarray):
    np.testing.assert_array_equal(CorrectBiasField()(image), CorrectBiasField()(image))


@pytest.mark.parametrize("scale", [1e-3, 1000.0])
def test_scale_goes_through(image: np.ndarray, scale: float):
    np.testing.assert_allclose(CorrectBiasField()(scale * image), scale * CorrectBiasField()(image), rtol=0.02)


def test_zero_and_negative_values_are_safe(image: np.ndarray):
    odd = image.copy()
    odd[0, :20], odd[0, 60:64, 60:64] = -5.0, 0.0
    out = np.asarray(CorrectBiasField()(odd))
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(np.sign(out), np.sign(odd))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_nothing_to_correct(value: float):
    flat = np.full((1, 64, 64), value, dtype=np.float32)
    np.testing.assert_array_equal(CorrectBiasField()(flat), flat)


def test_mask_entry_is_used(image: np.ndarray, gain: np.ndarray):
    brain = (np.hypot(*(np.mgrid[:128, :128] - 64)) < 40)[None]
    out = CorrectBiasFieldd()({"mri": image, "brain": brain, "ct": image})
    np.testing.assert_array_equal(out["mri"], CorrectBiasField()(image, brain))
    assert np.abs(np.asarray(out["mri"]) - np.asarray(CorrectBiasField()(image))).max() > 1e-3
    assert out["ct"] is image


def test_meta_stays_and_channels_are_independent(image: np.ndarray):
    both = MetaTensor(np.concatenate([image, image**2]), meta={"windowed": False})
    out = CorrectBiasField(iterations=(10,))(both)
    assert out.meta["windowed"] is False
    np.testing.assert_array_equal(out[:1], CorrectBiasField(iterations=(10,))(image))


@pytest.mark.parametrize("options", [{"shrink": 0}, {"iterations": ()}, {"iterations": (5, 0)}])
def test_options_out_of_range(options: dict):
    with pytest.raises(ValueError, match=next(iter(options))):
        CorrectBiasField(**options)


def test_shape_is_checked(image: np.ndarray):
    with pytest.raises(ValueError, match="shape"):
        CorrectBiasField()(image[0])
