"""What an evaluator writes: a row a case, a heatmap a case, and numbers over all of them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.metrics import compute_roc_auc

from monai_ctmri import keys
from monai_ctmri.data.files import write_float_picture, write_json, write_text
from monai_ctmri.transforms import MapScore

__all__ = ["CaseResults"]

_MSE = "mse"


class CaseResults:
    """Write ``scores.csv`` and, as asked, ``maps/<case>.tif`` and ``metrics.json`` to a folder.

    Needs a MONAI evaluator with decollation whose cases have ``case``, ``subject`` and ``label`` and whose
    post-processing gives ``anomaly_map`` [1, H, W] and a mask of where to look.

    Columns of ``scores.csv``: case, subject, label (empty where unknown), mse (of the whole image), then the scores of
    :class:`~monai_ctmri.transforms.MapScore` with the prefix ``l1_``. All are higher for the more abnormal.

    ``metrics.json``: the mean of each column over all cases, over the normal and over the abnormal ones; with both
    classes also the area under the ROC curve of each column.

    Args:
        folder: where to write.
        map_score: how a map becomes numbers; None takes the defaults.
        mask_key: entry with the mask for ``map_score``.
        save_key: entry with the map [1, h, w] to save as 32-bit float TIFF; None saves none.
        metrics: whether to write ``metrics.json``.
        extra: further entries for ``metrics.json``, e.g. the data set's name.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        map_score: MapScore | None = None,
        mask_key: str = "head",
        save_key: str | None = None,
        metrics: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.map_score = map_score or MapScore()
        self.mask_key = mask_key
        self.save_key = save_key
        self.metrics = metrics
        self.extra = dict(extra or {})
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
            error = torch.as_tensor(output[keys.IMAGE]).float() - torch.as_tensor(output[keys.PRED]).float()
            scores = self.map_score(output[keys.ANOMALY_MAP], output[self.mask_key])
            self.rows.append(
                {
                    keys.CASE: case[keys.CASE],
                    keys.SUBJECT: case[keys.SUBJECT],
                    keys.LABEL: label if label in (0, 1) else "",
                    _MSE: float(error.square().mean()),
                    **{f"l1_{name}": value for name, value in scores.items()},
                }
            )
            if self.save_key is not None:
                self._save_map(case[keys.CASE], output[self.save_key])

    def _save_map(self, name: str, values: Any) -> None:
        write_float_picture(self.folder / "maps" / f"{name}.tif", torch.as_tensor(values).detach().cpu().numpy()[0])

    def _write(self, engine: Engine) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self.rows[0]) if self.rows else [keys.CASE])
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.folder / "scores.csv", text.getvalue())
        if self.metrics:
            write_json(self.folder / "metrics.json", self.extra | self.summary())

    def summary(self) -> dict[str, Any]:
        """Return what ``metrics.json`` says of the cases seen."""
        names = [
            name for name in (self.rows[0] if self.rows else {}) if name not in (keys.CASE, keys.SUBJECT, keys.LABEL)
        ]
        groups = {
            "all": self.rows,
            "normal": [row for row in self.rows if row[keys.LABEL] == 0],
            "abnormal": [row for row in self.rows if row[keys.LABEL] == 1],
        }
        found: dict[str, Any] = {"cases": {group: len(rows) for group, rows in groups.items()}}
        found["mean"] = {
            group: {name: float(np.mean([row[name] for row in rows])) for name in names}
            for group, rows in groups.items()
            if rows
        }
        if groups["normal"] and groups["abnormal"]:
            both = groups["normal"] + groups["abnormal"]
            labels = torch.tensor([row[keys.LABEL] for row in both])
            found["auroc"] = {name: _auroc([row[name] for row in both], labels) for name in names}
        return found


def _auroc(scores: list[float], labels: torch.Tensor) -> float:
    return float(np.asarray(compute_roc_auc(torch.tensor(scores, dtype=torch.float64), labels)))
