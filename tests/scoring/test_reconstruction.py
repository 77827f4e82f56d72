"""Reconstruction scores with networks whose error is known by formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from skimage.metrics import structural_similarity
from torch import nn

from monai_ctmri import keys
from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.reconstruction import LatentScorer, ReconstructionScorer
from monai_ctmri.scoring.scorer import Scorer
from monai_ctmri.transforms.brain import HeadMask
from monai_ctmri.transforms.residual import MapScore

SIDE = 32
BOTH = ("ct", "mri")


class Dimmer(nn.Module):
    """Returns ``factor`` times the image: the l1 error is (1 - factor) * image. Misbehaves in training mode."""

    def __init__(self, factor: float = 0.75) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(image) if self.training else image * self.factor


class MapEncoder(Dimmer):
    """Latent map: the image itself, and its square."""

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image**2], dim=1)


class DenseEncoder(Dimmer):
    """Dense latent: mean and maximum of each channel."""

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image.mean(dim=(2, 3)), image.amax(dim=(2, 3))], dim=1)


class Convolutional(nn.Module):
    """A small real network with batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
        self.up = nn.Conv2d(6, 2, 3, padding=1)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.down(image)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.up(self.encode(image)))


def slice_of(seed: int, channels: int = 2, side: int = SIDE) -> dict:
    generator = np.random.default_rng(seed)
    image = np.zeros((channels, side, side), dtype=np.float32)
    image[:, 4:-4, 4:-4] = generator.uniform(0.2, 1.0, size=(channels, side - 8, side - 8))
    return {keys.CASE: f"case-{seed}", keys.IMAGE: torch.from_numpy(image)}


@pytest.fixture
def convolutional() -> Convolutional:
    state = torch.get_rng_state()
    torch.manual_seed(0)
    network = Convolutional()
    torch.set_rng_state(state)
    return network


def test_it_keeps_the_contract():
    scorer = ReconstructionScorer(Dimmer())
    assert isinstance(scorer, Scorer)
    assert scorer.fit(iter([])) is scorer


