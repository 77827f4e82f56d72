"""How unusual a case's features are among those of the normals: a one-class detector as a scorer of a bundle."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from monai_ctmri import keys
from monai_ctmri.detection.persistence import pack_detector, unpack_detector
from monai_ctmri.detection.row_detector import RowDetector
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.network_run import case_name, image_of, present_in
from monai_ctmri.scoring.scorer import Evidence, Scorer

__all__ = ["OutlierScorer"]

_AT_ONCE = 16
_JOINED = "+"
_View = tuple[str, ...]
logger = logging.getLogger(__name__)


class OutlierScorer:
    """The score of a one-class detector on the features that another scorer gives.

    What a network makes of a CT alone is unlike what it makes of a pair, so there is one detector for each set of
    modalities. A case is judged as it is, and a case with several modalities also by each of them alone, all others
    withheld (set to 0): so ``<name>_<m>`` means the same whatever else a case has. Scores are ``<name>`` of a case with
    all modalities, and ``<name>_<m>``, ``<name>_<m1>_<m2>`` of fewer. A set that fewer than two normal cases had has no
    score. No maps, no features.

    Args:
        features: gives named features; where it has ``latent_features(cases)`` that is asked, so that no map is drawn.
        detector: not fitted, e.g. :class:`~monai_ctmri.detection.outlier.OutlierDetector`; each set gets a copy. It is
            asked for in ``fit`` alone: a loaded state brings its own kind of detector along.
        name: of the score.
        modalities: the M channels of ``image`` in order; M further ones, if there are any, are their mirror images.
        alone: whether each modality of several is judged alone, too; false for a network that must have them all.

    Attributes:
        detectors_: the fitted detector of each set of modalities.
    """

    detectors_: dict[_View, RowDetector]
    _state: dict[str, Any] | None

    def __init__(
        self,
        features: Scorer,
        detector: RowDetector,
        name: str = "outlier",
        modalities: Sequence[str] = keys.MODALITIES,
        alone: bool = True,
    ) -> None:
        self.features = features
        self.detector = detector
        self.name = name
        self.modalities = tuple(modalities)
        self.alone = alone

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> OutlierScorer:
        """Fit one detector a set of modalities; the cases are read once.

        Raises:
            InputError: no set with two cases, an image of other channels or that is 0 everywhere, features that differ
                in their names or that the detector refuses.
        """
        rows: dict[_View, list[dict[str, float]]] = {}
        cases = iter(normal_cases)
        while some := [shown for case in islice(cases, _AT_ONCE) for shown in self._views(case)]:
            found = self._rows([case for _, case in some])
            for (view, case), row in zip(some, found, strict=True):
                known = rows.setdefault(view, [])
                if known and list(row) != list(known[0]):
                    problem = f"{len(row)} features, the cases before it have {len(known[0])} or others"
                    raise InputError.about(case_name(case), problem, "give images of one size")
                known.append(row)
        detectors = {}
        for view, known in rows.items():
            if len(known) < 2:
                logger.warning("%s: one normal case with %s alone; it is not learnt", self.name, " and ".join(view))
                continue
            columns = list(known[0])
            if not columns:
                raise InputError.about(f"score {self.name}", "its scorer gives no features", "choose one that does")
            values = np.array([list(row.values()) for row in known], dtype=np.float64)
            detectors[view] = copy.deepcopy(self.detector).fit(values, feature_names=columns)
        if not detectors:
            raise InputError.about(f"score {self.name}", "less than two normal cases to fit on", "give more")
        self._take(detectors, None)
        return self

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`fit` learnt, for ``torch.save`` and ``torch.load(weights_only=True)``: a text and bytes a set.

        Raises:
            RuntimeError: before ``fit``.
        """
        self._demand_fit()
        if self._state is None:
            self._state = {
                _JOINED.join(view): pack_detector(detector, self._label(view))
                for view, detector in self.detectors_.items()
            }
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave; no code of it runs, see :mod:`monai_ctmri.detection.persistence`.

        Raises:
            InputError: it is cut off or changed, was fitted for other modalities or under another name, or holds
                anything else than such detectors.
        """
        detectors: dict[_View, RowDetector] = {}
        for label, packed in state.items():
            view = tuple(str(label).split(_JOINED))
            if not set(view) <= set(self.modalities):
                problem = f"was fitted for {' and '.join(view)[:100]}"
                raise InputError.about(f"state of {self.name}", problem, "fit it again with these modalities")
            detectors[view] = unpack_detector(packed, self._label(view))
        if not detectors:
            raise InputError.about(f"state of {self.name}", "holds no detector", "fit it again")
        self._take(detectors, dict(state))

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case.

        Raises:
            RuntimeError: before ``fit``.
            InputError: an image of other channels, 0 everywhere or not finite; other features than in ``fit``.
        """
        self._demand_fit()
        scores = {}
        for view, shown in self._views(case):
            if view in self.detectors_:
                # One at a time: in a batch the last digits of a feature depend on what else is in it.
                (row,) = self._rows([shown])
                scores[self._label(view)] = self._judged(row, view, shown)
        return Evidence(scores=scores)

    def _judged(self, row: Mapping[str, float], view: _View, case: Mapping[str, Any]) -> float:
        detector = self.detectors_[view]
        if list(row) != [str(column) for column in detector.feature_names_in_]:
            problem = f"{len(row)} features for {self.name}, fitted on {detector.n_features_in_} or on others"
            raise InputError.about(case_name(case), problem, "fit the detectors again with this network and image size")
        return float(detector.decision_function(np.array([list(row.values())], dtype=np.float64))[0])

    def _rows(self, cases: list[Mapping[str, Any]]) -> list[dict[str, float]]:
        if (latent := getattr(self.features, "latent_features", None)) is not None:
            return list(latent(cases))
        return [self.features.score(case).features for case in cases]

    def _views(self, case: Mapping[str, Any]) -> Iterator[tuple[_View, Mapping[str, Any]]]:
        """The case as it is, and with each of several modalities alone."""
        count = len(self.modalities)
        present = present_in(image_of(case, self.modalities, mirror=True)[:count], self.modalities)
        if not present:
            raise InputError.about(case_name(case), "the image is 0 everywhere", "leave the blank slice out")
        yield tuple(present), case
        for name, channel in present.items() if self.alone and len(present) > 1 else ():
            image = torch.as_tensor(case[keys.IMAGE]).clone()
            for other in range(len(image)):
                if other % count != channel:
                    image[other] = 0.0
            yield (name,), {**case, keys.IMAGE: image}

    def _label(self, view: _View) -> str:
        return self.name if len(view) == len(self.modalities) else "_".join((self.name, *view))

    def _take(self, detectors: dict[_View, RowDetector], state: dict[str, Any] | None) -> None:
        # Whether a scorer is fitted is asked by its state, before every case: packing it each time would cost more
        # than the scores.
        self.detectors_, self._state = detectors, state

    def _demand_fit(self) -> None:
        if not hasattr(self, "detectors_"):
            raise RuntimeError(f"{type(self).__name__}: fit it on normal cases first")
