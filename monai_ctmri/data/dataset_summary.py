"""The summary of a data set: ``dataset_summary.json`` with its schema, and ``images.csv`` with a line an image."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_ctmri import __version__
from monai_ctmri.data.files import write_text
from monai_ctmri.data.findings import SEVERITIES, Finding
from monai_ctmri.data.formats import suffix_of
from monai_ctmri.data.manifest import SPLITS

if TYPE_CHECKING:
    from monai_ctmri.data.checks.inspection import Facts
    from monai_ctmri.data.discovery import Discovery
    from monai_ctmri.data.intensity import PooledIntensities

__all__ = ["FORMAT", "shown_name", "summarise", "summary_schema", "write_images_table"]

FORMAT = 1
"""Number of the summary's format."""

IMAGE_COLUMNS = (
    "file", "kind", "modality", "problem", "shape", "channels", "dtype", "bits", "spacing", "min", "max", "mean", "std",
    "p1", "p99", "bytes", "looks_like", "ct_likeness", "brain_level", "intracranial_fraction", "cut_off", "text",
)  # fmt: skip

Pools = Mapping[tuple[str | None, str], "PooledIntensities"]

_AIR_HU = -900.0
_FAINT = 0.02  # of the 99th percentile: what JPEG and noise leave of an empty background
_LABELS = {0: "normal", 1: "abnormal", None: "unknown"}


def summary_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``dataset_summary.json``."""
    text = resources.files("monai_ctmri.data").joinpath("dataset_summary.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def shown_name(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
    """Return a file's name relative to the data, with ``/``; bytes that are no text become U+FFFD."""
    try:
        name = Path(os.path.relpath(os.path.abspath(path), os.path.abspath(root))).as_posix()
    except ValueError:  # another drive
        name = Path(os.path.abspath(path)).as_posix()
    return os.fsencode(name).decode("utf-8", "replace")


def summarise(
    root: Path,
    discovery: Discovery,
    facts: Sequence[Facts],
    findings: Sequence[Finding],
    pools: Pools,
    tree: Mapping[str, Any],
    modalities: Mapping[Path, str],
) -> dict[str, Any]:
    """Sum an exploration up as plain values that :func:`summary_schema` describes.

    Args:
        root: folder of the data.
        discovery: cases and what is known about them.
        facts: one entry an image.
        findings: in the order in which they are to be listed.
        pools: intensities by (modality, unit).
        tree: of ``root``, see :func:`~monai_ctmri.data.trees.folder_tree.folder_tree`.
        modalities: of each image of ``facts``, by its path.
    """
    cases = discovery.cases
    return {
        "format": FORMAT,
        "version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "root": shown_name(root, os.curdir) if not root.is_absolute() else os.fsencode(root).decode("utf-8", "replace"),
        "layout": discovery.layout,
        "pairing": discovery.pairing,
        "normal_only": discovery.normal_only,
        "normal_only_reason": _normal_reason(discovery),
        "subjects_known": discovery.subjects_known,
        "subjects": len(cases.subjects) if discovery.subjects_known else None,
        "evidence": [
            {key: str(getattr(one, key)) for key in ("claim", "basis", "verdict")} for one in discovery.evidence
        ],
        "counts": {
            "files": tree["files"],
            "images": len(facts),
            "cases": len(cases),
            "pairs": sum(len(case.modalities) == 2 for case in cases),
            "masks": sum(case.mask is not None for case in cases),
            "by_type": _tally(
                "DICOM series" if one.path.is_dir() else suffix_of(one.path) or "no suffix" for one in facts
            ),
            "by_kind": _tally(one.kind or "unknown" for one in facts),
            "by_modality": {"ct": 0, "mri": 0, "unknown": 0}
            | _tally(modalities.get(one.path, "unknown") for one in facts),
        },
        "left_out": _tally(reason for _, reason in discovery.ignored),
        "labels": dict.fromkeys(_LABELS.values(), 0) | _tally(_LABELS[case.label] for case in cases),
        "splits": {split: n for split in SPLITS if (n := sum(case.split == split for case in cases))},
        "sizes": _distinct(
            ("shape", "modality"),
            ((tuple(one.shape), modalities.get(one.path)) for one in facts if one.problem is None),
        ),
        "storage": _distinct(
            ("kind", "modality", "dtype", "bits", "channels"),
            (
                (one.kind, modalities.get(one.path), one.dtype, one.bits, one.channels)
                for one in facts
                if one.problem is None
            ),
        ),
        "intensities": _intensities(pools),
        "findings": _findings(findings, root),
        "tree": dict(tree),
    }


