"""A model applied to a manifest: a score, a p-value and a heatmap a case; bad cases recorded, the others go on.

What a case came to is kept in ``cases/<case>.json`` together with what decided it (the model's and the files' SHA-256),
so that a run that was cut off goes on with the next case, and a case whose file or model has changed is judged anew.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_ctmri import keys
from monai_ctmri.data.dataset import UNKNOWN_LABEL
from monai_ctmri.data.files import relative_path, write_float_picture, write_json, write_text
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.quarantine import without_quarantined
from monai_ctmri.detection.decision import Decision, demand_alpha, load_decision
from monai_ctmri.engines.bundle_inference import LoadedBundle, load_bundle
from monai_ctmri.engines.settings import write_settings
from monai_ctmri.errors import InputError, find_input_error

__all__ = ["COLUMNS", "CaseFailure", "CaseOutcome", "ScoringRun", "normal_scores", "score_manifest"]

COLUMNS = (keys.CASE, keys.SUBJECT, keys.CT, keys.MRI, keys.LABEL, keys.SCORE, "p_value", "flagged")
"""Of ``scores.csv``, before a column a named score."""

_STAGE = "Scoring cases"
Progress = Callable[[str, int, int], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseOutcome:
    """A case that was judged.

    Attributes:
        case: as in the manifest.
        scores: named numbers; higher is more abnormal.
        score: the one to sort by: fused where the model is calibrated, else the bundle's default score.
        p_value: in (0, 1]; None without calibration.
        flagged: whether ``p_value <= alpha``; None without calibration.
        note: what limits the p-value, or None.
        map_path: the heatmap's file, or None where the bundle draws none.
    """

    case: Case
    scores: dict[str, float]
    score: float
    p_value: float | None = None
    flagged: bool | None = None
    note: str | None = None
    map_path: Path | None = None


@dataclass(frozen=True)
class CaseFailure:
    """A case that could not be judged: which file (empty where none is at fault), and why."""

    case: Case
    file: str
    reason: str


@dataclass(frozen=True)
class ScoringRun:
    """What a run came to.

    Attributes:
        folder: where it lies.
        manifest: its file or folder, as given.
        model: what judged.
        decision: the calibration used, or None.
        alpha: false-alarm rate asked for.
        outcomes: the judged cases in the manifest's order.
        failures: the others.
        notes: sentences for the console and the report, such as why there is no p-value.
    """

    folder: Path
    manifest: Path
    model: LoadedBundle
    decision: Decision | None
    alpha: float
    outcomes: tuple[CaseOutcome, ...]
    failures: tuple[CaseFailure, ...]
    notes: tuple[str, ...]


def score_manifest(
    manifest: str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    alpha: float = 0.05,
    progress: Progress | None = None,
) -> ScoringRun:
    """Judge every case of a manifest of slices, one after the other; write ``scores.csv``, ``maps/``, ``failures.csv``.

    A case's numbers depend on its own files and the model alone. A case that cannot be judged has a line in
    ``failures.csv`` (case, file, reason), and one with empty numbers in ``scores.csv``.

    Args:
        manifest: CSV or datalist, or a folder with ``manifest.csv``; a case may have CT, MRI or both. Labels are not
            needed and decide nothing.
        model: see :func:`~monai_ctmri.engines.bundle_inference.load_bundle`.
        out: where to write; the same call again goes on where it was cut off.
        alpha: false-alarm rate for ``flagged``, in (0, 1).
        progress: called with (what is being done, steps done, steps in all).

    Raises:
        InputError: bad arguments, or a manifest or model that cannot be used; nothing is written then.
    """
    demand_alpha(alpha)
    folder, say = Path(out), progress or (lambda stage, done, total: None)
    _demand_apart(folder, Path(model))
    cases = without_quarantined(Manifest.read(manifest), manifest)
    bundle = load_bundle(model)
    decision, notes = _usable_decision(bundle, alpha)
    write_settings(
        folder / "config.yaml",
        {
            "manifest": os.path.abspath(manifest),
            "model": os.path.abspath(bundle.folder),
            "model_bundle": bundle.name,
            "model_settings": bundle.settings,
            "model_files": bundle.files,
            "alpha": alpha,
        },
    )
    fingerprint = bundle.fingerprint
    outcomes: list[CaseOutcome] = []
    failures: list[CaseFailure] = []
    for done, case in enumerate(cases, start=1):
        source = {"model": fingerprint, "files": {name: _digest(path) for name, path in _files_of(case).items()}}
        try:
            scores, map_path = _known(case, source, folder) or _judged(case, source, bundle, folder)
            outcomes.append(_decided(case, scores, map_path, bundle, decision, alpha))
        except _CaseError as error:
            failures.append(_failure(case, error.reason, folder))
        say(_STAGE, done, len(cases))
    notes += dict.fromkeys(outcome.note for outcome in outcomes if outcome.note)
    run = ScoringRun(folder, Path(manifest), bundle, decision, alpha, tuple(outcomes), tuple(failures), tuple(notes))
    _write_tables(run, cases)
    return run


def normal_scores(scores_csv: str | os.PathLike[str]) -> tuple[list[dict[str, float]], list[str]]:
    """Read back the named scores of the cases labelled normal, for
    :func:`~monai_ctmri.detection.decision.fit_decision`.

    Args:
        scores_csv: what :func:`score_manifest` wrote.

    Returns:
        A row of named scores for each normal case that was judged, and whose it is.

    Raises:
        InputError: no such table, or no normal case in it.
    """
    path = Path(scores_csv)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            table = list(reader)
            names = (reader.fieldnames or [])[len(COLUMNS) :]
        if tuple((reader.fieldnames or [])[: len(COLUMNS)]) != COLUMNS:
            raise ValueError("other columns")
        normal = [row for row in table if row[keys.LABEL] == "0" and row[keys.SCORE]]
        rows = [{name: float(row[name]) for name in names if row[name]} for row in normal]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError.about(path, "is no scores.csv of a scoring run", "score the normals first") from error
    if not rows:
        raise InputError.about(path, "no case is labelled normal (0)", "calibrate on normal cases")
    return rows, [row[keys.SUBJECT] for row in normal]


def _demand_apart(out: Path, model: Path) -> None:
    if out.resolve() == model.resolve() or (out / "models").exists() or (out / "configs").exists():
        raise InputError.about(out, "holds a model, whose files would be overwritten", "choose another --out")


def _usable_decision(bundle: LoadedBundle, alpha: float) -> tuple[Decision | None, list[str]]:
    """The saved calibration if it belongs to this model, and what to say of it."""
    decision = load_decision(bundle.folder)
    if decision is None:
        why = "the model has no saved calibration"
    elif not decision.fits(bundle.files):
        why = "the saved calibration belongs to other weights"
    else:
        shortage = decision.shortage(alpha)
        return decision, [] if shortage is None else [shortage]
    shown = ", else ".join(bundle.default_scores)
    return None, [f"No p-value and no flag: {why}. The score is {shown}, comparable within this model only."]


class _CaseError(Exception):
    """A case cannot be judged; the others can."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _record_and_map(case: Case, folder: Path) -> tuple[Path, Path]:
    return folder / "cases" / f"{case.name}.json", folder / "maps" / f"{case.name}.tif"


