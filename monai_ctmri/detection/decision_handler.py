"""Ignite handlers that calibrate a model on normals, and that decide by what was calibrated."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.utils import ensure_tuple

from monai_ctmri import keys
from monai_ctmri.detection.decision import FILE, Decision, demand_alpha, fit_decision, load_decision
from monai_ctmri.detection.p_value_combination import CombinationMethod
from monai_ctmri.engines.gathering import rows_of_all_processes
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.fitted_scorers import model_files, model_folders

__all__ = ["DecisionFitter", "RunDecision"]

logger = logging.getLogger(__name__)


class DecisionFitter:
    """Collect the named scores of normal cases while an evaluator runs, and save ``models/decision.npz``.

    Needs a MONAI evaluator with decollation whose cases have ``case``, ``subject`` and ``label``. Cases that are not
    labelled normal are left aside. One case a subject and set of scores is drawn: slices of a subject are no
    independent draws, but a pair and its CT alone are compared with different normals. In a distributed run attach it
    in every process.

    Args:
        output_dir: folder of the run; receives the file.
        bundle_root: folder of the bundle, whose weights serve where the run has none.
        scores_key: entry of a case's output with its named scores.
        method: see :class:`~monai_ctmri.detection.fusion.ScoreFusion`.
        names: scores to combine; None takes all.
        minimum_rows: see :class:`~monai_ctmri.detection.fusion.ScoreFusion`.
        random_state: seed of the draw of one case a subject.

    Attributes:
        decision_: what was calibrated.
    """

    decision_: Decision

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        bundle_root: str | os.PathLike[str],
        scores_key: str = keys.SCORES,
        method: CombinationMethod = "minimum",
        names: Sequence[str] | None = None,
        minimum_rows: int = 20,
        random_state: int = 0,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.bundle_root = bundle_root
        self.scores_key = scores_key
        self.method = method
        self.names = names
        self.minimum_rows = minimum_rows
        self.random_state = random_state
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Collect at each iteration of ``engine`` (an evaluator); calibrate and save when it is complete."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        cases: list[dict[str, Any]] = engine.state.batch  # type: ignore[assignment]
        outputs: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for case, output in zip(cases, outputs, strict=True):
            self._rows.append(
                {
                    keys.CASE: case[keys.CASE],
                    keys.SUBJECT: str(case[keys.SUBJECT]),
                    keys.LABEL: int(case[keys.LABEL]),
                    keys.SCORES: {str(name): float(value) for name, value in output[self.scores_key].items()},
                }
            )

    def _finish(self, engine: Engine) -> None:
        rows = rows_of_all_processes(self._rows)
        if idist.get_rank() != 0:
            return
        normal = [row for row in rows if row[keys.LABEL] == 0]
        if len(normal) < len(rows):
            logger.warning("%d of %d cases are not labelled normal and left aside", len(rows) - len(normal), len(rows))
        if not normal:
            raise InputError.about("calibration", "no case is labelled normal (0)", "calibrate on normal cases")
        scores = [row[keys.SCORES] for row in normal]
        owners = [(row[keys.SUBJECT], tuple(sorted(row[keys.SCORES]))) for row in normal]
        self.decision_ = fit_decision(
            scores,
            owners,
            model_files(self.output_dir, self.bundle_root),
            method=self.method,
            names=self.names,
            minimum_rows=self.minimum_rows,
            random_state=self.random_state,
        )
        path = self.decision_.save(self.output_dir)
        alike = Counter(names for _, names in dict.fromkeys(owners)).values()
        logger.info("Calibrated on %s normals a set of modalities; saved %s", ", ".join(map(str, alike)), path)


class RunDecision:
    """What was calibrated, for the rows of a run: load it when an engine starts, and give each case its decision.

    ``models/decision.npz`` has to lie in the run's folder, or beside the weights that the run uses, and to belong to
    these weights and to what was fitted with them. Without it, or where it belongs to others, one line says so, and the
    score is the first of ``default_score`` that a case has.

    Args:
        output_dir: folder of the run.
        bundle_root: folder of the bundle.
        default_score: name or names of the score to judge by without calibration.
        alpha: false-alarm rate for ``flagged``, in (0, 1).

    Raises:
        InputError: ``alpha`` is out of range.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        bundle_root: str | os.PathLike[str],
        default_score: str | Sequence[str],
        alpha: float = 0.05,
    ) -> None:
        self.output_dir = output_dir
        self.bundle_root = bundle_root
        self.default_score = tuple(ensure_tuple(default_score))
        self.alpha = demand_alpha(alpha)
        self.decision: Decision | None = None
        self._said: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """Load at the start of ``engine``."""
        engine.add_event_handler(Events.STARTED, self._load)

    def columns(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """``score``, ``p_value`` and ``flagged`` (1 or 0) of a case by its named scores; "" where there is none.

        The numbers are those of ``monai-ctmri score``.
        """
        if self.decision is None:
            name = next((name for name in self.default_score if name in scores), None)
            return {keys.SCORE: "" if name is None else scores[name], "p_value": "", "flagged": ""}
        try:
            fused = self.decision.decide(scores)
        except InputError as error:  # a case without a score that a normal has
            self._say(str(error))
            return {keys.SCORE: "", "p_value": "", "flagged": ""}
        if fused.note:
            self._say(fused.note)
        # -log10(1) is -0.0.
        return {keys.SCORE: fused.score + 0.0, "p_value": fused.p_value, "flagged": int(fused.p_value <= self.alpha)}

    def _load(self, engine: Engine) -> None:
        self.decision, self._said = None, set()
        homes = model_folders(self.output_dir, self.bundle_root)
        home = next((folder for folder in homes if (folder / "models" / FILE).is_file()), None)
        found = None if home is None else load_decision(home)
        if found is None:
            reason = f"{homes[0] / 'models' / FILE} is not there"
        elif not found.fits(model_files(self.output_dir, self.bundle_root)):
            reason = "the saved calibration belongs to other weights or detectors"
        else:
            self.decision = found
            if shortage := found.shortage(self.alpha):
                self._say(shortage)
            return
        shown = ", else ".join(self.default_score)
        self._say(f"No p-value and no flag: {reason}; run calibrate. The score is {shown}")

    def _say(self, text: str) -> None:
        """Once a run."""
        if text not in self._said:
            logger.warning("%s", text)
        self._said.add(text)
