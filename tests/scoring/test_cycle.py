"""The cycle scorer against arithmetic by hand: networks whose translations are known, and distances by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from monai_ctmri.errors import InputError
from monai_ctmri.networks.cycle_networks import CycleNetworks
from monai_ctmri.scoring.cycle import CycleScorer, distance_to_range
from monai_ctmri.scoring.scorer import Scorer


class Inverter(nn.Module):
    """CT = 1 - MRI and back; ``loss`` is what a translation to MRI loses. Absent stays absent."""

    def __init__(self, loss=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(loss))

    def forward(self, image):
        present = (image != 0).flatten(2).any(2)[:, :, None, None].float()
        ct, mri = image.split(1, dim=1)
        return torch.cat([(1 - mri) * present[:, 1:], (1 - ct - self.weight) * present[:, :1]], dim=1)


def head(value=0.6, size=32):
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.where(rows**2 + columns**2 < (0.4 * size) ** 2, value, 0.1).astype(np.float32)


def case(ct=None, mri=None, size=32):
    nothing = np.zeros((size, size), np.float32)
    image = np.stack([nothing if one is None else one for one in (ct, mri)])
    return {"image": torch.from_numpy(image), "case": "someone"}


def naive_distance(values, reference, tolerance, spacing):
    """By definition, pixel by pixel."""
    found = np.zeros(values.shape)
    for i, j in np.ndindex(values.shape):
        near = [
            reference[k, m]
            for k, m in np.ndindex(values.shape)
            if np.hypot((k - i) * spacing[0], (m - j) * spacing[1]) <= tolerance + 1e-9
        ]
        found[i, j] = max(min(near) - values[i, j], values[i, j] - max(near), 0.0)
    return found


@pytest.mark.parametrize(
    ("tolerance", "spacing"),
    [(0.0, (1.0, 1.0)), (2.0, (1.0, 1.0)), (3.0, (1.0, 2.0)), (2.5, (1.8, 1.8)), (0.5, (1.0, 1.0))],
)
def test_distance_by_definition(tolerance, spacing):
    generator = np.random.default_rng(0)
    values, reference = generator.random((2, 9, 7))
    found = distance_to_range(values, reference, tolerance, spacing)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive_distance(values, reference, tolerance, spacing), atol=1e-6)


def test_without_tolerance_it_is_the_absolute_difference():
    values, reference = np.random.default_rng(1).random((2, 6, 6))
    np.testing.assert_allclose(distance_to_range(values, reference, 0.0, (1, 1)), np.abs(values - reference), atol=1e-6)


def test_a_shift_within_the_tolerance_is_forgiven_and_one_beyond_is_not():
    picture = head()
    for shift, forgiven in ((2, True), (3, True), (5, False)):
        found = distance_to_range(np.roll(picture, shift, axis=1), picture, 3.0, (1.0, 1.0))
        assert (found.max() == 0) == forgiven


def test_cycle_error_by_hand():
    ct = head(0.6)
    evidence = CycleScorer(Inverter(0.25), pixel_spacing_mm=1.0).score(case(ct, 1 - ct))
    # CT -> 1 - CT - 0.25 -> CT + 0.25; MRI -> 1 - MRI -> MRI - 0.25
    for name in ("cycle", "cycle_ct", "cycle_mri"):
        np.testing.assert_allclose(evidence.maps[name], 0.25, atol=1e-6)
        assert evidence.maps[name].dtype == np.float32
        assert evidence.scores[f"{name}_mean"] == pytest.approx(0.25, abs=1e-6)
        assert evidence.scores[f"{name}_top"] == pytest.approx(0.25, abs=1e-6)


def test_a_lesion_in_one_modality_is_a_mismatch_in_both():
    ct = head()
    mri = 1 - ct
    lesion = np.s_[12:19, 12:19]
    mri[lesion] = 0.9
    evidence = CycleScorer(Inverter(), tolerance_mm=1.0, pixel_spacing_mm=1.0).score(case(ct, mri))
    for name, size in (("translated_mismatch_mri", 0.5), ("translated_mismatch_ct", 0.5), ("translated_mismatch", 0.5)):
        inner = evidence.maps[name][14:17, 14:17]
        np.testing.assert_allclose(inner, size, atol=1e-6)
        assert evidence.maps[name][:10].max() < 1e-6
        assert evidence.scores[f"{name}_top"] > 0.1
    assert max(evidence.maps["cycle"].max(), evidence.scores["cycle_mean"]) < 1e-6  # there and back loses nothing


def test_mean_is_that_of_the_modalities():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = CycleNetworks(width=4, blocks=1)
    evidence = CycleScorer(network, pixel_spacing_mm=1.8).score({"image": torch.rand(2, 16, 16, generator=generator)})
    for name in ("cycle", "translated_mismatch"):
        both = [evidence.maps[f"{name}_{modality}"] for modality in ("ct", "mri")]
        np.testing.assert_allclose(evidence.maps[name], np.mean(both, axis=0), atol=1e-6)
    assert all(np.isfinite(one).all() and one.min() >= 0 for one in evidence.maps.values())


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_one_modality_alone(modality):
    """No pixel size is needed, and nothing is said of what is absent."""
    evidence = CycleScorer(Inverter(0.1)).score(case(**{modality: head()}))
    assert set(evidence.maps) == {"cycle", f"cycle_{modality}"}
    assert set(evidence.scores) == {f"{name}_{kind}" for name in evidence.maps for kind in ("mean", "top")}
    np.testing.assert_allclose(evidence.maps["cycle"], 0.1, atol=1e-6)


def test_names_follow_the_modalities():
    evidence = CycleScorer(Inverter(), ("first", "second"), pixel_spacing_mm=1.0).score(case(head(), head()))
    assert {"cycle_first", "cycle_second", "translated_mismatch_first"} <= set(evidence.maps)


def test_cases_do_not_depend_on_each_other():
    torch.manual_seed(1)
    scorer = CycleScorer(CycleNetworks(width=4, blocks=1), pixel_spacing_mm=1.0)
    images = torch.rand(5, 2, 16, 16)
    images[1, 0], images[3, 1] = 0.0, 0.0
    cases = [{"image": image} for image in images]
    together, alone = scorer.score_batch(cases, batch_size=3), [scorer.score(one) for one in cases]
    for one, other in zip(together, alone, strict=True):
        assert list(one.scores) == list(other.scores)
        for name in one.maps:
            np.testing.assert_allclose(one.maps[name], other.maps[name], atol=1e-5)
        for name in one.scores:
            assert one.scores[name] == pytest.approx(other.scores[name], abs=1e-5)


def test_pixel_size_comes_from_the_affine_or_must_be_given():
    ct = head()
    pair = case(ct, 1 - np.roll(ct, 3, axis=1))
    with pytest.raises(InputError, match="pixel_spacing_mm"):
        CycleScorer(Inverter()).score(pair)
    scorer = CycleScorer(Inverter(), tolerance_mm=4.0)
    for size, forgiven in ((1.0, True), (2.0, False)):
        image = MetaTensor(pair["image"], affine=torch.diag(torch.tensor([size, size, 5.0, 1.0001])))
        image.affine = torch.diag(torch.tensor([size, size, 5.0, 1.0], dtype=torch.float64))
        assert (scorer.score({"image": image}).maps["translated_mismatch"].max() < 1e-6) == forgiven


def test_the_mask_decides_where_scores_are_taken():
    ct, mri = head(), 1 - head()
    mri[:4] = 0.5
    whole = CycleScorer(Inverter(), pixel_spacing_mm=1.0, mask=lambda image: torch.ones(1, *image.shape[1:]))
    inner = CycleScorer(Inverter(), pixel_spacing_mm=1.0, mask=lambda image: torch.as_tensor(head() > 0.3)[None])
    assert whole.score(case(ct, mri)).scores["translated_mismatch_mean"] > 0.01
    assert inner.score(case(ct, mri)).scores["translated_mismatch_mean"] < 1e-6


def test_bad_input_is_refused():
    scorer = CycleScorer(Inverter(), pixel_spacing_mm=1.0)
    with pytest.raises(InputError, match="0 everywhere"):
        scorer.score(case())
    with pytest.raises(InputError, match="someone"):
        scorer.score(case(np.full((32, 32), np.nan, np.float32), head()))
    with pytest.raises(InputError, match="channels"):
        scorer.score({"image": torch.rand(1, 8, 8)})
    with pytest.raises(ValueError, match="one tensor"):
        CycleScorer(nn.AvgPool2d(2)).score(case(head(), head()))
    with pytest.raises(ValueError, match="two modalities"):
        CycleScorer(Inverter(), ("ct",))
    with pytest.raises(ValueError, match="tolerance_mm"):
        CycleScorer(Inverter(), tolerance_mm=-1.0)


def test_network_is_left_as_it_was():
    network = Inverter()
    network.train()
    scorer = CycleScorer(network, pixel_spacing_mm=1.0)
    scorer.score(case(head(), head()))
    assert network.training
    assert isinstance(scorer, Scorer)
    assert scorer.fit([]) is scorer
    assert scorer.state_dict() == {}
    scorer.load_state_dict({})


def test_features_are_the_bottlenecks_of_what_is_there():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = CycleNetworks(width=4, blocks=1).eval()
    scorer = CycleScorer(networks, pixel_spacing_mm=1.0)
    pair = case(head(), head(0.3))
    found = scorer.score(pair).features
    assert len(found) == 2 * 16 * 4  # two generators, 4 * 2 ** 2 channels, four fields
    with torch.inference_mode():
        maps = networks.mri_to_ct.encode(pair["image"][None, 1:])[0]  # (16, 8, 8)
    by_hand = [float(one.mean()) for channel in maps for half in channel.chunk(2) for one in half.chunk(2, dim=1)]
    names = [name for name in found if name.startswith("latent_mri_")]
    np.testing.assert_allclose([found[name] for name in names], by_hand, rtol=1e-4, atol=1e-6)
    alone = scorer.score(case(head())).features
    assert alone == pytest.approx({name: value for name, value in found.items() if "_ct_" in name}, abs=1e-5)
    assert scorer.latent_features([pair])[0] == pytest.approx(found)
    assert CycleScorer(Inverter(), pixel_spacing_mm=1.0).score(pair).features == {}
    with pytest.raises(ValueError, match="latent_pool"):
        CycleScorer(networks, latent_pool=0)
