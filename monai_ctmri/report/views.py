"""What the report says: results become words, texts of numbers and places on bars; the templates only lay them out.

Anything missing is shown as an en dash, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = [
    "FILTERS",
    "MISSING",
    "decision_view",
    "detectors_view",
    "headline_view",
    "moment_text",
    "set_view",
    "strength_of",
]

MISSING = "\N{EN DASH}"
GROUPS = ("network", "fused", "one-class", "trivial baseline", "source notes")
_GROUP_TITLES = {
    "network": "Networks",
    "fused": "Scores fused",
    "one-class": "One-class detectors on features",
    "trivial baseline": "Trivial baselines",
    "source notes": "Methods of the source notes",
}
_MODALITIES = {"ct": "CT", "mri": "MRI", "both": "CT\N{NO-BREAK SPACE}+\N{NO-BREAK SPACE}MRI"}
_STRENGTHS = ((0.4, "below chance"), (0.6, "near chance"), (0.7, "weak"), (0.8, "moderate"), (0.9, "good"))


def strength_of(auroc: float | None) -> str | None:
    """Say an AUROC in words: below chance < .4, near chance < .6, weak < .7, moderate < .8, good < .9, else strong."""
    value = _finite(auroc)
    return None if value is None else next((word for bound, word in _STRENGTHS if value < bound), "strong")


def _finite(value: Any) -> float | None:
    if value is None or isinstance(value, (str, bool)):
        return None
    return float(value) if math.isfinite(value) else None


def _number(value: Any, digits: int = 3) -> str:
    known = _finite(value)
    return MISSING if known is None else f"{known:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _percent(value: Any, digits: int = 1) -> str:
    known = _finite(value)
    return MISSING if known is None else f"{100 * known:.{digits}f}\N{NO-BREAK SPACE}%"


def _count(value: Any) -> str:
    known = _finite(value)
    return MISSING if known is None else f"{round(known):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def moment_text(text: Any) -> str:
    """Say an ISO 8601 time in words; a text that is none is returned as it is."""
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return str(text) if text else MISSING
    zone = " UTC" if moment.utcoffset() is not None and not moment.utcoffset() else ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{zone}"


def _size(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " \N{MULTIPLICATION SIGN} ".join(_count(side) for side in value) or MISSING
    return MISSING if _finite(value) is None else f"{_count(value)} \N{MULTIPLICATION SIGN} {_count(value)}"


def _duration(seconds: Any) -> str:
    known = _finite(seconds)
    if known is None:
        return MISSING
    minutes, rest = divmod(round(known), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{known:.3g} s"


def _bytes(number: Any) -> str:
    known = _finite(number)
    if known is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if known < 1000:
            return f"{known:.3g}\N{NO-BREAK SPACE}{unit}"
        known /= 1000
    return f"{known:.3g}\N{NO-BREAK SPACE}TB"


def _estimate(entry: Any, floor: float = 0.0) -> dict[str, Any]:
    """An estimate with its interval, and where both lie (per cent) on a bar from ``floor`` to 1."""
    entry = entry if isinstance(entry, Mapping) else {"value": entry}
    value, low, high = (_finite(entry.get(key)) for key in ("value", "low", "high"))

    def at(number: float) -> float:
        return round(100 * min(max((number - floor) / (1 - floor), 0.0), 1.0), 2)

    view: dict[str, Any] = {"value": value, "low": low, "high": high, "reason": entry.get("reason")}
    view["dot"] = None if value is None else at(value)
    view["bar"] = None if low is None or high is None else (at(low), round(at(high) - at(low), 2))
    view["strength"] = strength_of(value)
    return view


def _order(row: Mapping[str, Any]) -> tuple[int, str, float]:
    """By group, best AUROC first, those without a value last."""
    group, value = row["group"], row["auroc"]["value"]
    return (GROUPS.index(group) if group in GROUPS else len(GROUPS), group, 1.0 if value is None else -value)


def set_view(entry: Mapping[str, Any], named: str | None) -> dict[str, Any]:
    """Methods of a set by group and then by AUROC, with bars on one scale that holds every interval.

    Args:
        entry: one of ``sets`` of ``metrics.json``.
        named: the method the decision was made with; it (else the first network listed) is marked as the headline.
    """
    methods = [dict(method) for method in entry.get("methods") or []]
    ends = [_finite((method.get("auroc") or {}).get(key)) for method in methods for key in ("value", "low")]
    floor = min([0.4, *(math.floor(10 * end) / 10 for end in ends if end is not None)])
    kinds = list(dict.fromkeys(str(kind) for method in methods for kind in method.get("by_kind") or {}))
    headline = next((m for m in methods if named is not None and named in (m.get("name"), m.get("label"))), None)
    headline = headline or next((m for m in methods if m.get("group") == "network"), None)
    rows: list[dict[str, Any]] = []
    for method in methods:
        by_kind = {str(kind): cell or {} for kind, cell in (method.get("by_kind") or {}).items()}
        average = method.get("average_precision") or {}
        rows.append(
            {
                "name": method.get("name"),
                "label": method.get("label") or method.get("name") or MISSING,
                "group": method.get("group") or "other",
                "modality": _MODALITIES.get(str(method.get("modality")), method.get("modality")),
                "auroc": _estimate(method.get("auroc"), floor),
                "average_precision": average.get("value"),
                "prevalence": _finite(average.get("prevalence")),
                "sensitivity": method.get("sensitivity_at_95_specificity"),
                "paired": method.get("paired_win_rate"),
                "macro": method.get("macro_auroc"),
                "kinds": [_kind_cell(by_kind.get(kind)) for kind in kinds],
                "headline": method is headline,
            }
        )
    rows.sort(key=_order)
    for column in range(len(kinds)):
        best = max((row["kinds"][column]["auroc"] or 0.0 for row in rows), default=0.0)
        for row in rows:
            row["kinds"][column]["best"] = best > 0 and row["kinds"][column]["auroc"] == best
    prevalences = [row["prevalence"] for row in rows if row["prevalence"] is not None]
    ticks = [tick for tick in (0.0, 0.25, 0.5, 0.75, 1.0) if tick >= floor]
    return {
        **{key: entry.get(key) for key in ("name", "description", "n_normal", "n_abnormal", "subjects")},
        "controls": [control or {} for control in entry.get("controls") or []],
        "groups": [
            (
                _GROUP_TITLES.get(group, group.capitalize()),
                group.replace(" ", "-"),
                [r for r in rows if r["group"] == group],
            )
            for group in dict.fromkeys(row["group"] for row in rows)
        ],
        "rows": rows,
        "kinds": [kind.replace("_", " ") for kind in kinds],
        "kind_counts": [max((row["kinds"][c]["n"] or 0 for row in rows), default=0) for c in range(len(kinds))],
        "prevalence": prevalences[0] if prevalences else None,
        "chance": round(100 * (0.5 - floor) / (1 - floor), 2),
        "ticks": [(tick, round(100 * (tick - floor) / (1 - floor), 2)) for tick in ticks],
    }


def _kind_cell(cell: Any) -> dict[str, Any]:
    cell = cell if isinstance(cell, Mapping) else {}
    value = _finite(cell.get("auroc"))
    # The tint says how far from chance; the number says it too.
    tint = 0.0 if value is None else round(min(2 * abs(value - 0.5), 1.0) * 0.34, 3)
    return {"auroc": value, "n": _finite(cell.get("n")), "tint": tint, "under": value is not None and value < 0.5}


def _best(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    known = [row for row in rows if row["auroc"]["value"] is not None]
    return max(known, key=lambda row: row["auroc"]["value"]) if known else None


def headline_view(results: Mapping[str, Any], sets: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The result in plain words: the method, its AUROC and interval, and what simpler methods reach on the same set.

    Args:
        results: content of ``metrics.json``.
        sets: views of its sets, see :func:`set_view`; the first carries the headline.

    Returns:
        ``row`` (the method), ``set``, ``auroc`` (an estimate on a bar from 0.4 to 1), ``remarks``, ``trained`` (train
        part); None when no method was evaluated.
    """
    row = next((row for row in (sets[0]["rows"] if sets else []) if row["headline"]), None)
    if row is None:
        return None
    first = sets[0]
    auroc = _estimate({key: row["auroc"][key] for key in ("value", "low", "high", "reason")}, 0.4)
    trivial = _best([other for other in first["rows"] if other["group"] == "trivial baseline"])
    alone = None
    if row["modality"] == _MODALITIES["both"]:
        single = [other for other in first["rows"] if other["modality"] in ("CT", "MRI")]
        alone = _best([other for other in single if other["group"] != "trivial baseline"])
    value, low, high = auroc["value"], auroc["low"], auroc["high"]
    remarks = []
    if value is not None and low is not None and high is not None and low <= 0.5 <= high:
        remarks.append("The interval holds 0.5: on this set the score cannot be told from chance.")
    cells = zip(first["kinds"], row["kinds"], strict=True)
    seen = [(kind, cell["auroc"]) for kind, cell in cells if cell["auroc"] is not None]
    if len(seen) > 1:
        remarks.append(_extremes(seen))
    if trivial is not None and trivial is not row and value is not None:
        remarks.append(_beside("The best trivial baseline", trivial, auroc))
    if alone is not None and value is not None:
        remarks.append(_beside("The best single modality", alone, auroc))
    parts = (results.get("data") or {}).get("parts") or []
    trained = next((part for part in parts if part and part.get("name") == "train"), None)
    return {"row": row, "set": first, "auroc": auroc, "remarks": remarks, "trained": trained}


