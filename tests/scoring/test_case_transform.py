"""A scorer inside a MONAI chain: what it writes, whose metadata that has, and the way back to the input's grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd, Rotate90d, SpatialPadd

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.case_transform import ScoreCaseD, ScoreCased, ScoreCaseDict
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.transforms import StackModalitiesd


class Channels:
    """Each channel is its own map; the score is its maximum."""

    def __init__(self) -> None:
        self.seen: list[dict] = []

    def fit(self, normal_cases):
        return self

    def score(self, case) -> Evidence:
        self.seen.append(dict(case))
        image = np.asarray(case[keys.IMAGE], dtype=np.float32)
        named = {name: one for name, one in zip(("ct", "mri"), image, strict=True) if one.any()}
        scores = {f"{name}_max": float(one.max()) for name, one in named.items()}
        return Evidence(maps=named, scores=scores, features={"latent_000": 2.5})


def picture(seed: int = 0, shape: tuple[int, ...] = (2, 12, 20)) -> MetaTensor:
    image = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return MetaTensor(image, meta={"filename_or_obj": "a.png"})


def test_evidence_is_written_into_the_case() -> None:
    image = picture()
    case = {"image": image, "case": "subject-1", "label": 1}
    found = ScoreCased("image", Channels(), "mri")(case)
    assert set(case) == {"image", "case", "label"}
    assert set(found) == {*case, "anomaly_map", "scores", "features"}
    assert torch.equal(torch.as_tensor(found["anomaly_map"]), image.as_tensor()[1:])
    assert found["anomaly_map"].dtype == torch.float32
    assert found["scores"] == {"ct_max": float(image[0].max()), "mri_max": float(image[1].max())}
    assert found["features"] == {"latent_000": 2.5}


def test_the_scorer_is_given_the_case_under_the_name_image() -> None:
    scorer = Channels()
    image = picture()
    ScoreCased("aligned", scorer, "ct")({"aligned": image, "image": picture(1), "case": "subject-1"})
    assert scorer.seen[0][keys.CASE] == "subject-1"
    assert torch.equal(scorer.seen[0][keys.IMAGE], image)


@pytest.mark.parametrize("kind", [np.asarray, lambda image: image.as_tensor(), lambda image: image])
def test_any_array_gives_a_metatensor(kind) -> None:
    found = ScoreCased("image", Channels(), "ct")({"image": kind(picture())})
    assert isinstance(found["anomaly_map"], MetaTensor)
    assert found["anomaly_map"].shape == (1, 12, 20)


def test_without_a_name_no_map_is_written() -> None:
    found = ScoreCased("image", Channels())({"image": picture()})
    assert "anomaly_map" not in found
    assert set(found["scores"]) == {"ct_max", "mri_max"}


def test_names_are_a_preference() -> None:
    image = picture()
    image[1] = 0.0
    transform = ScoreCased("image", Channels(), ("mri", "ct"))
    assert torch.equal(transform({"image": image})["anomaly_map"], image[:1])
    assert torch.equal(transform({"image": picture()})["anomaly_map"], picture()[1:])
    with pytest.raises(InputError, match="subject-1: has no map mri; choose map_name from ct"):
        ScoreCased("image", Channels(), "mri")({"image": image, "case": "subject-1"})


def test_the_map_has_the_metadata_of_the_image() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(picture(), affine=affine, meta={"filename_or_obj": "a.png"})
    found = ScoreCased("image", Channels(), "ct")({"image": image})["anomaly_map"]
    assert found.meta["filename_or_obj"] == "a.png"
    assert torch.equal(found.affine, affine)


def test_the_map_goes_back_to_the_grid_of_the_input() -> None:
    """Turned and padded before scoring; inverted, the map of the MRI is the MRI as it was."""
    before = Compose(
        [StackModalitiesd(), Rotate90d(keys="image", k=1), SpatialPadd(keys="image", spatial_size=(32, 32))]
    )
    ct, mri = picture(1, (1, 12, 20)), picture(2, (1, 12, 20))
    case = ScoreCased("image", Channels(), "mri")(before({"ct": ct, "mri": mri}))
    assert case["anomaly_map"].shape == (1, 32, 32)
    assert len(case["anomaly_map"].applied_operations) == len(case["image"].applied_operations) == 2
    back = Invertd(keys="anomaly_map", transform=before, orig_keys="image", nearest_interp=False)(case)
    assert torch.equal(back["anomaly_map"].as_tensor(), mri.as_tensor())


def test_evidence_survives_a_batch() -> None:
    cases = [ScoreCased("image", Channels(), "ct")({"image": picture(seed)}) for seed in range(3)]
    again = decollate_batch(list_data_collate(cases))
    for one, other in zip(cases, again, strict=True):
        assert torch.equal(one["anomaly_map"], other["anomaly_map"])
        for name, value in one["scores"].items():
            assert float(other["scores"][name]) == pytest.approx(value)


def test_a_missing_image_is_an_error_unless_allowed() -> None:
    with pytest.raises(KeyError):
        ScoreCased("image", Channels(), "ct")({"case": "a"})
    case = {"case": "a"}
    assert ScoreCased("image", Channels(), "ct", allow_missing_keys=True)(case) == case


def test_one_image_only() -> None:
    with pytest.raises(ValueError, match="one image, got the keys ct, mri"):
        ScoreCased(("ct", "mri"), Channels())


def test_aliases() -> None:
    assert ScoreCaseD is ScoreCaseDict is ScoreCased
