"""The witnesses on real images that nothing was trained on.

    python benchmarks/witnesses.py --real ../shared/data

asks the weights of the bundle ``brain_ctmri_crossmodal`` (``--run FOLDER`` those of a run), trained on the phantom
alone, about three labelled sets, and prints a row a witness and a column a set: slice AUROC with its interval (subjects
resampled; slices where a set has fewer than 5 subjects), where lesion masks exist average precision over all pixels
with its interval, and the best Dice over all thresholds. The witnesses:

- error: what is unlikely given itself, on images as they are, and aligned to the mid-sagittal line;
- asymmetry: the mirror difference, any and brighter only; asymmetry x error: their geometric mean;
- learned mirror: what is unlikely given the other hemisphere alone; error x learned mirror; given itself and the
  mirror;
- intensity: the better of the head's mean and spread, and for pixels the intensity itself.

Labels, masks and images of all sets were used while these witnesses were built; the network saw none of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, Resize, ResizeWithPadOrCrop

from monai_ctmri.bundle import bundle_root
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.engines import find_weights
from monai_ctmri.evaluation.metrics import auroc, best_dice, pixel_average_precision
from monai_ctmri.evaluation.statistics import bootstrap_auroc
from monai_ctmri.transforms import HeadMask, LoadMask, MidsagittalAlign

BUNDLE = "brain_ctmri_crossmodal"
SETS = (("pairs", "mri"), ("ct_hemorrhage", "ct"), ("lgg_flair", "mri"))
OWN_SCORE = ("asymmetry", "brighter")
FEWEST_SUBJECTS = 5
COLUMNS = {
    "error": "error",
    "error_aligned": "error, aligned",
    "asymmetry": "asymmetry",
    "brighter": "asymmetry, brighter",
    "asymmetry_error": "asymmetry x error",
    "brighter_error": "asymmetry, brighter x error",
    "mirrored": "learned mirror",
    "mirrored_error": "error x learned mirror",
    "given_all": "given itself and the mirror",
    "mismatch": "given the other modality",
    "intensity": "intensity",
}


def parsed(align: bool, run: Path | None, smoothing_mm: float | None = None) -> ConfigParser:
    """The bundle's own inference, with the weights in its network."""
    root = bundle_root(BUNDLE)
    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.yaml"))
    parser["align"] = align
    if smoothing_mm is not None:
        parser["smoothing_mm"] = smoothing_mm
    parser["device"] = torch.device("cpu")
    parser["scorers"]["brighter"] = {**parser["scorers"]["asymmetry"], "signed": "brighter"}
    parser["bf16"] = False
    network = parser.get_parsed_content("network_def")
    weights = find_weights(run or root, root)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network.eval()
    return parser


def maps_of(parser: ConfigParser, case: Mapping[str, Any], modality: str, aligned: bool) -> dict[str, np.ndarray]:
    """Maps of one modality, by column."""
    scorers = {name: parser.get_parsed_content(f"scorers::{name}") for name in ("denoiser", "asymmetry", "brighter")}
    found = {name: scorers[name].score(case).maps for name in (["denoiser"] if not aligned else scorers)}
    error = found["denoiser"][f"error_{modality}"]
    if not aligned:
        return {"error": error}
    maps = {"error_aligned": error}
    for witness in ("mirrored", "given_all", "mismatch"):
        if (name := f"{witness}_{modality}") in found["denoiser"]:
            maps[witness] = found["denoiser"][name]
    maps["asymmetry"], maps["brighter"] = (found[name][f"asymmetry_{modality}"] for name in ("asymmetry", "brighter"))
    for name, (one, other) in {
        "asymmetry_error": ("asymmetry", "error_aligned"),
        "brighter_error": ("brighter", "error_aligned"),
        "mirrored_error": ("mirrored", "error_aligned"),
    }.items():
        maps[name] = np.sqrt(np.maximum(maps[one], 0) * maps[other])
    return maps


def mask_of(path: Path, image: Any, aligned: bool) -> np.ndarray:
    """The lesion on the grid of the image."""
    size = image.shape[-1]
    geometry = Compose([Resize(size, size_mode="longest", mode="nearest-exact"), ResizeWithPadOrCrop((size, size))])
    mask = geometry(LoadMask()(path))
    if aligned:
        line = image.meta["midsagittal_angle"], image.meta["midsagittal_shift"]
        mask = MidsagittalAlign(mode="nearest")(mask, midline=line)
    return np.asarray(mask)[0] > 0.5


