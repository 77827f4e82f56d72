"""All methods applied to cases, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_ctmri.evaluation.cases import abnormal_cases, load_cases
from monai_ctmri.evaluation.judge import Judge
from monai_ctmri.evaluation.latent_detectors import score_name
from monai_ctmri.evaluation.methods import list_methods

BOTH = ("ct", "mri")


def silent(stage, done, total):
    pass


@pytest.fixture(scope="module")
def judged_cases(phantom_benchmark):
    run = phantom_benchmark.run
    test = load_cases(run.protocol.test, run.trained.preprocess, BOTH)
    return [*test, *abnormal_cases(test, BOTH, test, run.settings.seed)]


def test_a_case_alone_in_another_order_and_in_the_run_scores_the_same(phantom_benchmark, judged_cases):
    run = phantom_benchmark.run
    # the fusion compares with the calibration normals, which the judge does not know
    in_run = {case.case: {k: v for k, v in case.scores.items() if k != "fused"} for case in run.cases}
    assert list(in_run) == [case["case"] for case in judged_cases]
    backwards = {one.case: one.scores for one in run.judge.judge(judged_cases[::-1], "", silent)}
    for name, scores in backwards.items():
        assert scores == pytest.approx(in_run[name], rel=1e-9, abs=1e-9)  # sums of matrix products, in another order
    for case in judged_cases[::4]:
        (alone,) = run.judge.judge([case], "", silent)
        assert alone.scores == pytest.approx(in_run[case["case"]], rel=1e-9, abs=1e-9)


def test_every_method_has_a_finite_score(phantom_benchmark):
    for case in phantom_benchmark.run.cases:
        for method in list_methods(BOTH):
            assert np.isfinite(case.scores[method.name]), method.name


def test_a_case_without_its_pictures_keeps_its_numbers(phantom_benchmark):
    case = next(case for case in phantom_benchmark.run.cases if case.mask is not None)
    bare = case.without_pictures()
    assert (bare.map.size, bare.mask, bare.images) == (0, None, {})
    assert bare.as_row() == case.as_row()
    np.testing.assert_array_equal(bare.features, case.features)


def test_the_shortcut_for_detectors_equals_scoring_the_case(phantom_benchmark, judged_cases):
    """Detectors are handed the latent that the reconstruction has given already."""
    run = phantom_benchmark.run
    for case in judged_cases[:3]:
        (judged,) = run.judge.judge([case], "", silent)
        (features,) = run.judge.reconstruction.latent_features([case])
        assert len(run.judge.detectors) == 7
        for fitted in run.judge.detectors:
            (value,) = fitted.detector.decision_function(np.array([list(features.values())]))
            assert judged.scores[score_name(fitted.name)] == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_the_network_errors_are_what_their_formulas_say(phantom_benchmark, judged_cases):
    """Mean over the head of |x - pred| (and of its square) for CT, MRI and both."""
    from scipy import ndimage

    run = phantom_benchmark.run
    for case in judged_cases[:2]:
        image = np.asarray(case["image"], dtype=np.float64)
        with torch.inference_mode():
            pred = run.trained.network(torch.as_tensor(np.asarray(case["image"]))[None])[0].numpy().astype(np.float64)
        above = image.max(0) > 0.05
        parts, _ = ndimage.label(above)
        head = ndimage.binary_fill_holes(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))
        (judged,) = run.judge.judge([case], "", silent)
        difference = np.abs(image - pred)
        for name, channel in (("_ct", difference[0]), ("_mri", difference[1]), ("", difference.mean(0))):
            assert judged.scores[f"l1_mean{name}"] == pytest.approx(channel[head].mean(), rel=1e-3)
        assert judged.scores["l2_mean_ct"] == pytest.approx((difference[0] ** 2)[head].mean(), rel=1e-3)
        np.testing.assert_allclose(judged.map, difference.mean(0), atol=1e-3)


def test_what_a_judged_case_says_of_itself(phantom_benchmark, judged_cases):
    run = phantom_benchmark.run
    for case, judged in zip(judged_cases, run.cases, strict=True):
        assert (judged.case, judged.subject, judged.label) == (case["case"], case["subject"], case["label"])
        assert judged.kind == case.get("kind", "")
        assert judged.twin_of == case.get("twin_of", "")
        for index, name in enumerate(BOTH):
            np.testing.assert_allclose(judged.images[name], np.asarray(case["image"])[index], atol=1e-3)
        assert judged.area == int((np.asarray(case["image"]) > 0.05).any(axis=0).sum())
        assert judged.map.shape == (64, 64)
        if judged.twin_of:
            np.testing.assert_array_equal(judged.mask, np.asarray(case["mask"])[0] == 1)
            assert judged.details["kind"] == judged.kind
        else:
            assert judged.mask is None
            assert judged.details == {}
        assert set(judged.as_row()) == {"case", "subject", "label", "kind", "twin_of", "scores"}


def test_labels_of_the_manifest_name_a_kind_or_stay_unknown(phantom_benchmark, judged_cases):
    judge = phantom_benchmark.run.judge
    abnormal, unknown = judge.judge(
        [{**judged_cases[0], "label": 1}, {**judged_cases[0], "label": None}], "", lambda *step: None
    )
    assert (abnormal.label, abnormal.kind) == (1, "abnormal")
    assert (unknown.label, unknown.kind) == (None, "")
    assert abnormal.p_value == 1.0  # until calibrated


def test_progress_counts_every_case(phantom_benchmark, judged_cases):
    steps = []
    phantom_benchmark.run.judge.judge(judged_cases[:3], "Scoring", lambda *step: steps.append(step))
    assert steps == [("Scoring", 1, 3), ("Scoring", 2, 3), ("Scoring", 3, 3)]
    assert phantom_benchmark.run.judge.judge([], "Scoring", silent) == []


def test_reconstruction_by_modality(phantom_benchmark, judged_cases):
    run = phantom_benchmark.run
    image = torch.as_tensor(np.asarray(judged_cases[0]["image"]))
    found = run.judge.reconstruct({"mri": image[1].numpy(), "ct": image[0].numpy()})
    with torch.inference_mode():
        expected = run.trained.network(image[None])[0].numpy()
    np.testing.assert_allclose(found["ct"], expected[0], atol=1e-6)
    np.testing.assert_allclose(found["mri"], expected[1], atol=1e-6)


def test_judging_and_fitting_leave_the_random_state_and_the_network(phantom_benchmark, judged_cases):
    run = phantom_benchmark.run
    weights = {name: value.clone() for name, value in run.trained.network.state_dict().items()}
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    normal = [case for case in judged_cases if case["label"] == 0]
    one, two = (Judge(run.trained.network, BOTH, seed=5).fit(normal).judge(judged_cases[:2], "", silent) for _ in "12")
    assert [case.scores for case in one] == [case.scores for case in two]
    np.testing.assert_array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())
    assert all(torch.equal(value, weights[name]) for name, value in run.trained.network.state_dict().items())
