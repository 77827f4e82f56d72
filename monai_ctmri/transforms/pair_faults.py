"""Injected faults of a pair: CT and MRI are fine each, and do not belong together as they lie."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import RandomizableTransform

from .. import keys as names
from ..errors import InputError
from . import k_space
from .artefact import head_of
from .lesion import Lesion, LesionTransform, Range, case_name, picture_of
from .slices import SLICE_INDEX

__all__ = [
    "InjectFlipD",
    "InjectFlipDict",
    "InjectFlipd",
    "InjectMisregistrationD",
    "InjectMisregistrationDict",
    "InjectMisregistrationd",
    "InjectWrongSliceD",
    "InjectWrongSliceDict",
    "InjectWrongSliced",
    "PairFaultTransform",
    "mirrored",
]

_SOURCE = "fault by definition; the ranges are those of the evaluation protocol"


class PairFaultTransform(LesionTransform):
    """Base of the faults of a pair: one modality is replaced by a picture that is sound on its own.

    The result is as for :class:`LesionTransform`; the mask is the whole head of the replaced modality, before and
    after, and ``size_mm`` of the record the diameter of the disc with its area. The record adds ``replaced``,
    ``source`` and what was drawn. The other modality stays as it is, bit for bit.

    Args:
        args: as for :class:`LesionTransform`; ``size_mm`` and ``location`` have no effect.
        replace: the entry to replace, ``"mri"`` (default) or ``"ct"``.
        kwargs: as for :class:`LesionTransform`; ``contrast`` is 0 (nothing changes) or 1.

    Raises:
        InputError: when an option is out of range or only one modality is present.
    """

    source = _SOURCE

    def __init__(self, *args: Any, replace: str = names.MRI, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if replace not in self.keys:
            raise InputError.about("replace", f"got {replace!r}", f"use one of {', '.join(map(str, self.keys))}")
        if self.contrast not in (0.0, 1.0):
            raise InputError.about("contrast", f"got {self.contrast}", "a pair is wrong or not: use 0 or 1")
        self.replace = replace

    @abstractmethod
    def _sample(self, data: Mapping[Hashable, Any]) -> Any:
        """Draw the fault from ``self.R``."""

    @abstractmethod
    def _replaced(self, image: np.ndarray, air: float, head: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """The picture (H, W) that takes the place of ``image``, and facts for the record."""

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        return Lesion(brain)

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Decide whether to inject, and draw the fault."""
        RandomizableTransform.randomize(self, None)
        if self._do_transform:
            if len(self._images(data)) < 2:
                raise InputError.about(case_name(data), "has one modality", f"{self.kind} needs both")
            self._drawn = self._sample(data)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Inject into one case; ``randomize=False`` repeats the last fault."""
        d = dict(data)
        if randomize:
            self.randomize(d)
        if not self._do_transform:
            return d
        if self._drawn is None:
            raise InputError.about(case_name(d), "no fault was drawn yet", "call with randomize=True first")
        images = self._images(d)
        if len(images) < 2:
            raise InputError.about(case_name(d), "has one modality", f"{self.kind} needs both")
        image = images[self.replace]
        head = head_of(image)
        new, facts = self._replaced(image, float(image.min()), head)
        after = dict(images)
        if self.contrast:
            after[self.replace] = new
        mask = head | head_of(new)
        details = {"replaced": str(self.replace), "source": self.source, **facts}
        return self._finish(d, images, after, mask, self._brain(d), details)


class InjectWrongSliced(PairFaultTransform):
    """One modality comes from another slice of the same subject.

    Args:
        donors: cases of the same grid, preprocessed alike, with entries ``subject``, ``replace`` and a level.
        args: as for :class:`PairFaultTransform`.
        least_slices: how far away a donor's slice must be, in slices; 2 by default.
        most_slices: how far away it may be; None, the default, sets no limit.
        level_key: entry with the number of the slice, ``"slice_index"`` by default; where a case lacks it, the last
            number in its ``case`` name is taken (``16012``, ``phantom_0001_07``, ``head_z31``).
        kwargs: as for :class:`PairFaultTransform`.

    Raises:
        InputError: when the case has no subject or no level, or no donor fits.
    """

    kind = "wrong_slice"

    def __init__(
        self,
        donors: Sequence[Mapping[Hashable, Any]],
        *args: Any,
        least_slices: float = 2,
        most_slices: float | None = None,
        level_key: str = SLICE_INDEX,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not 0 < least_slices <= (np.inf if most_slices is None else most_slices):
            raise InputError.about(
                "least_slices", f"got {least_slices} of at most {most_slices}", "use 0 < least_slices <= most_slices"
            )
        self.donors = donors
        self.least_slices = float(least_slices)
        self.most_slices = np.inf if most_slices is None else float(most_slices)
        self.level_key = level_key

    def _sample(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        subject, level = data.get(names.SUBJECT), self._level(data)
        if subject is None or level is None:
            missing = names.SUBJECT if subject is None else self.level_key
            raise InputError.about(case_name(data), f"has no {missing}", f"give the entry {missing}")
        shape = tuple(data[self.replace].shape)

        def away(donor: Mapping[Hashable, Any]) -> float | None:
            other, picture = self._level(donor), donor.get(self.replace)
            if donor.get(names.SUBJECT) != subject or other is None or picture is None or tuple(picture.shape) != shape:
                return None
            distance = abs(other - level)
            return other - level if self.least_slices <= distance <= self.most_slices else None

        fitting = [(donor, distance) for donor in self.donors if (distance := away(donor)) is not None]
        if not fitting:
            raise InputError.about(
                case_name(data),
                f"no donor is another slice of this subject with {self.replace} of shape {shape}",
                "add donors",
            )
        return dict(zip(("donor", "slices_away"), fitting[self.R.randint(len(fitting))], strict=True))

    def _level(self, case: Mapping[Hashable, Any]) -> float | None:
        given = case.get(self.level_key)
        if given is not None:
            return float(given)
        numbers = re.findall(r"\d+", str(case.get(names.CASE, "")))
        return float(numbers[-1]) if numbers else None

    def _replaced(self, image: np.ndarray, air: float, head: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        return picture_of(self._drawn["donor"], self.replace), {"slices_away": self._drawn["slices_away"]}


class InjectMisregistrationd(PairFaultTransform):
    """One modality lies beside its place: shifted 2 to 15 mm in any direction and turned 2 to 10 degrees either way.

    The picture is resampled once with a cubic spline; its fine noise is a little smoother than before.

    Args:
        args: as for :class:`PairFaultTransform`.
        shift_mm: range of the shift; (0, 0) for none.
        degrees: range of the turn about the middle of the picture; (0, 0) for none.
        kwargs: as for :class:`PairFaultTransform`.

    Raises:
        InputError: when a range is out of order or both are none.
    """

    kind = "misregistration"

    def __init__(self, *args: Any, shift_mm: Range = (2.0, 15.0), degrees: Range = (2.0, 10.0), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, (low, high) in (("shift_mm", shift_mm), ("degrees", degrees)):
            if not 0 <= low <= high < np.inf:
                raise InputError.about(name, f"got {(low, high)}", "give (low, high) with 0 <= low <= high")
        if max(shift_mm[1], degrees[1]) == 0:
            raise InputError.about("shift_mm", "is (0, 0) and so is degrees", "allow a shift or a turn")
        self.shift_mm, self.degrees = shift_mm, degrees

    def _sample(self, data: Mapping[Hashable, Any]) -> dict[str, float]:
        shift, bearing = self.R.uniform(*self.shift_mm), self.R.uniform(0, 2 * np.pi)
        return {
            "degrees": float(self.R.uniform(*self.degrees) * self.R.choice([-1.0, 1.0])),
            "down_mm": float(shift * np.sin(bearing)),
            "right_mm": float(shift * np.cos(bearing)),
        }

    def _replaced(self, image: np.ndarray, air: float, head: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        drawn, spacing = self._drawn, self.pixel_spacing_mm
        pose = (drawn["degrees"], drawn["down_mm"] / spacing, drawn["right_mm"] / spacing)
        return k_space.move(image, pose, air), {
            **drawn,
            "shift_mm": float(np.hypot(drawn["down_mm"], drawn["right_mm"])),
        }


class InjectFlipd(PairFaultTransform):
    """One modality is stored left for right, and then laid over the other head as registration would.

    The picture is mirrored about the middle column of its head; what the frame cuts off is air. See
    :class:`PairFaultTransform`.
    """

    kind = "flip"

    def _sample(self, data: Mapping[Hashable, Any]) -> dict[str, Any]:
        return {}

    def _replaced(self, image: np.ndarray, air: float, head: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        columns = np.flatnonzero(head.any(axis=0))
        twice = int(columns[0] + columns[-1]) if len(columns) else image.shape[1] - 1
        return mirrored(image, twice, air), {"mirror_column": twice / 2}


def mirrored(image: np.ndarray, twice_column: int, fill: float) -> np.ndarray:
    """Mirror a picture (H, W) about the column ``twice_column / 2``, whole or half, so that no pixel is blended."""
    source = twice_column - np.arange(image.shape[1])
    inside = (source >= 0) & (source < image.shape[1])
    return np.where(inside, image[:, np.clip(source, 0, image.shape[1] - 1)], fill)


InjectWrongSliceD = InjectWrongSliceDict = InjectWrongSliced
InjectMisregistrationD = InjectMisregistrationDict = InjectMisregistrationd
InjectFlipD = InjectFlipDict = InjectFlipd
