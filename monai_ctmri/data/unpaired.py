"""Training on unpaired pictures: each draw puts a CT of one case beside an MRI of another, and says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.data.utils import set_rnd
from monai.transforms import Randomizable
from monai.utils import convert_to_tensor
from torch.utils.data import Dataset, get_worker_info

from monai_ctmri import keys
from monai_ctmri.data.dataset import datalist
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.errors import InputError

__all__ = ["UnpairedDataset", "unpaired_datalist"]

logger = logging.getLogger(__name__)


def unpaired_datalist(
    manifest: Manifest, split: str | None = None, *, fallback: str | None = None
) -> list[dict[str, Any]]:
    """List the pictures of one part, one entry a picture: the two of a pair are taken apart.

    Args:
        manifest: the cases.
        split: a part, or None for all cases.
        fallback: part to take instead, with a warning, when this one lacks CT or MRI.

    Returns:
        Entries as of :func:`~monai_ctmri.data.dataset.datalist`, each with one modality.

    Raises:
        InputError: when CT or MRI is missing.
    """
    cases = manifest.select(split=split)
    lacking = [name for name in keys.MODALITIES if not any(name in case.modalities for case in cases)]
    part = f"the {split} part" if split else "the manifest"
    if lacking and fallback is not None:
        logger.warning("%s has no %s; taking the %s part instead", part, " and no ".join(lacking), fallback)
        return unpaired_datalist(manifest, fallback)
    if lacking:
        problem = f"has no {' and no '.join(lacking)}"
        raise InputError.about(part, problem, "give pictures of both modalities; pairs are not needed")
    return [
        {**{name: value for name, value in item.items() if name not in keys.MODALITIES}, modality: item[modality]}
        for item in datalist(manifest, split, require="any")
        for modality in keys.MODALITIES
        if modality in item
    ]


class UnpairedDataset(Randomizable, Dataset):
    """Draw a CT and an MRI that do not belong together.

    An item is a picture of the modality that has more of them, in order, with a partner of the other modality drawn at
    random: from another subject where there is one, else from another case. Partners are used equally often. A new
    random state (:class:`~monai_ctmri.engines.SeededEpochs` sets one an epoch) draws new partners; without, they stay.

    Pictures are prepared, and their deterministic preparation kept in memory, one by one. The item has

    - ``image`` [2, H, W]: channel 0 of the CT's ``image``, channel 1 of the MRI's, no metadata;
    - ``case``: ``<CT's case> with <MRI's case>``; ``ct_case``, ``mri_case``, ``ct_subject``, ``mri_subject``;
    - ``paired``: False.

    Args:
        data: entries of :func:`unpaired_datalist`.
        transform: prepares one entry: paths in, ``image`` [2, H, W] out, the missing modality as a channel of zeros.
        cache_rate, num_workers, progress: of :class:`monai.data.CacheDataset`.
        seed: of the first draw of partners.

    Raises:
        InputError: when a modality is missing, or a picture has no partner but its own case.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable[..., Any],
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        progress: bool = False,
        seed: int = 0,
    ) -> None:
        self.data = list(data)
        self.places = {name: [i for i, item in enumerate(self.data) if name in item] for name in keys.MODALITIES}
        for name, places in self.places.items():
            if not places:
                raise InputError.about("unpaired data", f"has no {name}", "give pictures of both modalities")
        self.leading = max(keys.MODALITIES, key=lambda name: len(self.places[name]))
        self.other = next(name for name in keys.MODALITIES if name != self.leading)
        self.pictures = CacheDataset(
            self.data, transform, cache_rate=cache_rate, num_workers=num_workers, progress=progress
        )
        self.R = np.random.RandomState(seed)
        self.partners: list[int] = []
        self.randomize()

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> UnpairedDataset:
        """Seed the random transforms; draw new partners, but in a loader's worker: all workers share one draw."""
        super().set_random_state(seed, state)
        set_rnd(self.pictures, int(self.R.randint(2**31)))
        if get_worker_info() is None:
            self.randomize()
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw a partner for each picture of the leading modality."""
        self.partners = []
        waiting: list[int] = []
        for place in self.places[self.leading]:
            chosen = self._partner(place, waiting, keys.SUBJECT)
            if chosen is None:
                waiting += (int(i) for i in self.R.permutation(self.places[self.other]))
                chosen = self._partner(place, waiting, keys.SUBJECT)
            if chosen is None:
                chosen = self._partner(place, waiting, keys.CASE)
            if chosen is None:
                name = self.data[place][keys.CASE]
                raise InputError.about(name, "no other case has the other modality", "give at least two cases")
            waiting.remove(chosen)
            self.partners.append(chosen)

    def _partner(self, place: int, waiting: Sequence[int], relation: str) -> int | None:
        """The first of those waiting that is of another subject, or case."""
        own = self.data[place][relation]
        return next((other for other in waiting if self.data[other][relation] != own), None)

    def __len__(self) -> int:
        """Pictures of the modality that has more of them."""
        return len(self.partners)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return item ``index``, see the class."""
        chosen = {self.leading: self.places[self.leading][index], self.other: self.partners[index]}
        pictures: dict[str, Any] = {name: self.pictures[chosen[name]] for name in keys.MODALITIES}
        image = torch.stack(
            [
                convert_to_tensor(pictures[name][keys.IMAGE], dtype=torch.float32, track_meta=False)[channel]
                for channel, name in enumerate(keys.MODALITIES)
            ]
        )
        item: dict[str, Any] = {keys.IMAGE: image, "paired": False}
        for name in keys.MODALITIES:
            for what in (keys.CASE, keys.SUBJECT):
                item[f"{name}_{what}"] = str(self.data[chosen[name]][what])
        ct_case, mri_case = (item[f"{name}_{keys.CASE}"] for name in keys.MODALITIES)
        item[keys.CASE] = f"{ct_case} with {mri_case}"
        return item
