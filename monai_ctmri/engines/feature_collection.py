"""Named features collected while an evaluator runs: a table, a row a case, for one's own statistics or detectors."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events

from monai_ctmri import keys
from monai_ctmri.data.files import write_text
from monai_ctmri.engines.gathering import rows_of_all_processes

__all__ = ["FeatureCollector"]

_FEATURES = "features"


class FeatureCollector:
    """Collect the features that :class:`~monai_ctmri.scoring.case_transform.ScoreCased` writes into the cases.

    Needs a MONAI evaluator with decollation whose cases have ``case``, ``subject`` and ``label``. In a distributed run
    (attach it in every process) the rows of all processes come together in the order of the data set, each case once;
    the first process writes the file.

    A detector is fitted on the table of normals as it is: ``OutlierDetector("KNN").fit(c.values(), c.names)``. The
    bundles' ``fit_detectors`` goes over the cases itself instead, since its scorers want more of a case than one row:
    each modality alone, feature maps, or two passes.

    Args:
        path: ``features.csv`` to write when the run is complete; None writes none.
        features_key: entry of a case's output with its features, numbers by name.

    Attributes:
        rows: a dictionary a case: ``case``, ``subject``, ``label`` (-1 where unknown), ``features``.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, features_key: str = keys.FEATURES) -> None:
        self.path = None if path is None else Path(path)
        self.features_key = features_key
        self.rows: list[dict[str, Any]] = []

    @property
    def names(self) -> list[str]:
        """Names of the columns, in the order of their first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row[_FEATURES]))

    def values(self) -> np.ndarray:
        """The features, float64 (N, F), a row a case; NaN where a case has none, e.g. for want of a modality."""
        names = self.names
        table = [[row[_FEATURES].get(name, np.nan) for name in names] for row in self.rows]
        return np.array(table, dtype=np.float64).reshape(len(self.rows), len(names))

    def attach(self, engine: Engine) -> None:
        """Collect at each iteration of ``engine`` (an evaluator); gather and write when it is complete."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        self.rows = []

    def _collect(self, engine: Engine) -> None:
        cases: list[dict[str, Any]] = engine.state.batch  # type: ignore[assignment]
        outputs: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for case, output in zip(cases, outputs, strict=True):
            self.rows.append(
                {
                    keys.CASE: case[keys.CASE],
                    keys.SUBJECT: case[keys.SUBJECT],
                    keys.LABEL: int(case[keys.LABEL]),
                    _FEATURES: {str(name): float(value) for name, value in output[self.features_key].items()},
                }
            )

    def _finish(self, engine: Engine) -> None:
        self.rows = rows_of_all_processes(self.rows)
        if self.path is None or idist.get_rank() != 0:
            return
        identity = (keys.CASE, keys.SUBJECT, keys.LABEL)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [*identity, *self.names], restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            label = row[keys.LABEL] if row[keys.LABEL] in (0, 1) else ""
            writer.writerow({**{name: row[name] for name in identity}, keys.LABEL: label, **row[_FEATURES]})
        write_text(self.path, text.getvalue())
