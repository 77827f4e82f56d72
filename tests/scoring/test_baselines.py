"""The trivial baselines against their formulas, written out a second time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.stats import kstest, zscore

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.baselines import (
    AtlasScorer,
    IntensityStatisticScorer,
    IntensityThresholdScorer,
    RandomScorer,
    trivial_baselines,
)
from monai_ctmri.scoring.scorer import Scorer

SIDE = 24
BOTH = ("ct", "mri")


def head(generator: np.random.Generator, channels: int = 2) -> np.ndarray:
    """A round head of noise around 0.4 on a background of 0."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    inside = rows**2 + columns**2 < (SIDE / 2 - 3) ** 2
    level = generator.normal(0.4, 0.03, size=(channels, 1, 1))
    return (np.clip(generator.normal(level, 0.08, size=(channels, SIDE, SIDE)), 0.06, 1.0) * inside).astype(np.float32)


def named(image: np.ndarray, name: str = "case") -> dict:
    return {keys.CASE: name, keys.IMAGE: image}


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    return [head(generator) for _ in range(30)]


@pytest.fixture(scope="module")
def cases(images: list[np.ndarray]) -> list[dict]:
    return [named(image, f"normal-{index}") for index, image in enumerate(images)]


@pytest.fixture(scope="module")
def lesion(images: list[np.ndarray]) -> dict:
    image = images[0].copy()
    image[0, 9:14, 9:14] = 0.95
    return named(image, "lesion")


STATISTICS = {
    "mean": lambda pixels: pixels.mean(),
    "spread": lambda pixels: pixels.std(),
    "percentile": lambda pixels: np.quantile(pixels, 0.95),
}


def statistic_of(name: str, image: np.ndarray) -> np.ndarray:
    return np.array([STATISTICS[name](channel[channel > 0.05].astype(np.float64)) for channel in image])


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_two_sided_is_the_absolute_z_score(name, images, cases, lesion):
    scorer = IntensityStatisticScorer(name).fit(iter(cases))
    table = np.array([statistic_of(name, image) for image in images])
    z = np.abs(statistic_of(name, lesion[keys.IMAGE]) - table.mean(axis=0)) / table.std(axis=0, ddof=1)
    scores = scorer.score(lesion).scores
    assert scores[f"{name}_ct"] == pytest.approx(z[0], rel=1e-9)
    assert scores[f"{name}_mri"] == pytest.approx(z[1], rel=1e-9)
    assert set(scores) == {name, f"{name}_ct", f"{name}_mri"}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistic_one_sided_is_the_raw_value(name, cases, lesion):
    scores = IntensityStatisticScorer(name, two_sided=False).fit(cases).score(lesion).scores
    raw = statistic_of(name, lesion[keys.IMAGE])
    assert [scores[f"raw_{name}_ct"], scores[f"raw_{name}_mri"]] == pytest.approx(raw.tolist(), rel=1e-9)


def test_two_sided_catches_dark_and_bright_alike(images, cases):
    scorer = IntensityStatisticScorer("mean").fit(cases)
    typical = np.median([scorer.score(case).scores["mean_ct"] for case in cases])
    for factor in (0.5, 1.5):
        assert scorer.score(named(images[3] * factor)).scores["mean_ct"] > 5 * typical


def test_a_statistic_constant_among_normals_stays_finite():
    flat = np.full((1, 8, 8), 0.5, dtype=np.float32)
    scorer = IntensityStatisticScorer("mean", modalities=("ct",)).fit([named(flat), named(flat)])
    assert scorer.score(named(flat)).scores["mean"] == 0.0
    # The floor of 0.001 is the unit then.
    assert scorer.score(named(flat + 0.1)).scores["mean"] == pytest.approx(100.0, rel=1e-4)


def fitted_with(baseline: str, cases: list[dict], modalities: tuple[str, ...] = BOTH) -> Scorer:
    by_name = {scorer.baseline: scorer for scorer in trivial_baselines(modalities)}
    return by_name[baseline].fit(iter(cases))


NAMES = ["mean", "spread", "percentile", "bright", "atlas"]


