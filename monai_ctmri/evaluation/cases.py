"""Preprocessed cases of a benchmark, and their abnormal twins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from monai_ctmri import keys
from monai_ctmri.data.dataset import datalist
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.anomalies import (
    InjectHemorrhaged,
    InjectInfarctd,
    InjectTumourd,
    InjectWrongPaird,
    LesionTransform,
    abnormal_twins,
)
from monai_ctmri.transforms.brain import BrainMask
from monai_ctmri.transforms.loading import LoadMask

__all__ = ["FIELD_OF_VIEW_MM", "abnormal_cases", "load_cases", "make_anomalies"]


FIELD_OF_VIEW_MM = 240.0
"""Width of a slice whose file does not say (pictures never do): about that of a head scan."""

_MIN_BRAIN_SHARE = 0.08
_CLOSEST_DONORS = 5


def load_cases(
    manifest: Manifest, preprocess: Callable[[dict[str, Any]], Any], modalities: Sequence[str]
) -> list[dict[str, Any]]:
    """Load and preprocess the cases of a manifest.

    Args:
        manifest: cases to load, in this order.
        preprocess: the deterministic preprocessing of the bundle: paths in, ``image`` [C, H, W] out.
        modalities: entries kept besides ``image``.

    Returns:
        Dictionaries with ``case``, ``subject``, ``label`` (None where unknown), ``image``, the single modalities,
        ``brain`` (intracranial mask [1, H, W]), ``mask`` (where the manifest has one, on the grid of the image) and
        ``mri_contrast`` where the note names one.
    """
    brain_of = BrainMask(ct_channel=0 if keys.CT in modalities else None)
    cases = []
    for entry, item in zip(manifest, datalist(manifest, None, modalities), strict=True):
        image = preprocess(item)[keys.IMAGE]
        case: dict[str, Any] = {
            keys.CASE: entry.name,
            keys.SUBJECT: entry.subject,
            keys.LABEL: entry.label,
            keys.IMAGE: image,
            "brain": brain_of(image),
            **{name: image[index : index + 1] for index, name in enumerate(modalities)},
        }
        if entry.mask is not None:
            case[keys.MASK] = _mask_on_grid(entry.mask, image.shape[-2:])
        contrast = entry.note.partition(";")[0].strip()
        if contrast in ("T1", "T2", "PD", "FLAIR"):
            case["mri_contrast"] = contrast
        cases.append(case)
    return cases


def _mask_on_grid(path: Any, size: Sequence[int]) -> torch.Tensor:
    """A lesion mask after the same geometry as the images: longest side to the size, then padded to the square.

    ``nearest-exact`` takes the pixel at the centre as ``bilinear`` does; ``nearest`` is half a pixel off.
    """
    from monai.transforms import Compose, Resize, ResizeWithPadOrCrop

    geometry = Compose([Resize(max(size), size_mode="longest", mode="nearest-exact"), ResizeWithPadOrCrop(tuple(size))])
    return geometry(LoadMask()(path))


def make_anomalies(
    modalities: Sequence[str], image_size: int, donors: Sequence[Any], contrast: float = 1.0
) -> list[LesionTransform]:
    """The anomalies that a benchmark injects; a wrong pair needs both modalities and a donor of another subject."""
    options: dict[str, Any] = {
        "keys": tuple(modalities),
        "contrast": contrast,
        "pixel_spacing_mm": FIELD_OF_VIEW_MM / image_size,
        "allow_missing_keys": True,
    }
    anomalies: list[LesionTransform] = [
        InjectHemorrhaged(**options),
        InjectInfarctd(**options),
        InjectTumourd(**options),
    ]
    if len(modalities) > 1 and donors:
        anomalies.append(InjectWrongPaird(donors, **options))
    return anomalies


def abnormal_cases(
    normals: Sequence[Any],
    modalities: Sequence[str],
    donors: Sequence[Any],
    seed: int,
    contrast: float = 1.0,
) -> Iterator[dict[str, Any]]:
    """Yield an abnormal twin of every normal case for every kind of anomaly that can be injected into it.

    Slices with hardly any brain (less than 8 % of the picture) get no lesion: there is nowhere to put one.
    """
    usable = [case for case in normals if float(np.asarray(case["brain"]).mean()) >= _MIN_BRAIN_SHARE]
    if not usable:
        return
    size = int(usable[0][keys.IMAGE].shape[-1])
    for case in usable:
        for anomaly in make_anomalies(modalities, size, _donors_at_level(case, donors), contrast):
            try:
                (twin,) = abnormal_twins([case], [anomaly], seed)
            except InputError as error:
                raise InputError(f"cannot inject {anomaly.kind}: {error}") from error
            twin["kind"] = anomaly.kind
            yield {str(name): value for name, value in twin.items()}


def _donors_at_level(case: Mapping[str, Any], donors: Sequence[Any]) -> list[Any]:
    """Slices of other subjects at about the same level: a partner from the neck would be too easy to see.

    The size of the intracranial region stands for the level, which pictures do not tell.
    """
    area = float(np.asarray(case["brain"]).sum())
    others = [donor for donor in donors if donor[keys.SUBJECT] != case[keys.SUBJECT]]
    return sorted(others, key=lambda donor: abs(float(np.asarray(donor["brain"]).sum()) - area))[:_CLOSEST_DONORS]
