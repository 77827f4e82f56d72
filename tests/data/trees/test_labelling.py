"""Masks by name and grid; labels only from what states them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.trees.evidence import DraftCase, Layout, Placed
from monai_ctmri.data.trees.labelling import attach_masks, judge_normal, label_cases


def placed(
    root: Path, name: str, key: str, contrast: str = "", size: int = 6, value: int = 0, modality: str = "mri"
) -> Placed:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)
    return Placed(path, path.relative_to(root).parts[:-1], path.stem, "picture", modality, contrast, (key,))


def said(layout: Layout) -> str:
    return "\n".join(f"{e.claim} - {e.basis} - {e.verdict}" for e in layout.evidence)


def test_a_mask_goes_to_the_image_of_its_name_and_size(tmp_path: Path) -> None:
    one, two = (DraftCase(mri=placed(tmp_path, f"{i}_flair.png", str(i))) for i in (1, 2))
    layout = Layout("names", masks=[placed(tmp_path, "1_mask.png", "1"), placed(tmp_path, "2_mask.png", "2", size=7)])
    layout.masks.append(placed(tmp_path, "9_mask.png", "9"))
    attach_masks(layout, [one, two])
    assert one.mask is layout.masks[0]
    assert two.mask is None
    assert {p.name: r for p, r in layout.ignored} == {
        "2_mask.png": "no image has its size and place",
        "9_mask.png": "a mask whose name fits no image",
    }


def test_one_mask_for_all_contrasts_unless_it_names_one(tmp_path: Path) -> None:
    t1, t2 = (DraftCase(mri=placed(tmp_path, f"p_{c}.png", "p", c)) for c in ("T1", "T2"))
    attach_masks(Layout("names", masks=[placed(tmp_path, "p_seg.png", "p")]), [t1, t2])
    assert t1.mask
    assert t1.mask is t2.mask
    t1.mask = t2.mask = None
    attach_masks(Layout("names", masks=[placed(tmp_path, "p_T2_lesionmask.png", "p")]), [t1, t2])
    assert t1.mask is None
    assert t2.mask is not None


def test_a_second_mask_is_left_out(tmp_path: Path) -> None:
    draft = DraftCase(mri=placed(tmp_path, "1.png", "1"))
    layout = Layout("names", masks=[placed(tmp_path, f"1_{w}.png", "1") for w in ("mask", "seg")])
    attach_masks(layout, [draft])
    assert [p.name for p, _ in layout.ignored] == ["1_seg.png"]


def test_labels_by_the_nearest_folder(tmp_path: Path) -> None:
    names = {
        "brain_tumor/normal/1.png": 0,
        "brain_tumor/tumor/2.png": 1,
        "other/3.png": None,
        "tumor_dataset/4.png": None,
    }
    drafts = [DraftCase(mri=placed(tmp_path, name, name)) for name in names]
    label_cases(Layout("folders"), drafts)
    assert [d.label for d in drafts] == list(names.values())


@pytest.mark.parametrize(
    ("folder", "label"), [("normal", 0), ("head-ct-hemorrhage", None), ("head-ct-hemorrhage/normal", 0)]
)
def test_a_sets_name_labels_nothing(tmp_path: Path, folder: str, label: int | None) -> None:
    drafts = [DraftCase(mri=placed(tmp_path, f"{folder}/{i}.png", str(i))) for i in range(2)]
    label_cases(Layout("folders"), drafts)
    assert [d.label for d in drafts] == [label] * 2


def test_labels_by_mask(tmp_path: Path) -> None:
    drafts = []
    for i, value in enumerate((0, 255)):
        drafts.append(DraftCase(mri=placed(tmp_path, f"{i}.png", str(i))))
        drafts[-1].mask = placed(tmp_path, f"{i}_mask.png", str(i), value=value)
    layout = Layout("names")
    label_cases(layout, drafts, check_content=False)
    assert [d.label for d in drafts] == [None, None]
    label_cases(layout, drafts)
    assert [d.label for d in drafts] == [0, 1]
    assert "2 by their lesion mask" in said(layout)


def test_folder_against_mask_is_unknown(tmp_path: Path) -> None:
    draft = DraftCase(
        mri=placed(tmp_path, "normal/1.png", "1"), mask=placed(tmp_path, "normal/1_mask.png", "1", value=9)
    )
    layout = Layout("names")
    label_cases(layout, [draft])
    assert draft.label is None
    assert "folder and mask disagree" in said(layout)


def test_a_pair_from_two_labels_is_unknown(tmp_path: Path) -> None:
    ct = placed(tmp_path, "normal/ct.png", "1", modality="ct")
    draft = DraftCase(ct=ct, mri=placed(tmp_path, "tumor/mri.png", "1"))
    label_cases(Layout("names"), [draft])
    assert draft.label is None


@pytest.mark.parametrize(
    ("labels", "answer"),
    [([0, 0], True), ([0, 1], False), ([None, 1], False), ([0, None], None), ([None], None), ([], None)],
)
def test_normal_only(labels: list[int | None], answer: bool | None) -> None:
    layout = Layout("names")
    assert judge_normal(layout, labels) is answer
    assert len(layout.evidence) == 1


def test_the_named_set_is_documented_not_measured() -> None:
    layout = Layout("cyclegan", named_set=True)
    assert judge_normal(layout, [None]) is False
    assert "documented, not measured" in said(layout)
    assert "22-30 %" in said(layout)