@pytest.mark.parametrize("name", NAMES)
def test_combined_is_the_mean_of_the_values_standardised_on_normals(name, cases, lesion):
    scorer = fitted_with(name, cases)
    rows = [scorer.score(case).scores for case in [*cases, lesion]]
    table = np.array([[row[f"{name}_ct"], row[f"{name}_mri"]] for row in rows])
    normals = table[:-1]
    expected = ((table - normals.mean(axis=0)) / normals.std(axis=0, ddof=1)).mean(axis=1)
    np.testing.assert_allclose([row[name] for row in rows], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(expected[:-1], zscore(normals, ddof=1).mean(axis=1), atol=1e-9)


@pytest.mark.parametrize("name", [*NAMES, "random"])
def test_one_modality_is_its_own_combination(name, images, lesion):
    alone = [named(image[1:], f"{index}") for index, image in enumerate(images)]
    scorer = fitted_with(name, alone, ("mri",))
    scores = scorer.score(named(lesion[keys.IMAGE][1:])).scores
    assert set(scores) == {name, f"{name}_mri"}
    assert scores[name] == scores[f"{name}_mri"]


@pytest.mark.parametrize("name", NAMES)
def test_a_modality_scores_alone_as_in_company(name, images, cases, lesion):
    together = fitted_with(name, cases).score(lesion).scores[f"{name}_ct"]
    alone = fitted_with(name, [named(image[:1]) for image in images], ("ct",))
    expected = alone.score(named(lesion[keys.IMAGE][:1])).scores[f"{name}_ct"]
    # The atlas looks at the union of the channels' heads; here both show the same disc.
    assert together == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [*NAMES, "random"])
def test_a_score_never_depends_on_the_cases_around_it(name, cases, lesion):
    scorer = fitted_with(name, cases)
    first = scorer.score(lesion).scores
    for case in cases[:3]:
        scorer.score(case)
    assert scorer.score(lesion).scores == first
    assert all(isinstance(value, float) and np.isfinite(value) for value in first.values())


@pytest.mark.parametrize("name", [*NAMES, "random"])
def test_tensors_and_metatensors_score_as_arrays(name, cases, lesion):
    scorer = fitted_with(name, cases)
    expected = scorer.score(lesion).scores
    for kind in (torch.as_tensor, MetaTensor):
        assert scorer.score({**lesion, keys.IMAGE: kind(lesion[keys.IMAGE])}).scores == expected


@pytest.mark.parametrize("name", ["spread", "percentile", "bright", "atlas"])
def test_a_bright_lesion_in_ct_stands_out_in_ct_only(name, cases, lesion):
    scorer = fitted_with(name, cases)
    rows = [scorer.score(case).scores for case in cases]
    found = scorer.score(lesion).scores
    assert found[f"{name}_ct"] > max(row[f"{name}_ct"] for row in rows)
    assert found[name] > max(row[name] for row in rows)
    # The lesion was put into normal case 0: its MRI is unchanged.
    assert found[f"{name}_mri"] == pytest.approx(rows[0][f"{name}_mri"])


def test_bright_is_the_share_above_the_pooled_quantile(images, cases, lesion):
    scorer = IntensityThresholdScorer(0.9).fit(iter(cases))
    for channel, name in enumerate(BOTH):
        pooled = np.concatenate([image[channel][image[channel] > 0.05] for image in images])
        assert scorer.threshold_[channel] == pytest.approx(np.quantile(pooled, 0.9), abs=1.5e-3)
        pixels = lesion[keys.IMAGE][channel]
        pixels = pixels[pixels > 0.05]
        expected = (pixels >= scorer.threshold_[channel]).mean()
        assert scorer.score(lesion).scores[f"bright_{name}"] == pytest.approx(expected, abs=1e-9)
    assert not scorer.ceiling_.any()


def test_bright_normals_exceed_the_quantile_at_the_promised_rate(cases):
    scorer = IntensityThresholdScorer(0.9).fit(cases)
    shares = [scorer.score(case).scores["bright_ct"] for case in cases]
    assert np.mean(shares) == pytest.approx(0.1, abs=0.01)


def test_bright_leaves_out_bone_where_the_quantile_is_saturated(images):
    with_skull = []
    for image in images:
        ct = image[:1].copy()
        ct[0, 3:5, 6:18] = 1.0  # 24 of some 250 pixels: the 99.5 % quantile is 1
        with_skull.append(ct)
    scorer = IntensityThresholdScorer(modalities=("ct",)).fit(named(image) for image in with_skull)
    assert scorer.ceiling_.tolist() == [True]
    assert scorer.threshold_[0] < 0.9
    bleeding = with_skull[0].copy()
    bleeding[0, 10:14, 10:14] = 0.9
    inside = bleeding[(bleeding > 0.05) & (bleeding < 0.999)]
    expected = (inside >= scorer.threshold_[0]).mean()
    assert scorer.score(named(bleeding)).scores["bright"] == pytest.approx(expected)
    assert expected > 5 * scorer.score(named(with_skull[0])).scores["bright"]
    # More bone alone is no more abnormal.
    bony = with_skull[0].copy()
    bony[0, 5, 8:16] = 1.0
    assert scorer.score(named(bony)).scores["bright"] < 0.05