def _known(case: Case, source: Mapping[str, Any], folder: Path) -> tuple[dict[str, float], Path | None] | None:
    """What an earlier run says of the case, where nothing that decides it has changed."""
    record, picture = _record_and_map(case, folder)
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        if content["source"] != source or (content["map"] and not picture.is_file()):
            return None
        scores = {str(name): float(value) for name, value in content["scores"].items()}
        return scores, picture if content["map"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _judged(
    case: Case, source: Mapping[str, Any], bundle: LoadedBundle, folder: Path
) -> tuple[dict[str, float], Path | None]:
    """The named scores and the map of a case, written down."""
    record, picture = _record_and_map(case, folder)
    for path in (record, picture):  # of another model or file
        path.unlink(missing_ok=True)
    item = {keys.CASE: case.name, keys.SUBJECT: case.subject, keys.LABEL: UNKNOWN_LABEL}
    item |= {name: os.fspath(path) for name, path in _files_of(case).items() if name in bundle.modalities}
    try:
        judged = bundle.judge(item)
    except Exception as error:  # whatever a file or a scorer raises, one bad case never stops a cohort
        raise _CaseError(error) from error
    if judged.map is not None:
        write_float_picture(picture, judged.map)
    # Last: it vouches for the map.
    write_json(record, {"source": source, "map": judged.map is not None, "scores": judged.scores})
    return judged.scores, None if judged.map is None else picture


def _decided(
    case: Case,
    scores: dict[str, float],
    map_path: Path | None,
    bundle: LoadedBundle,
    decision: Decision | None,
    alpha: float,
) -> CaseOutcome:
    try:
        if decision is not None:
            fused = decision.decide(scores)
            flagged = fused.p_value <= alpha
            # -log10(1) is -0.0.
            return CaseOutcome(case, scores, fused.score + 0.0, fused.p_value, flagged, fused.note, map_path)
        name = next((name for name in bundle.default_scores if name in scores), None)
        if name is None:
            problem = f"has no score {' nor '.join(bundle.default_scores)}"
            raise InputError.about(case.name, problem, f"its scores: {', '.join(scores) or 'none'}")
    except InputError as error:
        raise _CaseError(error) from error
    return CaseOutcome(case, scores, scores[name], map_path=map_path)


def _failure(case: Case, error: Exception, folder: Path) -> CaseFailure:
    bad = find_input_error(error)
    reason = " ".join((str(bad) if bad else f"{type(error).__name__}: {error}").split())[:500]
    at_fault = next((path for path in _files_of(case).values() if reason.startswith(f"{path}: ")), None)
    if at_fault is None:
        return CaseFailure(case, "", reason)
    return CaseFailure(case, relative_path(at_fault, folder), reason.removeprefix(f"{at_fault}: "))


def _write_tables(run: ScoringRun, cases: Iterable[Case]) -> None:
    judged = {outcome.case.name: outcome for outcome in run.outcomes}
    names = list(dict.fromkeys(name for outcome in run.outcomes for name in outcome.scores))
    rows = [_row(case, judged.get(case.name), run.folder) for case in cases]
    write_text(run.folder / "scores.csv", _table([*COLUMNS, *names], rows))
    failed = [{"case": one.case.name, "file": one.file, "reason": one.reason} for one in run.failures]
    write_text(run.folder / "failures.csv", _table(["case", "file", "reason"], failed))


def _row(case: Case, outcome: CaseOutcome | None, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {keys.CASE: case.name, keys.SUBJECT: case.subject}
    row |= {name: relative_path(path, folder) for name, path in _files_of(case).items()}
    row[keys.LABEL] = "" if case.label is None else case.label
    if outcome is not None:
        row |= {keys.SCORE: outcome.score, **outcome.scores}
        if outcome.p_value is not None and outcome.flagged is not None:
            row |= {"p_value": outcome.p_value, "flagged": int(outcome.flagged)}
    return row


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _files_of(case: Case) -> dict[str, Path]:
    return {name: getattr(case, name) for name in case.modalities}


def _digest(path: Path) -> str:
    """SHA-256 of a file; what is no readable file has none, and says so when it is opened."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    except OSError:
        return ""