def _extremes(seen: Sequence[tuple[str, float]]) -> str:
    """One number over several kinds of anomaly hides which of them is seen at all."""
    best, worst = max(seen, key=lambda pair: pair[1]), min(seen, key=lambda pair: pair[1])
    return f"Best seen is {best[0]} ({best[1]:.2f}), least {worst[0]} ({worst[1]:.2f})."


def _beside(what: str, other: Mapping[str, Any], auroc: Mapping[str, Any]) -> str:
    """One sentence that sets the best of other methods beside the headline; overlapping intervals are said so."""
    value, high, modality = other["auroc"]["value"], other["auroc"]["high"], other["modality"]
    name = other["label"] if not modality or modality in other["label"] else f"{other['label']} on {modality}"
    sentence = f"{what} ({name}) reaches {_number(value)}"
    if value >= auroc["value"]:
        return sentence + ", which is no worse."
    overlap = high is not None and auroc["low"] is not None and high >= auroc["low"]
    return sentence + ("; the intervals overlap." if overlap else ".")


def decision_view(entry: Mapping[str, Any] | None, sets: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any] | None:
    """The decision at the calibrated threshold, with its rates as estimates on bars from 0 to 1; None without one."""
    if not entry:
        return None
    confusion = entry.get("confusion") or {}
    labels = {row["name"]: row["label"] for view in sets for row in view["rows"]}
    return {
        **{key: entry.get(key) for key in ("method", "alpha", "n_calibration", "smallest_p_value")},
        "unit": entry.get("calibration_unit") or "cases",
        "label": labels.get(entry.get("method"), entry.get("method")),
        "threshold": _finite(entry.get("threshold")),
        "false_alarms": {**_estimate(entry.get("false_alarms")), **_tally(entry.get("false_alarms"))},
        "sensitivity": {**_estimate(entry.get("sensitivity")), **_tally(entry.get("sensitivity"))},
        "confusion": {key: confusion.get(key) for key in ("tp", "fp", "tn", "fn")} if confusion else None,
        "alpha_at": None
        if _finite(entry.get("alpha")) is None
        else round(100 * min(max(float(entry["alpha"]), 0), 1), 2),
    }


def detectors_view(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Every score calibrated: AUROC, false alarms at each rate asked for, what it costs; None without rows.

    Args:
        entry: ``detectors`` of ``metrics.json``.
    """
    if not entry or not entry.get("rows"):
        return None
    rows = [
        {
            "label": row.get("label") or row.get("name") or MISSING,
            "slug": str(row.get("group") or "other").replace(" ", "-"),
            "auroc": _estimate(row.get("auroc")),
            "false_alarms": [{**_estimate(cell), **_tally(cell)} for cell in row.get("false_alarms") or []],
            "cost": row.get("cost") or {},
            "problem": row.get("problem") or "",
        }
        for row in entry["rows"]
    ]
    return {
        **{key: entry.get(key) for key in ("set", "n_normal")},
        "alphas": [dict(one) for one in entry.get("alphas") or []],
        "rows": rows,
    }


def _tally(entry: Any) -> dict[str, Any]:
    entry = entry if isinstance(entry, Mapping) else {}
    return {"k": entry.get("k"), "n": entry.get("n")}


FILTERS = {
    "number": _number,
    "percent": _percent,
    "count": _count,
    "size": _size,
    "duration": _duration,
    "bytes": _bytes,
}
"""Filters of the templates: a value that may be None becomes its text."""
