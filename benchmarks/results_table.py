"""Print the README's table from finished runs.

make demo
monai-ctmri benchmark ../shared/data/pairs/manifest.csv --out runs/pairs
python benchmarks/results_table.py runs/demo runs/pairs
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROWS = ("l1_mean", "l2_mean", "iforest", "ocsvm")
"""The deciding score, the source notes' two baselines, the one-class SVM; the best trivial baseline joins them."""


def estimate(entry: dict[str, Any]) -> str:
    """An AUROC with its interval, where it has one."""
    value = f"{entry['value']:.2f}"
    return value if entry["low"] is None else f"{value} [{entry['low']:.2f}, {entry['high']:.2f}]"


def table(results: dict[str, Any]) -> list[str]:
    """Lines of markdown for every test set of a run."""
    lines = []
    for one in results["sets"]:
        methods = {(method["name"], method["modality"]): method for method in one["methods"]}
        whole = [method for method in methods.values() if method["modality"] == one["methods"][0]["modality"]]
        chosen = [method for method in whole if method["name"] in ROWS]
        chosen.append(max((m for m in whole if m["group"] == "trivial baseline"), key=lambda m: m["auroc"]["value"]))
        kinds = list(one["methods"][0]["by_kind"])
        title = (
            f"{results['title']}: {one['name'].lower()}, {one['n_normal']} normal, {one['n_abnormal']} abnormal slices"
        )
        lines += ["", f"{title} of {one['subjects']} subject{'s' if one['subjects'] > 1 else ''}", ""]
        lines.append(f"| method | AUROC [95 %] | {' | '.join(kind.replace('_', ' ') for kind in kinds)} |")
        lines.append(f"| --- | --- | {' | '.join('---' for _ in kinds)} |")
        for method in chosen:
            cells = [f"{method['by_kind'][kind]['auroc']:.2f}" for kind in kinds]
            name = f"{method['label']} ({method['group']})"
            lines.append(f"| {name} | {estimate(method['auroc'])} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    for run in parser.parse_args().runs:
        print("\n".join(table(json.loads((run / "metrics.json").read_text(encoding="utf-8")))))
