"""Every anomaly of family B as a fixed list: what a benchmark injects, by name and size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .. import keys as names
from ..errors import InputError
from .anomalies import InjectWrongPaird
from .artefact import ArtefactTransform
from .ct_artefacts import InjectLowDosed, InjectRingsd, InjectStreaksd
from .dense_anomalies import InjectCalcificationd, InjectMetald
from .displacement_anomalies import InjectAtrophyd, InjectHydrocephalusd, InjectMidlineShiftd
from .extra_axial import InjectCollectiond
from .lesion import LesionTransform
from .mri_artefacts import InjectBiasd, InjectGhostingd, InjectMotiond, InjectSpiked
from .one_modality import one_modality
from .pair_faults import InjectFlipd, InjectMisregistrationd, InjectWrongSliced, PairFaultTransform
from .structure_anomalies import InjectForeignStructured, InjectMissingStructured
from .tumour_anomalies import InjectTumourd
from .vascular_anomalies import InjectChronicInfarctd, InjectHemorrhaged, InjectInfarctd

__all__ = ["SIZES", "SUITE", "lesion_of", "lesion_suite", "size_of"]

SIZES: Mapping[str, float] = MappingProxyType({"small": 0.0, "medium": 0.5, "large": 1.0})
"""Where in the range of its kind a size lies: the lower end, the middle, the upper end."""

Make = Callable[..., LesionTransform]


def _with(make: Make, **fixed: Any) -> Make:
    return lambda **options: make(**fixed, **options)


def _alone(make: type[LesionTransform], key: str, **fixed: Any) -> Make:
    return lambda **options: one_modality(make, key, **fixed, **options)


SUITE: Mapping[str, Make] = MappingProxyType(
    {
        "hemorrhage": InjectHemorrhaged,
        "early_infarct": _with(InjectInfarctd, stage="early"),
        "infarct": _with(InjectInfarctd, stage="subacute"),
        "chronic_infarct": InjectChronicInfarctd,
        "tumour": InjectTumourd,
        "calcification": InjectCalcificationd,
        "metal": InjectMetald,
        "acute_collection": _with(InjectCollectiond, stage="acute"),
        "isodense_collection": _with(InjectCollectiond, stage="isodense"),
        "chronic_collection": _with(InjectCollectiond, stage="chronic"),
        "midline_shift": InjectMidlineShiftd,
        "hydrocephalus": InjectHydrocephalusd,
        "atrophy": InjectAtrophyd,
        "craniectomy": _with(InjectMissingStructured, structure="craniectomy"),
        "resection": _with(InjectMissingStructured, structure="resection"),
        "shunt_catheter": _with(InjectForeignStructured, structure="catheter"),
        "swapped_patch": _with(InjectForeignStructured, structure="patch"),
        "ct_streaks": InjectStreaksd,
        "ct_rings": InjectRingsd,
        "ct_low_dose": InjectLowDosed,
        "mri_motion": InjectMotiond,
        "mri_ghosting": InjectGhostingd,
        "mri_spike": InjectSpiked,
        "mri_bias": InjectBiasd,
        "wrong_pair": InjectWrongPaird,
        "wrong_slice": InjectWrongSliced,
        "misregistration": InjectMisregistrationd,
        "flip": InjectFlipd,
        # MRI shows ischaemia hours before CT does: at full strength there, not at all here.
        "infarct_mri_only": _alone(InjectInfarctd, names.MRI, stage="subacute"),
        "calcification_ct_only": _alone(InjectCalcificationd, names.CT),
    }
)
"""Kind to what makes its transform."""

_NEEDS_BOTH = {"wrong_pair", "wrong_slice", "misregistration", "flip"}
_NEEDS_DONORS = {"wrong_pair": "donors", "wrong_slice": "neighbours"}


def lesion_of(
    kind: str,
    size: str | None = None,
    *,
    donors: Sequence[Mapping[Any, Any]] = (),
    neighbours: Sequence[Mapping[Any, Any]] = (),
    **options: Any,
) -> LesionTransform:
    """Return the transform of one kind.

    Args:
        kind: a name of :data:`SUITE`.
        size: a name of :data:`SIZES`; None draws from the whole range. Artefacts have a strength in its place; pair
            faults have no size.
        donors: cases of other subjects, for a wrong pair.
        neighbours: other slices of the same subjects, for a wrong slice.
        options: as for :class:`~monai_ctmri.transforms.lesion.LesionTransform`.

    Raises:
        InputError: for an unknown kind or size.
    """
    if kind not in SUITE:
        raise InputError.about(f"kind {kind!r}", "unknown", f"use one of {', '.join(SUITE)}")
    if size is not None and size not in SIZES:
        raise InputError.about(f"size {size!r}", "unknown", f"use one of {', '.join(SIZES)}")
    given = {"donors": donors, "neighbours": neighbours}
    if kind in _NEEDS_DONORS:
        options = {**options, "donors": given[_NEEDS_DONORS[kind]]}
    made = SUITE[kind](**options)
    if size is None or isinstance(made, PairFaultTransform | InjectWrongPaird):
        return made
    option = "strength" if isinstance(made, ArtefactTransform) else "size_mm"
    low, high = getattr(made, option)
    value = low + SIZES[size] * (high - low)
    return SUITE[kind](**{**options, option: (value, value)})


def size_of(transform: LesionTransform) -> float | None:
    """The size in mm that a transform of one size asks for; None for artefacts and pair faults, which have none."""
    if isinstance(transform, ArtefactTransform | PairFaultTransform | InjectWrongPaird):
        return None
    low, high = transform.size_mm
    return low if low == high else None


def lesion_suite(
    modalities: Sequence[str] = names.MODALITIES,
    size: str | None = "medium",
    *,
    kinds: Sequence[str] | None = None,
    donors: Sequence[Mapping[Any, Any]] = (),
    neighbours: Sequence[Mapping[Any, Any]] = (),
    **options: Any,
) -> list[LesionTransform]:
    """Return a transform of every kind that the modalities at hand can show.

    Args:
        modalities: ``ct``, ``mri`` or both.
        size: as for :func:`lesion_of`.
        kinds: names of :data:`SUITE`; None takes all.
        donors, neighbours, options: as for :func:`lesion_of`; a fault that needs donors is left out without them.

    Raises:
        InputError: for an unknown kind or size.
    """
    chosen = list(SUITE) if kinds is None else list(kinds)
    given = {"donors": donors, "neighbours": neighbours}
    transforms = []
    for kind in chosen:
        if kind not in SUITE:
            raise InputError.about(f"kind {kind!r}", "unknown", f"use one of {', '.join(SUITE)}")
        if not _can_show(kind, modalities) or (kind in _NEEDS_DONORS and not given[_NEEDS_DONORS[kind]]):
            continue
        asked = {**options, "keys": tuple(modalities)}
        transforms.append(lesion_of(kind, size, donors=donors, neighbours=neighbours, **asked))
    return transforms


def _can_show(kind: str, modalities: Sequence[str]) -> bool:
    if kind in _NEEDS_BOTH or kind.endswith("_only"):
        return set(names.MODALITIES) <= set(modalities)
    prefix = kind.split("_")[0]
    return prefix not in names.MODALITIES or prefix in modalities
