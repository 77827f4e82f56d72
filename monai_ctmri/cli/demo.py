"""``monai-ctmri demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_ctmri.cli.destination import check_destination

EXAMPLE = "Example: monai-ctmri demo --out runs/demo"


def demo(
    out: Annotated[Path, typer.Option(help="Run folder.", callback=check_destination)] = Path("runs/demo"),
    subjects: Annotated[int, typer.Option(help="Phantom subjects.")] = 40,
    epochs: Annotated[int, typer.Option(help="Epochs at most.")] = 20,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    short: Annotated[bool, typer.Option("--short", help="A smaller run of the same path, for a quick check.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the libraries log.")] = False,
) -> None:
    """Draw the embedded phantom, train on normal heads, test on injected lesions, write a report."""
    from monai_ctmri.cli.console import command_given, quiet_libraries, show_summary, stages

    quiet_libraries(verbose)
    from monai_ctmri.data.phantom import write_phantom
    from monai_ctmri.engines.precision import prefers_bfloat16
    from monai_ctmri.errors import InputError
    from monai_ctmri.evaluation.protocol import FEWEST_SUBJECTS
    from monai_ctmri.evaluation.settings import BenchmarkSettings
    from monai_ctmri.report.run import run_and_report

    if subjects < FEWEST_SUBJECTS:
        problem = "too few to train, calibrate and test on different ones"
        raise InputError.about(f"--subjects {subjects}", problem, f"give {FEWEST_SUBJECTS} or more")
    size = 64 if short else 128
    subjects, epochs = (min(subjects, 16), min(epochs, 4)) if short else (subjects, epochs)
    settings = BenchmarkSettings(
        image_size=size,
        max_epochs=epochs,
        seed=seed,
        repeats=500 if short else 2000,
        bf16=prefers_bfloat16(),
        detectors="default",  # all of them are the benchmark's: they would cost more than the rest
    )
    with stages() as advance:
        manifest = write_phantom(
            out / "phantom",
            subjects,
            seed * 1_000_000,
            size=size,
            slices=6 if short else 12,
            progress=lambda done, total: advance("Drawing the phantom", done, total),
        )
        results, report = run_and_report(
            manifest,
            out,
            settings,
            title="Demo on the embedded phantom",
            command=command_given(),
            phantom=True,
            progress=advance,
        )
    show_summary(results, report)
