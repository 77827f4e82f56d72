"""From a manifest to a report in one call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_ctmri.evaluation.benchmark import run_benchmark
from monai_ctmri.evaluation.judge import Progress
from monai_ctmri.evaluation.results import count_results
from monai_ctmri.evaluation.settings import BenchmarkSettings
from monai_ctmri.report.benchmark_report import write_benchmark_report

__all__ = ["run_and_report"]


def run_and_report(
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: BenchmarkSettings,
    *,
    title: str,
    command: str,
    phantom: bool = False,
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
        progress: called with (what is being done, steps done, steps in all).

    Returns:
        The results, as in ``metrics.json``, and the path of ``report.html``.

    Raises:
        InputError: for bad input; nothing is written then.
    """
    run = run_benchmark(manifest, out, settings, progress=progress)
    modalities = " and ".join(name.upper() for name in run.modalities)
    subtitle = f"Convolutional autoencoder on {modalities}, trained on normal slices only"
    results = count_results(run, title=title, subtitle=subtitle, command=command, phantom=phantom)
    return results, write_benchmark_report(run, results, out, progress=progress)
