"""What the report says in words and bars, against hand-computed values."""

from __future__ import annotations

import pytest

from monai_ctmri.report.views import (
    FILTERS,
    decision_view,
    detectors_view,
    headline_view,
    moment_text,
    set_view,
    strength_of,
)

DASH = "\N{EN DASH}"


def method(name: str, group: str, value: float | None, half: float | None = 0.05, **more) -> dict:
    known = value is not None and half is not None
    auroc = {"value": value, "low": value - half if known else None, "high": value + half if known else None}
    return {"name": name, "label": name.capitalize(), "group": group, "modality": "both", "auroc": auroc, **more}


def one_set(*methods: dict, **more) -> dict:
    return {
        "name": "Injected lesions",
        "n_normal": 30,
        "n_abnormal": 20,
        "subjects": 10,
        "methods": list(methods),
        **more,
    }


def headline(*methods: dict, named: str | None = None, results: dict | None = None) -> dict:
    view = headline_view(results or {}, [set_view(one_set(*methods), named)])
    assert view is not None
    return view


@pytest.mark.parametrize(
    ("auroc", "word"),
    [
        (0.0, "below chance"),
        (0.399, "below chance"),
        (0.4, "near chance"),
        (0.599, "near chance"),
        (0.6, "weak"),
        (0.7, "moderate"),
        (0.8, "good"),
        (0.899, "good"),
        (0.9, "strong"),
        (1.0, "strong"),
        (None, None),
        (float("nan"), None),
    ],
)
def test_strength_in_words(auroc: float | None, word: str | None) -> None:
    assert strength_of(auroc) == word


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("number", 0.12345, "0.123"),
        ("number", -0.5, "\N{MINUS SIGN}0.500"),
        ("number", None, DASH),
        ("number", float("nan"), DASH),
        ("number", float("inf"), DASH),
        ("number", "<b>", DASH),
        ("percent", 0.0534, "5.3\u00a0%"),
        ("percent", None, DASH),
        ("count", 1234567, "1\u202f234\u202f567"),
        ("count", 0, "0"),
        ("count", None, DASH),
        ("count", True, DASH),
        ("size", 64, "64 \N{MULTIPLICATION SIGN} 64"),
        ("size", [128, 96], "128 \N{MULTIPLICATION SIGN} 96"),
        ("size", None, DASH),
        ("size", [], DASH),
        ("duration", 1.04, "1.04 s"),
        ("duration", 742.3, "12 min 22 s"),
        ("duration", 7260, "2 h 1 min"),
        ("duration", None, DASH),
        ("bytes", 0, "0\N{NO-BREAK SPACE}B"),
        ("bytes", 999, "999\N{NO-BREAK SPACE}B"),
        ("bytes", 1000, "1\N{NO-BREAK SPACE}kB"),
        ("bytes", 2_590_000, "2.59\N{NO-BREAK SPACE}MB"),
        ("bytes", 7.2e9, "7.2\N{NO-BREAK SPACE}GB"),
        ("bytes", 3e15, "3e+03\N{NO-BREAK SPACE}TB"),
        ("bytes", None, DASH),
    ],
)
def test_filters(name: str, value: object, text: str) -> None:
    assert FILTERS[name](value) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2025-11-21T11:44:00+00:00", "21 November 2025, 11:44 UTC"),
        ("2025-11-21T11:44:00Z", "21 November 2025, 11:44 UTC"),
        ("2025-11-02T09:05:00", "2 November 2025, 09:05"),
        ("yesterday", "yesterday"),
        (None, DASH),
    ],
)
def test_moments(text: str | None, said: str) -> None:
    assert moment_text(text) == said


def test_methods_are_sorted_by_group_and_then_by_auroc() -> None:
    view = set_view(
        one_set(
            method("mean", "trivial baseline", 0.9),
            method("mirror", "network", 0.6),
            method("broken", "network", None),
            method("own", "of a user", 0.99),
            method("denoiser", "network", 0.8),
            method("autoencoder", "source notes", 0.7),
            method("ecod", "one-class", 0.5),
        ),
        None,
    )
    assert [row["name"] for row in view["rows"]] == [
        "denoiser", "mirror", "broken", "ecod", "mean", "autoencoder", "own",
    ]  # fmt: skip
    assert [slug for _, slug, _ in view["groups"]] == [
        "network", "one-class", "trivial-baseline", "source-notes", "of-a-user",
    ]  # fmt: skip
    assert [len(members) for _, _, members in view["groups"]] == [3, 1, 1, 1, 1]