def pixel_interval(masks: Sequence[np.ndarray], maps: Sequence[np.ndarray], subjects: Sequence[str]) -> str:
    """Average precision over all pixels and its interval, subjects resampled.

    For the interval the values are sorted into 2,000 equally filled bins: each subject then is two histograms, and a
    resample is their sum.
    """
    exact = pixel_average_precision(masks, maps)
    edges = np.unique(np.quantile(np.concatenate([one.ravel()[::7] for one in maps]), np.linspace(0, 1, 2001)))
    names = list(dict.fromkeys(subjects))
    counts = np.zeros((len(names), 2, len(edges) + 1))
    for mask, one, who in zip(masks, maps, subjects, strict=True):
        bins = np.searchsorted(edges, one.ravel(), side="right")
        for truth in (0, 1):
            found = bins[mask.ravel() == bool(truth)]
            counts[names.index(who), truth] += np.bincount(found, minlength=len(edges) + 1)

    def average_precision(drawn: np.ndarray) -> float:
        false, true = np.cumsum(counts[drawn].sum(0)[:, ::-1], axis=1)
        return float(np.sum(np.diff(true, prepend=0.0) / true[-1] * true / np.maximum(true + false, 1.0)))

    random = np.random.default_rng(0)
    values = [average_precision(random.integers(len(names), size=len(names))) for _ in range(1000)]
    low, high = np.quantile(values, (0.025, 0.975))
    return f"{exact:.2f} [{low:.2f}, {high:.2f}]"


def judged(manifest: Manifest, modality: str, run: Path | None, smoothing_mm: float | None = None) -> dict[str, str]:
    """One cell a column."""
    scores: dict[str, list[float]] = {}
    maps: dict[str, list[np.ndarray]] = {}
    masks: dict[bool, list[np.ndarray]] = {True: [], False: []}
    cases = [case for case in manifest if case.label is not None]
    for aligned in (False, True):
        parser = parsed(aligned, run, smoothing_mm)
        prepare = parser.get_parsed_content("preprocessing")
        number, brain = (parser.get_parsed_content(name) for name in ("map_score", "brain_mask"))
        for one in cases:
            item = {"case": one.name, "subject": one.subject, "label": one.label}
            item |= {name: str(path) for name in ("ct", "mri") if (path := getattr(one, name))}
            case = prepare(item)
            image = case["image"]
            region = np.asarray(brain(image))[0]
            found = maps_of(parser, case, modality, aligned)
            for name, values in found.items():
                if name in OWN_SCORE:  # its mask and its number: both hemispheres have to lie inside
                    own = parser.get_parsed_content(f"scorers::{name}").score(case).scores
                    scores.setdefault(name, []).append(own[f"asymmetry_{modality}_top"])
                else:
                    scores.setdefault(name, []).append(number(values, region)["top"])
                if one.mask is not None:
                    maps.setdefault(name, []).append((values * region).astype(np.float32))
            if one.mask is not None:
                masks[aligned].append(mask_of(one.mask, image, aligned))
            if aligned:
                channel = np.asarray(image)[("ct", "mri").index(modality)]
                inside = channel[np.asarray(HeadMask()(image))[0] > 0]
                scores.setdefault("mean", []).append(float(inside.mean()))
                scores.setdefault("spread", []).append(float(inside.std()))
                if one.mask is not None:
                    maps.setdefault("intensity", []).append((channel * region).astype(np.float32))
    labels = [int(case.label or 0) for case in cases]
    subjects = [case.subject for case in cases]
    if len(set(subjects)) < FEWEST_SUBJECTS:
        subjects = [case.name for case in cases]

    def cell(values: Sequence[float]) -> str:
        found = bootstrap_auroc(labels, values, subjects)
        return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"

    # Either direction: it is the best that intensity can do.
    simple = [scores.pop(name) for name in ("mean", "spread")]
    simple += [[-value for value in values] for values in simple]
    scores["intensity"] = max(simple, key=lambda values: auroc(labels, values))
    cells = {name: [cell(values)] for name, values in scores.items()}
    drawn_of = [case.subject for case in cases if case.mask is not None]
    for name, drawn in maps.items():
        truth = masks[name != "error"]
        cells[name] += [pixel_interval(truth, drawn, drawn_of), f"{best_dice(truth, drawn):.2f}"]
    return {name: " / ".join(values) for name, values in cells.items()}


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """The rows as markdown, a line a witness: there are more witnesses than sets."""
    names: Sequence[str] = list(rows)
    lines = [f"| witness | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for column, label in COLUMNS.items():
        if any(column in row for row in rows.values()):
            lines.append(f"| {label} | {' | '.join(rows[name].get(column, '-') for name in names)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with pairs, ct_hemorrhage and lgg_flair")
    parser.add_argument("--run", type=Path, help="output_dir of a training; by default the bundle's weights")
    parser.add_argument("--smoothing-mm", type=float, help="of the maps; by default the bundle's, 0 for none")
    options = parser.parse_args()
    rows = {}
    for name, modality in SETS:
        manifest = Manifest.read(options.real / name / "manifest.csv")
        rows[f"{name}, {modality.upper()}"] = judged(manifest, modality, options.run, options.smoothing_mm)
    print(table(rows))


if __name__ == "__main__":
    main()
