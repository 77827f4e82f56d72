"""Time and memory of every detector against the number of rows and columns, as a figure and a table.

    python benchmarks/detectors.py --figure detectors.png --table detectors.md
    python benchmarks/detectors.py --rows 500 2000 --columns 64 --limit 3 --figure short.png --table short.md

The first is the whole run (hours), the second takes about a minute on one core. Seconds are of the processor, so other
work on the machine does not count; memory is what the process holds at most beyond the table itself and what it held
before (Linux; nan elsewhere). Each detector and number of columns runs in a process of its own, after a fit on 50 rows
that is not counted (imports, compilation). A size is left out when the two before it let expect more than ``--limit``
seconds.

The growth is the slope of log time over log rows between the two largest sizes that were measured; a detector grows
worse than n log n when its slope exceeds that of n log n by more than 0.15. ``--all-rows`` lifts the limit of rows that
the recipes set, and shows what each would cost without.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from monai_ctmri.evaluation.peak_memory import PeakMemory

SCORED = 200
"""Rows scored; the cost a case is what matters."""
TOLERANCE = 0.15
SHORTEST = 0.05
"""Seconds below which a growth is not told from the cost of the calls."""


def table_of(rows: int, columns: int, seed: int) -> np.ndarray:
    """Correlated normal features (rows, columns): a low-rank part and noise, like features of a network."""
    random = np.random.default_rng(seed)
    loadings = np.random.default_rng(0).normal(size=(16, columns))
    return random.normal(size=(rows, 16)) @ loadings + 0.5 * random.normal(size=(rows, columns))


def make(name: str, all_rows: bool):
    """The detector as a config builds it."""
    from monai_ctmri.detection.mahalanobis import MahalanobisDetector
    from monai_ctmri.detection.outlier import OutlierDetector

    if name == "Mahalanobis":
        return MahalanobisDetector()
    return OutlierDetector(name, max_rows=10**9 if all_rows else None)


def measure(name: str, columns: int, given: argparse.Namespace, sender: Connection) -> None:
    """Send rows, fit seconds, milliseconds a scored case and megabytes, a size; then the last line of an error."""
    try:
        for result in measured_sizes(name, columns, given):
            sender.send(result)
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")
    sender.close()


def measured_sizes(name: str, columns: int, given: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Measurements, the smallest size first."""
    asked = table_of(SCORED, columns, seed=2)
    make(name, given.all_rows).fit(table_of(50, columns, seed=3)).decision_function(asked[:2])
    done: list[tuple[int, float]] = []
    for rows in sorted(given.rows):
        if done and expected(done, rows) > given.limit:
            return
        data = table_of(rows, columns, seed=1)
        with PeakMemory() as peak:
            started = time.process_time()
            detector = make(name, given.all_rows).fit(data)
            fit = time.process_time() - started
            started = time.process_time()
            detector.decision_function(asked)
            score = time.process_time() - started
        done.append((rows, fit))
        memory = math.nan if peak.megabytes is None else peak.megabytes
        yield {"rows": rows, "fit": fit, "score": 1e3 * score / SCORED, "memory": memory}


def expected(done: list[tuple[int, float]], rows: int) -> float:
    """Seconds to expect of ``rows``, from the two sizes before; linear where there is one."""
    slope = max(1.0, slope_of(done)) if len(done) > 1 else 1.0
    return max(done[-1][1], 1e-3) * (rows / done[-1][0]) ** slope


def slope_of(done: list[tuple[int, float]]) -> float:
    """Slope of log seconds over log rows between the last two sizes."""
    (few, short), (many, long) = done[-2:]
    return math.log(max(long, 1e-6) / max(short, 1e-6)) / math.log(many / few)


def growth(found: list[dict[str, float]]) -> tuple[float, bool] | None:
    """Slope and whether it is worse than n log n; None where the times are too short or too few to tell."""
    if len(found) < 2 or found[-2]["fit"] < SHORTEST:
        return None
    slope = slope_of([(int(size["rows"]), size["fit"]) for size in found])
    few, many = found[-2]["rows"], found[-1]["rows"]
    n_log_n = 1.0 + math.log(math.log(many) / math.log(few)) / math.log(many / few)
    return slope, slope > n_log_n + TOLERANCE


