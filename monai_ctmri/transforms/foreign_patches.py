"""Training anomalies of family A made of another normal case: foreign patch and Poisson image interpolation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection

from .. import keys as names
from ..errors import InputError
from .intervals import Range, interval
from .lesion import case_name
from .poisson_blending import poisson_blend
from .training_anomaly import Drawn, TrainingAnomaly, plane_of
from .training_shapes import box_profile, sample_pixel

__all__ = [
    "Donors",
    "RandForeignPatchD",
    "RandForeignPatchDict",
    "RandForeignPatchd",
    "RandPoissonPatchD",
    "RandPoissonPatchDict",
    "RandPoissonPatchd",
]

Donors = Sequence[Mapping[Hashable, Any]] | Callable[[np.random.RandomState], Mapping[Hashable, Any]]


class RandForeignPatchd(TrainingAnomaly):
    """Foreign patch interpolation: ``(1 - alpha) x + alpha y`` inside a turned rectangle, ``y`` another normal case.

    After Tan, Hou, Batten, Qiu and Kainz, "Detecting outliers with foreign patch interpolation", MELBA 2022 (arXiv
    2011.04197, 2020). The mask holds ``alpha`` (the larger of the modalities) inside the patch, the regression target
    of the paper, whatever ``contrast``; where target and donor both show air it is 0.

    Args:
        donors: preprocessed normal cases of the same grid with ``subject`` and the modalities, or a function from a
            random state to such a case. A list travels to every worker; a function that loads does not.
        keys: see :class:`TrainingAnomaly`.
        size_mm: range of the diameter of the disc with the area of the patch. Defaults to (15, 70).
        alpha: range of the share of the donor, inside [0, 1]. Defaults to (0.05, 0.95), as in the paper.
        kwargs: as for :class:`TrainingAnomaly`.

    Raises:
        InputError: when the case has no subject or no donor of another subject fits.
    """

    kind = "foreign_patch"
    source = "Tan et al., arXiv 2011.04197, 2020"
    _tries = 64

    def __init__(
        self,
        donors: Donors,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (15.0, 70.0),
        alpha: Range = (0.05, 0.95),
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, **kwargs)
        self.donors = donors
        self.alpha = interval("alpha", alpha, 0.0, 1.0)

    def _draw_donor(self, data: Mapping[Hashable, Any], pictures: dict[Hashable, np.ndarray]) -> Any:
        subject = data.get(names.SUBJECT)
        if subject is None:
            raise InputError.about(
                case_name(data), f"has no {names.SUBJECT}", "name the subject, so that the donor is another"
            )
        shape = next(iter(pictures.values())).shape

        def fits(donor: Mapping[Hashable, Any]) -> bool:
            other = donor.get(names.SUBJECT)
            here = [donor.get(key) for key in pictures]
            same_grid = all(one is not None and tuple(one.shape) == (1, *shape) for one in here)
            return other is not None and other != subject and not donor.get(names.LABEL) and same_grid

        offers: Iterable[Mapping[Hashable, Any]]
        if callable(self.donors):
            draw = self.donors
            offers = (draw(self.R) for _ in range(self._tries))
        else:
            given = self.donors
            offers = (given[int(index)] for index in self.R.permutation(len(given)))
        donor = next((offer for offer in offers if fits(offer)), None)
        if donor is None:
            raise InputError.about(
                case_name(data), f"no normal donor of another subject has slices of shape {(1, *shape)}", "add donors"
            )
        return {names.SUBJECT: donor[names.SUBJECT], **{key: plane_of(donor, key) for key in pictures}}

    def _draw_profile(self, brain: np.ndarray, size_px: float) -> np.ndarray:
        return box_profile(self.R, brain.shape, sample_pixel(self.R, brain), size_px)

    def _limited(self, profile: np.ndarray, pictures: dict[Hashable, np.ndarray], donor: Any) -> np.ndarray:
        shows = [picture > 0 for key in pictures for picture in (pictures[key], donor[key])]
        return profile * np.any(shows, axis=0)

    def _draw_effect(self, profile: np.ndarray) -> float:
        return float(self.R.uniform(*self.alpha))

    def _mask(self, drawn: Drawn) -> np.ndarray:
        return (drawn.profile > 0.5).astype(np.float32) * np.float32(max(drawn.effects.values()))

    def _changed(self, pictures: dict[Hashable, np.ndarray], drawn: Drawn) -> dict[Hashable, np.ndarray]:
        if drawn.donor is None:
            raise InputError.about(self.kind, "no donor was drawn", "call with randomize=True first")
        out = {}
        for key, picture in pictures.items():
            share = np.float32(self.contrast * drawn.effects[key]) * drawn.profile
            out[key] = picture + share * (drawn.donor[key] - picture)
        return out


class RandPoissonPatchd(RandForeignPatchd):
    """Poisson image interpolation: as :class:`RandForeignPatchd`, but gradients are interpolated and no seam shows.

    After Tan et al., "Detecting outliers with Poisson image interpolation", MICCAI 2021; see
    :func:`~monai_ctmri.transforms.poisson_blending.poisson_blend` for the equation. The patch stays a pixel off the
    frame, and the result is clipped to [0, 1].

    Args:
        donors: see :class:`RandForeignPatchd`.
        keys: see :class:`TrainingAnomaly`.
        size_mm: range of the diameter of the disc with the area of the patch. Defaults to (15, 70).
        alpha: range of the share of the donor's gradient, inside [0, 1]. Defaults to (0.05, 0.95).
        kwargs: as for :class:`TrainingAnomaly`.
    """

    kind = "poisson_patch"
    source = "Tan et al., MICCAI 2021"

    def _limited(self, profile: np.ndarray, pictures: dict[Hashable, np.ndarray], donor: Any) -> np.ndarray:
        patch = super()._limited(profile, pictures, donor) > 0.5
        patch[[0, -1]] = False
        patch[:, [0, -1]] = False
        return patch.astype(np.float32)

    def _changed(self, pictures: dict[Hashable, np.ndarray], drawn: Drawn) -> dict[Hashable, np.ndarray]:
        if drawn.donor is None:
            raise InputError.about(self.kind, "no donor was drawn", "call with randomize=True first")
        donor, patch = drawn.donor, drawn.profile > 0
        if not patch.any():
            return pictures
        # Only the patch and the border around it matter to the equation.
        rows, columns = (np.flatnonzero(patch.any(axis)) for axis in (1, 0))
        window = (slice(rows[0] - 1, rows[-1] + 2), slice(columns[0] - 1, columns[-1] + 2))
        share = np.array([self.contrast * drawn.effects[key] for key in pictures])[:, None, None]
        target = np.stack([pictures[key][window] for key in pictures])
        blended = poisson_blend(target, np.stack([donor[key][window] for key in pictures]), patch[window], share)
        out = {key: picture.copy() for key, picture in pictures.items()}
        for key, picture in zip(out, blended, strict=True):
            out[key][window] = np.where(patch[window], picture, out[key][window])
        return out


RandForeignPatchD = RandForeignPatchDict = RandForeignPatchd
RandPoissonPatchD = RandPoissonPatchDict = RandPoissonPatchd
