"""Which cases a report shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monai_ctmri.report.examples import choose_examples, heatmap_scale, panel_case


@pytest.fixture(params=["phantom_benchmark", "few_subjects_benchmark"])
def finished(request):
    return request.getfixturevalue(request.param)


def test_median_and_highest_of_each_kind_then_of_the_normals(finished):
    """The rule once more, on the rows of the table."""
    expected = []
    kinds = sorted({row["kind"] for row in finished.rows} - {""})
    for kind in [*kinds, ""]:
        ranked = sorted(
            (row for row in finished.rows if row["kind"] == kind), key=lambda row: (float(row["score"]), row["case"])
        )
        for row in (ranked[len(ranked) // 2], ranked[-1]):
            if row["case"] not in expected:
                expected.append(row["case"])
    assert [case.case for case in choose_examples(finished.run)] == expected


def test_of_an_odd_number_the_one_in_the_middle_is_chosen(phantom_benchmark):
    base = phantom_benchmark.run.originals[0]
    cases = [replace(base, case=f"c{score}", scores={"l1_mean": float(score)}) for score in (5, 1, 4, 2, 3)]
    chosen = choose_examples(replace(phantom_benchmark.run, cases=cases))
    assert [case.case for case in chosen] == ["c3", "c5"]


def test_one_case_is_shown_once(phantom_benchmark):
    base = phantom_benchmark.run.originals[0]
    assert choose_examples(replace(phantom_benchmark.run, cases=[base])) == [base]


def test_unknown_labels_are_shown_only_where_nothing_is_known(phantom_benchmark):
    run = phantom_benchmark.run
    unknown = [replace(case, label=None) for case in run.originals]
    mixed = choose_examples(replace(run, cases=[run.originals[0], *unknown[1:]]))
    assert [case.case for case in mixed] == [run.originals[0].case]
    alone = choose_examples(replace(run, cases=unknown))
    assert len(alone) == 2
    assert {panel_case(case, run)["kind"] for case in alone} == {"label unknown"}


def test_the_scale_ends_where_one_normal_pixel_in_a_thousand_lies(finished):
    normal = [case.map.astype(np.float64).ravel() for case in finished.run.cases if case.label == 0]
    pixels = np.concatenate(normal)
    scale = heatmap_scale(finished.run.cases)
    assert np.mean(pixels > scale) <= 0.001 + 1 / pixels.size
    assert np.mean(pixels >= 0.999 * scale) >= 0.001 - 1 / pixels.size
    brighter = [replace(case, map=case.map * 2) if case.label == 1 else case for case in finished.run.cases]
    assert heatmap_scale(brighter) == scale


def test_without_normals_all_cases_scale_and_empty_maps_still_have_a_scale(phantom_benchmark):
    base = phantom_benchmark.run.cases[-1]
    ramp = replace(base, label=1, map=np.linspace(0, 1, 10_001).astype(np.float32).reshape(1, -1))
    assert heatmap_scale([ramp]) == pytest.approx(0.999)
    assert heatmap_scale([replace(base, map=np.zeros((4, 4)))]) > 0


def test_a_panel_shows_the_case_beside_what_the_network_expects(phantom_benchmark):
    run = phantom_benchmark.run
    twin = next(case for case in run.cases if case.kind == "wrong_pair")
    panel = panel_case(twin, run)
    assert (panel["title"], panel["kind"]) == (twin.twin_of, "wrong pair")
    assert (panel["score"], panel["p_value"]) == (twin.scores["l1_mean"], twin.p_value)
    assert list(panel["images"]) == list(panel["reconstructions"]) == ["CT", "MRI"]
    np.testing.assert_array_equal(panel["images"]["MRI"], twin.images["mri"].astype(np.float32))
    # the map is the mean of |image - expected| over the modalities, up to float16
    difference = np.mean(
        [np.abs(panel["images"][one] - panel["reconstructions"][one]) for one in ("CT", "MRI")], axis=0
    )
    np.testing.assert_allclose(panel["map"], difference, atol=2e-3)
    assert panel["mask"] is twin.mask
    assert panel_case(run.originals[0], run)["kind"] == "normal"