def write_images_table(
    path: str | os.PathLike[str], root: Path, facts: Iterable[Facts], modalities: Mapping[Path, str]
) -> None:
    """Write the properties of every image as CSV with :data:`IMAGE_COLUMNS`, atomically.

    Columns of an image that could not be read are empty from ``shape`` on; ``spacing`` is in mm; ``min`` to ``p99`` are
    in the units of the file.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, IMAGE_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for one in facts:
        row: dict[str, Any] = {"file": shown_name(one.path, root), "kind": one.kind, "bytes": one.bytes}
        row |= {"modality": modalities.get(one.path, ""), "problem": one.problem.kind if one.problem else ""}
        writer.writerow(row if one.problem else row | _properties(one))
    write_text(path, text.getvalue())


def _properties(one: Facts) -> dict[str, Any]:
    row: dict[str, Any] = {
        "shape": "x".join(map(str, one.shape)),
        "spacing": "" if one.spacing is None else "x".join(f"{length:g}" for length in one.spacing),
        "min": one.minimum,
        "max": one.maximum,
        **{name: getattr(one, name) for name in ("channels", "dtype", "bits", "mean", "std", "p1", "p99")},
    }
    if one.appearance is not None:
        row["looks_like"] = one.appearance.modality
        measures = ("ct_likeness", "intracranial_fraction", "cut_off", "text")
        values = {name: getattr(one.appearance, name) for name in measures}
        row |= {name: "" if math.isnan(value) else f"{value:.4f}" for name, value in values.items()}
        level = one.appearance.brain_level
        row["brain_level"] = "" if level is None else int(level)
    return row


def _tally(values: Iterable[str]) -> dict[str, int]:
    """Number of each value, most frequent first, then by name."""
    return dict(sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0])))


def _distinct(names: Sequence[str], rows: Iterable[tuple[Hashable, ...]]) -> list[dict[str, Any]]:
    counted = sorted(Counter(rows).items(), key=lambda pair: (-pair[1], str(pair[0])))
    return [
        {name: list(value) if isinstance(value, tuple) else value for name, value in zip(names, row, strict=True)}
        | {"images": number}
        for row, number in counted
    ]


def _intensities(pools: Pools) -> list[dict[str, Any]]:
    entries = []
    for (modality, unit), pool in pools.items():
        statistics = pool.statistics()
        background = _background(unit, statistics)
        shares = {"background": background, "share_background": pool.share_at_most(background)}
        entries.append({"modality": modality, "unit": unit, **statistics, **shares})
    return sorted(entries, key=lambda entry: (-entry["images"], str(entry["modality"]), entry["unit"]))


def _background(unit: str, statistics: Mapping[str, Any]) -> float:
    """Value up to which pixels count as background: air, or what is next to nothing beside the bright tissue."""
    if unit == "HU":
        return _AIR_HU
    if statistics["min"] < 0:  # of what was already normalised, nothing says where the background lies
        return float(statistics["min"])
    faint = _FAINT * float(statistics["percentiles"]["p99"])
    return float(math.floor(faint)) if statistics["exact"] else faint


def _findings(findings: Sequence[Finding], root: Path) -> dict[str, Any]:
    rows = [
        {"file": shown_name(one.file, root), "kind": one.kind, "measure": one.measure, "severity": one.severity}
        for one in findings
    ]
    return {
        "total": len(rows),
        "files": len({one.file for one in findings}),
        "by_severity": dict.fromkeys(SEVERITIES, 0) | _tally(one.severity for one in findings),
        "by_kind": _tally(one.kind for one in findings),
        "list": rows,
    }


def _normal_reason(discovery: Discovery) -> str:
    """The basis that discovery gives for it; else what the labels say."""
    for one in discovery.evidence:
        if "normal" in one.claim.lower():
            return str(one.basis)
    abnormal = sum(case.label == 1 for case in discovery.cases)
    if abnormal:
        return f"cases labelled abnormal: {abnormal}"
    if discovery.normal_only is None:
        return "nothing says whether the images are normal"
    return "every case is labelled normal" if discovery.normal_only else "not every case is labelled normal"
