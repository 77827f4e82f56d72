"""From a manifest to a report in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_ctmri import keys
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.quarantine import without_quarantined
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.benchmark import run_benchmark
from monai_ctmri.evaluation.judge import Progress
from monai_ctmri.evaluation.results import count_results
from monai_ctmri.evaluation.settings import BenchmarkSettings
from monai_ctmri.report.benchmark_report import write_benchmark_report

__all__ = ["choose_modalities", "run_and_report"]


def choose_modalities(manifest: str | os.PathLike[str], wanted: str = "auto") -> list[tuple[str, ...]]:
    """Return the modalities of each run that a manifest asks for.

    Args:
        manifest: manifest file, or folder with ``manifest.csv``.
        wanted: ``ct``, ``mri``, ``both``, or ``auto``: what every case has, in one run; where no modality is in every
            case (an unpaired manifest), one run a modality, since a picture without partner cannot be judged by one.

    Raises:
        InputError: for another word, or a manifest without the modality.
    """
    if wanted not in ("auto", "both", *keys.MODALITIES):
        raise InputError.about(f"modality {wanted!r}", "unknown", f"use auto, both, {' or '.join(keys.MODALITIES)}")
    cases = without_quarantined(Manifest.read(manifest), manifest)
    if wanted == "auto":
        present = [name for name in keys.MODALITIES if any(name in case.modalities for case in cases)]
        return [cases.modalities] if cases.modalities else [(name,) for name in present]
    return [keys.MODALITIES if wanted == "both" else (wanted,)]


def run_and_report(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: BenchmarkSettings,
    *,
    title: str,
    command: str,
    phantom: bool = False,
    modalities: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], Path]:
    """Run the benchmark on a manifest and write its report.

    Args:
        manifest: manifest file, or folder with ``manifest.csv``.
        out: run folder.
        settings: see :class:`~monai_ctmri.evaluation.settings.BenchmarkSettings`.
        title: heading of the report.
        command: how to run it again.
        phantom: whether the data are the phantom.
        modalities: channels of the network; None takes what every case has.
        progress: called with (what is being done, steps done, steps in all).

    Returns:
        The results, as in ``metrics.json``, and the path of ``report.html``.

    Raises:
        InputError: for bad input; nothing is written then.
    """
    run = run_benchmark(manifest, out, settings, modalities=modalities, progress=progress)
    shown = " and ".join(name.upper() for name in run.modalities)
    subtitle = f"Convolutional autoencoder on {shown}, trained on normal slices only"
    results = count_results(run, title=title, subtitle=subtitle, command=command, phantom=phantom)
    return results, write_benchmark_report(run, results, out, progress=progress)