def run_child(name: str, columns: int, given: argparse.Namespace) -> list[dict[str, float]]:
    """Measurements of one detector and number of columns; those made before a crash or the time ran out are kept."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(name, columns, given, sender))
    child.start()
    sender.close()
    until, found = time.monotonic() + given.timeout, []
    try:
        while receiver.poll(max(0.0, until - time.monotonic())):
            found.append(receiver.recv())
        found.append(f"stopped after {given.timeout:.0f} s on the clock")
    except EOFError:
        pass
    child.terminate()
    child.join()
    for problem in found:
        if isinstance(problem, str):
            print(f"{name}, {columns} columns: {problem}", file=sys.stderr, flush=True)
    return [each for each in found if not isinstance(each, str)]


def write_table(found: dict[tuple[str, int], list[dict[str, float]]], sizes: list[int], all_rows: bool) -> str:
    """Markdown: a line a detector and number of columns."""
    from monai_ctmri.detection.recipes import DETECTORS

    heads = [f"fit {rows:,} [s]" for rows in sizes]
    heads += ["score [ms a case]", "memory [MB]", "rows drawn", "growth", "worse than n log n"]
    lines = ["| detector | columns | " + " | ".join(heads) + " |", "|" + " --- |" * (len(heads) + 2)]
    for (name, columns), measured in found.items():
        most = DETECTORS[name].max_rows if name in DETECTORS else None
        times = {int(size["rows"]): f"{size['fit']:.2f}" for size in measured}
        cells = [name, f"{columns:,}", *(times.get(rows, "-") for rows in sizes)]
        cells += [f"{measured[-1]['score']:.2f}", f"{measured[-1]['memory']:.0f}"] if measured else ["-", "-"]
        grown = growth(measured)
        cells.append("all" if most is None or all_rows else f"{most:,}")
        if grown is None:
            cells += ["too short to tell", "-"]
        else:
            # Up to the rows it draws, a detector may grow as it likes: the cost is bounded by that number.
            below = most is not None and not all_rows and measured[-2]["rows"] < most
            cells += [f"n^{grown[0]:.2f}", ("up to its draw" if below else "yes") if grown[1] else "no"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(found: dict[tuple[str, int], list[dict[str, float]]], path: Path) -> None:
    """A column of panels a number of columns: fit time, score time, memory over rows; n log n in grey."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(name for name, _ in found))
    widths = list(dict.fromkeys(columns for _, columns in found))
    kinds = {"fit": "fit [s]", "score": "score [ms a case]", "memory": "memory [MB]"}
    size = (3.4 + 4.2 * len(widths), 9.6)
    figure, panels = plt.subplots(3, len(widths), figsize=size, sharex=True, sharey="row", squeeze=False)
    marks = {name: (plt.get_cmap("tab10")(i % 10), ("-", "--", ":")[i // 10 % 3]) for i, name in enumerate(names)}
    for across, columns in enumerate(widths):
        for down, (key, label) in enumerate(kinds.items()):
            panel = panels[down, across]
            for name in names:
                measured = found.get((name, columns), [])
                color, dashes = marks[name]
                # Nothing held beyond the table is drawn at the smallest value the axis shows.
                floor = {"fit": 1e-3, "score": 1e-4, "memory": 0.1}[key]
                points = [(each["rows"], max(each[key], floor)) for each in measured]
                panel.plot(*zip(*points, strict=True) if points else ([], []), dashes, color=color, marker="o", ms=3)
            panel.set(xscale="log", yscale="log")
            panel.grid(alpha=0.25)
            if across == 0:
                panel.set_ylabel(label)
        rows = np.array(sorted({each["rows"] for measured in found.values() for each in measured}) or [1.0])
        line = rows * np.log(np.maximum(rows, 2))
        panels[0, across].plot(rows, 0.02 * line / line[0], color="0.5", lw=5, alpha=0.35, zorder=0)
        panels[0, across].set_title(f"{columns:,} columns", fontsize=10)
        panels[2, across].set_xlabel("rows fitted")
        panels[2, across].set_xticks(rows, [f"{int(count):,}" for count in rows], rotation=30)
        panels[2, across].minorticks_off()
    handles = [plt.Line2D([], [], color=marks[name][0], ls=marks[name][1], marker="o", ms=3) for name in names]
    handles.append(plt.Line2D([], [], color="0.5", lw=5, alpha=0.35))
    figure.legend(handles, [*names, "n log n"], loc="center right", fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0, 1 - 1.6 / size[0], 1))
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the table, write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 3000, 10_000, 30_000, 100_000])
    parser.add_argument("--columns", type=int, nargs="+", default=[64, 512, 2048])
    parser.add_argument("--detectors", nargs="+", help="default: all that are offered")
    parser.add_argument("--limit", type=float, default=120.0, help="processor seconds one fit may be expected to take")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds on the clock for one line of the table")
    parser.add_argument("--all-rows", action="store_true", help="fit all rows where the recipe draws some")
    parser.add_argument("--figure", type=Path, help="write the figure here (PNG)")
    parser.add_argument("--table", type=Path, help="write the table here (markdown)")
    given = parser.parse_args()

    # Loaded once here, so that the processes that branch off start at once and none is charged for it.
    import torch  # noqa: F401

    from monai_ctmri.detection.recipes import DETECTORS

    for recipe in DETECTORS.values():
        import_module(recipe.module)
    found = {}
    for name in given.detectors or [*DETECTORS, "Mahalanobis"]:
        for columns in given.columns:
            found[name, columns] = run_child(name, columns, given)
            print(name, columns, found[name, columns], file=sys.stderr, flush=True)
    table = write_table(found, given.rows, given.all_rows)
    print(table)
    if given.table:
        given.table.write_text(table)
    if given.figure:
        draw(found, given.figure)


if __name__ == "__main__":
    main()
