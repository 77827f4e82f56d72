"""The method table against metrics of hand-picked rows; the controls against what chance must give."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.comparison import (
    HEAD_AREA_LIMIT,
    UNNAMED_KIND,
    clean_against_clean,
    compare_methods,
    head_area,
    head_area_auroc,
    label_shuffle,
    negative_controls,
)
from monai_ctmri.evaluation.metrics import auroc
from monai_ctmri.evaluation.statistics import cluster_bootstrap

KINDS = ("blood", "infarct")


def row(case: str, subject: str, label: int, kind: str = "", twin_of: str = "", **scores: Any) -> dict[str, Any]:
    return {"case": case, "subject": subject, "label": label, "kind": kind, "twin_of": twin_of, "scores": scores}


def cohort(n_subjects: int = 20, slices: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    """Clean slices, each with a twin of either kind: `good` sees blood well and infarcts a little, `noise` nothing."""
    generator = np.random.default_rng(seed)
    rows = []
    for subject in range(n_subjects):
        shift = generator.normal()
        for number in range(slices):
            clean, name = shift + 0.3 * generator.normal(), f"s{subject}-{number}"
            rows.append(row(name, f"s{subject}", 0, good=clean, noise=generator.normal(), flipped=-clean))
            for kind, gain in zip(KINDS, (2.0, 0.2), strict=True):
                score = clean + gain
                noise = generator.normal()
                rows.append(
                    row(f"{name}-{kind}", f"s{subject}", 1, kind, name, good=score, noise=noise, flipped=-score)
                )
    return rows


def strict_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def test_the_table_by_hand() -> None:
    rows = [
        row("a", "1", 0, m=1.0),
        row("b", "2", 0, m=2.0),
        row("a-blood", "1", 1, "blood", "a", m=3.0),
        row("b-blood", "2", 1, "blood", "b", m=2.0),
        row("a-infarct", "1", 1, "infarct", "a", m=0.5),
    ]
    (entry,) = compare_methods(rows, ["m"], repeats=50)
    # blood: 3>1 3>2 2>1 2=2; infarct: below both
    assert entry["by_kind"] == {"blood": {"auroc": 3.5 / 4, "n": 2}, "infarct": {"auroc": 0.0, "n": 1}}
    assert entry["macro_auroc"] == pytest.approx((3.5 / 4 + 0) / 2)
    assert entry["auroc"]["value"] == pytest.approx(3.5 / 6)
    assert entry["auroc"]["n_subjects"] == 2
    # wins over the twin: 3>1, 2=2, .5<1
    assert entry["paired_win_rate"] == pytest.approx(1.5 / 3)
    assert entry["n_pairs"] == 3
    assert entry["average_precision"]["prevalence"] == 0.6
    assert entry["average_precision"]["value"] == pytest.approx(
        average_precision_score([0, 0, 1, 1, 1], [1, 2, 3, 2, 0.5])
    )
    # no false alarm is allowed among two normals: only the score of 3 is above them
    assert entry["sensitivity_at_95_specificity"] == pytest.approx(1 / 3)
    assert (entry["name"], entry["n_normal"], entry["n_abnormal"], entry["n_subjects"]) == ("m", 2, 3, 2)
    assert entry["reasons"] == {}


def test_the_table_of_a_cohort_agrees_with_scikit_learn() -> None:
    rows = cohort()
    good, noise, flipped = compare_methods(rows, ["good", "noise", "flipped"], repeats=300)
    assert [entry["name"] for entry in (good, noise, flipped)] == ["good", "noise", "flipped"]
    labels = [r["label"] for r in rows]
    for entry in (good, noise, flipped):
        scores = [r["scores"][entry["name"]] for r in rows]
        assert entry["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
        assert entry["average_precision"]["value"] == pytest.approx(average_precision_score(labels, scores))
        assert entry["average_precision"]["prevalence"] == pytest.approx(2 / 3)
        for kind in KINDS:
            chosen = [number for number, r in enumerate(rows) if r["kind"] in ("", kind)]
            expected = roc_auc_score([labels[i] for i in chosen], [scores[i] for i in chosen])
            assert entry["by_kind"][kind] == {"auroc": pytest.approx(expected), "n": 60}
        assert entry["macro_auroc"] == pytest.approx(np.mean([cell["auroc"] for cell in entry["by_kind"].values()]))
        for interval in (entry["auroc"], entry["macro_auroc_interval"]):
            assert interval["low"] < interval["value"] < interval["high"]
            assert interval["n_subjects"] == 20
    assert good["paired_win_rate"] == 1.0
    assert flipped["paired_win_rate"] == 0.0
    assert good["auroc"]["value"] == pytest.approx(1 - flipped["auroc"]["value"])
    assert noise["auroc"]["low"] < 0.5 < noise["auroc"]["high"]


def test_macro_weighs_kinds_alike_however_many_cases_they_have() -> None:
    rows = [r for r in cohort() if r["kind"] != "infarct" or r["case"].startswith("s1-")]
    (entry,) = compare_methods(rows, ["good"], repeats=50)
    cells = entry["by_kind"]
    assert (cells["blood"]["n"], cells["infarct"]["n"]) == (60, 3)
    assert entry["macro_auroc"] == pytest.approx((cells["blood"]["auroc"] + cells["infarct"]["auroc"]) / 2)
    assert entry["macro_auroc"] != pytest.approx(entry["auroc"]["value"], abs=0.05)


def test_the_interval_is_that_of_the_bootstrap_over_subjects() -> None:
    rows = cohort(9)
    (entry,) = compare_methods(rows, ["good"], seed=2, repeats=200)
    columns = [[r[name] for r in rows] for name in ("subject", "label")]
    scores = [r["scores"]["good"] for r in rows]
    slow = cluster_bootstrap(auroc, *columns, scores, repeats=200, seed=2)
    assert entry["auroc"] == pytest.approx(slow.as_dict(), abs=1e-12)


def test_an_injection_without_contrast_is_at_chance_everywhere() -> None:
    rows = []
    for r in cohort(12):
        clean = r["twin_of"] or r["case"]
        score = float(np.random.default_rng(list(clean.encode())).normal())
        rows.append({**r, "scores": {"good": score}})
    (entry,) = compare_methods(rows, ["good"], repeats=100)
    assert entry["paired_win_rate"] == 0.5
    assert entry["macro_auroc"] == entry["auroc"]["value"] == 0.5
    assert all(cell["auroc"] == 0.5 for cell in entry["by_kind"].values())


def test_the_same_seed_gives_the_same_table_whatever_the_company() -> None:
    rows = cohort(8)
    both = compare_methods(rows, ["noise", "good"], seed=3, repeats=100)
    assert compare_methods(rows, ["good"], seed=3, repeats=100) == both[1:]
    assert compare_methods(rows[::-1], ["good"], seed=3, repeats=100) == both[1:]
    assert compare_methods(rows, ["good"], seed=4, repeats=100) != both[1:]
    assert compare_methods(rows, []) == []


def test_numpy_labels_and_scores_come_out_as_plain_json() -> None:
    rows = [
        {**r, "label": np.int64(r["label"]), "scores": {k: np.float32(v) for k, v in r["scores"].items()}}
        for r in cohort(6)
    ]
    table = compare_methods(rows, ["good", "missing"], repeats=50)
    assert strict_json(table) == table
    controls = negative_controls(
        rows, ["good", "missing"], {r["case"]: np.int64(9) for r in rows}, draws=10, repeats=20
    )
    assert strict_json(controls) == controls


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_method_without_a_score_for_every_case_is_not_compared_on_fewer(score: float | None) -> None:
    rows = cohort(6)
    rows[4]["scores"]["good"] = score
    good, noise = compare_methods(rows, ["good", "noise"], repeats=50)
    reason = f"no finite score for 1 of {len(rows)} cases, the first being {rows[4]['case']}"
    assert good["auroc"]["value"] is None
    assert good["auroc"]["reason"] == reason
    assert good["macro_auroc_interval"]["reason"] == reason
    assert good["average_precision"] == {"value": None, "prevalence": pytest.approx(2 / 3), "reason": reason}
    assert good["by_kind"]["blood"] == {"auroc": None, "n": 18, "reason": reason}
    for field in ("macro_auroc", "sensitivity_at_95_specificity", "paired_win_rate"):
        assert good[field] is None
        assert good["reasons"][field] == reason
    assert noise["auroc"]["value"] is not None
    assert good.keys() == noise.keys()
    strict_json([good, noise])


@pytest.mark.parametrize(("label", "word"), [(0, "normal"), (1, "abnormal")])
def test_one_class_gives_reasons_and_no_numbers(label: int, word: str) -> None:
    rows = [{**r, "twin_of": ""} for r in cohort(4) if r["label"] == label]
    (entry,) = compare_methods(rows, ["good"], repeats=50)
    assert entry["auroc"]["value"] is None
    assert f"every case is {word}" in entry["auroc"]["reason"]
    assert set(entry["reasons"]) == {"macro_auroc", "sensitivity_at_95_specificity", "paired_win_rate"}
    assert all(cell["auroc"] is None for cell in entry["by_kind"].values())
    strict_json(entry)


def test_real_lesions_have_no_twin_and_perhaps_no_kind() -> None:
    rows = [{**r, "twin_of": "", "kind": ""} for r in cohort(6)]
    (entry,) = compare_methods(rows, ["good"], repeats=50)
    assert entry["paired_win_rate"] is None
    assert "no abnormal case names" in entry["reasons"]["paired_win_rate"]
    assert entry["n_pairs"] == 0
    assert list(entry["by_kind"]) == [UNNAMED_KIND]
    assert entry["macro_auroc"] == pytest.approx(entry["auroc"]["value"])


def test_one_subject_has_numbers_and_no_interval() -> None:
    (entry,) = compare_methods(cohort(1, slices=4), ["good"], repeats=50)
    assert entry["auroc"]["value"] is not None
    assert entry["auroc"]["low"] is None
    assert "one subject" in entry["auroc"]["reason"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "label is 2"),
        ({"label": "1"}, "label is '1'"),
        ({"label": None}, "label is None"),
        ({"subject": ""}, "no subject"),
        ({"label": 0}, "is normal and of kind blood"),
        ({"twin_of": "nowhere"}, "twin of nowhere"),
        ({"twin_of": "s0-0-infarct"}, "twin of s0-0-infarct"),
        ({"case": "s0-0"}, "listed twice"),
    ],
)
def test_a_bad_row_is_named_in_one_line(change: dict[str, Any], message: str) -> None:
    rows = cohort(3)
    assert rows[1]["case"] == "s0-0-blood"
    rows[1] = {**rows[1], **change}
    for function in (compare_methods, negative_controls):
        with pytest.raises(InputError, match=message) as caught:
            function(rows, ["good"])
        assert str(caught.value).startswith("s0-0")
        assert "\n" not in str(caught.value)


def test_missing_fields_and_rows_are_named() -> None:
    with pytest.raises(InputError, match="no rows"):
        compare_methods([], ["good"])
    with pytest.raises(InputError, match="x: lacks subject, twin_of"):
        compare_methods([{"case": "x", "label": 0, "kind": "", "scores": {}}], ["good"])
    with pytest.raises(InputError, match="row 0: lacks case"):
        compare_methods([{"label": 0}], ["good"])


@pytest.mark.parametrize("n_subjects", [2, 7, 30])
def test_clean_against_clean_is_at_chance_and_widens_with_fewer_subjects(n_subjects: int) -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(n_subjects), 4)
    scores = generator.normal(size=n_subjects)[subjects] + 0.1 * generator.normal(size=subjects.size)
    band = clean_against_clean(scores, list(subjects), draws=400)
    assert band["draws"] == 400
    assert band["low"] <= 0.5 <= band["high"]
    # the mean of so many draws of this spread
    assert abs(band["mean"] - 0.5) < 4 * (band["high"] - band["low"]) / 2 / np.sqrt(400) + 0.01
    assert (band["high"] - band["low"] > 0.5) == (n_subjects < 30)


def test_clean_against_clean_keeps_a_subject_on_one_side() -> None:
    # two subjects far apart: every split is all or nothing
    band = clean_against_clean([0, 0, 0, 9, 9, 9], ["a", "a", "a", "b", "b", "b"], draws=100)
    assert (band["low"], band["high"]) == (0.0, 1.0)
    assert 0.35 < band["mean"] < 0.65


def test_clean_against_clean_refuses_one_subject() -> None:
    with pytest.raises(ValueError, match="at least two"):
        clean_against_clean([1, 2, 3], ["a"] * 3)


@pytest.mark.parametrize("mixed", [True, False])
def test_a_perfect_score_falls_to_chance_when_labels_are_shuffled(mixed: bool) -> None:
    subjects = np.repeat(np.arange(30), 4)
    labels = np.arange(120) % 2 if mixed else subjects % 2
    band = label_shuffle(labels, labels + 0.0, list(subjects), draws=400)
    assert band["mean"] == pytest.approx(0.5, abs=0.03)
    assert band["low"] < 0.5 < band["high"] < 0.9


def test_shuffling_by_subject_has_the_width_of_the_permutation_of_subjects() -> None:
    # subjects of one class and one score each: the AUROC of 6 subjects has the exact Mann-Whitney distribution
    subjects = np.repeat(np.arange(6), 5)
    band = label_shuffle(subjects % 2, subjects * 1.0, list(subjects), draws=3000)
    # 20 ways to choose 3 of 6; the extremes 0 and 1 have probability 1/20 each, more than the tail of 2.5 %
    assert (band["low"], band["high"]) == (0.0, 1.0)
    slices = label_shuffle(subjects % 2, subjects * 1.0, list(range(30)), draws=500)
    assert slices["high"] - slices["low"] < 0.5


def test_subjects_of_unequal_size_stay_near_chance() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 9, 40)
    subjects = np.repeat(np.arange(40), sizes)
    labels = (subjects % 3 == 0).astype(int)
    scores = labels * 3 + generator.normal(size=40)[subjects]
    assert label_shuffle(labels, scores, list(subjects), draws=400)["mean"] == pytest.approx(0.5, abs=0.03)


def test_label_shuffle_gives_up_in_words() -> None:
    with pytest.raises(ValueError, match="both normal and abnormal"):
        label_shuffle([0, 0], [1, 2], ["a", "b"])
    with pytest.raises(ValueError, match="3 subjects"):
        label_shuffle([0, 1], [1, 2], ["a", "b", "c"])
    # the one abnormal slice of a long subject hardly ever fits elsewhere
    for length, singles in ((2, 5), (2000, 400)):
        labels = [1] + [0] * (length - 1 + singles)
        subjects = ["long"] * length + [f"s{number}" for number in range(singles)]
        if length == 2:
            assert label_shuffle(labels, np.arange(len(labels)), subjects, draws=20)["draws"] == 20
        else:
            with pytest.raises(ValueError, match="no draw holds both classes"):
                label_shuffle(labels, np.arange(len(labels)), subjects, draws=1)


def test_head_area_counts_pixels_of_either_modality() -> None:
    image = np.zeros((2, 4, 4))
    image[0, :2] = 0.5
    image[1, 1:3] = 0.06
    image[1, 3] = 0.05
    assert head_area(image) == 12
    assert head_area(image[0]) == 8
    assert head_area(image, threshold=0.1) == 8
    with pytest.raises(ValueError, match="shape"):
        head_area(np.zeros(4))


def test_head_area_passes_when_equal_and_fails_in_either_direction() -> None:
    subjects = [f"s{number}" for number in range(20)] * 2
    labels, areas = np.repeat([0, 1], 20), np.tile(np.arange(1000, 1200, 10), 2)
    equal = head_area_auroc(labels, areas, subjects, repeats=100)
    assert equal["value"] == 0.5
    assert equal["passes"] is True
    assert equal["limit"] == HEAD_AREA_LIMIT == 0.6
    for change in (60, -60):
        gone = head_area_auroc(labels, areas + change * labels, subjects, repeats=100)
        assert gone["passes"] is False
        assert (gone["value"] > 0.6) == (change > 0)


def test_negative_controls_of_a_cohort() -> None:
    rows = cohort()
    areas = {r["case"]: 1000 + 10 * int(r["subject"][1:]) for r in rows}
    controls = negative_controls(rows, ["good", "noise", "absent"], areas, draws=100, repeats=100)
    for name in ("good", "noise"):
        for control in ("clean_against_clean", "label_shuffle"):
            band = controls["methods"][name][control]
            assert band["mean"] == pytest.approx(0.5, abs=0.06)
            assert band["draws"] == 100
    absent = controls["methods"]["absent"]["label_shuffle"]
    assert absent["mean"] is None
    assert "no finite score" in absent["reason"]
    assert controls["head_area"]["value"] == 0.5
    assert controls["head_area"]["passes"] is True
    strict_json(controls)


def test_head_area_compares_altered_twins_only() -> None:
    rows = cohort(10)
    areas = {r["case"]: 1000 + 10 * int(r["subject"][1:]) for r in rows}
    rows.append(row("tumour", "t", 1, "tumour", good=1.0))
    # the real lesion has no clean copy: its area tells nothing about the injection, and is not asked for
    assert negative_controls(rows, [], areas, repeats=50)["head_area"]["value"] == 0.5
    for r in rows[:-1]:
        areas[r["case"]] += 300 * r["label"]
    grown = negative_controls(rows, [], areas, repeats=50)["head_area"]
    assert grown["value"] == 1.0
    assert grown["passes"] is False


def test_controls_that_cannot_run_say_why() -> None:
    rows = cohort(3)
    assert "no areas" in negative_controls(rows, [])["head_area"]["reason"]
    assert "no area for 26 of 27 cases" in negative_controls(rows, [], {rows[0]["case"]: 1.0})["head_area"]["reason"]
    lone = [{**r, "twin_of": ""} for r in rows]
    result = negative_controls(lone, [], {r["case"]: 1.0 for r in rows})["head_area"]
    assert result["value"] is None
    assert "names the clean case" in result["reason"]
    normals = [r for r in rows if r["label"] == 0]
    controls = negative_controls(normals, ["good"], draws=20)["methods"]["good"]
    assert controls["clean_against_clean"]["mean"] is not None
    assert "both normal and abnormal" in controls["label_shuffle"]["reason"]
    abnormal = [r for r in lone if r["label"] == 1]
    assert "at least two" in negative_controls(abnormal, ["good"])["methods"]["good"]["clean_against_clean"]["reason"]
