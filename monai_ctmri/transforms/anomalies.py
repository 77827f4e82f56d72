"""Injected anomalies of family B: clinical types that only test, never train.

Hemorrhage, infarct and tumour change nothing beyond the soft edge of their mask unless asked for mass effect. A further
kind is one subclass of :class:`LesionTransform` with its rows in the tables.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import RandomizableTransform, Transform
from monai.utils import ensure_tuple

from .. import keys as names
from ..errors import InputError
from .lesion import ANOMALY, CT_HU, HU_SPAN, MRI_RELATIVE, Lesion, LesionTransform, Region, case_name, picture_of
from .tumour_anomalies import InjectTumourD, InjectTumourd, InjectTumourDict
from .vascular_anomalies import (
    InjectChronicInfarctD,
    InjectChronicInfarctd,
    InjectChronicInfarctDict,
    InjectHemorrhageD,
    InjectHemorrhaged,
    InjectHemorrhageDict,
    InjectInfarctD,
    InjectInfarctd,
    InjectInfarctDict,
)

__all__ = [
    "ANOMALY",
    "CT_HU",
    "HU_SPAN",
    "MRI_RELATIVE",
    "InjectChronicInfarctD",
    "InjectChronicInfarctDict",
    "InjectChronicInfarctd",
    "InjectHemorrhageD",
    "InjectHemorrhageDict",
    "InjectHemorrhaged",
    "InjectInfarctD",
    "InjectInfarctDict",
    "InjectInfarctd",
    "InjectTumourD",
    "InjectTumourDict",
    "InjectTumourd",
    "InjectWrongPairD",
    "InjectWrongPairDict",
    "InjectWrongPaird",
    "LesionTransform",
    "Region",
    "abnormal_twins",
    "assert_families_unseen",
]


class InjectWrongPaird(LesionTransform):
    """Pair fault: one modality is replaced by that of another subject; the mask is the whole intracranial region.

    The one anomaly that changes a picture beyond its mask: every pixel of the replaced modality is the donor's.

    Args:
        donors: cases of the same grid with entries ``subject`` and ``replace``, or a function from a random state to
            such a case.
        replace: the entry to replace, ``"mri"`` (default) or ``"ct"``.
        args: as for :class:`LesionTransform`; ``size_mm`` has no effect.
        kwargs: as for :class:`LesionTransform`; ``contrast`` is 0 (nothing changes) or 1.

    Raises:
        InputError: when only one modality is present, the case has no subject, or no donor of another subject fits.
    """

    kind = "wrong_pair"
    _tries = 64

    def __init__(
        self,
        donors: Sequence[Mapping[Hashable, Any]] | Callable[[np.random.RandomState], Mapping[Hashable, Any]],
        *args: Any,
        replace: str = names.MRI,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if replace not in self.keys:
            raise InputError.about("replace", f"got {replace!r}", f"use one of {', '.join(map(str, self.keys))}")
        if self.contrast not in (0.0, 1.0):
            raise InputError.about("contrast", f"got {self.contrast}", "a pair is wrong or not: use 0 or 1")
        self.donors = donors
        self.replace = replace

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        return Lesion(brain)

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Decide whether to inject, and draw the donor."""
        RandomizableTransform.randomize(self, None)
        if not self._do_transform:
            return
        images = self._images(data)
        if len(images) < 2:
            raise InputError.about(case_name(data), "has one modality", "a wrong pair needs both")
        subject = data.get(names.SUBJECT)
        if subject is None:
            raise InputError.about(
                case_name(data), f"has no {names.SUBJECT}", "name the subject, so that the donor is another"
            )
        shape = (1, *images[self.replace].shape)

        def fits(donor: Mapping[Hashable, Any]) -> bool:
            other = donor.get(names.SUBJECT)
            picture = donor.get(self.replace)
            return other is not None and other != subject and picture is not None and tuple(picture.shape) == shape

        donor: Mapping[Hashable, Any] | None = None
        if callable(self.donors):
            offers = (self.donors(self.R) for _ in range(self._tries))
            donor = next((offer for offer in offers if fits(offer)), None)
        else:
            fitting = [one for one in self.donors if fits(one)]
            donor = fitting[self.R.randint(len(fitting))] if fitting else None
        if donor is None:
            raise InputError.about(
                case_name(data), f"no donor of another subject has {self.replace} of shape {shape}", "add donors"
            )
        self._drawn = (self._draw(self._brain(data), 0.0), donor)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Inject into one case; ``randomize=False`` takes the last donor again."""
        d = dict(data)
        if randomize:
            self.randomize(d)
        if not self._do_transform:
            return d
        if self._drawn is None:
            raise InputError.about(case_name(d), "no donor was drawn yet", "call with randomize=True first")
        images = self._images(d)
        lesion, donor = self._drawn
        after = dict(images)
        if self.contrast:
            after[self.replace] = picture_of(donor, self.replace)
        details = {"donor_subject": str(donor[names.SUBJECT]), "replaced": str(self.replace)}
        return self._finish(d, images, after, lesion.mask, lesion.mask, details)


def abnormal_twins(
    cases: Iterable[Mapping[Hashable, Any]], anomalies: Sequence[LesionTransform], seed: int
) -> Iterator[dict[Hashable, Any]]:
    """Yield an abnormal twin of every case for every anomaly.

    The seed of a twin comes from (``seed``, case name, kind) by SHA-256, so that it depends neither on the order nor
    on the number of cases or anomalies. Cases and anomalies are left as they are.

    Args:
        cases: normal cases, each with an entry ``case``.
        anomalies: transforms of distinct kinds.
        seed: seed of the whole set.

    Yields:
        Deep copies with the anomaly, ``twin_of`` = name of the case and ``case`` = ``f"{name}__{kind}"``.

    Raises:
        InputError: when a case has no name, or two anomalies are of one kind.
    """
    kinds = [anomaly.kind for anomaly in anomalies]
    if len(set(kinds)) < len(kinds):
        raise InputError.about(
            "anomalies", f"kinds repeat in {', '.join(kinds)}", "make twins of each setting separately"
        )
    for case in cases:
        if names.CASE not in case:
            raise InputError.about(case_name(case), f"has no entry {names.CASE}", "name every case")
        name = str(case[names.CASE])
        for anomaly in anomalies:
            digest = hashlib.sha256(f"{seed}|{name}|{anomaly.kind}".encode()).digest()
            own = copy.copy(anomaly)
            own.set_random_state(seed=int.from_bytes(digest[:4], "big"))
            twin = own(copy.deepcopy(dict(case)))
            twin["twin_of"] = name
            twin[names.CASE] = f"{name}__{anomaly.kind}"
            yield twin


def assert_families_unseen(training_transform: Any, families: Sequence[str] = ("B",)) -> None:
    """Refuse to score a model on a family of anomalies it was trained on.

    Args:
        training_transform: the transform of the training data; compositions, lists, mappings, functions with a
            closure, partials and whatever a transform holds are searched.
        families: families that are used to test.

    Raises:
        InputError: when a transform of one of ``families`` is found.
    """
    unseen = set(ensure_tuple(families))
    waiting, visited = [training_transform], set()
    while waiting:
        one = waiting.pop()
        if id(one) in visited:
            continue
        visited.add(id(one))
        family = getattr(one, "family", None)
        if isinstance(family, str) and family in unseen:
            label = one.__name__ if isinstance(one, type) else type(one).__name__
            raise InputError.about(
                label,
                f"trains on anomalies of family {family}, which only tests",
                "train without it, or test on another family",
            )
        waiting.extend(_parts_of(one))


def _parts_of(one: Any) -> list[Any]:
    """What a transform, container or function holds."""
    if isinstance(one, Mapping):
        return list(one.values())
    if isinstance(one, (list, tuple, set, frozenset)):
        return list(one)
    if isinstance(one, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if isinstance(one, Transform) or hasattr(one, "transform") or hasattr(one, "transforms"):
        return list(getattr(one, "__dict__", {}).values())
    parts = [cell.cell_contents for cell in getattr(one, "__closure__", None) or ()]
    owner = getattr(one, "__self__", None)
    return parts if owner is None else [*parts, owner]


InjectWrongPairD = InjectWrongPairDict = InjectWrongPaird