def test_bars_share_a_scale_that_holds_every_interval() -> None:
    view = set_view(one_set(method("denoiser", "network", 0.8), method("mean", "trivial baseline", 0.28)), None)
    floor = 0.2  # the lowest end is 0.23
    dot = view["rows"][0]["auroc"]["dot"]
    left, width = view["rows"][0]["auroc"]["bar"]
    assert dot == pytest.approx(100 * (0.8 - floor) / (1 - floor), abs=0.01)
    assert left == pytest.approx(100 * (0.75 - floor) / (1 - floor), abs=0.01)
    assert width == pytest.approx(100 * 0.1 / (1 - floor), abs=0.02)
    assert view["chance"] == pytest.approx(100 * 0.3 / 0.8, abs=0.01)
    assert [tick for tick, _ in view["ticks"]] == [0.25, 0.5, 0.75, 1.0]
    assert view["ticks"][-1][1] == 100


def test_a_set_without_low_values_starts_at_two_fifths() -> None:
    view = set_view(one_set(method("denoiser", "network", 0.8)), None)
    assert [tick for tick, _ in view["ticks"]] == [0.5, 0.75, 1.0]
    assert view["chance"] == pytest.approx(100 / 6, abs=0.01)


def test_kinds_are_tinted_by_distance_from_chance_and_the_best_is_marked() -> None:
    view = set_view(
        one_set(
            method(
                "denoiser", "network", 0.8, by_kind={"wrong_pair": {"auroc": 1.0, "n": 12}, "infarct": {"auroc": 0.5}}
            ),
            method("mean", "trivial baseline", 0.5, by_kind={"wrong_pair": {"auroc": 0.25, "n": 12}, "infarct": None}),
        ),
        None,
    )
    assert view["kinds"] == ["wrong pair", "infarct"]
    assert view["kind_counts"] == [12, 0]
    (first, second), (third, fourth) = (row["kinds"] for row in view["rows"])
    assert (first["tint"], first["under"], first["best"]) == (0.34, False, True)
    assert (second["tint"], second["best"]) == (0.0, True)
    assert (third["tint"], third["under"], third["best"]) == (0.17, True, False)
    assert fourth["auroc"] is None
    assert not fourth["best"]


def test_the_method_of_the_decision_is_the_headline() -> None:
    view = headline(method("denoiser", "network", 0.9), method("mirror", "network", 0.7), named="mirror")
    assert view["row"]["name"] == "mirror"
    assert view["auroc"]["strength"] == "moderate"


def test_without_a_decision_the_first_network_listed_is_the_headline_not_the_best() -> None:
    view = headline(
        method("mean", "trivial baseline", 0.6), method("mirror", "network", 0.7), method("best", "network", 0.9)
    )
    assert view["row"]["name"] == "mirror"


def test_no_headline_without_methods() -> None:
    assert headline_view({}, []) is None
    assert headline_view({}, [set_view(one_set(), None)]) is None
    assert headline_view({}, [set_view(one_set(method("mean", "trivial baseline", 0.5)), None)]) is None


def test_the_headline_bar_runs_from_two_fifths_to_one() -> None:
    auroc = headline(method("denoiser", "network", 0.7))["auroc"]
    assert auroc["dot"] == pytest.approx(50)
    assert auroc["bar"] == (pytest.approx(41.67, abs=0.01), pytest.approx(16.67, abs=0.02))


def test_values_off_the_bar_stop_at_its_end() -> None:
    assert headline(method("denoiser", "network", 0.1))["auroc"]["dot"] == 0


def test_an_interval_that_holds_a_half_is_called_chance() -> None:
    remarks = " ".join(headline(method("denoiser", "network", 0.54))["remarks"])
    assert "cannot be told from chance" in remarks
    assert headline(method("denoiser", "network", 0.8))["remarks"] == []


def test_trivial_baselines_are_set_beside_the_headline() -> None:
    def remark(trivial: float) -> str:
        return headline(method("denoiser", "network", 0.8), method("mean", "trivial baseline", trivial))["remarks"][0]

    assert remark(0.6).endswith("reaches 0.600.")
    assert remark(0.72).endswith("reaches 0.720; the intervals overlap.")
    assert remark(0.8).endswith("reaches 0.800, which is no worse.")
    assert "The best trivial baseline (Mean on CT" in remark(0.6)


def test_the_best_trivial_baseline_is_the_one_named() -> None:
    view = headline(
        method("denoiser", "network", 0.8),
        method("mean", "trivial baseline", 0.55),
        method("atlas", "trivial baseline", 0.65),
        method("unknown", "trivial baseline", None),
    )
    assert "Atlas" in view["remarks"][0]


def test_the_best_single_modality_is_set_beside_a_pair() -> None:
    single = {**method("ct", "network", 0.75), "label": "Denoiser, CT only", "modality": "ct"}
    assert (
        "(Denoiser, CT only) reaches 0.750; the" in headline(method("denoiser", "network", 0.8), single)["remarks"][0]
    )
    alone = {**method("denoiser", "network", 0.8), "modality": "ct"}
    assert headline(alone, single, named="denoiser")["remarks"] == []