def test_bright_of_a_head_that_is_all_bone_is_zero():
    bone = np.ones((1, 8, 8), dtype=np.float32)
    scorer = IntensityThresholdScorer(modalities=("ct",)).fit([named(bone), named(bone)])
    assert scorer.score(named(bone)).scores == {"bright_ct": 0.0, "bright": 0.0}


def test_atlas_map_and_score_follow_their_formula(images, cases, lesion):
    scorer = AtlasScorer(smallest_sd=0.02).fit(iter(cases))
    stack = np.stack(images).astype(np.float64)
    mean, sd = stack.mean(axis=0), np.maximum(stack.std(axis=0, ddof=1), 0.02)
    np.testing.assert_allclose(scorer.mean_, mean, atol=1e-9)
    np.testing.assert_allclose(scorer.sd_, sd, atol=1e-9)
    z = np.abs(lesion[keys.IMAGE] - mean) / sd
    evidence = scorer.score(lesion)
    assert set(evidence.maps) == {"atlas_z", "atlas_z_ct", "atlas_z_mri"}
    np.testing.assert_allclose(evidence.maps["atlas_z"], z.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(evidence.maps["atlas_z_ct"], z[0], rtol=1e-5)
    inside = (np.maximum(lesion[keys.IMAGE], mean) > 0.05).any(axis=0)
    count = max(1, round(0.01 * inside.sum()))
    for channel, name in enumerate(BOTH):
        expected = np.sort(z[channel][inside])[-count:].mean()
        assert evidence.scores[f"atlas_{name}"] == pytest.approx(expected, rel=1e-6)
    assert all(one.dtype == np.float32 and one.shape == (SIDE, SIDE) for one in evidence.maps.values())


def test_atlas_map_points_at_the_lesion(cases, lesion):
    peak = np.unravel_index(AtlasScorer().fit(cases).score(lesion).maps["atlas_z_ct"].argmax(), (SIDE, SIDE))
    assert all(9 <= place < 14 for place in peak)


def test_atlas_sees_a_hole_darker_than_the_head_level(images, cases):
    hole = images[0].copy()
    hole[:, 10:14, 10:14] = 0.0
    scorer = AtlasScorer().fit(cases)
    assert scorer.score(named(hole)).scores["atlas"] > scorer.score(cases[0]).scores["atlas"]


def test_atlas_floor_holds_where_normals_never_vary():
    flat = np.full((1, 8, 8), 0.5, dtype=np.float32)
    scorer = AtlasScorer(modalities=("ct",), smallest_sd=0.1).fit([named(flat), named(flat)])
    np.testing.assert_allclose(scorer.score(named(flat + 0.2)).maps["atlas_z"], 2.0, rtol=1e-5)


def test_atlas_keeps_an_even_draw_of_references(cases):
    full, few = AtlasScorer(references=1000).fit(cases), AtlasScorer(references=10).fit(cases)
    np.testing.assert_array_equal(full.mean_, few.mean_)
    assert full.score(cases[0]).scores["atlas_ct"] == few.score(cases[0]).scores["atlas_ct"]
    assert few.value_mean_ == pytest.approx(full.value_mean_, rel=0.2)
    assert few.value_mean_.tolist() == AtlasScorer(references=10).fit(cases).value_mean_.tolist()


def test_atlas_of_black_images_scores_zero():
    black = np.zeros((1, 8, 8), dtype=np.float32)
    scorer = AtlasScorer(modalities=("ct",)).fit([named(black), named(black)])
    assert scorer.score(named(black)).scores == {"atlas_ct": 0.0, "atlas": 0.0}


def test_random_is_uniform_and_follows_name_and_seed_only(images):
    rows = [RandomScorer(3).score(named(images[0], f"case-{index}")).scores for index in range(2000)]
    for name in BOTH:
        assert kstest([row[f"random_{name}"] for row in rows], "uniform").pvalue > 0.01
    ct, mri = (np.array([row[f"random_{name}"] for row in rows]) for name in BOTH)
    assert abs(np.corrcoef(ct, mri)[0, 1]) < 0.08
    np.testing.assert_allclose([row["random"] for row in rows], (ct + mri - 1.0) / 2 * np.sqrt(12), atol=1e-12)
    assert RandomScorer(3).score(named(images[1], "case-5")).scores == rows[5]
    assert RandomScorer(4).score(named(images[0], "case-5")).scores != rows[5]


def test_random_leaves_the_random_state_of_the_process_alone(cases):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - the state that must stay untouched
    RandomScorer().fit(cases).score(cases[0])
    AtlasScorer(references=2).fit(cases)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_random_needs_a_name(images):
    with pytest.raises(InputError, match="no entry 'case'"):
        RandomScorer().score({keys.IMAGE: images[0]})


def test_every_table_carries_six_baselines_with_names_of_their_own(cases):
    baselines = trivial_baselines(BOTH)
    assert all(isinstance(scorer, Scorer) for scorer in baselines)
    names = [name for scorer in baselines for name in scorer.fit(iter(cases)).score(cases[0]).scores]
    assert len(names) == len(set(names)) == 18
    assert {"mean", "spread", "percentile", "bright", "atlas", "random"} <= set(names)


@pytest.mark.parametrize("name", [*NAMES, "random"])
def test_fit_returns_the_scorer(name, cases):
    (scorer,) = [one for one in trivial_baselines(BOTH) if one.baseline == name]
    assert scorer.fit(cases) is scorer


@pytest.mark.parametrize("name", NAMES)
def test_too_few_normals_and_no_fit_are_refused(name, cases):
    (scorer,) = [one for one in trivial_baselines(BOTH) if one.baseline == name]
    with pytest.raises(RuntimeError, match="fit it on normal cases first"):
        scorer.score(cases[0])
    for few in ([], cases[:1]):
        with pytest.raises(InputError, match="at least 2 normal cases"):
            scorer.fit(few)


@pytest.mark.parametrize("name", NAMES)
def test_bad_images_are_refused_by_the_name_of_the_case(name, images, cases):
    scorer = fitted_with(name, cases)
    broken = images[0].copy()
    broken[0, 5, 5] = np.nan
    for image, problem in [(images[0][:1], "not the channels ct, mri"), (images[0][0], "shape"), (broken, "NaN")]:
        with pytest.raises(InputError, match=problem) as caught:
            scorer.score(named(image, "subject-9"))
        assert str(caught.value).startswith("subject-9: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mean", "spread", "percentile", "bright"])
