"""Cases as they would come with fewer modalities: a pair, its CT alone, its MRI alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai_ctmri import keys

__all__ = ["with_single_modalities"]


def with_single_modalities(
    items: Sequence[dict[str, Any]], modalities: Sequence[str] = keys.MODALITIES
) -> list[dict[str, Any]]:
    """Repeat each case that has several modalities with each of them alone.

    Normals are listed like this for a calibration that has to hold for pairs, for CT alone and for MRI alone.

    Args:
        items: as :func:`~monai_ctmri.data.dataset.datalist` lists them; they are left as they are.
        modalities: which entries are modalities.

    Returns:
        The cases, each followed by its parts: ``<case>-only-<modality>``, of the same subject and label.
    """
    found: list[dict[str, Any]] = []
    for item in items:
        found.append(item)
        present = [name for name in modalities if item.get(name)]
        for name in present if len(present) > 1 else ():
            part = {key: value for key, value in item.items() if key not in modalities}
            found.append({**part, keys.CASE: f"{item[keys.CASE]}-only-{name}", name: item[name]})
    return found
