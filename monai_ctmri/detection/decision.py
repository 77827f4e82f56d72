"""From a case's named scores to one score, a p-value and a flag: fitted on normals, kept beside the weights."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_ctmri.data.files import write_atomically
from monai_ctmri.detection.fusion import FusedScore, ScoreFusion
from monai_ctmri.detection.named_scores import Row
from monai_ctmri.detection.p_value_combination import CombinationMethod
from monai_ctmri.errors import InputError

__all__ = ["FILE", "Decision", "demand_alpha", "fit_decision", "load_decision"]

FILE = "decision.npz"
"""Its name in the folder ``models`` of a bundle or run."""
_SCHEMA = 1
_AGAIN = "calibrate again"


@dataclass(frozen=True)
class Decision:
    """A calibrated way to decide.

    Attributes:
        fusion: fitted on the named scores of normals, one row a subject.
        files: SHA-256 by name of the weights, and of what was fitted, that gave these scores.
    """

    fusion: ScoreFusion
    files: dict[str, str]

    @property
    def cases(self) -> int:
        """How many normals a case is compared with: the most that have one and the same set of scores."""
        _, counts = np.unique(~np.isnan(self.fusion.rows_), axis=0, return_counts=True)
        return int(counts.max())

    def decide(self, row: Row) -> FusedScore:
        """Judge a case by its named scores, whatever other cases there are.

        Raises:
            InputError: it has no score that a normal has, or one that is not finite.
        """
        return self.fusion.fuse([row])[0]

    def shortage(self, alpha: float) -> str | None:
        """What to say where these normals are too few for ``alpha``: the least p-value of n normals is 1 / (n + 1)."""
        least = 1.0 / (self.cases + 1)
        if least <= alpha:
            return None
        return f"{self.cases} normals give p-values from {least:.3g}: none can be flagged at alpha {alpha:g}"

    def fits(self, files: Mapping[str, str]) -> bool:
        """Whether a model with these files gives the scores it was calibrated on."""
        return dict(files) == self.files

    def save(self, model_folder: str | os.PathLike[str]) -> Path:
        """Write ``models/decision.npz`` in a bundle's or run's folder, atomically: plain arrays, no subject's name."""
        state = self.fusion.state_dict()
        names = sorted(self.files)
        arrays = {
            "schema": np.array(_SCHEMA),
            "method": np.array(str(state["method"])),
            "names": np.array(state["names"], dtype=np.str_),
            "weights": np.asarray(state["weights"], dtype=np.float64),
            "minimum_rows": np.array(int(state["minimum_rows"])),
            "random_state": np.array(int(state["random_state"])),
            "rows": np.asarray(state["rows"], dtype=np.float64),
            "file_names": np.array(names, dtype=np.str_),
            "file_sha256": np.array([self.files[name] for name in names], dtype=np.str_),
        }
        buffer = io.BytesIO()
        # None is an array of objects, so none is pickled.
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # some versions' stubs know the flag allow_pickle alone
        path = Path(model_folder) / "models" / FILE
        with write_atomically(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
        return path


def fit_decision(
    rows: Sequence[Row],
    subjects: Sequence[Any],
    files: Mapping[str, str],
    *,
    method: CombinationMethod = "minimum",
    names: Sequence[str] | None = None,
    minimum_rows: int = 20,
    random_state: int = 0,
) -> Decision:
    """Calibrate on normals that the model never saw.

    Args:
        rows: named scores of each normal case, as ``monai-ctmri score`` lists them.
        subjects: whose each row is; one row a subject is drawn.
        files: :attr:`~monai_ctmri.engines.bundle_inference.LoadedBundle.files` of the model that gave the scores.
        method: how p-values are combined, see :class:`~monai_ctmri.detection.fusion.ScoreFusion`.
        names: scores to combine; None takes all.
        minimum_rows: fewest normals with the same scores as a case for it to be compared with them alone.
        random_state: seed of the draw of one row a subject.

    Raises:
        InputError: what :meth:`ScoreFusion.fit` refuses; no file named.
    """
    if not files:
        raise InputError.about("files", "none is named", "give the files of the model that gave the scores")
    fusion = ScoreFusion(method, names, minimum_rows=minimum_rows, random_state=random_state)
    return Decision(fusion.fit(rows, subjects), dict(files))


def load_decision(model_folder: str | os.PathLike[str]) -> Decision | None:
    """Read ``models/decision.npz`` of a bundle's or run's folder; None where there is none. No code of it runs.

    Raises:
        InputError: it is cut off, of a newer version of this package, or no such file.
    """
    path = Path(model_folder) / "models" / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            state = {name: content[name] for name in content.files}
        schema = int(state["schema"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError.about(path, "is no saved decision, or was cut off", f"remove it, and {_AGAIN}") from error
    if schema > _SCHEMA:
        problem = f"schema version {schema} is newer than {_SCHEMA}, the newest known here"
        raise InputError.about(path, problem, "update monai_ctmri")
    try:
        files = dict(zip(state["file_names"].tolist(), state["file_sha256"].tolist(), strict=True))
        fusion = ScoreFusion().load_state_dict({**state, "method": str(state["method"])})
        if not files:
            raise ValueError("no file is named")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError.about(path, "its entries do not fit each other", f"remove it, and {_AGAIN}") from error
    return Decision(fusion, files)


def demand_alpha(alpha: float) -> float:
    """Return ``alpha``.

    Raises:
        InputError: it is outside (0, 1).
    """
    if not 0.0 < alpha < 1.0:
        raise InputError.about("alpha", f"{alpha} is outside (0, 1)", "give the false-alarm rate, e.g. 0.05")
    return alpha
