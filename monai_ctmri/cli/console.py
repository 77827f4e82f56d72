"""What the commands show while they work."""

from __future__ import annotations

import logging
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["command_given", "quiet_libraries", "show_preparation", "show_report", "show_summary", "stages"]


def command_given() -> str:
    """Return the command as it was typed, with every option, so that a report says how to run it again."""
    return shlex.join(["monai-ctmri", *sys.argv[1:]])


@contextmanager
def stages() -> Iterator[Any]:
    """Yield a callback (stage, done, total) that shows one bar a stage; without a terminal, a line when a stage is
    done."""
    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    finished: set[str] = set()
    columns = (TextColumn("{task.description:<26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)
            if done >= total and stage not in finished:
                finished.add(stage)
                if not console.is_terminal:
                    console.print(f"{stage}: done ({total})", highlight=False)

        yield advance


def quiet_libraries(verbose: bool) -> None:
    """Leave only warnings of the libraries below on the screen; ``verbose`` shows everything."""
    if verbose:
        logging.basicConfig(level=logging.INFO)
        return
    logging.basicConfig(level=logging.WARNING, format="Warning: %(message)s")
    logging.disable(logging.INFO)
    # Ours are configurations we ship; MONAI's notice that configurations are code is in SECURITY.md and the bundle's
    # README.
    warnings.filterwarnings("ignore", module=r"monai(\.|$)")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)


def show_summary(results: Mapping[str, Any], report: Any) -> None:
    """Print the main rows of the method table, the decision, and last the path of the report."""
    from monai_ctmri.evaluation.protocol import ASSUMED_NORMAL

    console = Console()
    for one in results["sets"]:
        table = Table(
            title=f"{one['name']}: {one['n_normal']} normal, {one['n_abnormal']} abnormal", title_justify="left"
        )
        table.add_column("Method")
        table.add_column("Group")
        table.add_column("Modality")
        table.add_column("AUROC [95 % interval]", justify="right")
        for method in sorted(one["methods"], key=lambda entry: -(entry["auroc"]["value"] or 0)):
            table.add_row(method["label"], method["group"], method["modality"].upper(), _interval(method["auroc"]))
        console.print(table)
    decision = results["decision"]
    unit = f"normal {decision['calibration_unit']}" if decision.get("calibration_unit") else "normals"
    console.print(
        f"At alpha {decision['alpha']:g} (calibrated on {decision['n_calibration']} {unit}): false alarms "
        f"{_interval(decision['false_alarms'])}, sensitivity {_interval(decision['sensitivity'])}",
        highlight=False,
    )
    if ASSUMED_NORMAL in results.get("notes", ()):
        console.print(f"[yellow]{ASSUMED_NORMAL}[/yellow]", highlight=False)
    if results["data"]["kind"] == "phantom":
        console.print("A phantom result: simulated heads and lesions.", highlight=False)
    show_report(report)


def show_preparation(prepared: Any, explain: bool) -> None:
    """Print what a folder turned out to be, what was found and kept apart, and last the manifest's path."""
    from monai_ctmri.data.discovery import HOW_TO_PAIR
    from monai_ctmri.data.findings import KINDS

    console = Console()
    if explain:
        console.print(prepared.explanation, highlight=False, markup=False, soft_wrap=True)
    counts = prepared.as_dict()
    normal = {True: "yes", False: "no", None: "not known"}[counts["normal_only"]]
    subjects = f"{counts['subjects']}" + ("" if counts["subjects_known"] else " pseudo-subjects")
    answer = Table(show_header=False)
    for name, value in (
        ("Pairing", counts["pairing"]),
        ("CT / MRI images", f"{counts['ct']} / {counts['mri']}"),
        ("Cases", f"{counts['cases']}, {counts['quarantined']} of them quarantined"),
        ("Subjects", subjects),
        ("Normal anatomy only", normal),
    ):
        answer.add_row(name, value)
    console.print(answer)
    if counts["findings"]:
        table = Table(title="Findings", title_justify="left")
        for column in ("Severity", "Kind", "Meaning"):
            table.add_column(column)
        table.add_column("Files", justify="right")
        for one in counts["findings"]:
            table.add_row(one["severity"], one["kind"], KINDS[one["kind"]][1], str(one["count"]))
        console.print(table)
    for finding in prepared.findings:
        if finding.kind == "wrong_modality":
            line = f"Wrong modality: {finding.file} ({finding.measure})"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if counts["pairing"] == "unpaired" and not explain:
        console.print("No pairs were made; --explain says why.", highlight=False)
        for line in HOW_TO_PAIR:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Manifest: {prepared.path}", highlight=False, markup=False, soft_wrap=True)


def show_report(path: Any) -> None:
    """Print where a report lies; the last line of a command."""
    Console().print(f"Report: {path}", highlight=False, markup=False, soft_wrap=True)


def _interval(entry: Mapping[str, Any]) -> str:
    if entry["value"] is None:
        return "-"
    if entry["low"] is None:
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} [{entry['low']:.2f}, {entry['high']:.2f}]"
