"""Copies are found, whatever was done to them; other patients' slices are not taken for copies."""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monai_ctmri.data.checks.duplicates import (
    HASH_BITS,
    NEAR_DISTANCE,
    duplicate_groups,
    fingerprint,
    hash_distance,
    near_duplicate_groups,
    perceptual_hash,
)
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.errors import InputError


def jpeg(plane: np.ndarray, quality: int = 60) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(np.uint8(plane)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), dtype=np.float32)


def resized(plane: np.ndarray, factor: float) -> np.ndarray:
    size = round(plane.shape[1] * factor), round(plane.shape[0] * factor)
    return np.asarray(Image.fromarray(np.uint8(plane)).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg 60": jpeg,
    "half": lambda plane: resized(plane, 0.5),
    "one and a half": lambda plane: resized(plane, 1.5),
    "small and jpeg": lambda plane: jpeg(resized(plane, 0.7)),
    "brighter": lambda plane: np.clip(plane + 20, 0, 255),
    "darker": lambda plane: np.clip(plane - 20, 0, 255),
    "more contrast": lambda plane: np.clip(plane * 1.2, 0, 255),
    "less contrast": lambda plane: np.rint(plane * 0.8),
}


def head(seed: int, size: int = 128) -> np.ndarray:
    """A bright ring around smooth random tissue."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(rows / 0.9, columns / rng.uniform(0.7, 0.85))
    tissue = gaussian_filter(rng.standard_normal((size, size)), 5)
    plane = 110 + 25 * tissue / tissue.std()
    return np.where(radius < 0.9, plane, np.where(radius < 1, 230, 0)).clip(0, 255).astype(np.float32)


def components(hashes: list[int | None], distance: int) -> list[list[int]]:
    """All pairs, one by one; then reachability by repeated merging."""
    groups = [{index} for index, value in enumerate(hashes) if value is not None]
    for a, b in itertools.combinations(range(len(hashes)), 2):
        first, second = hashes[a], hashes[b]
        if first is not None and second is not None and (first ^ second).bit_count() <= distance:
            joined = [group for group in groups if a in group or b in group]
            groups = [group for group in groups if group not in joined] + [set().union(*joined)]
    return sorted(sorted(group) for group in groups if len(group) > 1)


# --- exact copies -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_shape_and_values() -> None:
    pixels = np.array([[1, 2, 3], [4, 5, 250]], dtype=np.uint8)
    truth = hashlib.sha256(b"(2, 3)" + struct.pack("<6d", 1, 2, 3, 4, 5, 250)).hexdigest()
    assert fingerprint(pixels) == truth
    for dtype in (np.int16, np.float32, np.float64, ">i4"):
        assert fingerprint(pixels.astype(dtype)) == truth
    assert fingerprint(pixels.reshape(3, 2)) != truth
    assert fingerprint(pixels[:, ::-1]) != truth


def test_zero_has_no_sign() -> None:
    assert fingerprint(np.array([[0.0, 1.0]])) == fingerprint(np.array([[-0.0, 1.0]]))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3), (2, 3, 4)])
def test_a_constant_picture_has_no_fingerprint(shape: tuple[int, ...]) -> None:
    assert fingerprint(np.full(shape, 7), channels=shape[-1] == 3) is None


def test_equal_colours_and_transparency_do_not_count() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8)
    opaque = np.full_like(grey, 255)
    for layers in ([grey], [grey, opaque], [grey] * 3, [*[grey] * 3, opaque]):
        assert fingerprint(np.stack(layers, axis=-1), channels=True) == fingerprint(grey)
    assert fingerprint(np.stack([grey, grey, grey.T.reshape(5, 6)], axis=-1), channels=True) != fingerprint(grey)
    assert fingerprint(np.stack([grey] * 3, axis=-1)) != fingerprint(grey)


def test_duplicate_groups() -> None:
    assert duplicate_groups(["a", None, "b", "a", None, "c", "b", "a"]) == [[0, 3, 7], [2, 6]]
    assert duplicate_groups([]) == []


# --- the hash ---------------------------------------------------------------------------------------------------------


def test_the_hash_is_the_sign_of_low_frequencies() -> None:
    plane = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    # The cosine transform written out as its definition: a product with a matrix of cosines.
    k, n = np.mgrid[:64, :64]
    cosines = np.cos(np.pi * k * (2 * n + 1) / 128)
    low = (cosines @ plane.astype(np.float64) @ cosines.T)[1:17, 1:17].ravel()
    bits = "".join("1" if value > np.median(low) else "0" for value in low)
    assert perceptual_hash(plane) == int(bits, 2)
    assert bits.count("1") == HASH_BITS // 2


def test_brightness_and_contrast_leave_the_hash_alone() -> None:
    plane = head(0)
    assert perceptual_hash(plane) == perceptual_hash(3 * plane - 1000)
    assert hash_distance(perceptual_hash(plane), perceptual_hash(255 - plane)) == HASH_BITS


def test_a_constant_picture_hashes_to_nought() -> None:
    assert perceptual_hash(np.full((9, 9), 0.1)) == 0


@pytest.mark.parametrize("shape", [(5,), (3, 4, 5), (0, 4)])
def test_no_plane_no_hash(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="give one plane"):
        perceptual_hash(np.zeros(shape))


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_made_heads_are_near(copy: str) -> None:
    distances = [hash_distance(perceptual_hash(head(s)), perceptual_hash(COPIES[copy](head(s)))) for s in range(10)]
    assert sum(distance <= NEAR_DISTANCE for distance in distances) >= 9


def test_different_made_heads_are_far() -> None:
    hashes = [perceptual_hash(head(seed)) for seed in range(20)]
    assert min(hash_distance(a, b) for a, b in itertools.combinations(hashes, 2)) > NEAR_DISTANCE


def test_distance_counts_bits() -> None:
    assert hash_distance(0b1011, 0b0010) == 2
    assert hash_distance(0, (1 << 256) - 1) == 256


# --- grouping ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 25))
def test_banding_finds_what_comparing_all_pairs_finds(seed: int, distance: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    centres = [int.from_bytes(rng.bytes(32), "big") for _ in range(3)]
    hashes: list[int | None] = []
    for _ in range(count):
        value = centres[rng.integers(3)]
        for bit in rng.choice(256, rng.integers(0, 30), replace=False).tolist():
            value ^= 1 << bit
        hashes.append(None if rng.random() < 0.1 else value)
    assert near_duplicate_groups(hashes, distance) == components(hashes, distance)


@pytest.mark.parametrize("distance", [0, 1, 24, 127, 200, 255, 256, 1000])
def test_a_pair_is_joined_exactly_up_to_the_distance(distance: int) -> None:
    rng = np.random.default_rng(distance)
    for away in {min(distance, 256), min(distance + 1, 256)}:
        other = sum(1 << bit for bit in rng.choice(256, away, replace=False).tolist())
        assert bool(near_duplicate_groups([0, other], distance)) == (away <= distance)


def test_groups_are_linked_by_steps() -> None:
    chain = [(1 << (10 * step)) - 1 for step in range(4)]
    assert near_duplicate_groups([chain[2], None, chain[0], chain[3], chain[1]], 10) == [[0, 2, 3, 4]]
    assert near_duplicate_groups(chain, 9) == []


def test_nothing_to_group() -> None:
    assert near_duplicate_groups([]) == []
    assert near_duplicate_groups([None, 5, None]) == []


@pytest.mark.parametrize("hashes", [[-1], [1 << 256]])
def test_other_hashes_are_refused(hashes: list[int]) -> None:
    with pytest.raises(InputError, match="perceptual_hash"):
        near_duplicate_groups(hashes)


def test_a_negative_distance_is_refused() -> None:
    with pytest.raises(InputError, match="negative"):
        near_duplicate_groups([1, 2], -1)


def test_the_cost_is_far_from_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    from monai_ctmri.data.checks import duplicates

    compared = []
    join = duplicates._join
    monkeypatch.setattr(duplicates, "_join", lambda bucket, *rest: (compared.append(len(bucket)), join(bucket, *rest)))
    rng = np.random.default_rng(0)
    assert near_duplicate_groups([int.from_bytes(rng.bytes(32), "big") for _ in range(2000)]) == []
    assert sum(size * (size - 1) // 2 for size in compared) < 0.05 * 2000 * 1999 / 2


def test_many_equal_or_near_hashes_take_no_time() -> None:
    rng = np.random.default_rng(0)
    hashes = [int(sum(1 << bit for bit in rng.choice(256, 3, replace=False).tolist())) for _ in range(1500)]
    begin = time.perf_counter()
    assert near_duplicate_groups([0] * 3000 + hashes) == [list(range(4500))]
    assert time.perf_counter() - begin < 5


# --- real images ------------------------------------------------------------------------------------------------------


def hashes_of(manifest: Path, modality: str) -> dict[str, list[tuple[Path, int]]]:
    found = defaultdict(list)
    for case in Manifest.read(manifest):
        path = getattr(case, modality)
        if path is not None:
            plane = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
            found[case.subject].append((path, perceptual_hash(plane)))
    return found


@pytest.mark.parametrize(
    ("name", "modality", "joined"), [("pairs", "ct", 0), ("pairs", "mri", 0), ("ct_hemorrhage", "ct", 1)]
)
def test_other_patients_are_not_joined(real_data: Path, name: str, modality: str, joined: int) -> None:
    """The one pair in ``ct_hemorrhage`` (198, 199) is two neighbouring slices of one head under two names."""
    subjects = hashes_of(real_data / name / "manifest.csv", modality)
    near = [
        (first.name, second.name)
        for a, b in itertools.combinations(subjects.values(), 2)
        for (first, one), (second, other) in itertools.product(a, b)
        if hash_distance(one, other) <= NEAR_DISTANCE
    ]
    assert len(near) == joined


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_real_slices_are_found(real_data: Path, copy: str) -> None:
    """At least 95 % of them, over CT and MRI of three sources."""
    pairs = sorted((real_data / "pairs").glob("*/*.png"))[::16]
    kaggle = (
        sorted((real_data / "kaggle_sample").rglob("*.jpg"))[::22]
        + sorted((real_data / "kaggle_sample").rglob("*.png"))[::22]
    )
    files = pairs + kaggle + sorted((real_data / "ct_hemorrhage").rglob("*.png"))[::10]
    found = 0
    for path in files:
        plane = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
        found += hash_distance(perceptual_hash(plane), perceptual_hash(COPIES[copy](plane))) <= NEAR_DISTANCE
    assert found >= 0.95 * len(files)
