"""The denoiser's evidence, with networks whose answers are known by formula, and with the real one asked directly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn
from torch.distributions import Laplace

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.networks import CrossModalDenoiser
from monai_ctmri.scoring.denoising import DenoiserScorer
from monai_ctmri.scoring.scorer import Scorer
from monai_ctmri.transforms.brain import BrainMask, HeadMask
from monai_ctmri.transforms.residual import MapScore

SIDE = 32
BOTH = ("ct", "mri")


class Oracle(nn.Module):
    """Its mean tells which channels were there: bit c of the mean (in steps of 1/100) is channel c of the input."""

    def __init__(self, mirror: bool = False, modalities: int = 2, scale: float = 0.1) -> None:
        super().__init__()
        self.mirror = mirror
        self.modalities = modalities
        self.scale = nn.Parameter(torch.tensor(scale))
        self.seen: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(image.clone())
        there = (image != 0).flatten(2).any(dim=2).float()
        bits = (there * 2.0 ** torch.arange(image.shape[1])).sum(dim=1) / 100
        mean = bits.view(-1, 1, 1, 1).expand(-1, self.modalities, *image.shape[2:])
        # The scale of the second modality is twice that of the first.
        scales = self.scale * (1 + torch.arange(self.modalities))
        return torch.cat([mean, scales.log().view(1, -1, 1, 1).expand_as(mean)], dim=1)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(image, SIDE // 2)


def picture(seed: int = 0, channels: int = 2) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    image = np.zeros((channels, SIDE, SIDE), dtype=np.float32)
    image[:, 4:-4, 3:-6] = generator.uniform(0.3, 1.0, size=(channels, SIDE - 8, SIDE - 9))
    return torch.from_numpy(image)


def case_of(image: torch.Tensor, name: str = "case") -> dict:
    return {keys.CASE: name, keys.IMAGE: image}


def without(image: torch.Tensor, *channels: int) -> torch.Tensor:
    image = image.clone()
    image[list(channels)] = 0.0
    return image


def expected_map(image: torch.Tensor, channel: int, bits: int) -> np.ndarray:
    return (np.abs(image[channel].numpy() - bits / 100) / (0.1 * (1 + channel))).astype(np.float32)


def assert_maps(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, one in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], one, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_pair_is_judged_given_itself_and_given_the_other() -> None:
    image = picture()
    scorer = DenoiserScorer(Oracle())
    assert isinstance(scorer, Scorer)
    assert scorer.fit([]) is scorer
    error = [expected_map(image, channel, 0b11) for channel in (0, 1)]
    mismatch = [expected_map(image, 0, 0b10), expected_map(image, 1, 0b01)]
    expected = {"error_ct": error[0], "error_mri": error[1], "error": (error[0] + error[1]) / 2}
    expected |= {
        "mismatch_ct": mismatch[0],
        "mismatch_mri": mismatch[1],
        "mismatch": (mismatch[0] + mismatch[1]) / 2,
    }
    assert_maps(scorer.score(case_of(image)).maps, expected)


@pytest.mark.parametrize(("there", "absent"), [("ct", 1), ("mri", 0)])
def test_one_modality_alone_is_judged_given_itself_only(there: str, absent: int) -> None:
    image = without(picture(), absent)
    channel = 1 - absent
    evidence = DenoiserScorer(Oracle()).score(case_of(image))
    error = expected_map(image, channel, 1 << channel)
    assert_maps(evidence.maps, {"error": error, f"error_{there}": error})
    assert not any(BOTH[absent] in name for name in [*evidence.maps, *evidence.scores])
    assert np.isfinite(list(evidence.scores.values())).all()


def test_the_mirror_is_a_further_witness() -> None:
    image = picture()
    network = Oracle(mirror=True)
    maps = DenoiserScorer(network).score(case_of(image)).maps
    bits = {
        "error": (0b0011, 0b0011),
        "mismatch": (0b0010, 0b0001),
        "mirrored": (0b1100,) * 2,
        "given_all": (0b1111,) * 2,
    }
    expected = {}
    for name, (ct, mri) in bits.items():
        pair = [expected_map(image, 0, ct), expected_map(image, 1, mri)]
        expected |= {f"{name}_ct": pair[0], f"{name}_mri": pair[1], name: (pair[0] + pair[1]) / 2}
    assert_maps(maps, expected)
    with_mirror = [one for one in torch.cat(network.seen) if one[2:].any()]
    assert len(with_mirror) == 2
    assert all(torch.equal(one[2:], image.flip(-1)) for one in with_mirror)


def test_a_mirror_image_that_comes_along_is_used() -> None:
    image, other = picture(), picture(5)
    network = Oracle(mirror=True)
    evidence = DenoiserScorer(network).score(case_of(torch.cat([image, other])))
    with_mirror = [one for one in torch.cat(network.seen) if one[2:].any()]
    assert all(torch.equal(one[2:], other) for one in with_mirror)
    plain = DenoiserScorer(Oracle(mirror=True)).score(case_of(image))
    assert evidence.scores == plain.scores  # the oracle looks at presence alone; the mask is that of the image
    assert evidence.features == plain.features


def test_mirror_of_one_modality_shows_that_one_only() -> None:
    image = without(picture(), 0)
    maps = DenoiserScorer(Oracle(mirror=True)).score(case_of(image)).maps
    assert set(maps) == {f"{name}{end}" for name in ("error", "mirrored", "given_all") for end in ("", "_mri")}
    np.testing.assert_allclose(maps["mirrored"], expected_map(image, 1, 0b1000), rtol=1e-5)


def test_three_modalities_are_judged_given_the_two_others() -> None:
    image = picture(channels=3)
    maps = DenoiserScorer(Oracle(modalities=3), ("ct", "t1", "flair")).score(case_of(image)).maps
    for channel, (name, bits) in enumerate({"ct": 0b110, "t1": 0b101, "flair": 0b011}.items()):
        np.testing.assert_allclose(maps[f"mismatch_{name}"], expected_map(image, channel, bits), rtol=1e-5)
    one_gone = DenoiserScorer(Oracle(modalities=3), ("ct", "t1", "flair")).score(case_of(without(image, 1))).maps
    np.testing.assert_allclose(one_gone["mismatch_ct"], expected_map(image, 0, 0b100), rtol=1e-5)
    assert "mismatch_t1" not in one_gone


def test_kinds_are_error_and_negative_log_density() -> None:
    image = picture()
    mean = torch.full_like(image, 0.03)
    absolute = DenoiserScorer(Oracle(), kind="absolute").score(case_of(image)).maps
    np.testing.assert_allclose(absolute["error_ct"], (image - mean).abs()[0], rtol=1e-5)
    nll = DenoiserScorer(Oracle(), kind="nll").score(case_of(image)).maps
    density = Laplace(mean, torch.tensor([0.1, 0.2]).view(2, 1, 1)).log_prob(image)
    np.testing.assert_allclose(nll["error_ct"], -density[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(nll["error"], -density.mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["normalised", "nll"])
def test_the_scale_has_a_floor(kind: str) -> None:
    case = case_of(picture())

    def score(scale: float, floor: float) -> dict[str, float]:
        return DenoiserScorer(Oracle(scale=scale), kind=kind, smallest_scale=floor).score(case).scores

    assert score(0.001, 0.05)["error_ct_mean"] == score(0.05, 0.05)["error_ct_mean"]
    assert score(0.001, 0.0)["error_mean"] > 10 * score(0.05, 0.0)["error_mean"]
    assert score(0.001, 0.0)["error_mean"] > score(0.001, 0.02)["error_mean"]


def test_scores_are_those_of_the_maps_within_the_mask() -> None:
    image, judge = picture(), MapScore(top_fraction=0.05, erode=2, median=3)
    for mask in (HeadMask(erode=3), BrainMask(ct_channel=None)):
        evidence = DenoiserScorer(Oracle(mirror=True), mask=mask, map_score=judge).score(case_of(image))
        expected = {
            f"{name}_{number}": value
            for name, one in evidence.maps.items()
            for number, value in judge(one, np.asarray(mask(image))).items()
        }
        assert evidence.scores == expected
        assert {"error_mean", "error_top", "mismatch_ct_top", "given_all_mri_mean"} <= set(evidence.scores)


def test_a_mask_in_millimetres_asks_the_affine_of_the_image() -> None:
    affine = torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64))
    image, mask = MetaTensor(picture(), affine=affine), HeadMask(erode_mm=6.0)
    found = DenoiserScorer(Oracle(), mask=mask).score(case_of(image)).scores
    same = DenoiserScorer(Oracle(), mask=HeadMask(erode_mm=3.0, pixel_spacing_mm=1.0)).score(case_of(picture())).scores
    assert found == same


def test_features_are_the_pooled_bottleneck_without_the_mirror() -> None:
    image = picture()
    blocks = image.numpy().reshape(2, 2, SIDE // 2, 2, SIDE // 2).mean(axis=(2, 4))
    fine = DenoiserScorer(Oracle(), latent_pool=2).score(case_of(image)).features
    assert list(fine.values()) == pytest.approx(blocks.reshape(-1).tolist(), abs=1e-6)
    coarse = DenoiserScorer(Oracle(mirror=True)).score(case_of(image)).features
    assert list(coarse.values()) == pytest.approx([*blocks.mean(axis=(1, 2)), 0.0, 0.0], abs=1e-6)
    scorer = DenoiserScorer(Oracle(mirror=True))
    assert scorer.latent_features([case_of(image)]) == [coarse]
    assert not scorer.network.seen  # the encoder alone ran


@pytest.fixture(scope="module")
def networks() -> dict[bool, CrossModalDenoiser]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {mirror: CrossModalDenoiser(features=(8, 8, 8, 8, 16, 8), mirror=mirror) for mirror in (False, True)}
    return {mirror: network.eval() for mirror, network in made.items()}


@torch.no_grad()
def test_the_real_network_is_asked_as_it_would_be_directly(networks: dict[bool, CrossModalDenoiser]) -> None:
    image, network = picture(), networks[True]
    maps = DenoiserScorer(network, smallest_scale=0.0).score(case_of(image)).maps
    nothing, mirror = torch.zeros_like(image), image.flip(-1)
    directly = {
        "error_ct": (0, network(image[None])),
        "mismatch_ct": (0, network.translate(image[None], 1)),
        "mismatch_mri": (1, network.translate(image[None], 0)),
        "mirrored_mri": (1, network(torch.cat([nothing, mirror])[None])),
        "given_all_ct": (0, network(torch.cat([image, mirror])[None])),
    }
    for name, (channel, pred) in directly.items():
        expected = (image[channel] - pred[0, channel]).abs() / pred[0, 2 + channel].exp()
        np.testing.assert_allclose(maps[name], expected, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_batch_gives_what_each_case_gives_alone(networks: dict[bool, CrossModalDenoiser]) -> None:
    images = [picture(0), without(picture(1), 1), picture(3)]
    cases = [case_of(image, str(n)) for n, image in enumerate(images)]
    scorer = DenoiserScorer(networks[True])
    each = [scorer.score(case) for case in cases]
    for together in (scorer.score_batch(iter(cases)), scorer.score_batch(cases, batch_size=2)):
        for alone, found in zip(each, together, strict=True):
            assert_maps(found.maps, alone.maps)
            assert found.scores == pytest.approx(alone.scores, rel=1e-5, abs=1e-5)
            # Group normalisation over the two numbers of so small a bottleneck enlarges rounding.
            assert found.features == pytest.approx(alone.features, rel=1e-4, abs=1e-4)


def test_arrays_and_metatensors_score_alike() -> None:
    image = picture()
    expected = DenoiserScorer(Oracle()).score(case_of(image)).scores
    for same in (image.numpy(), MetaTensor(image), image.clone().requires_grad_()):
        assert DenoiserScorer(Oracle(), device="cpu").score(case_of(same)).scores == expected


def test_a_case_of_nothing_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="subject-9: the image is 0 everywhere"):
        DenoiserScorer(Oracle()).score(case_of(torch.zeros(2, SIDE, SIDE), "subject-9"))
    with pytest.raises(InputError, match="subject-9: image of shape"):
        DenoiserScorer(Oracle()).score(case_of(torch.ones(4, SIDE, SIDE), "subject-9"))


def test_a_network_that_breaks_the_contract_is_refused() -> None:
    class Means(Oracle):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image

    class Unstable(Oracle):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) / 0

    with pytest.raises(ValueError, match=r"one tensor of shape \(3, 4, 32, 32\), got \(3, 2, 32, 32\)"):
        DenoiserScorer(Means()).score(case_of(picture()))
    with pytest.raises(InputError, match="case: the network's prediction holds NaN"):
        DenoiserScorer(Unstable()).score(case_of(picture()))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "squared"}, "kind"), ({"smallest_scale": -0.1}, "smallest_scale"), ({"latent_pool": 0}, "latent_pool")],
)
def test_arguments_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenoiserScorer(Oracle(), **options)


def test_mismatch_may_look_elsewhere() -> None:
    image = picture(seed=3)

    def upper(shown: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(1, *shown.shape[1:])
        mask[:, : SIDE // 2] = 1.0
        return mask

    number = MapScore(0.1, erode=0, median=1)
    scorer = DenoiserScorer(Oracle(), mismatch_mask=upper, map_score=number)
    found = scorer.score(case_of(image))
    head = np.asarray(HeadMask()(image))[0]
    for name, mask in (("error_ct", head), ("mismatch_ct", upper(image)[0].numpy())):
        expected = number(found.maps[name], mask)
        assert found.scores[f"{name}_mean"] == pytest.approx(expected["mean"])
        assert found.scores[f"{name}_top"] == pytest.approx(expected["top"])
    everywhere = DenoiserScorer(Oracle(), map_score=number).score(case_of(image))
    assert everywhere.scores["mismatch_ct_mean"] != pytest.approx(found.scores["mismatch_ct_mean"])
    assert everywhere.scores["error_ct_mean"] == found.scores["error_ct_mean"]


def test_smoothing_is_done_once_for_each_modality_before_scores() -> None:
    image, network = picture(), Oracle()
    plain = DenoiserScorer(network).score(case_of(image))
    doubled = DenoiserScorer(network, smoothing=lambda one: 2 * one).score(case_of(image))
    for name, one in plain.maps.items():
        np.testing.assert_allclose(doubled.maps[name], 2 * one, rtol=1e-6)
    for name, value in plain.scores.items():
        assert doubled.scores[name] == pytest.approx(2 * value)
    assert doubled.features == plain.features
