"""What is wrong between the two images of a case: their grids, and whether they show one slice of one head."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_ctmri.data.checks.inspection import Facts
from monai_ctmri.data.findings import Finding
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.errors import InputError

__all__ = ["FEWEST_STRANGERS", "STRANGERS", "WINS_LIMIT", "Edges", "edge_agreement", "edges_of", "find_pair_problems"]

STRANGERS = 32
"""MRI of other subjects that a pair is compared with, at most."""
FEWEST_STRANGERS = 5
"""With fewer, there is no verdict."""
WINS_LIMIT = 0.9
"""A pair has to agree better than CT and stranger in this share of the comparisons."""

_GRID = 64
_SIGMA = 0.7  # pixels of that grid
_FAINT = 0.02  # of the strongest gradient: weaker ones count for less
_SOFT_TISSUE_HU = (-100.0, 300.0)

Edges = np.ndarray
"""Gradient directions (2, 64, 64) float16 of one picture, of length 1 at strong edges and below 1 at faint ones."""

logger = logging.getLogger(__name__)


def find_pair_problems(manifest: Manifest, facts: Sequence[Facts], seed: int = 0) -> list[Finding]:
    """Compare the two images of each case that has both, and could be read.

    Pictures of two sizes are ``size_mismatch``, volumes on two grids ``geometry_mismatch``. A pair on one grid is
    ``implausible_pair`` when its CT does not agree better with its MRI than with nine of ten MRI of other subjects.
    Agreement is that of edges (:func:`edge_agreement`): on registered pairs mutual information, which is mostly about
    how large the head is, was below nine in ten strangers for a third of the true pairs. A pair that is not registered
    looks like strangers do. The strangers depend on the seed and the names of the cases, not on their order.

    Args:
        manifest: the cases.
        facts: of their files.
        seed: of a local generator.

    Returns:
        Findings about the MRI file, in the order of the cases. The cost grows linearly with the cases.
    """
    known = {one.path: one for one in facts if one.problem is None}
    findings: list[Finding] = []
    plausible: list[Case] = []
    for case in manifest:
        if case.ct in known and case.mri in known:
            finding = _grid_problem(known[case.ct], known[case.mri])
            findings += [] if finding is None else [finding]
            plausible += [case] if finding is None else []
    return findings + _strangers_by_content(plausible, manifest, known, seed)


def edges_of(plane: np.ndarray) -> Edges:
    """Return where the edges of a picture run.

    Args:
        plane: (H, W), finite; values below -200 are taken for HU, of which soft tissue and bone are kept.
    """
    from PIL import Image
    from scipy import ndimage

    plane = np.asarray(plane, dtype=np.float32)
    if plane.min() < -200:
        plane = plane.clip(*_SOFT_TISSUE_HU)
    small = np.asarray(Image.fromarray(plane).resize((_GRID, _GRID), Image.Resampling.BOX), dtype=np.float64)
    steps = np.stack([ndimage.gaussian_filter(small, _SIGMA, order=order) for order in ((0, 1), (1, 0))])
    lengths = np.hypot(*steps)
    strongest = lengths.max()
    if strongest == 0:
        return np.zeros(steps.shape, dtype=np.float16)
    return (steps / np.hypot(lengths, _FAINT * strongest)).astype(np.float16)


def edge_agreement(a: Edges, b: Edges) -> float:
    """Return how far the edges of two pictures lie at one place and run in one direction, whatever their contrast.

    Returns:
        From 0 to 1: the mean squared scalar product of the normalised gradients, over its largest possible value.

    Source:
        Haber, Modersitzki: Intensity Gradient Based Registration and Fusion of Multi-modal Images. MICCAI 2006,
        LNCS 4191, 726-733 (normalised gradient fields).
    """
    first, second = a.astype(np.float32), b.astype(np.float32)
    shared = float(np.mean((first * second).sum(axis=0) ** 2))
    most = float(np.sqrt(np.mean((first**2).sum(axis=0) ** 2) * np.mean((second**2).sum(axis=0) ** 2)))
    return shared / most if most > 0 else 0.0


def _grid_problem(ct: Facts, mri: Facts) -> Finding | None:
    spatial = [one.affine is not None for one in (ct, mri)]
    if not any(spatial):
        if ct.shape == mri.shape:
            return None
        return Finding(mri.path, "size_mismatch", f"{_text(mri.shape)}, its CT {_text(ct.shape)}")
    if not all(spatial):
        return Finding(mri.path, "geometry_mismatch", "one of the two is a volume, the other a picture")
    if ct.shape != mri.shape:
        return Finding(mri.path, "geometry_mismatch", f"{_text(mri.shape)} voxels, its CT {_text(ct.shape)}")
    from monai_ctmri.data.reading.volumes import VolumeHeader, same_grid

    x, y = (VolumeHeader(one.shape, np.array(one.affine), np.dtype(one.dtype)) for one in (ct, mri))  # type: ignore[arg-type]
    fits = same_grid(x, y)
    return None if fits else Finding(mri.path, "geometry_mismatch", "the same shape at another place, size or angle")


def _strangers_by_content(
    cases: Sequence[Case], manifest: Manifest, known: dict[Path, Facts], seed: int
) -> list[Finding]:
    pool = sorted((case for case in manifest if case.mri in known), key=lambda case: case.name)
    if len({case.subject for case in pool}) < 2:
        return []
    edges: dict[Path, Edges | None] = {}
    findings = []
    for case in cases:
        assert case.ct is not None
        assert case.mri is not None
        own = _edges(case.ct, edges), _edges(case.mri, edges)
        if own[0] is None or own[1] is None:
            continue
        others = (_edges(path, edges) for path in _strangers(case, pool, known, seed))
        shared = [edge_agreement(own[0], other) for other in others if other is not None]
        edges.pop(case.ct)  # a CT is asked for once, an MRI many times
        if len(shared) < FEWEST_STRANGERS:
            continue
        wins = sum(edge_agreement(own[0], own[1]) > other for other in shared)
        if wins < WINS_LIMIT * len(shared):
            measure = f"agrees with its CT better than {wins} of {len(shared)} strangers"
            findings.append(Finding(case.mri, "implausible_pair", measure))
    return findings


def _strangers(case: Case, pool: Sequence[Case], known: dict[Path, Facts], seed: int) -> list[Path]:
    """MRI files of other subjects, drawn without regard to the order of the cases."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    enough = 8 * STRANGERS
    # From a large pool a few are drawn, so that the cost of a case does not grow with the pool.
    drawn = rng.permutation(len(pool)) if len(pool) <= enough else rng.integers(0, len(pool), enough)
    digest = known[case.mri].digest if case.mri is not None else None
    found: dict[Path, None] = {}
    for index in drawn.tolist():
        other = pool[index]
        if other.subject != case.subject and other.mri is not None and known[other.mri].digest not in (None, digest):
            found.setdefault(other.mri)
        if len(found) == STRANGERS:
            break
    return list(found)


def _edges(path: Path, cache: dict[Path, Edges | None]) -> Edges | None:
    from monai_ctmri.data.trees.content import read_plane

    if path not in cache:
        try:
            edges = edges_of(read_plane(path))
            cache[path] = edges if edges.any() else None
        except InputError:
            logger.warning("%s: no plane could be read; its pair is not judged", path)
            cache[path] = None
    return cache[path]


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
