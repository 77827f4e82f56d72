"""Layouts that state by themselves what a file is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.trees import content, layouts
from monai_ctmri.data.trees.evidence import Layout
from monai_ctmri.data.trees.listing import list_images
from monai_ctmri.errors import InputError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
        else:
            path.write_bytes(b"never opened here")
    return root


def placed(layout: Layout | None, root: Path) -> dict[str, str]:
    assert layout is not None
    return {image.path.relative_to(root).as_posix(): image.modality for image in layout.images}


def says(layout: Layout, text: str) -> bool:
    return any(text in f"{e.claim} - {e.basis} - {e.verdict}" for e in layout.evidence)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a file with a certain folder in its path looks like."""
    table: dict[str, str] = {}
    monkeypatch.setattr(content, "read_plane", lambda path: path)
    monkeypatch.setattr(
        content, "appearance_of", lambda path, windowed: next((m for p, m in table.items() if p in path.parts), None)
    )
    return table


KAGGLE = ("trainA/ct1.png", "trainB/mri1.jpg", "testA/ct2.png", "testB/mri2.jpg")


def test_cyclegan_by_names_below_a_root_that_holds_ct(tmp_path: Path) -> None:
    root = tree(tmp_path / "ct-to-mri-cgan", *(f"Dataset/images/{name}" for name in KAGGLE))
    layout = layouts.cyclegan(list_images(root)[0])
    assert layout is not None
    assert [m for _, m in sorted(placed(layout, root).items())] == ["ct", "mri", "ct", "mri"]
    assert layout.named_set
    assert not layout.linked
    assert says(layout, "not taken over as splits")


def test_cyclegan_sides_can_be_stated_against_the_names(tmp_path: Path) -> None:
    root = tree(tmp_path, *KAGGLE)
    layout = layouts.cyclegan(list_images(root)[0], a_is="mri")
    assert placed(layout, root)["trainA/ct1.png"] == "mri"
    assert layout is not None
    assert not layout.named_set
    assert says(layout, "against the files' names (ct)")


def test_cyclegan_sides_by_content(tmp_path: Path, looks: dict[str, str]) -> None:
    looks |= {"trainA": "mri", "trainB": "ct"}
    root = tree(tmp_path, "trainA/1.png", "trainA/2.png", "trainB/1.png")
    layout = layouts.cyclegan(list_images(root)[0])
    assert placed(layout, root) == {"trainA/1.png": "mri", "trainA/2.png": "mri", "trainB/1.png": "ct"}


@pytest.mark.parametrize("content_says", [{}, {"trainA": "ct"}, {"trainA": "ct", "trainB": "ct"}])
def test_cyclegan_asks_where_nothing_tells(tmp_path: Path, looks: dict[str, str], content_says: dict[str, str]) -> None:
    looks |= content_says
    root = tree(tmp_path, "trainA/1.png", "trainB/1.png")
    with pytest.raises(InputError, match="--a-is ct"):
        layouts.cyclegan(list_images(root)[0])
    with pytest.raises(InputError, match="--a-is ct"):
        layouts.cyclegan(list_images(root)[0], check_content=False)


def test_no_cyclegan(tmp_path: Path) -> None:
    root = tree(tmp_path, "trainA/1.png", "trainAB/2.png", "mytrainB/3.png")
    assert layouts.cyclegan(list_images(root)[0]) is None


def test_cyclegan_leaves_nothing_unsaid(tmp_path: Path) -> None:
    root = tree(tmp_path, *KAGGLE, "samples/grid.png")
    layout = layouts.cyclegan(list_images(root)[0])
    assert layout is not None
    assert [path.name for path, _ in layout.ignored] == ["grid.png"]


def test_synthrad(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        *(f"Task1/brain/1BA00{i}/{f}.nii.gz" for i in (1, 2) for f in ("ct", "mr", "mask")),
        "Task1/brain/overview/1BA001.png",
        "Task1/brain/1BA003/mr.nii.gz",
    )
    layout = layouts.synthrad(list_images(root)[0], root)
    assert layout is not None
    assert layout.linked
    assert len(layout.images) == 5
    assert {image.subject for image in layout.images} == {"1BA001", "1BA002", "1BA003"}
    assert not layout.masks
    assert sorted(reason for _, reason in layout.ignored) == [
        "body outline, no lesion mask",
        "body outline, no lesion mask",
        "not ct, mr or mask of a case folder",
    ]
    assert says(layout, "not taken as lesion masks")


def test_no_synthrad(tmp_path: Path) -> None:
    root = tree(tmp_path, "a/ct.nii.gz", "b/mr.nii.gz", "c/ct_mr.nii.gz")
    assert layouts.synthrad(list_images(root)[0], root) is None


BIDS = (
    "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_ce-gadolinium_T1w.nii.gz",
    "sub-01/ses-a/ct/sub-01_ses-a_ct.nii.gz",
    "sub-02/anat/sub-02_FLAIR.nii.gz",
    "sub-02/func/sub-02_task-rest_bold.nii.gz",
    "derivatives/x/sub-02/anat/sub-02_label-lesion_mask.nii.gz",
    "derivatives/x/sub-02/anat/sub-02_desc-brain_mask.nii.gz",
    "derivatives/x/sub-02/anat/sub-02_desc-preproc_T1w.nii.gz",
)


