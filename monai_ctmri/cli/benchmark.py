"""``monai-ctmri benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ctmri.cli.destination import check_destination

EXAMPLE = "Example: monai-ctmri benchmark data/pairs/manifest.csv --out runs/pairs"


def benchmark(
    manifest: Annotated[
        Path, typer.Argument(help="Manifest (CSV or MONAI datalist JSON), or a folder with manifest.csv.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder.", callback=check_destination)],
    image_size: Annotated[int, typer.Option(help="Network input in pixels: 128 or 256.")] = 128,
    epochs: Annotated[int, typer.Option(help="Epochs at most; more where the training set is small.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Slices a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of division, training, injected lesions and bootstrap.")] = 0,
    alpha: Annotated[float, typer.Option(help="False-alarm rate to calibrate for.")] = 0.05,
    modality: Annotated[
        str,
        typer.Option(help="ct, mri, both, or auto: what every case has; one run a modality where the set is unpaired."),
    ] = "auto",
    detectors: Annotated[
        str, typer.Option(help="One-class detectors on the latent: all, default (the cheap ones), or NAME,NAME.")
    ] = "all",
    bf16: Annotated[
        bool | None, typer.Option("--bf16/--no-bf16", help="bfloat16 training; by default where the processor has it.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the libraries log.")] = False,
) -> None:
    """Train on the normal subjects of a manifest, test on the others and on injected lesions, write a report.

    A run that was interrupted continues when the same command is given again.
    """
    from monai_ctmri.cli.console import command_given, quiet_libraries, show_report, show_summary, stages

    quiet_libraries(verbose)
    from monai_ctmri.engines.precision import prefers_bfloat16
    from monai_ctmri.evaluation.settings import BenchmarkSettings

    settings = BenchmarkSettings(
        image_size=image_size,
        max_epochs=epochs,
        min_steps=300,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        alpha=alpha,
        bf16=prefers_bfloat16() if bf16 is None else bf16,
        detectors=detectors,
    )
    from monai_ctmri.data.phantom import is_phantom
    from monai_ctmri.report.index import write_index
    from monai_ctmri.report.run import choose_modalities, run_and_report

    folder = (manifest if manifest.is_dir() else manifest.parent).resolve()
    runs = choose_modalities(manifest, modality)
    reports = []
    for modalities in runs:
        # A run folder belongs to one network; only where there are several does each get a folder of its own.
        name = "-".join(modalities) if len(runs) > 1 else ""
        with stages() as advance:
            results, report = run_and_report(
                manifest,
                out / name,
                settings,
                title=f"Benchmark: {folder.name}" + (f", {name.upper()}" if name else ""),
                command=command_given(),
                # A result on the phantom has to be called one, whichever command counted it.
                phantom=is_phantom(folder),
                modalities=modalities,
                progress=advance,
            )
        show_summary(results, report)
        reports.append((results, report))
    if len(runs) > 1:
        show_report(write_index(out / "report.html", f"Benchmark: {folder.name}", reports))