def test_the_trained_part_is_found_by_its_name() -> None:
    train = {"name": "train", "subjects": 12, "cases": 60, "abnormal": 0}
    view = headline(method("denoiser", "network", 0.8), results={"data": {"parts": [None, {"name": "test"}, train]}})
    assert view["trained"] == train
    assert headline(method("denoiser", "network", 0.8))["trained"] is None


def test_a_headline_without_a_value_says_nothing_of_others() -> None:
    view = headline(method("denoiser", "network", None), method("mean", "trivial baseline", 0.6))
    assert view["auroc"]["value"] is None
    assert view["auroc"]["strength"] is None
    assert view["remarks"] == []


def test_decision_takes_the_label_of_its_method() -> None:
    sets = [set_view(one_set(method("denoiser", "network", 0.8)), "denoiser")]
    decision = {
        "method": "denoiser",
        "alpha": 0.05,
        "threshold": 1.5,
        "false_alarms": {"value": 0.06, "low": 0.02, "high": 0.12, "k": 3, "n": 50},
        "confusion": {"tp": 1, "fp": 2, "tn": 3},
    }
    view = decision_view(decision, sets)
    assert view is not None
    assert view["label"] == "Denoiser"
    assert view["threshold"] == 1.5
    assert view["alpha_at"] == 5.0
    assert (view["false_alarms"]["k"], view["false_alarms"]["n"]) == (3, 50)
    assert view["false_alarms"]["bar"] == (2.0, 10.0)
    assert view["sensitivity"]["value"] is None
    assert view["confusion"] == {"tp": 1, "fp": 2, "tn": 3, "fn": None}
    unknown = decision_view({"method": "other"}, sets)
    assert unknown is not None
    assert unknown["label"] == "other"


@pytest.mark.parametrize("threshold", [None, float("inf")])
def test_an_infinite_threshold_is_none(threshold: float | None) -> None:
    view = decision_view({"threshold": threshold})
    assert view is not None
    assert view["threshold"] is None


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_decision_no_view(nothing: dict | None) -> None:
    assert decision_view(nothing) is None


def test_several_kinds_are_not_hidden_behind_one_number() -> None:
    kinds = {
        "wrong_pair": {"auroc": 0.99, "n": 9},
        "infarct": {"auroc": 0.56, "n": 9},
        "tumour": {"auroc": None, "n": 0},
    }
    (remark,) = headline(method("denoiser", "network", 0.7, by_kind=kinds))["remarks"]
    assert remark == "Best seen is wrong pair (0.99), least infarct (0.56)."
    assert headline(method("denoiser", "network", 0.7, by_kind={"infarct": {"auroc": 0.7, "n": 9}}))["remarks"] == []


def detectors(**more) -> dict:
    rate = {"value": 0.125, "low": 0.05, "high": 0.25, "k": 4, "n": 32}
    never = {"value": None, "low": None, "high": None, "k": None, "n": 32}
    cost = {"fit_seconds": 1.5, "score_milliseconds": 0.25, "peak_megabytes": None, "saved_megabytes": 2.0}
    auroc = {"value": 0.7, "low": 0.35, "high": 0.8, "reason": ""}
    row = {"name": "knn", "label": "Neighbours", "group": "one-class", "auroc": auroc, "macro_auroc_interval": auroc}
    asked = {"alpha": 0.05, "unit": "slices", "units": 24, "smallest_p_value": 0.04, "reached": True}
    return {
        "set": "Injected lesions",
        "n_normal": 32,
        "alphas": [{**asked, "alpha": 0.01, "reached": False}, asked],
        "rows": [{**row, "false_alarms": [never, rate], "cost": cost, "problem": ""}],
        **more,
    }


def test_detectors_keep_their_numbers() -> None:
    view = detectors_view(detectors())
    assert (view["set"], view["n_normal"], [one["reached"] for one in view["alphas"]]) == (
        "Injected lesions",
        32,
        [False, True],
    )
    (row,) = view["rows"]
    assert (row["label"], row["slug"], row["cost"]["fit_seconds"]) == ("Neighbours", "one-class", 1.5)
    never, rate = row["false_alarms"]
    assert never["value"] is None
    assert (rate["value"], rate["low"], rate["high"], rate["k"], rate["n"]) == (0.125, 0.05, 0.25, 4, 32)
    assert (row["auroc"]["value"], row["auroc"]["low"]) == (0.7, 0.35)


def test_a_row_that_knows_nothing_is_shown_with_its_reason() -> None:
    (row,) = detectors_view(detectors(rows=[{"name": "abod", "problem": "too few rows"}]))["rows"]
    assert (row["label"], row["problem"], row["cost"], row["false_alarms"]) == ("abod", "too few rows", {}, [])
    assert row["auroc"]["value"] is row["auroc"]["bar"] is None


@pytest.mark.parametrize("nothing", [None, {}, {"rows": []}])
def test_no_detectors_no_view(nothing: dict | None) -> None:
    assert detectors_view(nothing) is None