def test_a_blank_channel_is_refused(name, images, cases):
    blank = images[0].copy()
    blank[1] = 0.0
    with pytest.raises(InputError, match=r"subject-9: mri has no pixel above 0.05"):
        fitted_with(name, cases).score(named(blank, "subject-9"))


def test_another_grid_is_refused_by_the_atlas(images, cases):
    scorer = AtlasScorer().fit(cases)
    with pytest.raises(InputError, match="one grid"):
        scorer.score(named(images[0][:, :-1]))
    with pytest.raises(InputError, match="one grid"):
        AtlasScorer().fit([cases[0], named(images[0][:, :-1])])


@pytest.mark.parametrize(
    "build",
    [
        lambda: IntensityStatisticScorer("median"),
        lambda: IntensityThresholdScorer(1.0),
        lambda: AtlasScorer(smallest_sd=0.0),
        lambda: AtlasScorer(top_fraction=0.0),
        lambda: AtlasScorer(references=1),
    ],
)
def test_arguments_out_of_range_are_refused(build):
    with pytest.raises(InputError):
        build()


def test_real_pairs_get_finite_scores_in_every_baseline(real_data):
    from PIL import Image

    folder = real_data / "pairs"
    stems = sorted(path.name for path in (folder / "ct").glob("*.png"))[:8]
    loaded = []
    for stem in stems:
        planes = [np.asarray(Image.open(folder / part / stem).convert("L"), dtype=np.float32) / 255 for part in BOTH]
        loaded.append(named(np.stack(planes), stem))
    for scorer in trivial_baselines(BOTH):
        scores = scorer.fit(loaded[:6]).score(loaded[7]).scores
        assert np.isfinite(list(scores.values())).all()
    # On these slices bone fills the top of the CT scale; the baseline must not be dead for it.
    bright = IntensityThresholdScorer().fit(loaded[:6])
    assert bright.ceiling_.tolist() == [True, False]
    assert max(bright.score(case).scores["bright_ct"] for case in loaded[:6]) > 0
