"""The benchmark: train on normals, calibrate on other normals, test on what neither saw, next to trivial baselines."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_ctmri import keys
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.quarantine import without_quarantined
from monai_ctmri.data.verification import read_pixels, verify_files
from monai_ctmri.detection.fusion import ScoreFusion
from monai_ctmri.engines.bundle_training import TrainedBundle, train_bundle
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.calibrated import Calibration, calibrate
from monai_ctmri.evaluation.cases import abnormal_cases, load_cases
from monai_ctmri.evaluation.fused import fit_fusion
from monai_ctmri.evaluation.judge import Judge, Progress, ScoredCase
from monai_ctmri.evaluation.latent_detectors import chosen_detectors
from monai_ctmri.evaluation.methods import DECISION_METHOD, FUSED_METHOD
from monai_ctmri.evaluation.protocol import Fold, Protocol, make_protocol
from monai_ctmri.evaluation.settings import BenchmarkSettings

__all__ = ["BUNDLE", "BenchmarkRun", "run_benchmark"]

BUNDLE = "brain_ctmri_autoencoder"
MANIFEST_NAME = "manifest.csv"


@dataclass(frozen=True)
class BenchmarkRun:
    """What a benchmark found, before it is counted and drawn.

    Attributes:
        settings: as asked for.
        protocol: who trained, calibrated and tested.
        modalities: channels in order.
        sizes: height and width in pixels of each case's own files, by case name.
        cases: every test case of the manifest, then every injected twin of a normal one.
        calibrated: the calibration normals, each judged by a network that never saw its subject; without pictures.
        calibration: fitted on their decision scores.
        fusion: fitted on their scores; None where they are too few.
        trained: the tested network.
        judge: its scorers.
        zero_contrast: AUROC inputs of the zero-contrast control: (clean scores, scores after an injection of no
            contrast).
        seconds: time of each stage.
    """

    settings: BenchmarkSettings
    protocol: Protocol
    modalities: tuple[str, ...]
    sizes: dict[str, tuple[int, int]]
    cases: list[ScoredCase]
    calibrated: list[ScoredCase]
    calibration: Calibration
    fusion: ScoreFusion | None
    trained: TrainedBundle
    judge: Judge
    zero_contrast: tuple[list[float], list[float]]
    seconds: dict[str, float]

    @property
    def healthy_features(self) -> np.ndarray:
        """Latent features of the training normals, shape (N, F)."""
        return self.judge.healthy_features

    @property
    def originals(self) -> list[ScoredCase]:
        """The test cases of the manifest."""
        return [case for case in self.cases if not case.twin_of]

    @property
    def injected(self) -> list[ScoredCase]:
        """The normal test cases and their abnormal twins; empty when nothing could be injected."""
        twins = [case for case in self.cases if case.twin_of]
        return [*(case for case in self.originals if case.label == 0), *twins] if twins else []

    @property
    def labelled(self) -> list[ScoredCase]:
        """The test cases of the manifest with a label; empty unless both labels occur."""
        cases = [case for case in self.originals if case.label is not None]
        return cases if {case.label for case in cases} == {0, 1} else []


def run_benchmark(
    manifest_path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: BenchmarkSettings | None = None,
    *,
    modalities: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> BenchmarkRun:
    """Train, calibrate and score on a manifest of axial slices.

    All files are opened before anything is written. A run that was cut off continues its training where it stood.

    Args:
        manifest_path: manifest file, or folder with ``manifest.csv``.
        out: run folder; receives ``config.yaml``, ``manifest.csv`` and ``training/``.
        settings: see :class:`~monai_ctmri.evaluation.settings.BenchmarkSettings`.
        modalities: channels of the network; cases that lack one are left out. None takes what every case has.
        progress: called with (what is being done, steps done, steps in all).

    Raises:
        InputError: for bad input; nothing is written then.
    """
    settings, say = settings or BenchmarkSettings(), progress or (lambda stage, done, total: None)
    manifest = without_quarantined(Manifest.read(manifest_path), manifest_path)
    modalities = manifest.modalities if modalities is None else tuple(modalities)
    if not modalities:
        raise InputError.about(manifest_path, "no modality is present in every case", "name the modalities to use")
    manifest = manifest.with_cases(case for case in manifest if set(modalities) <= set(case.modalities))
    if not len(manifest):
        raise InputError.about(manifest_path, f"no case has {' and '.join(modalities)}", "name other modalities")
    sizes = verify_files(manifest, progress=lambda done, total: say("Checking files", done, total))
    try:
        protocol = make_protocol(manifest, settings.seed)
    except InputError as error:
        raise InputError(f"{manifest_path}: {error}") from error
    _refuse_what_cannot_be_scored(protocol, manifest_path, modalities)
    settings.claim(out, manifest_path, protocol.manifest, modalities)

    seconds: dict[str, float] = {}
    calibrated: list[ScoredCase] = []
    for fold in protocol.folds:
        start = time.monotonic()
        trained = _train(fold, Path(out), settings, modalities, say)
        seconds[f"training {fold.name}"] = time.monotonic() - start
        healthy = load_cases(fold.training.select(split="train"), trained.preprocess, modalities)
        start = time.monotonic()
        say("Fitting detectors", 0, 1)
        judge = Judge(trained.network, modalities, settings.seed, chosen_detectors(settings.detectors)).fit(healthy)
        say("Fitting detectors", 1, 1)
        seconds[f"detectors {fold.name}"] = time.monotonic() - start
        held_out = load_cases(fold.calibration, trained.preprocess, modalities) if len(fold.calibration) else []
        judged = judge.judge(held_out, f"Calibrating ({fold.name})", say)
        calibrated += [case.without_pictures() for case in judged]
    subjects = [case.subject for case in calibrated]
    calibration = calibrate([case.scores[DECISION_METHOD] for case in calibrated], subjects, settings.alpha)
    fusion = fit_fusion([case.scores for case in calibrated])

    start = time.monotonic()
    test = load_cases(protocol.test, trained.preprocess, modalities)
    normals = [case for case in test if case[keys.LABEL] == 0]
    # Donors of wrong pairs are unseen normals too: a network reconstructs what it was trained on all too well.
    twins = list(abnormal_cases(normals, modalities, normals, settings.seed))
    cases = judge.judge([*test, *twins], "Scoring", say)
    if fusion is not None:
        for case, fused in zip(cases, fusion.decision_function([case.scores for case in cases]), strict=True):
            case.scores[FUSED_METHOD] = float(fused)
    clean = {case.case: case.scores[DECISION_METHOD] for case in cases if not case.twin_of}
    blank: dict[str, list[dict[str, Any]]] = {}
    for twin in abnormal_cases(normals, modalities, normals, settings.seed, contrast=0.0):
        blank.setdefault(str(twin["twin_of"]), []).append(twin)
    # One a normal case, the kinds in turn: every case and every kind has its share.
    in_turn = [twins_of[number % len(twins_of)] for number, twins_of in enumerate(blank.values())]
    unchanged = judge.judge(in_turn, "Zero-contrast control", say)
    seconds["scoring"] = time.monotonic() - start
    return BenchmarkRun(
        settings=settings,
        protocol=protocol,
        modalities=modalities,
        sizes=sizes,
        cases=[replace(one, p_value=calibration.p_value(one.scores[DECISION_METHOD])) for one in cases],
        calibrated=calibrated,
        calibration=calibration,
        fusion=fusion,
        trained=trained,
        judge=judge,
        zero_contrast=([clean[one.twin_of] for one in unchanged], [one.scores[DECISION_METHOD] for one in unchanged]),
        seconds=seconds,
    )


def _refuse_what_cannot_be_scored(
    protocol: Protocol, manifest_path: str | os.PathLike[str], modalities: Sequence[str]
) -> None:
    """Name now what the scorers would refuse after the training."""
    for fold in protocol.folds:
        if len(fold.training.select(split="train")) < 2:
            problem = f"the training {fold.name!r} has one slice only"
            raise InputError.about(manifest_path, problem, "give more normal slices")
    for case in protocol.manifest:
        for path in (getattr(case, name) for name in modalities):
            pixels = read_pixels(path)
            if (pixels == pixels.flat[0]).all():
                raise InputError.about(path, "a blank slice", f"leave the case {case.name} out of the manifest")


def _train(
    fold: Fold, out: Path, settings: BenchmarkSettings, modalities: Sequence[str], say: Progress
) -> TrainedBundle:
    folder = out / "training" / fold.name
    manifest = folder / MANIFEST_NAME
    fold.training.write_csv(manifest)
    stage = "Training" if fold.name == "final" else f"Training ({fold.name})"
    options: dict[str, Any] = {
        "dataset_dir": str(manifest),
        "modalities": list(modalities),
        "image_size": settings.image_size,
        "max_epochs": settings.epochs_for(len(fold.training.select(split="train"))),
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        # Without subjects to validate on there is nothing to stop early by.
        "patience": settings.patience if len(fold.training.select(split="validation")) else None,
        "seed": settings.seed,
        "bf16": settings.bf16,
        "progress_bar": False,
    }
    trained = train_bundle(BUNDLE, folder, each_epoch=lambda done, total: say(stage, done, total), **options)
    epochs = len(trained.history)
    say(stage, epochs, epochs)
    return trained