def test_maps_follow_the_formula():
    case = slice_of(0)
    image = case[keys.IMAGE].numpy()
    maps = ReconstructionScorer(Dimmer(0.75)).score(case).maps
    assert set(maps) == {f"{kind}{part}" for kind in ("l1", "l2", "ssim") for part in ("", "_ct", "_mri")}
    np.testing.assert_allclose(maps["l1_ct"], 0.25 * image[0], atol=1e-6)
    np.testing.assert_allclose(maps["l1_mri"], 0.25 * image[1], atol=1e-6)
    np.testing.assert_allclose(maps["l1"], 0.25 * image.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(maps["l2"], (0.0625 * image**2).mean(axis=0), atol=1e-6)
    assert all(one.dtype == np.float32 and one.shape == (SIDE, SIDE) for one in maps.values())


def test_ssim_map_equals_scikit_image_away_from_the_border():
    case = slice_of(1)
    image = case[keys.IMAGE].numpy().astype(np.float64)
    expected = []
    for window, sigma in ((7, 7 * 1.5 / 11), (11, 1.5)):
        _, local = structural_similarity(
            image,
            image * 0.75,
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=sigma,
            truncate=(window // 2) / sigma,
            use_sample_covariance=False,
            full=True,
        )
        expected.append((1 - local) / 2)
    found = ReconstructionScorer(Dimmer(0.75)).score(case).maps["ssim"]
    truth = np.mean(expected, axis=0).mean(axis=0)
    np.testing.assert_allclose(found[6:-6, 6:-6], truth[6:-6, 6:-6], atol=1e-4)


def test_scores_are_those_of_the_maps_in_the_head():
    case = slice_of(2)
    evidence = ReconstructionScorer(Dimmer(0.75)).score(case)
    inside = case[keys.IMAGE].numpy()[:, 4:-4, 4:-4]
    assert evidence.scores["l1_mean_ct"] == pytest.approx(0.25 * inside[0].mean(), rel=1e-5)
    assert evidence.scores["l1_mean_mri"] == pytest.approx(0.25 * inside[1].mean(), rel=1e-5)
    assert evidence.scores["l1_mean"] == pytest.approx(0.25 * inside.mean(), rel=1e-5)
    assert evidence.scores["l2_mean"] == pytest.approx(0.0625 * (inside**2).mean(), rel=1e-5)
    mask = HeadMask()(case[keys.IMAGE])[0]
    for name, one in evidence.maps.items():
        kind, _, modality = name.partition("_")
        for number, value in MapScore()(one, mask).items():
            label = f"{kind}_{number}" + (f"_{modality}" if modality else "")
            assert evidence.scores[label] == pytest.approx(value, rel=1e-6)
    assert len(evidence.scores) == 2 * len(evidence.maps)
    assert all(isinstance(value, float) for value in evidence.scores.values())


def test_top_by_hand_without_erosion_and_median():
    case = slice_of(3, channels=1)
    scorer = ReconstructionScorer(
        Dimmer(0.5), ("mri",), kinds=("l1",), map_score=MapScore(top_fraction=0.1, erode=0, median=1)
    )
    inside = np.sort(0.5 * case[keys.IMAGE].numpy()[0, 4:-4, 4:-4].ravel())
    count = int(np.ceil(0.1 * inside.size))
    scores = scorer.score(case).scores
    assert scores["l1_top"] == scores["l1_top_mri"] == pytest.approx(inside[-count:].mean(), rel=1e-5)


def test_a_perfect_reconstruction_scores_zero_and_a_worse_one_more():
    case = slice_of(4)
    scores = [ReconstructionScorer(Dimmer(factor)).score(case).scores for factor in (1.0, 0.9, 0.5)]
    for name, value in scores[0].items():
        assert value == pytest.approx(0.0, abs=1e-6)
        assert scores[0][name] < scores[1][name] < scores[2][name]


def test_only_the_kinds_asked_for_are_drawn():
    evidence = ReconstructionScorer(Dimmer(), kinds=("l2",)).score(slice_of(5))
    assert set(evidence.maps) == {"l2", "l2_ct", "l2_mri"}
    assert set(evidence.scores) == {f"l2_{n}{m}" for n in ("mean", "top") for m in ("", "_ct", "_mri")}


def test_the_head_mask_given_is_used():
    case = slice_of(6)
    case[keys.IMAGE][:, 4:-4, 4:8] = 0.3
    wide, narrow = (
        ReconstructionScorer(Dimmer(), kinds=("l1",), head_mask=HeadMask(erode=erode)).score(case).scores["l1_mean_ct"]
        for erode in (0, 4)
    )
    expected = 0.25 * case[keys.IMAGE][0, 8:-8, 8:-8].mean()
    assert narrow == pytest.approx(float(expected), rel=1e-5)
    assert wide < narrow


def test_a_dense_latent_is_taken_as_it_is():
    case = slice_of(7)
    image = case[keys.IMAGE]
    features = ReconstructionScorer(DenseEncoder()).score(case).features
    assert list(features) == ["latent_000", "latent_001", "latent_002", "latent_003"]
    expected = [*image.mean(dim=(1, 2)).tolist(), *image.amax(dim=(1, 2)).tolist()]
    assert list(features.values()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_a_latent_map_is_average_pooled_channel_by_channel(pool):
    case = slice_of(8)
    image = case[keys.IMAGE].numpy()
    features = ReconstructionScorer(MapEncoder(), latent_pool=pool).score(case).features
    latent = np.concatenate([image, image**2])
    cell = SIDE // pool
    expected = latent.reshape(4, pool, cell, pool, cell).mean(axis=(2, 4)).ravel()
    assert len(features) == 4 * pool**2
    assert list(features) == sorted(features)
    assert list(features.values()) == pytest.approx(expected.tolist(), rel=1e-5)


def test_names_of_a_long_latent_still_sort():
    class Long(Dimmer):
        def encode(self, image: torch.Tensor) -> torch.Tensor:
            return image.flatten(1)[:, :1500]

    features = ReconstructionScorer(Long()).score(slice_of(9)).features
    assert list(features) == sorted(features)
    assert (len(features), "latent_0000" in features, "latent_1499" in features) == (1500, True, True)


def test_a_network_without_encode_gives_no_features():
    assert ReconstructionScorer(Dimmer()).score(slice_of(10)).features == {}
    with pytest.raises(TypeError, match="Dimmer has no encode"):
        ReconstructionScorer(Dimmer()).latent_features([slice_of(10)])


def test_a_batch_scores_as_one_by_one(convolutional):
    cases = [slice_of(seed) for seed in range(7)]
    scorer = ReconstructionScorer(convolutional, latent_pool=2)
    alone = [scorer.score(case) for case in cases]
    for size in (1, 3, 16):
        together = scorer.score_batch(iter(cases), batch_size=size)
        assert len(together) == 7
        for one, other in zip(alone, together, strict=True):
            for part in ("maps", "scores", "features"):
                left, right = getattr(one, part), getattr(other, part)
                assert list(left) == list(right)
                for name in left:
                    np.testing.assert_allclose(right[name], left[name], atol=1e-5)
    assert scorer.score_batch([]) == []


def test_a_batch_may_mix_image_sizes():
    cases = [slice_of(0), slice_of(1, side=40), slice_of(2, side=40), slice_of(3)]
    scorer = ReconstructionScorer(MapEncoder(), kinds=("l1",))
    found = scorer.score_batch(cases)
    assert [evidence.maps["l1"].shape[0] for evidence in found] == [32, 40, 40, 32]
    assert found[2].scores["l1_top"] == pytest.approx(scorer.score(cases[2]).scores["l1_top"], abs=1e-5)


def test_features_alone_equal_those_of_the_score(convolutional):
    cases = [slice_of(seed) for seed in range(5)]
    scorer = ReconstructionScorer(convolutional)
    for features, case in zip(scorer.latent_features(iter(cases), batch_size=2), cases, strict=True):
        assert features == pytest.approx(scorer.score(case).features, abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_training_flags_are_put_back_module_by_module(convolutional, training):
    convolutional.train(training)
    convolutional.down[1].eval()  # a frozen layer
    flags = [module.training for module in convolutional.modules()]
    running = convolutional.down[1].running_mean.clone()
    scorer = ReconstructionScorer(convolutional)
    first, second = scorer.score(slice_of(0)), scorer.score(slice_of(0))
    assert first.scores == second.scores
    assert [module.training for module in convolutional.modules()] == flags
    assert torch.equal(convolutional.down[1].running_mean, running)
    scorer.latent_features([slice_of(0)])
    assert [module.training for module in convolutional.modules()] == flags


def test_training_flags_are_put_back_after_a_failure():
    class Failing(Dimmer):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of order")

    network = Failing().train()
    with pytest.raises(RuntimeError, match="out of order"):
        ReconstructionScorer(network).score(slice_of(0))
    assert network.training


def test_weights_keep_their_gradients_and_the_process_its_random_state(convolutional):
    before = torch.get_rng_state()
    ReconstructionScorer(convolutional.train()).score(slice_of(0))
    assert torch.equal(torch.get_rng_state(), before)
    convolutional(slice_of(0)[keys.IMAGE][None]).sum().backward()
    assert convolutional.up.weight.grad is not None


def test_arrays_metatensors_and_other_number_types_score_alike():
    case = slice_of(0)
    scorer = ReconstructionScorer(MapEncoder())
    expected = scorer.score(case).scores
    image = case[keys.IMAGE]
    for same in (image.numpy(), MetaTensor(image), image.double(), image.clone().requires_grad_()):
        assert scorer.score({**case, keys.IMAGE: same}).scores == pytest.approx(expected, abs=1e-6)


def test_the_case_is_not_changed():
    case = slice_of(0)
    before = case[keys.IMAGE].clone()
    evidence = ReconstructionScorer(Dimmer()).score(case)
    assert torch.equal(case[keys.IMAGE], before)
    assert set(case) == {keys.CASE, keys.IMAGE}
    assert all(type(one) is np.ndarray for one in evidence.maps.values())


def test_a_network_without_parameters_and_a_device_are_taken():
    class Plain(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * 0.75

    expected = ReconstructionScorer(Dimmer(0.75)).score(slice_of(0)).scores
    assert ReconstructionScorer(Plain()).score(slice_of(0)).scores == expected
    assert ReconstructionScorer(Dimmer(0.75), device="cpu").score(slice_of(0)).scores == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", [None, "cuda"])
def test_scores_on_a_gpu_equal_those_on_the_cpu(convolutional, device):
    case = slice_of(0)
    expected = ReconstructionScorer(convolutional).score(case).scores
    network = convolutional.cuda() if device is None else convolutional
    found = ReconstructionScorer(network, device=device).score({**case, keys.IMAGE: case[keys.IMAGE].cuda()})
    assert found.scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (torch.zeros(1, 8, 8), "not the channels ct, mri"),
        (torch.zeros(8, 8), "shape"),
        (torch.full((2, 8, 8), float("nan")), "the image holds NaN"),
    ],
)
def test_bad_images_are_refused_by_the_name_of_the_case(image, problem):
    with pytest.raises(InputError, match=problem) as caught:
        ReconstructionScorer(Dimmer()).score({keys.CASE: "subject-9", keys.IMAGE: image})
    assert str(caught.value).startswith("subject-9: ")


def test_a_network_that_breaks_the_contract_is_refused():
    class Pair(Dimmer):
        def forward(self, image: torch.Tensor):
            return image, image

    class Crop(Dimmer):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image[..., :-1]

    class Unstable(Dimmer):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image / 0

    class Odd(Dimmer):
        def encode(self, image: torch.Tensor) -> torch.Tensor:
            return image[0]

    with pytest.raises(ValueError, match=r"one tensor of shape .* got tuple"):
        ReconstructionScorer(Pair()).score(slice_of(0))
    with pytest.raises(ValueError, match="one tensor of shape"):
        ReconstructionScorer(Crop()).score(slice_of(0))
    with pytest.raises(InputError, match="case-0: the network's prediction holds NaN"):
        ReconstructionScorer(Unstable()).score(slice_of(0))
    with pytest.raises(ValueError, match="encode must return one tensor"):
        ReconstructionScorer(Odd()).score(slice_of(0))


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="kind"):
        ReconstructionScorer(Dimmer(), kinds=("l3",))
    with pytest.raises(ValueError, match="latent_pool"):
        ReconstructionScorer(Dimmer(), latent_pool=0)


def latent_rows(cases: list[dict]) -> np.ndarray:
    images = np.stack([case[keys.IMAGE].numpy() for case in cases])
    return np.concatenate([images.mean(axis=(2, 3)), images.max(axis=(2, 3))], axis=1)


@pytest.mark.parametrize("detector", ["IForest", "OCSVM"])
def test_latent_score_is_the_detector_on_the_latents(detector):
    cases = [slice_of(seed) for seed in range(24)]
    scorer = LatentScorer(ReconstructionScorer(DenseEncoder()), OutlierDetector(detector), "iforest")
    assert isinstance(scorer, Scorer)
    assert scorer.fit(iter(cases)) is scorer
    truth = OutlierDetector(detector).fit(latent_rows(cases)).decision_function(latent_rows(cases))
    for case, expected in zip(cases[:4], truth, strict=False):
        evidence = scorer.score(case)
        assert list(evidence.scores) == ["iforest"]
        assert evidence.scores["iforest"] == pytest.approx(expected, abs=1e-3)
    assert list(scorer.detector.feature_names_in_) == ["latent_000", "latent_001", "latent_002", "latent_003"]


def test_latent_score_rises_for_a_strange_case():
    cases = [slice_of(seed) for seed in range(24)]
    scorer = LatentScorer(ReconstructionScorer(DenseEncoder()), OutlierDetector("OCSVM")).fit(cases)
    strange = slice_of(99)
    strange[keys.IMAGE] = strange[keys.IMAGE] * 0.5
    usual = max(scorer.score(case).scores["latent"] for case in cases)
    assert scorer.score(strange).scores["latent"] > usual


def test_latent_score_refuses_too_few_cases_and_networks_without_encode():
    for cases in ([], [slice_of(0)]):
        with pytest.raises(InputError, match=r"score latent: . normal cases"):
            LatentScorer(ReconstructionScorer(DenseEncoder()), OutlierDetector()).fit(cases)
    with pytest.raises(TypeError, match="no encode"):
        LatentScorer(ReconstructionScorer(Dimmer()), OutlierDetector()).fit([slice_of(0)])


def test_features_in_hand_are_judged_as_the_cases_one_by_one():
    cases = [slice_of(seed) for seed in range(8)]
    reconstruction = ReconstructionScorer(DenseEncoder())
    scorer = LatentScorer(reconstruction, OutlierDetector("OCSVM"), "ocsvm").fit(cases)
    rows = [reconstruction.score(case).features for case in cases]
    together = [evidence.scores["ocsvm"] for evidence in scorer.score_features(rows)]
    assert together == pytest.approx([scorer.score(case).scores["ocsvm"] for case in cases], abs=1e-9)


def test_the_error_of_the_whole_image_on_request(convolutional):
    case = slice_of(3)
    scorer = ReconstructionScorer(convolutional, kinds=("l1",), whole_image=True)
    scores = scorer.score(case).scores
    with torch.inference_mode():
        pred = convolutional.eval()(case["image"][None])[0]
    assert next(iter(scores)) == "mse"
    assert scores["mse"] == pytest.approx(float(((np.asarray(case["image"]) - pred.numpy()) ** 2).mean()), rel=1e-5)
    assert "mse" not in ReconstructionScorer(convolutional, kinds=("l1",)).score(case).scores
