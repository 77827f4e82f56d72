"""DICOM series by their headers, as ``find_series`` reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monai_ctmri.data.trees.dicom_tree import dicom_tree, subject_of
from monai_ctmri.data.trees.evidence import Layout
from monai_ctmri.data.trees.listing import list_images

Write = Callable[..., None]


@pytest.fixture
def write(write_series: Callable[..., list[Path]]) -> Write:
    """Writes one slice; ``study``, ``frame`` and ``series`` are last parts of UIDs."""

    def write(path: Path, **header: str) -> None:
        write_series(
            path.parent,
            [np.zeros((4, 4))],
            np.array([[0.0, 0.0, 5.0 * len(list(path.parent.glob("*.dcm")))]]),
            modality=header["modality"],
            names=[path.name],
            series=f"1.2.3.3.{header['series']}",
            PatientID=header["patient"],
            SeriesDescription=header.get("description", ""),
            StudyInstanceUID=f"1.2.3.1.{header.get('study', '0')}",
            FrameOfReferenceUID=f"1.2.3.2.{header.get('frame', '0')}",
        )

    return write


def read(root: Path) -> Layout:
    return dicom_tree(list_images(root)[0], root)


def says(layout: Layout, text: str) -> bool:
    return any(text in f"{e.claim} - {e.basis} - {e.verdict}" for e in layout.evidence)


def test_one_study_links_ct_and_mri(tmp_path: Path, write: Write) -> None:
    for i in range(2):
        write(tmp_path / "a" / f"{i}.dcm", modality="CT", patient="Jane Doe", study="1", frame="1", series="1")
    write(
        tmp_path / "b" / "0.dcm",
        modality="MR",
        patient="Jane Doe",
        study="1",
        frame="2",
        series="2",
        description="T2 ax",
    )
    layout = read(tmp_path)
    ct, mri = layout.images
    assert (ct.path, mri.path) == (tmp_path / "a", tmp_path / "b")  # a folder stands for its one series
    assert ct.key == mri.key != ()
    assert mri.contrast == "T2"
    assert ct.subject == f"sub-{hashlib.sha256(b'Jane Doe').hexdigest()[:8]}"


def test_one_frame_of_reference_links_and_goes_before_the_study(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a" / "0.dcm", modality="CT", patient="7", study="1", frame="1", series="1")
    write(tmp_path / "b" / "0.dcm", modality="MR", patient="7", study="2", frame="1", series="2")
    write(tmp_path / "c" / "0.dcm", modality="MR", patient="7", study="1", frame="3", series="3")
    links = [image.key for image in read(tmp_path).images]
    assert links[0] == links[1] != ()
    assert links[2] == ()


def test_the_patient_alone_links_nothing(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a" / "0.dcm", modality="CT", patient="7", study="1", frame="1", series="1")
    write(tmp_path / "b" / "0.dcm", modality="MR", patient="7", study="2", frame="2", series="2")
    layout = read(tmp_path)
    assert [image.key for image in layout.images] == [(), ()]
    assert len({image.subject for image in layout.images}) == 1
    assert says(layout, "time may lie between")


def test_one_study_of_two_patients_links_nothing(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a" / "0.dcm", modality="CT", patient="7", series="1")
    write(tmp_path / "b" / "0.dcm", modality="MR", patient="8", series="2")
    assert [image.key for image in read(tmp_path).images] == [(), ()]


@pytest.mark.parametrize("patient", ["", "ANONYMOUS", "anon", "0000", "Unknown^"])
def test_a_stand_in_for_the_patient_is_no_patient(tmp_path: Path, write: Write, patient: str) -> None:
    write(tmp_path / "a" / "0.dcm", modality="CT", patient=patient, series="1")
    write(tmp_path / "b" / "0.dcm", modality="MR", patient=patient, series="2")
    layout = read(tmp_path)
    assert [(image.key, image.subject) for image in layout.images] == [((), None)] * 2
    assert says(layout, "not known to share a patient")


def test_several_series_in_one_folder(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "0.dcm", modality="CT", patient="7", series="1", description="Scout 1.0")
    write(tmp_path / "1.dcm", modality="CT", patient="7", series="2", description="Head 5.0")
    write(tmp_path / "2.dcm", modality="PT", patient="7", series="3")
    write(tmp_path / "3.dcm", modality="SEG", patient="7", series="4")
    layout = read(tmp_path)
    assert [image.path for image in layout.images] == [tmp_path / "1.dcm"]  # the folder would be ambiguous
    assert sorted(reason for _, reason in layout.ignored) == [
        "a scout by its DICOM header",
        "neither CT nor MRI by its DICOM header",
        "no readable DICOM image",
    ]


def test_the_patient_id_shows_nowhere(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a" / "0.dcm", modality="CT", patient="SECRET-4711", series="1")
    write(tmp_path / "b" / "0.dcm", modality="MR", patient="SECRET-4711", series="2")
    layout = read(tmp_path)
    assert "4711" not in repr([image.subject for image in layout.images]) + repr(layout.evidence)
    # The link is only used in memory and is made of the hashed subject.
    assert "4711" not in repr([image.key for image in layout.images])


def test_subject_of() -> None:
    assert subject_of(" 12 ") == subject_of("12") != subject_of("13")
    assert subject_of(None) is None


def test_progress(tmp_path: Path, write: Write) -> None:
    for name in "ab":
        write(tmp_path / name / "0.dcm", modality="CT", patient="7", series=str(ord(name)))
    seen: list[tuple[int, int]] = []
    dicom_tree(list_images(tmp_path)[0], tmp_path, lambda done, known: seen.append((done, known)))
    assert seen == [(1, 2), (2, 2)]
