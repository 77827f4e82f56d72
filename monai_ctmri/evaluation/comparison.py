"""Many methods on one test set: the method table, and the controls that must come out at chance.

Both take the same rows, one a case, each a mapping with

* ``case``: its name, unique;
* ``subject``: the unit of every interval and shuffle;
* ``label``: 0 normal, 1 abnormal;
* ``kind``: the anomaly type, ``""`` for normals;
* ``twin_of``: the ``case`` this one is the altered copy of, or ``""``;
* ``scores``: method name to score, higher more abnormal.

What cannot be computed is None with a reason beside it, never NaN, so that every result is plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.metrics import auroc, average_precision, paired_win_rate, sensitivity_at_specificity
from monai_ctmri.evaluation.statistics import Interval, bootstrap_auroc, bootstrap_macro_auroc

__all__ = [
    "HEAD_AREA_LIMIT",
    "UNNAMED_KIND",
    "clean_against_clean",
    "compare_methods",
    "head_area",
    "head_area_auroc",
    "label_shuffle",
    "negative_controls",
]

UNNAMED_KIND = "unnamed"
"""Kind of the abnormal rows that name none."""

HEAD_AREA_LIMIT = 0.6
"""The head area alone must separate abnormal from normal less than this."""

_FIELDS = ("case", "subject", "label", "kind", "twin_of", "scores")
_PATIENCE = 20  # tries a shuffle, before one-sided shuffles are given up
_NO_PAIR = "no abnormal case names the clean case it was made from"


def compare_methods(
    rows: Sequence[Mapping[str, Any]], methods: Sequence[str], seed: int = 0, repeats: int = 2000
) -> list[dict[str, Any]]:
    """Score every method on the same cases with the same resamples.

    The normal set is every row with label 0; a kind is its abnormal rows against all of them.

    Args:
        rows: as in the module's text.
        methods: names to report, in this order.
        seed: of the resamples; the same for every method, so that methods do not differ by their draws.
        repeats: resamples an interval.

    Returns:
        One dictionary a method: ``name``, ``n_normal``, ``n_abnormal``, ``n_subjects``; ``auroc`` (the fields of
        :class:`~monai_ctmri.evaluation.statistics.Interval`); ``average_precision`` (``value`` and ``prevalence``);
        ``sensitivity_at_95_specificity``; ``paired_win_rate`` and ``n_pairs``; ``by_kind`` (kind to ``auroc`` and
        ``n``); ``macro_auroc``, the mean over kinds, and ``macro_auroc_interval``; ``reasons``, from the name of a
        field that is None to why (dictionaries hold a ``reason`` of their own). A method that lacks a finite score for
        any case is None throughout: on fewer cases it would not compare.

    Raises:
        InputError: no row, a field missing, a case twice, a label that is not 0 or 1, a normal with a kind, a twin that
            is unknown or not normal.
    """
    table = _Table.of(rows)
    return [_method_entry(table, name, seed, repeats) for name in methods]


def negative_controls(
    rows: Sequence[Mapping[str, Any]],
    methods: Sequence[str],
    areas: Mapping[str, float] | None = None,
    draws: int = 200,
    seed: int = 0,
    repeats: int = 2000,
) -> dict[str, Any]:
    """Run the controls that must come out at chance.

    Args:
        rows: as in the module's text.
        methods: names to control.
        areas: head area a case, as from :func:`head_area`; None leaves that control out.
        draws: random halves and shuffles a method.
        seed: of the draws.
        repeats: resamples of the interval of the head area.

    Returns:
        ``methods``: name to ``clean_against_clean`` and ``label_shuffle`` (results of the functions of these names);
        ``head_area``: result of :func:`head_area_auroc` for the altered twins against all normals, with ``value`` None
        and a ``reason`` where areas or twins are missing.

    Raises:
        InputError: as :func:`compare_methods`.
    """
    table = _Table.of(rows)
    controls: dict[str, Any] = {}
    for name in methods:
        scores, reason = table.scores_of(name)
        if scores is None:
            controls[name] = {"clean_against_clean": _no_band(reason), "label_shuffle": _no_band(reason)}
            continue
        normal = ~table.abnormal
        controls[name] = {
            "clean_against_clean": _or_reason(clean_against_clean, scores[normal], table.subjects[normal], draws, seed),
            "label_shuffle": _or_reason(label_shuffle, table.abnormal, scores, table.subjects, draws, seed),
        }
    return {"methods": controls, "head_area": _head_area_control(table, areas, seed, repeats)}


def clean_against_clean(scores: ArrayLike, subjects: Sequence[Any], draws: int = 200, seed: int = 0) -> dict[str, Any]:
    """AUROC of one random half of the normal subjects against the other half.

    The mean must be .5 whatever the score; the band shows how far chance alone moves an AUROC with so few subjects.

    Args:
        scores: ``[N]``, of normal cases.
        subjects: ``[N]``.
        draws: number of random halves.
        seed: of a local generator.

    Returns:
        ``mean``, ``low`` and ``high`` (the middle 95 % of the draws), ``draws``.

    Raises:
        ValueError: fewer than two subjects, a score that is not finite, lengths that differ.
    """
    names, codes = np.unique(np.asarray([str(subject) for subject in subjects]), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"{len(names)} normal subject(s) cannot be halved; at least two are needed")
    generator = np.random.default_rng(seed)
    values = []
    for number in range(draws):
        # with an odd number of subjects, each side gets the larger half in turn
        size = (len(names) + number % 2) // 2
        half = generator.permutation(len(names))[:size]
        values.append(auroc(np.isin(codes, half), scores))
    return _band(values)


def label_shuffle(
    labels: ArrayLike, scores: ArrayLike, subjects: Sequence[Any], draws: int = 200, seed: int = 0
) -> dict[str, Any]:
    """AUROC after every subject received the labels of another one.

    A subject's labels move together (in random order, repeated or cut to the number of slices), so the band is as wide
    as slices that depend on each other make it. Shuffles that leave one class only are drawn again, up to a limit.

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.
        subjects: ``[N]``.
        draws: number of shuffles.
        seed: of a local generator.

    Returns:
        ``mean``, ``low`` and ``high`` (the middle 95 % of the draws), ``draws`` (those that held both classes).

    Raises:
        ValueError: as :func:`monai_ctmri.evaluation.metrics.auroc`, no shuffle with both classes, or lengths that
            differ.
    """
    auroc(labels, scores)  # the same complaints about the same input
    truth = np.asarray(labels).ravel().astype(bool)
    names, codes = np.unique(np.asarray([str(subject) for subject in subjects]), return_inverse=True)
    if len(codes) != truth.size:
        raise ValueError(f"{truth.size} labels and {len(codes)} subjects; give one of each a case")
    places = [np.flatnonzero(codes == code) for code in range(len(names))]
    generator = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(_PATIENCE * draws):
        shuffled = np.empty_like(truth)
        for place, giver in zip(places, generator.permutation(len(names)), strict=True):
            shuffled[place] = np.resize(generator.permutation(truth[places[giver]]), len(place))
        if shuffled.any() and not shuffled.all():
            values.append(auroc(shuffled, scores))
        if len(values) == draws:
            break
    return _band(values)


def head_area(image: ArrayLike, threshold: float = 0.05) -> int:
    """Number of pixels of the head: above ``threshold`` in any channel.

    Args:
        image: ``[H, W]`` or ``[C, H, W]`` in [0, 1], background 0.
        threshold: exclusive.

    Returns:
        A count of pixels.

    Raises:
        ValueError: any other number of dimensions.
    """
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3):
        raise ValueError(f"image has shape {pixels.shape}; give [H, W] or [C, H, W]")
    above = pixels > threshold
    return int(np.sum(above.any(axis=0) if pixels.ndim == 3 else above))


def head_area_auroc(
    labels: ArrayLike, areas: ArrayLike, subjects: Sequence[Any], seed: int = 0, repeats: int = 2000
) -> dict[str, Any]:
    """How well the head area alone separates altered from normal cases: a shortcut the injection must not leave.

    Args:
        labels: ``[N]``, 1 for altered cases.
        areas: ``[N]``, pixels, as from :func:`head_area`.
        subjects: ``[N]``.
        seed: as :func:`~monai_ctmri.evaluation.statistics.cluster_bootstrap`.
        repeats: as :func:`~monai_ctmri.evaluation.statistics.cluster_bootstrap`.

    Returns:
        The fields of the interval, ``limit`` and ``passes``: whether the AUROC is under the limit in both directions:
        a head that shrinks gives an anomaly away as well as one that grows.

    Raises:
        ValueError: as :func:`~monai_ctmri.evaluation.statistics.bootstrap_auroc`.
    """
    interval = bootstrap_auroc(labels, areas, subjects, seed=seed, repeats=repeats)
    value = interval.value if interval.value is not None else 1.0
    return {**interval.as_dict(), "limit": HEAD_AREA_LIMIT, "passes": max(value, 1.0 - value) < HEAD_AREA_LIMIT}


@dataclass(frozen=True)
class _Table:
    """The rows as columns, checked once."""

    cases: list[str]
    subjects: NDArray[np.str_]
    abnormal: NDArray[np.bool_]
    kinds: NDArray[np.str_]
    clean_twin: NDArray[np.intp]  # row of the clean twin of an abnormal row, else -1
    scores: list[Mapping[str, Any]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> _Table:
        if not rows:
            raise InputError.about("scores", "there are no rows", "score at least one case")
        for number, row in enumerate(rows):
            absent = [field for field in _FIELDS if field not in row]
            if absent:
                raise InputError.about(
                    row.get("case", f"row {number}"), f"lacks {', '.join(absent)}", "give every field"
                )
        cases = [str(row["case"]) for row in rows]
        place = {case: number for number, case in enumerate(cases)}
        if len(place) < len(cases):
            twice = next(case for number, case in enumerate(cases) if place[case] != number)
            raise InputError.about(twice, "is listed twice", "give each case one row")
        twins = np.full(len(rows), -1, dtype=np.intp)
        for case, row in zip(cases, rows, strict=True):
            _check_row(case, row)
        for number, row in enumerate(rows):
            twin = str(row["twin_of"] or "")
            if int(row["label"]) == 0 or not twin:
                continue
            if twin not in place or int(rows[place[twin]]["label"]) != 0:
                raise InputError.about(cases[number], f"is a twin of {twin}, no normal case here", "add the clean case")
            twins[number] = place[twin]
        abnormal = np.array([int(row["label"]) == 1 for row in rows])
        kinds = [str(row["kind"] or UNNAMED_KIND) if row["label"] else "" for row in rows]
        subjects = np.array([str(row["subject"]) for row in rows])
        return cls(cases, subjects, abnormal, np.array(kinds), twins, [row["scores"] for row in rows])

    def scores_of(self, method: str) -> tuple[NDArray[np.float64] | None, str]:
        """Return the scores ``[N]``, or None and why there are none."""
        given = [scores.get(method) for scores in self.scores]
        values = np.array([np.nan if score is None else float(score) for score in given])
        lacking = np.flatnonzero(~np.isfinite(values))
        if lacking.size == 0:
            return values, ""
        return (
            None,
            f"no finite score for {lacking.size} of {len(values)} cases, the first being {self.cases[lacking[0]]}",
        )


def _check_row(case: str, row: Mapping[str, Any]) -> None:
    if row["label"] not in (0, 1):
        raise InputError.about(case, f"label is {row['label']!r}", "use 0 for normal and 1 for abnormal")
    if row["label"] == 0 and row["kind"]:
        raise InputError.about(case, f"is normal and of kind {row['kind']}", "leave the kind of a normal case empty")
    if row["subject"] in ("", None):
        raise InputError.about(case, "has no subject", "name the subject, intervals resample subjects")


def _method_entry(table: _Table, name: str, seed: int, repeats: int) -> dict[str, Any]:
    abnormal, n = table.abnormal, len(table.cases)
    n_subjects = len(np.unique(table.subjects))
    kinds = [str(kind) for kind in np.unique(table.kinds[abnormal])]
    paired = np.flatnonzero(table.clean_twin >= 0)
    entry: dict[str, Any] = {
        "name": name,
        "n_normal": int(n - abnormal.sum()),
        "n_abnormal": int(abnormal.sum()),
        "n_subjects": n_subjects,
        "average_precision": {"value": None, "prevalence": float(abnormal.mean())},
        "sensitivity_at_95_specificity": None,
        "paired_win_rate": None,
        "n_pairs": len(paired),
        "by_kind": {kind: {"auroc": None, "n": int(np.sum(table.kinds == kind))} for kind in kinds},
        "macro_auroc": None,
        "reasons": {},
    }
    scores, reason = table.scores_of(name)
    if scores is not None and (abnormal.all() or not abnormal.any()):
        reason = f"every case is {'abnormal' if abnormal.all() else 'normal'}; both classes are needed"
    if scores is None or reason:
        nothing = Interval(None, None, None, n_subjects, "none", reason=reason).as_dict()
        entry.update(auroc=nothing, macro_auroc_interval=nothing)
        entry["average_precision"]["reason"] = reason
        for cell in entry["by_kind"].values():
            cell["reason"] = reason
        empty = ("sensitivity_at_95_specificity", "macro_auroc", "paired_win_rate")
        entry["reasons"] = dict.fromkeys(empty, reason)
    else:
        for kind, cell in entry["by_kind"].items():
            chosen = ~abnormal | (table.kinds == kind)
            cell["auroc"] = auroc(abnormal[chosen], scores[chosen])
        draws: dict[str, Any] = {"seed": seed, "repeats": repeats}
        macro = bootstrap_macro_auroc(abnormal, scores, list(table.kinds), table.subjects, **draws)
        entry["auroc"] = bootstrap_auroc(abnormal, scores, table.subjects, **draws).as_dict()
        entry["macro_auroc_interval"] = macro.as_dict()
        entry["macro_auroc"] = macro.value
        entry["average_precision"]["value"] = average_precision(abnormal, scores)
        entry["sensitivity_at_95_specificity"] = sensitivity_at_specificity(abnormal, scores, 0.95)
        if len(paired):
            entry["paired_win_rate"] = paired_win_rate(scores[paired], scores[table.clean_twin[paired]])
        else:
            entry["reasons"]["paired_win_rate"] = _NO_PAIR
    return entry


def _head_area_control(table: _Table, areas: Mapping[str, float] | None, seed: int, repeats: int) -> dict[str, Any]:
    used = np.flatnonzero(~table.abnormal | (table.clean_twin >= 0))
    lacking = [] if areas is None else [table.cases[row] for row in used if table.cases[row] not in areas]
    reason = ""
    if areas is None:
        reason = "no areas were given"
    elif lacking:
        reason = f"no area for {len(lacking)} of {len(used)} cases, the first being {lacking[0]}"
    elif not (table.clean_twin >= 0).any():
        reason = _NO_PAIR
    if areas is None or reason:
        return {"value": None, "limit": HEAD_AREA_LIMIT, "passes": None, "reason": reason}
    chosen = [areas[table.cases[row]] for row in used]
    return head_area_auroc(table.abnormal[used], chosen, list(table.subjects[used]), seed, repeats)


def _band(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        raise ValueError("no draw holds both classes; give more subjects or draws")
    low, high = np.quantile(values, (0.025, 0.975))
    return {"mean": float(np.mean(values)), "low": float(low), "high": float(high), "draws": len(values)}


def _no_band(reason: str) -> dict[str, Any]:
    return {"mean": None, "low": None, "high": None, "draws": 0, "reason": reason}


def _or_reason(control: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    try:
        return control(*arguments)
    except ValueError as error:
        return _no_band(str(error))
