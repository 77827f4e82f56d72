"""Injected anomalies of family B: clinical types that only test, never train.

Hemorrhage, infarct and tumour change nothing beyond the soft edge of their mask. Mass effect is a warp of the whole
brain and therefore a kind of its own, not part of these. A further kind is one subclass of :class:`LesionTransform`
with its rows in the tables.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform, Transform
from monai.utils import ensure_tuple
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from . import shapes
from .lesion import ANOMALY, CT_HU, HU_SPAN, MRI_RELATIVE, Lesion, LesionTransform, Range, Region, case_name, picture_of

__all__ = [
    "ANOMALY",
    "CT_HU",
    "HU_SPAN",
    "MRI_RELATIVE",
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


class InjectHemorrhaged(LesionTransform):
    """Acute bleeding into the tissue: an irregular dense core within a thin rim of oedema.

    ``size_mm`` (default 10 to 40) includes the rim, which is 8 to 15 % of it and at most 4 mm wide. See
    :class:`LesionTransform`.
    """

    kind = "hemorrhage"

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        allowed = self._one_side(brain, brain)
        centre = shapes.sample_centre(self.R, allowed, 0.55 * size_mm, spacing)
        area = min(self._area_mm2(size_mm, brain), 0.6 * np.count_nonzero(allowed) * spacing**2)
        rim = min(self.R.uniform(0.08, 0.15) * size_mm, 4.0)
        blob = shapes.blob_level(self.R, brain.shape, centre, size_mm, spacing)
        whole, mask = self._part(shapes.level_for_area(blob, allowed, area, spacing), allowed)
        inner = shapes.level_for_area(blob, mask, area * (1 - 2 * rim / size_mm) ** 2, spacing)
        core, _ = self._part(inner, mask)
        regions = [self._region(whole, "rim", size_mm, spares_fluid=True), self._region(core, "core", size_mm)]
        return Lesion(mask, regions, {"rim_mm": float(rim)})


class InjectInfarctd(LesionTransform):
    """Ischaemic stroke: a wedge in the territory of one cerebral artery, apex inwards, base on the cortex.

    Tissue stays but is shifted, grey and white are drawn together, and fluid is spared. See :class:`LesionTransform`.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the diameter of the disc with the area of the mask.
        stage: ``"subacute"`` (kind ``infarct``, -8 to -20 HU) or ``"early"`` (kind ``early_infarct``, -3 to -8 HU,
            MRI nearly silent).
        args: as for :class:`LesionTransform`.
        kwargs: as for :class:`LesionTransform`.
    """

    kind = "infarct"
    # Bearings from the front of the head, and how often: middle, anterior, posterior cerebral artery.
    _territories: tuple[tuple[str, Range, float], ...] = (
        ("MCA", (55.0, 115.0), 0.65),
        ("ACA", (12.0, 30.0), 0.15),
        ("PCA", (145.0, 168.0), 0.2),
    )

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (25.0, 60.0),
        *args: Any,
        stage: str = "subacute",
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)
        if stage not in CT_HU["infarct"]:
            raise InputError.about("stage", f"got {stage!r}", f"use one of {', '.join(CT_HU['infarct'])}")
        self.stage = stage
        self.kind = "infarct" if stage == "subacute" else "early_infarct"

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        share = [weight for *_, weight in self._territories]
        territory, bearings, _ = self._territories[self.R.choice(len(share), p=share)]
        bearing = self.R.uniform(*bearings) * self.R.choice([-1.0, 1.0])
        level = shapes.wedge_level(self.R, brain, bearing, self._area_mm2(size_mm, brain), self.pixel_spacing_mm)
        profile, mask = self._part(level, brain)
        region = self._region(profile, self.stage, size_mm, replaces=False, spares_fluid=True)
        return Lesion(mask, [region], {"territory": territory, "stage": self.stage})


class InjectTumourd(LesionTransform):
    """Tumour with a necrotic middle and finger-like oedema that spares the cortex.

    ``size_mm`` (25 to 60 by default) includes the oedema; the core takes 20 to 35 % of the area and is as large as
    the edge of the brain allows. See :class:`LesionTransform`.
    """

    kind = "tumour"

    def __init__(
        self, keys: KeysCollection = names.MODALITIES, size_mm: Range = (25.0, 60.0), *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        depth = ndimage.distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1] * spacing
        white = depth > min(5.0, 0.3 * float(depth.max()))
        # Oedema follows white matter: it ends at the cortex and at the fissure between the hemispheres.
        allowed = self._one_side(white, brain)
        area = min(self._area_mm2(size_mm, brain), 0.45 * np.count_nonzero(allowed) * spacing**2)
        centre = shapes.sample_centre(self.R, allowed, 0.38 * size_mm, spacing)
        share = self.R.uniform(0.2, 0.35)
        diameter = size_mm * np.sqrt(share)
        blob = shapes.blob_level(self.R, brain.shape, centre, diameter, spacing)
        core_level = shapes.level_for_area(blob, allowed, area * share, spacing)
        fingers = np.maximum(shapes.finger_level(self.R, brain.shape, centre, size_mm, spacing), core_level + 2.0)
        whole, mask = self._part(shapes.level_for_area(fingers, allowed, area, spacing), allowed)
        core, core_mask = self._part(core_level, mask)
        inner = shapes.blob_level(self.R, brain.shape, centre, 0.55 * diameter, spacing, irregularity=0.14)
        inside = ndimage.binary_erosion(core_mask) if core_mask.sum() > 25 else core_mask
        necrosis, _ = self._part(shapes.level_for_area(inner, inside, area * share * 0.25, spacing), inside)
        regions = [
            self._region(whole, "oedema", size_mm, spares_fluid=True),
            self._region(core, "core", diameter),
            self._region(necrosis, "necrosis", diameter),
        ]
        return Lesion(mask, regions, {"core_mm": shapes.equivalent_diameter_mm(core_mask, spacing)})


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


InjectHemorrhageD = InjectHemorrhageDict = InjectHemorrhaged
InjectInfarctD = InjectInfarctDict = InjectInfarctd
InjectTumourD = InjectTumourDict = InjectTumourd
InjectWrongPairD = InjectWrongPairDict = InjectWrongPaird
