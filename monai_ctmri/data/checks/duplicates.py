"""Which files show the same: exactly, by a digest of their values, or nearly, by a perceptual hash."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from monai_ctmri.errors import InputError

__all__ = [
    "HASH_BITS",
    "NEAR_DISTANCE",
    "duplicate_groups",
    "fingerprint",
    "hash_distance",
    "near_duplicate_groups",
    "perceptual_hash",
]

_GRID = 64
_SIDE = 16

HASH_BITS = _SIDE * _SIDE
"""Bits of a perceptual hash. The customary 64 do not tell two patients' heads apart: slices of one level of different
patients come within 2 to 6 bits of each other, which is where copies lie, too."""

NEAR_DISTANCE = 24
"""Two hashes that differ in at most so many of their bits belong to near duplicates. Copies after JPEG compression,
resizing or a shift of brightness stay within it; slices of different patients were never nearer than 30."""

_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def fingerprint(pixels: np.ndarray, *, channels: bool = False) -> str | None:
    """Return the SHA-256 of what an image shows, or None when it is one value everywhere.

    Equal for the same values whatever the file format or the type they were stored as.

    Args:
        pixels: (H, W), (H, W, C) or (X, Y, Z), finite.
        channels: whether a third axis holds colours. A last channel of two or four is transparency and left out, and
            equal colours count as one.
    """
    if channels and pixels.ndim == 3:
        # The same grey picture may be saved with one channel or with three equal ones, with or without transparency.
        colours = pixels[..., :-1] if pixels.shape[-1] in (2, 4) else pixels
        pixels = colours[..., 0] if (colours == colours[..., :1]).all() else colours
    # A slice above the vertex is the same black picture in every patient: equal, yet it tells nothing of either.
    if (pixels == pixels.flat[0]).all():
        return None
    digest = hashlib.sha256(repr(pixels.shape).encode())
    for row in pixels:
        # Adding 0 turns -0 into 0; float64 makes the digest independent of how the same values were stored.
        digest.update((row.astype("<f8") + 0.0).tobytes())
    return digest.hexdigest()


def perceptual_hash(plane: np.ndarray) -> int:
    """Return a hash of 256 bits that changes little when a picture is compressed, resized or made brighter.

    The picture is brought to 64 x 64 pixels; each of the 16 x 16 lowest frequencies of its discrete cosine transform
    (without those constant along an axis) gives one bit: whether it is above their median. The picture is not cropped
    to its content first: the crop moves with noise and compression, which costs more copies than margins do.

    Args:
        plane: (H, W), finite, of any scale.

    Returns:
        From 0 to 2 ** 256 - 1; 0 for a constant picture.

    Raises:
        InputError: when the plane has not two axes, or is empty.

    Source:
        Zauner: Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2 (there with
        8 x 8 frequencies of 32 x 32 pixels).
    """
    from PIL import Image
    from scipy.fft import dctn

    plane = np.asarray(plane, dtype=np.float32)
    if plane.ndim != 2 or not plane.size:
        raise InputError.about("picture", f"an array of shape {plane.shape}", "give one plane (H, W)")
    if plane.min() == plane.max():
        return 0
    # BOX averages, but repeats pixels where there are too few of them.
    method = Image.Resampling.BOX if min(plane.shape) > _GRID else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(plane).resize((_GRID, _GRID), method), dtype=np.float64)
    frequencies = dctn(small, norm="ortho")[1 : _SIDE + 1, 1 : _SIDE + 1].ravel()
    return int.from_bytes(np.packbits(frequencies > np.median(frequencies)).tobytes(), "big")


def hash_distance(a: int, b: int) -> int:
    """Return the number of bits in which two hashes differ (Hamming distance)."""
    return bin(a ^ b).count("1")


def duplicate_groups(digests: Iterable[Hashable | None]) -> list[list[int]]:
    """Return the positions of equal digests, in groups of two and more, by first appearance; None equals nothing."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        if digest is not None:
            places[digest].append(index)
    return [group for group in places.values() if len(group) > 1]


def near_duplicate_groups(hashes: Sequence[int | None], max_distance: int = NEAR_DISTANCE) -> list[list[int]]:
    """Group hashes that are linked by steps of at most ``max_distance`` bits.

    Two hashes that differ in d bits agree wholly in at least one of d + 1 disjoint bands of bits. So only hashes that
    agree in a band are compared: the cost is near-linear in files as long as few unlike files share a band.

    Args:
        hashes: of 256 bits each, as :func:`perceptual_hash` gives them; None stands for a file without one.
        max_distance: in bits, from 0.

    Returns:
        Positions, in groups of two and more; sorted within a group, groups by their first position.

    Raises:
        InputError: for a negative distance or a hash of more bits.
    """
    if max_distance < 0:
        raise InputError.about(f"max_distance {max_distance}", "negative", "give a number of bits from 0")
    if any(value is not None and not 0 <= value < 1 << HASH_BITS for value in hashes):
        raise InputError.about("hashes", f"not all of {HASH_BITS} bits", "take them from perceptual_hash")
    # Equal hashes are joined beforehand: many equal ones would fill every band's bucket.
    places: dict[int, list[int]] = defaultdict(list)
    for index, value in enumerate(hashes):
        if value is not None:
            places[value].append(index)
    packed = np.array([np.frombuffer(value.to_bytes(HASH_BITS // 8, "big"), np.uint8) for value in places])
    labels = _components(packed, max_distance) if len(places) else np.zeros(0, dtype=np.int64)
    groups: dict[int, list[int]] = defaultdict(list)
    for label, members in zip(labels.tolist(), places.values(), strict=True):
        groups[label].extend(members)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _components(packed: np.ndarray, max_distance: int) -> np.ndarray:
    """Label the connected components of hashes (N, bytes)."""
    labels = np.arange(len(packed))
    if max_distance >= HASH_BITS:
        return np.zeros_like(labels)
    bits = np.unpackbits(packed, axis=1)
    bands = max_distance + 1
    for band in range(bands):
        # Every ``bands``-th bit, so that each band mixes low frequencies, alike in all heads, with high ones.
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for index, row in enumerate(np.packbits(bits[:, band::bands], axis=1)):
            buckets[row.tobytes()].append(index)
        for bucket in buckets.values():
            if len(bucket) > 1:
                _join(np.array(bucket), packed, max_distance, labels)
    return labels


def _join(bucket: np.ndarray, packed: np.ndarray, max_distance: int, labels: np.ndarray) -> None:
    """Give the near ones among a bucket's hashes one label."""
    for place, index in enumerate(bucket[:-1], start=1):
        rest = bucket[place:]
        rest = rest[labels[rest] != labels[index]]
        if not rest.size:
            continue
        near = rest[_ONES[packed[rest] ^ packed[index]].sum(axis=1, dtype=np.int64) <= max_distance]
        if near.size:
            labels[np.isin(labels, labels[near])] = labels[index]
