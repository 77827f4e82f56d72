"""A scorer as a MONAI transform: evidence written into the case, where saving, inverting and collecting find it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config.type_definitions import KeysCollection
from monai.data import get_track_meta
from monai.transforms import MapTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple

from monai_ctmri import keys as names
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.network_run import case_name
from monai_ctmri.scoring.scorer import Scorer

__all__ = ["ScoreCaseD", "ScoreCaseDict", "ScoreCased"]


class ScoreCased(MapTransform):
    """Judge a case and write what the scorer says into it.

    - ``anomaly_map``: the map ``map_name``, float32 (1, H, W), with the metadata and the record of invertible
      transforms of the image, so that MONAI's ``Invertd`` and ``SaveImaged`` bring it to the grid of the input;
    - ``scores`` and ``features``: name to number.

    Args:
        keys: the one entry that holds the image (C, H, W). See also: MapTransform.
        scorer: fitted, where it needs to be.
        map_name: name of the map to write. Several names are a preference: the first that the case has (one with a
            single modality has no ``mismatch``). None writes no map.
        allow_missing_keys: leave a case without the image as it is. Defaults to False.

    Raises:
        ValueError: ``keys`` names more than one entry.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI declares it so

    def __init__(
        self,
        keys: KeysCollection,
        scorer: Scorer,
        map_name: str | Sequence[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"ScoreCased judges one image, got the keys {', '.join(map(str, self.keys))}.")
        self.scorer = scorer
        self.map_names: tuple[str, ...] = () if map_name is None else ensure_tuple(map_name)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the case with its evidence.

        Raises:
            KeyError: the image is missing.
            InputError: what the scorer refuses, or the scorer drew none of the maps.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            case = {str(name): value for name, value in d.items()} | {names.IMAGE: d[key]}
            evidence = self.scorer.score(case)
            if self.map_names:
                image = convert_to_tensor(d[key], track_meta=get_track_meta())
                chosen = self._chosen(evidence.maps, case)
                d[names.ANOMALY_MAP] = convert_to_dst_type(evidence.maps[chosen][None], image, dtype="float32")[0]
            d[names.SCORES] = dict(evidence.scores)
            d[names.FEATURES] = dict(evidence.features)
        return d

    def _chosen(self, maps: Mapping[str, Any], case: Mapping[str, Any]) -> str:
        for name in self.map_names:
            if name in maps:
                return name
        raise InputError.about(
            case_name(case),
            f"has no map {' nor '.join(self.map_names)}",
            f"choose map_name from {', '.join(maps) or 'another scorer: this one draws none'}",
        )


ScoreCaseD = ScoreCaseDict = ScoreCased
