"""Divisions by subject: what must hold for every cohort, and every way a leak is caught."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.splits import (
    DEFAULT_FRACTIONS,
    NOTES_FRACTIONS,
    SPLITS,
    LeakError,
    assign_splits,
    guard_splits,
)
from monai_ctmri.errors import InputError


def cohort(labels: dict[str, list[int | None]]) -> Manifest:
    """One case a label; the files do not exist."""
    return Manifest(
        Case(f"{subject}-{index}", subject, Path(f"/none/{subject}-{index}.png"), label=label)
        for subject, values in labels.items()
        for index, label in enumerate(values)
    )


def normals(count: int) -> Manifest:
    return cohort({f"s{index:03d}": [0, 0] for index in range(count)})


def subject_parts(manifest: Manifest) -> dict[str, set[str | None]]:
    parts: dict[str, set[str | None]] = {}
    for case in manifest:
        parts.setdefault(case.subject, set()).add(case.split)
    return parts


def subjects_per_part(manifest: Manifest) -> dict[str, int]:
    counts = Counter(next(iter(parts)) for parts in subject_parts(manifest).values())
    return {str(part): count for part, count in counts.items()}


# --- division ---------------------------------------------------------------------------------------------------------


def test_stated_fractions() -> None:
    assert SPLITS == ("train", "validation", "calibration", "test")
    assert dict(DEFAULT_FRACTIONS) == {"train": 0.6, "validation": 0.1, "calibration": 0.1, "test": 0.2}
    assert dict(NOTES_FRACTIONS) == {"train": 0.7, "validation": 0.15, "test": 0.15}
    with pytest.raises(TypeError):
        DEFAULT_FRACTIONS["train"] = 1.0  # type: ignore[index]


COHORTS = st.dictionaries(
    st.text("abcdefgh-_1", min_size=1, max_size=4),
    st.lists(st.sampled_from([0, 0, 0, 0, 1, None]), min_size=1, max_size=3),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(labels=COHORTS, seed=st.integers(0, 2**32 - 1), data=st.data())
def test_every_division_keeps_its_promises(labels: dict, seed: int, data: st.DataObject) -> None:
    manifest = cohort(labels)
    free = sorted(subject for subject, values in labels.items() if set(values) == {0})
    if not free or set().union(*labels.values()) == {None}:
        with pytest.raises(InputError):
            assign_splits(manifest, seed=seed, allow_empty=True)
        return
    divided = assign_splits(manifest, seed=seed, allow_empty=True)

    assert [replace(case, split=None) for case in divided] == list(manifest)
    parts = subject_parts(divided)
    assert all(len(found) == 1 for found in parts.values()), "a subject is in two parts"
    assert all(parts[subject] == {"test"} for subject in labels if subject not in free)
    assert all(case.label == 0 for case in divided if case.split != "test")
    counts = Counter(next(iter(parts[subject])) for subject in free)
    assert all(counts[part] >= 1 for part in SPLITS[: len(free)]), "a part is empty though subjects remain"

    shuffled = data.draw(st.permutations(manifest.cases))
    again = assign_splits(manifest.with_cases(shuffled), seed=seed, allow_empty=True)
    assert {case.name: case.split for case in again} == {case.name: case.split for case in divided}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (10, (6, 1, 1, 2)),
        (100, (60, 10, 10, 20)),
        (30, (18, 3, 3, 6)),
        (4, (1, 1, 1, 1)),  # quotas 2.4, 0.4, 0.4, 0.8
        (5, (2, 1, 1, 1)),  # quotas 3, 0.5, 0.5, 1: validation wins the tie, train gives one to calibration
        (7, (4, 1, 1, 1)),  # quotas 4.2, 0.7, 0.7, 1.4
        (13, (8, 1, 1, 3)),  # quotas 7.8, 1.3, 1.3, 2.6
    ],
)
def test_largest_remainder_by_hand(count: int, expected: tuple[int, ...]) -> None:
    assert subjects_per_part(assign_splits(normals(count))) == dict(zip(SPLITS, expected, strict=True))


@pytest.mark.parametrize(("count", "expected"), [(20, (14, 3, 3)), (10, (7, 2, 1)), (3, (1, 1, 1))])
def test_fractions_of_the_notes_leave_calibration_out(count: int, expected: tuple[int, ...]) -> None:
    found = subjects_per_part(assign_splits(normals(count), NOTES_FRACTIONS))
    assert found == dict(zip(("train", "validation", "test"), expected, strict=True))


def test_one_part_takes_all() -> None:
    assert subjects_per_part(assign_splits(normals(3), {"test": 1, "train": 0})) == {"test": 3}


@settings(max_examples=100, deadline=None)
@given(count=st.integers(4, 400), weights=st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_counts_are_within_one_of_their_quota_where_no_part_is_filled_up(count: int, weights: list[int]) -> None:
    shares = {part: weight / sum(weights) for part, weight in zip(SPLITS, weights, strict=True)}
    found = subjects_per_part(assign_splits(normals(count), shares))
    assert sum(found.values()) == count
    if all(count * share >= 1 for share in shares.values()):  # the quota rule of the largest-remainder method
        assert all(abs(found[part] - count * share) < 1 for part, share in shares.items())


def test_seed_decides_and_the_process_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (assign_splits(normals(40), seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_every_subject_reaches_every_part_over_seeds() -> None:
    reached = {subject: set() for subject in normals(5).subjects}
    for seed in range(60):
        for case in assign_splits(normals(5), seed=seed):
            reached[case.subject].add(case.split)
    assert all(parts == set(SPLITS) for parts in reached.values())


def test_earlier_splits_are_replaced() -> None:
    manifest = normals(10)
    assert assign_splits(manifest.with_splits(dict.fromkeys(manifest.subjects, "test"))) == assign_splits(manifest)


def test_too_few_subjects_say_how_many_are_needed() -> None:
    manifest = cohort({"a": [0], "b": [0], "c": [0], "ill": [0, 1]})
    with pytest.raises(InputError, match="at least 4 normal subjects") as error:
        assign_splits(manifest)
    assert "3 normal subjects cannot fill train, validation, calibration, test" in str(error.value)
    divided = assign_splits(manifest, allow_empty=True)
    assert subjects_per_part(divided) == {"train": 1, "validation": 1, "calibration": 1, "test": 1}
    assert {case.subject for case in divided.select(split="test")} == {"ill"}
    only = assign_splits(cohort({"a": [0], "ill": [1]}), allow_empty=True)
    assert {case.subject: case.split for case in only} == {"a": "train", "ill": "test"}


def test_no_normal_subject_is_refused() -> None:
    with pytest.raises(InputError, match="no subject is normal throughout"):
        assign_splits(cohort({"a": [1, 0], "b": [None, 0]}), allow_empty=True)


def test_labels_are_asked_for() -> None:
    manifest = cohort({f"s{index}": [None] for index in range(10)})
    with pytest.raises(InputError, match="fill the label column"):
        assign_splits(manifest)
    divided = assign_splits(manifest, assume_normal=True)
    assert subjects_per_part(divided) == {"train": 6, "validation": 1, "calibration": 1, "test": 2}
    assert all(case.label is None for case in divided)


def test_unknown_among_labelled_goes_to_test_whatever_is_assumed() -> None:
    manifest = Manifest([*normals(10), Case("u", "unknown", Path("/none/u.png"))])
    for assume in (False, True):
        divided = assign_splits(manifest, assume_normal=assume)
        assert [case.split for case in divided.select(subjects=["unknown"])] == ["test"]
        assert subjects_per_part(divided)["test"] == 3


def test_an_empty_manifest_is_refused() -> None:
    for assume in (False, True):
        with pytest.raises(InputError):
            assign_splits(Manifest([]), assume_normal=assume)


@pytest.mark.parametrize(
    ("fractions", "problem"),
    [
        ({"train": 0.6, "dev": 0.4}, "unknown part 'dev'"),
        ({"train": 0.6, "test": 0.3}, "not shares"),
        ({"train": 1.2, "test": -0.2}, "not shares"),
        ({"train": 60, "test": 40}, "not shares"),
        ({"train": float("nan"), "test": 1}, "not shares"),
        ({}, "not shares"),
    ],
)
def test_fractions_are_checked(fractions: dict[str, float], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        assign_splits(normals(10), fractions)


# --- leaks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (12, 10), dtype=np.uint8)


def placed(name: str, split: str | None, ct: Path | None = None, mri: Path | None = None, **other: object) -> Case:
    return Case(name, str(other.pop("subject", name)), ct, mri, split=split, **other)  # type: ignore[arg-type]


def picture(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def assert_no_leak(manifest: Manifest) -> None:
    assert guard_splits(manifest) is None


def assert_leak(cases: list[Case], *named: object) -> None:
    with pytest.raises(LeakError) as error:
        guard_splits(Manifest(cases))
    assert "\n" not in str(error.value)
    for part in named:
        assert str(part) in str(error.value)


def test_distinct_pictures_pass(tmp_path: Path, pixels: np.ndarray) -> None:
    changed = pixels.copy()
    changed[3, 4] ^= 1
    assert_no_leak(
        Manifest(
            [
                placed("a", "train", picture(tmp_path / "a.png", pixels), picture(tmp_path / "am.png", 254 - pixels)),
                placed("b", "test", picture(tmp_path / "b.png", changed), picture(tmp_path / "bm.png", pixels.T)),
                placed("c", "test", picture(tmp_path / "c.png", pixels.reshape(10, 12))),  # same bytes, other shape
            ]
        )
    )


def test_subject_in_two_parts() -> None:
    assert issubclass(LeakError, InputError)
    one = placed("a", "train", Path("/none/a.png"), subject="anna")
    two = placed("b", "test", Path("/none/b.png"), subject="anna")
    assert_leak([one, two], "'anna'", "/none/a.png", "/none/b.png", "train", "test")


def test_file_in_two_parts_under_any_name(tmp_path: Path, pixels: np.ndarray) -> None:
    file = picture(tmp_path / "x/a.png", pixels)
    (tmp_path / "link.png").symlink_to(file)
    (tmp_path / "folder").symlink_to(tmp_path / "x")
    for other in (file, tmp_path / "link.png", tmp_path / "folder/a.png", tmp_path / "x/../x/a.png"):
        assert_leak(
            [placed("a", "train", file), placed("b", "calibration", None, other)], other, "train", "calibration"
        )


def test_a_shared_path_is_caught_even_when_blank(tmp_path: Path) -> None:
    blank = picture(tmp_path / "blank.png", np.zeros((8, 8), np.uint8))
    assert_leak([placed("a", "train", blank), placed("b", "test", blank)], blank)


def test_hard_link_or_copy_in_two_parts(tmp_path: Path, pixels: np.ndarray) -> None:
    file = picture(tmp_path / "a.png", pixels)
    os.link(file, tmp_path / "b.png")
    assert_leak([placed("a", "validation", file), placed("b", "test", tmp_path / "b.png")], file, tmp_path / "b.png")


def test_same_pixels_in_another_modality_format_or_depth(tmp_path: Path, pixels: np.ndarray) -> None:
    first = picture(tmp_path / "a.png", pixels)
    np.save(tmp_path / "float.npy", pixels.astype(np.float32))
    np.save(tmp_path / "big_endian.npy", pixels.astype(">i4"))
    nib.save(nib.Nifti1Image(pixels, np.eye(4)), tmp_path / "n.nii.gz")
    rgba = np.concatenate([np.stack([pixels] * 3, -1), np.full((*pixels.shape, 1), 255, np.uint8)], -1)
    copies = [
        picture(tmp_path / "again.png", pixels, compress_level=0),
        picture(tmp_path / "colour.png", np.stack([pixels] * 3, -1)),
        picture(tmp_path / "transparent.png", rgba),
        picture(tmp_path / "deep.tif", pixels.astype(np.uint16)),
        tmp_path / "float.npy",
        tmp_path / "big_endian.npy",
        tmp_path / "n.nii.gz",
    ]
    palette = Image.fromarray(pixels).convert("P")
    palette.save(tmp_path / "palette.png")
    for copy in [*copies, tmp_path / "palette.png"]:
        assert_leak([placed("a", "train", first), placed("b", "test", None, copy)], first, copy, "train", "test")


def test_nifti_volumes_are_compared_by_their_voxels(tmp_path: Path) -> None:
    voxels = np.random.default_rng(1).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)
    for name, content, affine in [("a", voxels, np.eye(4)), ("b", voxels, 2 * np.eye(4)), ("c", voxels + 1, np.eye(4))]:
        nib.save(nib.Nifti1Image(content.astype(np.int16), affine), tmp_path / f"{name}.nii.gz")
    a, b, c = (tmp_path / f"{name}.nii.gz" for name in "abc")
    assert_leak([placed("a", "train", a), placed("b", "test", b)], a, b)
    guard_splits(Manifest([placed("a", "train", a), placed("c", "test", c)]))


def test_blank_pictures_are_exempt(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.zeros((8, 8)))
    nib.save(nib.Nifti1Image(np.zeros((8, 8), np.uint8), np.eye(4)), tmp_path / "d.nii")
    cases = [
        placed("a", "train", picture(tmp_path / "a.png", np.zeros((8, 8), np.uint8))),
        placed("b", "test", picture(tmp_path / "b.png", np.zeros((8, 8), np.uint8))),
        placed("c", "validation", tmp_path / "c.npy"),
        placed("d", "calibration", tmp_path / "d.nii"),
        placed("e", "train", picture(tmp_path / "e.png", np.full((8, 8, 3), 40, np.uint8))),
        placed("f", "test", picture(tmp_path / "f.png", np.full((8, 8, 3), 40, np.uint8))),
    ]
    assert_no_leak(Manifest(cases))


def test_what_is_no_leak(tmp_path: Path, pixels: np.ndarray) -> None:
    file = picture(tmp_path / "a.png", pixels)
    mask = picture(tmp_path / "mask.png", pixels)
    other = picture(tmp_path / "b.png", pixels + 1)
    assert_no_leak(Manifest([]))
    assert_no_leak(Manifest([placed("a", "train", file), placed("b", "train", file)]))  # within one part
    assert_no_leak(Manifest([placed("a", "train", file), placed("b", None, file)]))  # not placed
    assert_no_leak(Manifest([placed("a", None, file), placed("b", None, file)]))
    assert_no_leak(Manifest([placed("a", "train", file, mask=mask), placed("b", "test", other, mask=mask)]))


def test_an_unreadable_file_is_an_input_error_not_a_leak(tmp_path: Path, pixels: np.ndarray) -> None:
    cases = [placed("a", "train", picture(tmp_path / "a.png", pixels)), placed("b", "test", tmp_path / "b.png")]
    with pytest.raises(InputError, match=r"b\.png: no such file") as error:
        guard_splits(Manifest(cases))
    assert not isinstance(error.value, LeakError)


def test_real_pairs_divide_without_leak(real_data: Path) -> None:
    manifest = Manifest.read(real_data / "ct_hemorrhage")
    divided = assign_splits(manifest)
    guard_splits(divided)
    assert {case.label for case in divided.select(split="train")} == {0}
    pairs = assign_splits(Manifest.read(real_data / "pairs"), allow_empty=True)
    guard_splits(pairs)
    assert "aanlib-41" in pairs.select(split="test").subjects
    leaking = pairs.with_cases(replace(case, split=SPLITS[index % 2 * 3]) for index, case in enumerate(pairs))
    with pytest.raises(LeakError, match="aanlib-16"):
        guard_splits(leaking)
