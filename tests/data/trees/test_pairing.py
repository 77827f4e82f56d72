"""Pairs are made where the layout states them, or where names, sizes and content agree; else never."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.trees.evidence import DraftCase, Layout, Placed
from monai_ctmri.data.trees.pairing import FEWEST, form_cases


def head(rng: np.random.Generator, size: int = 40) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size - 0.5
    plane = np.where(x**2 + y**2 < 0.2, 90, 0)
    for _ in range(6):
        a, b, r = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3), rng.uniform(0.06, 0.12)
        plane[(x - a) ** 2 + (y - b) ** 2 < r**2] = rng.integers(60, 250)
    return plane


def image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.uint8(pixels)).save(path)
    return path


def pictures(root: Path, count: int, *, partner: str = "true", mri_size: tuple[int, int] | None = None) -> Layout:
    rng, layout = np.random.default_rng(1), Layout("folders")
    heads = [head(rng) for _ in range(count)]
    for i, ct in enumerate(heads):
        other = ct if partner == "true" else heads[(i + 1) % count]
        mri = np.where(other > 0, 255 - other * 0.8, 0)
        mri = np.asarray(Image.fromarray(np.uint8(mri)).resize(mri_size)) if mri_size else mri
        for modality, pixels in (("ct", ct), ("mri", mri)):
            path = image(root / modality / f"{i}.png", pixels)
            layout.images.append(Placed(path, (modality,), str(i), "picture", modality, key=(str(i),)))
    return layout


def pairs(drafts: list[DraftCase]) -> list[tuple[str, str]]:
    return [(d.ct.stem, d.mri.stem) for d in drafts if d.ct and d.mri]


def said(layout: Layout) -> str:
    return "\n".join(f"{e.claim} - {e.basis} - {e.verdict}" for e in layout.evidence)


def test_true_pairs(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 16)
    assert pairs(form_cases(layout)) == [(str(i), str(i)) for i in range(16)]
    assert "more than strangers share" in said(layout)
    assert "n = 16" in said(layout)


def test_equal_names_of_strangers(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 16, partner="next")
    drafts = form_cases(layout)
    assert not pairs(drafts)
    assert len(drafts) == 32
    assert "no more than strangers share" in said(layout)
    assert "equal numbers are no evidence" in said(layout)


def test_true_content_of_unequal_size_is_no_pair(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 16, mri_size=(50, 50))
    assert not pairs(form_cases(layout))
    assert "equal in 0 of 16" in said(layout)


def test_too_few_to_judge(tmp_path: Path) -> None:
    layout = pictures(tmp_path, FEWEST - 1)
    assert not pairs(form_cases(layout))
    assert "cannot be judged" in said(layout)


def test_names_alone_never_pair(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 16)
    assert not pairs(form_cases(layout, check_content=False))
    assert "not confirmed" in said(layout)


def test_one_odd_size_among_many_is_left_apart(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 24)
    image(tmp_path / "mri" / "5.png", np.zeros((9, 9)))
    found = pairs(form_cases(layout))
    assert len(found) == 23
    assert ("5", "5") not in found


def test_where_many_sizes_differ_the_equal_ones_are_no_pairs_either(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 16)
    for i in range(0, 16, 4):
        with Image.open(tmp_path / "mri" / f"{i}.png") as picture:
            larger = np.asarray(picture.resize((50, 50)))
        image(tmp_path / "mri" / f"{i}.png", larger)
    assert not pairs(form_cases(layout))
    assert "equal in 12 of 16" in said(layout)
    assert "more than strangers share" in said(layout)


def test_few_matching_names_do_not_pair_a_set(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 40)
    layout.images = [
        i
        if int(i.stem) < 16 or i.modality == "ct"
        else Placed(i.path, i.folders, i.stem, i.kind, "mri", key=("x" + i.stem,))
        for i in layout.images
    ]
    assert not pairs(form_cases(layout))
    assert "too few match" in said(layout)


def test_a_name_with_two_partners_is_no_candidate(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 16)
    twin = image(tmp_path / "mri" / "3b.png", np.zeros((40, 40)))
    layout.images.append(Placed(twin, ("mri",), "3b", "picture", "mri", key=("3",)))
    found = pairs(form_cases(layout))
    assert len(found) == 15
    assert ("3", "3") not in found
    assert "1 names have more than one partner" in said(layout)


def test_every_image_is_in_exactly_one_case(tmp_path: Path) -> None:
    for partner in ("true", "next"):
        layout = pictures(tmp_path, 12, partner=partner)
        used = [i.path for draft in form_cases(layout) for i in draft.images]
        assert sorted(used) == sorted(i.path for i in layout.images)


def test_one_modality_needs_no_words_about_pairs(tmp_path: Path) -> None:
    layout = pictures(tmp_path, 3)
    layout.images = [i for i in layout.images if i.modality == "ct"]
    assert len(form_cases(layout)) == 3
    assert said(layout) == ""


def volume(path: Path, modality: str, contrast: str = "", shift: float = 0) -> Placed:
    affine = np.eye(4)
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), affine), path)
    return Placed(path, (), path.name.split(".")[0], "volume", modality, contrast, ("sub-01",), "sub-01")


def test_a_linked_layout_pairs_the_preferred_contrast(tmp_path: Path) -> None:
    layout = Layout("bids", linked=True)
    layout.images = [
        volume(tmp_path / "t1c.nii", "mri", "T1c"),
        volume(tmp_path / "flair.nii", "mri", "FLAIR"),
        volume(tmp_path / "t2.nii", "mri", "T2", shift=3),
        volume(tmp_path / "ct.nii", "ct"),
        volume(tmp_path / "ct2.nii", "ct"),
    ]
    drafts = form_cases(layout, check_content=False)
    assert pairs(drafts) == [("ct", "t2")]
    notes = {(d.images[0].stem): d.note for d in drafts}
    assert notes == {
        "ct": "T2; to be registered",
        "t1c": "T1c; the pair holds T2",
        "flair": "FLAIR; the pair holds T2",
        "ct2": "the pair holds another CT",
    }
    assert {d.subject for d in drafts} == {"sub-01"}


@pytest.mark.parametrize(("shift", "note"), [(0.0, "T1"), (0.5, "T1; to be registered")])
def test_headers_say_whether_registration_is_needed(tmp_path: Path, shift: float, note: str) -> None:
    layout = Layout("synthrad", linked=True)
    layout.images = [volume(tmp_path / "ct.nii", "ct"), volume(tmp_path / "mr.nii", "mri", "T1", shift)]
    (draft,) = form_cases(layout)
    assert draft.note == note
