"""Whole words count, parts of words do not."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from monai_ctmri.data.trees import naming


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("ct12", ("ct", "12")),
        ("CT_scans", ("ct", "scans")),
        ("ct-to-mri-cgan", ("ct", "to", "mri", "cgan")),
        ("T1w_3", ("t1w", "3")),
        ("P01.T2", ("p", "01", "t2")),
        ("", ()),
    ],
)
def test_names_are_split_into_whole_words(name: str, tokens: tuple[str, ...]) -> None:
    assert naming.tokens_of(name) == tokens


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("ct12", "ct"),
        ("CT", "ct"),
        ("ct_scans", "ct"),
        ("mri7", "mri"),
        ("MR-head", "mri"),
        ("tcga_fg_6692_fla", "mri"),
        ("chris_pd", "mri"),
        ("ct-to-mri-cgan", None),  # names both
        ("factory", None),  # holds the letters
        ("direct", None),
        ("pictures", None),
        ("p_t1000", None),  # t and 1000, no T1
        ("petct_PET_CT", None),
        ("16003", None),
    ],
)
def test_modality_by_words(name: str, modality: str | None) -> None:
    assert naming.modality_of(name) == modality


@given(st.text(alphabet="abdefghijklmnopqsuvwxyz", min_size=1, max_size=8))
def test_letters_around_ct_make_no_ct(letters: str) -> None:
    assume(letters != "ne")  # NECT is a CT without contrast agent
    assert naming.modality_of(f"{letters}ct") in (None, "mri")
    assert naming.modality_of(f"{letters}_ct") != "mri"


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("sub-01_T1w", "T1"),
        ("t1ce", "T1c"),
        ("ce-gadolinium_T1w", "T1c"),
        ("x_t1_post", "T1c"),
        ("T2_FLAIR", "FLAIR"),
        ("fla", "FLAIR"),
        ("pdw", "PD"),
        ("t1_t2", ""),
        ("mri12", ""),
    ],
)
def test_contrast(name: str, contrast: str) -> None:
    assert naming.contrast_of(name) == contrast


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("normal", 0),
        ("Healthy controls", 0),
        ("notumor", 0),
        ("no_tumor", 0),
        ("not-normal", 1),
        ("abnormal", 1),
        ("hemorrhage", 1),
        ("glioma_tumor", 1),
        ("normal_vs_tumor", None),
        ("brain_tumor_dataset", None),  # a collection's name
        ("abnormally", None),
        ("yes", None),
        ("train", None),
    ],
)
def test_label_by_words(name: str, label: int | None) -> None:
    assert naming.label_of(name) == label


def test_only_a_pure_label_folder_speaks_for_a_whole_set() -> None:
    assert naming.is_label_alone("normal")
    assert naming.is_label_alone("no_tumor")
    assert not naming.is_label_alone("head-ct-hemorrhage")
    assert not naming.is_label_alone("train")


def test_masks() -> None:
    for stem in ("01_mask", "stroke_T2_lesionmask", "BraTS_seg", "p1-label", "p1_lesion"):
        assert naming.is_mask(stem), stem
    for stem in ("masked", "segment", "01_flair"):
        assert not naming.is_mask(stem), stem
    assert naming.is_mask_folder("masks")
    assert not naming.is_mask_folder("lesion")
    assert not naming.is_mask_folder("lgg-mri-segmentation")
    assert naming.is_body_mask("sub-01_desc-brain_mask")
    assert not naming.is_body_mask("sub-01_label-lesion_mask")


def test_key_is_what_a_partner_shares() -> None:
    assert naming.key_of("p01_ct") == naming.key_of("p01_T1w") == "p01"
    assert naming.key_of("ct12") == naming.key_of("mri12") == "12"
    assert naming.key_of("stroke_T2_lesionmask") == naming.key_of("stroke_T2") == "stroke"
    assert naming.key_of("stroke_T2_lesionmask", without="mask") == "stroke_t2"
    assert naming.key_of("ct") == ""
    assert naming.folder_key(("P01", "ct")) == naming.folder_key(("P01", "MR_images")) == ("p01",)
    assert naming.folder_key(("images",)) == naming.folder_key(("masks",)) == ()
    assert naming.folder_key(("train", "ct")) != naming.folder_key(("test", "mri"))


@pytest.mark.parametrize(
    ("stem", "patient"),
    [
        ("patient07_slice012", "patient07"),
        ("TCGA_CS_5395_19981004_12", "tcga_cs_5395_19981004"),
        ("P01-s3_ct", "p01"),
        ("16003", None),  # five digits alone are no evidence
        ("ct_001_02", None),
        ("Te-no_0101", None),
        ("img_12", None),
        ("patient07", None),  # no slice: nothing says that the number is not one
        ("", None),
    ],
)
def test_patient_in_a_pictures_name(stem: str, patient: str | None) -> None:
    assert naming.patient_of_stem(stem) == patient


def test_patient_in_a_volumes_name() -> None:
    assert naming.patient_of_stem("tcga_fg_6692_t1c", volume=True) == "tcga_fg_6692"
    assert naming.patient_of_stem("ct_head_ge_upper14_hu", volume=True) == "head_ge_upper14_hu"
    assert naming.patient_of_stem("ct_001", volume=True) is None


@pytest.mark.parametrize("name", ["TCGA_CS_5395_19981004", "P01", "sub-01"])
def test_folder_of_a_patient(name: str) -> None:
    assert naming.patient_of_folder(name) == name


@pytest.mark.parametrize("name", ["images1", "fold2", "train1", "049", "ct_07", "normal2", "set3", "ses-01", "slices"])
def test_folder_of_no_patient(name: str) -> None:
    assert naming.patient_of_folder(name) is None


def test_many_numbered_folders_are_patients() -> None:
    assert naming.patient_of_folder("049", siblings=5) == "049"
    assert naming.patient_of_folder("049", siblings=4) is None
    assert naming.is_explicit_patient("Patient_7")
    assert not naming.is_explicit_patient("BraTS2020")


def test_other_modalities() -> None:
    assert naming.other_modality_of("sub1_pet") == "pet"
    assert naming.other_modality_of("petra") is None