def test_bids(tmp_path: Path) -> None:
    root = tree(tmp_path, *BIDS, "sourcedata/a.nii.gz")
    layout = layouts.bids(list_images(root)[0])
    assert layout is not None
    found = {image.path.name: (image.modality, image.contrast, image.key) for image in layout.images}
    assert found == {
        "sub-01_ses-a_T1w.nii.gz": ("mri", "T1", ("sub-01", "ses-a")),
        "sub-01_ses-a_ce-gadolinium_T1w.nii.gz": ("mri", "T1c", ("sub-01", "ses-a")),
        "sub-01_ses-a_ct.nii.gz": ("ct", "", ("sub-01", "ses-a")),
        "sub-02_FLAIR.nii.gz": ("mri", "FLAIR", ("sub-02", "")),
    }
    assert [mask.path.name for mask in layout.masks] == ["sub-02_label-lesion_mask.nii.gz"]
    assert len(layout.ignored) == 4  # bold, brain mask, preprocessed, sourcedata


def test_a_subjects_name_states_no_contrast(tmp_path: Path) -> None:
    root = tree(tmp_path, "sub-pd01/anat/sub-pd01_T2w.nii.gz")
    layout = layouts.bids(list_images(root)[0])
    assert layout is not None
    assert layout.images[0].contrast == "T2"


def test_folders_by_modality(tmp_path: Path) -> None:
    root = tree(tmp_path / "mri_data", "CT_scans/1.png", "MR/1.png", "MR/factor_2.png")
    layout = layouts.named(list_images(root)[0], root, check_content=False)
    assert placed(layout, root) == {"CT_scans/1.png": "ct", "MR/1.png": "mri", "MR/factor_2.png": "mri"}
    assert layout.name == "folders"
    assert layout.images[0].path.name == "1.png"


def test_names_with_modality_and_contrast(tmp_path: Path) -> None:
    root = tree(tmp_path, "p1_ct.png", "p1_T2.png", "p1_pet.png", "x/P2/flair/07.png")
    layout = layouts.named(list_images(root)[0], root, check_content=False)
    assert {i.stem: (i.modality, i.contrast) for i in layout.images} == {
        "p1_ct": ("ct", ""),
        "p1_T2": ("mri", "T2"),
        "07": ("mri", "FLAIR"),
    }
    assert layout.ignored == [(root / "p1_pet.png", "its name says pet, neither CT nor MRI")]


def test_a_name_against_its_folder_is_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path, "ct/mri_1.png", "ct/2.png")
    layout = layouts.named(list_images(root)[0], root, check_content=False)
    assert placed(layout, root) == {"ct/2.png": "ct"}
    assert layout.ignored == [(root / "ct" / "mri_1.png", "its name says mri, its folder ct")]


def test_a_whole_folder_votes(tmp_path: Path, looks: dict[str, str]) -> None:
    looks |= {"normal": "ct", "tumor": "ct"}
    root = tree(tmp_path / "mri_root", "normal/1.png", "tumor/1.png", "tumor/2.png", "odd/3.png")
    layout = layouts.named(list_images(root)[0], root)
    # Content goes before the root's own name, which is the last resort.
    assert placed(layout, root) == {"normal/1.png": "ct", "tumor/1.png": "ct", "tumor/2.png": "ct", "odd/3.png": "mri"}
    assert says(layout, "weakest evidence")
    assert layout.name == "unnamed"


def test_what_is_above_the_root_never_counts(tmp_path: Path, looks: dict[str, str]) -> None:
    root = tree(tmp_path / "ct" / "things", "a/1.png")
    with pytest.raises(InputError, match=r"CSV with the columns ct,mri,subject,label") as caught:
        layouts.named(list_images(root)[0], root)
    assert "\n" not in str(caught.value)
    assert not looks


def test_masks_are_never_images(tmp_path: Path) -> None:
    root = tree(tmp_path, "P1/01_flair.png", "P1/01_mask.png", "P1/masks/02.png", "P2/01_flair.png", "lesion/mri_9.png")
    layout = layouts.named(list_images(root)[0], root, check_content=False)
    assert sorted(i.path.name for i in layout.images) == ["01_flair.png", "01_flair.png", "mri_9.png"]
    assert sorted(i.path.name for i in layout.masks) == ["01_mask.png", "02.png"]


def test_a_set_named_after_segmentation_holds_images(tmp_path: Path) -> None:
    root = tree(tmp_path, "lgg-mri-segmentation/P1/01.png", "lgg-mri-segmentation/P1/01_mask.png")
    layout = layouts.named(list_images(root)[0], root, check_content=False)
    assert [i.path.name for i in layout.images] == ["01.png"]


def test_a_folder_that_all_files_share_makes_no_masks(tmp_path: Path) -> None:
    root = tree(tmp_path, "images_and_masks/P1/flair_1.png", "images_and_masks/P2/flair_1.png")
    layout = layouts.named(list_images(root)[0], root, check_content=False)
    assert len(layout.images) == 2


def test_subjects(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "TCGA_CS_5395/flair_1.png",
        "fold1/flair_1.png",
        "flair_16003.png",
        "P07_flair_003.png",
        *(f"many/{i}/mri/1.png" for i in range(5)),
    )
    layout = layouts.named(list_images(root)[0], root, check_content=False)
    subjects = {i.path.relative_to(root).as_posix(): i.subject for i in layout.images}
    assert subjects["TCGA_CS_5395/flair_1.png"] == "TCGA_CS_5395"
    assert subjects["fold1/flair_1.png"] is None
    assert subjects["flair_16003.png"] is None
    assert subjects["P07_flair_003.png"] == "p07"
    assert subjects["many/3/mri/1.png"] == "3"
