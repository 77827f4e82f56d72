"""What an evaluator writes: a row a case, a heatmap a case, and numbers over all of them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.metrics import compute_roc_auc

from monai_ctmri import keys
from monai_ctmri.data.files import write_float_picture, write_json, write_text
from monai_ctmri.engines.gathering import rows_of_all_processes
from monai_ctmri.transforms import MapScore

__all__ = ["CaseResults"]

_MSE = "mse"
_IDENTITY = (keys.CASE, keys.SUBJECT, keys.LABEL)
_DECIDED = ("p_value", "flagged")


class CaseResults:
    """Write ``scores.csv`` and, as asked, ``maps/<case>.tif`` and ``metrics.json`` to a folder.

    Needs a MONAI evaluator with decollation whose cases have ``case``, ``subject`` and ``label`` and whose
    post-processing gives ``anomaly_map`` [1, H, W] and a mask of where to look, or named scores.

    Columns of ``scores.csv``: case, subject, label (empty where unknown), then

    - without ``scores_key``: mse (of the whole image) and the scores of :class:`~monai_ctmri.transforms.MapScore` with
      the prefix ``l1_``;
    - with it: the named scores as they are; a score that a case does not have, e.g. for want of a modality, is empty.

    All are higher for the more abnormal. With ``decide``, its columns come before the scores.

    ``metrics.json``: the mean of each score over all cases, over the normal and over the abnormal ones that have it;
    with both classes also the area under the ROC curve of each score.

    In a distributed run (attach it in every process) each process writes the maps of its own cases, into what must be
    one folder for all; the first one writes the rows of all, in the order of the data set where a DistributedSampler
    without shuffling dealt them out, each case once however the sampler filled up its shares.

    Args:
        folder: where to write.
        map_score: how a map becomes numbers; None takes the defaults.
        mask_key: entry with the mask for ``map_score``.
        save_key: entry with the map [1, h, w] to save as 32-bit float TIFF; None saves none.
        metrics: whether to write ``metrics.json``.
        extra: further entries for ``metrics.json``, e.g. the data set's name.
        scores_key: entry with the named scores of a case, numbers by name; None scores ``anomaly_map``.
        decide: gives ``score``, ``p_value`` and ``flagged`` of a case by its named scores, e.g.
            :meth:`monai_ctmri.detection.decision_handler.RunDecision.columns`; "" leaves a cell empty.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        map_score: MapScore | None = None,
        mask_key: str = "head",
        save_key: str | None = None,
        metrics: bool = False,
        extra: Mapping[str, Any] | None = None,
        scores_key: str | None = None,
        decide: Callable[[Mapping[str, float]], Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.map_score = map_score or MapScore()
        self.mask_key = mask_key
        self.save_key = save_key
        self.metrics = metrics
        self.extra = dict(extra or {})
        self.scores_key = scores_key
        self.decide = decide
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Collect at each iteration of ``engine`` (an evaluator), write when it is complete."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self.rows = []

    def _collect(self, engine: Engine) -> None:
        cases: list[dict[str, Any]] = engine.state.batch  # type: ignore[assignment]
        outputs: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for case, output in zip(cases, outputs, strict=True):
            label = int(case[keys.LABEL])
            scores = self._scores(output)
            self.rows.append(
                {
                    keys.CASE: case[keys.CASE],
                    keys.SUBJECT: case[keys.SUBJECT],
                    keys.LABEL: label if label in (0, 1) else "",
                    **({} if self.decide is None else self.decide(scores)),
                    **scores,
                }
            )
            if self.save_key is not None:
                self._save_map(case[keys.CASE], output[self.save_key])

    def _scores(self, output: Mapping[str, Any]) -> dict[str, float]:
        if self.scores_key is not None:
            return {str(name): float(value) for name, value in output[self.scores_key].items()}
        error = torch.as_tensor(output[keys.IMAGE]).float() - torch.as_tensor(output[keys.PRED]).float()
        scores = self.map_score(output[keys.ANOMALY_MAP], output[self.mask_key])
        return {_MSE: float(error.square().mean()), **{f"l1_{name}": value for name, value in scores.items()}}

    def _save_map(self, name: str, values: Any) -> None:
        write_float_picture(self.folder / "maps" / f"{name}.tif", torch.as_tensor(values).detach().cpu().numpy()[0])

    def _write(self, engine: Engine) -> None:
        self.rows = rows_of_all_processes(self.rows)
        if idist.get_rank() != 0:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self._columns()) or [keys.CASE], restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.folder / "scores.csv", text.getvalue())
        if self.metrics:
            write_json(self.folder / "metrics.json", self.extra | self.summary())

    def _columns(self) -> dict[str, None]:
        """Names of all columns, in the order of their first appearance."""
        return {name: None for row in self.rows for name in row}

    def summary(self) -> dict[str, Any]:
        """Return what ``metrics.json`` says of the cases seen."""
        names = [name for name in self._columns() if name not in (*_IDENTITY, *_DECIDED)]
        groups = {
            "all": self.rows,
            "normal": [row for row in self.rows if row[keys.LABEL] == 0],
            "abnormal": [row for row in self.rows if row[keys.LABEL] == 1],
        }
        found: dict[str, Any] = {"cases": {group: len(rows) for group, rows in groups.items()}}
        found["mean"] = {
            group: {name: float(np.mean(values)) for name in names if (values := _column(rows, name))}
            for group, rows in groups.items()
            if rows
        }
        if groups["normal"] and groups["abnormal"]:
            found["auroc"] = {
                name: _auroc(normal, abnormal)
                for name in names
                if (normal := _column(groups["normal"], name)) and (abnormal := _column(groups["abnormal"], name))
            }
        return found


def _column(rows: list[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name, "") != ""]


def _auroc(normal: list[float], abnormal: list[float]) -> float:
    scores = torch.tensor(normal + abnormal, dtype=torch.float64)
    labels = torch.tensor([0] * len(normal) + [1] * len(abnormal))
    return float(np.asarray(compute_roc_auc(scores, labels)))
