"""What `monai-ctmri prepare` makes of each real set: the table of docs/data.md.

python benchmarks/data_sets.py --real ../shared/data
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections import Counter
from pathlib import Path

from monai_ctmri.data.preparation import Preparation, prepare

SETS = {
    "kaggle_sample": {},
    "pairs": {},
    "pairs, manifest.csv ignored": {"use_manifest": False},
    "ct_hemorrhage": {},
    "lgg_flair": {},
    "lgg_flair, manifest.csv ignored": {"use_manifest": False},
    "volumes": {},
    "dicom": {},
    "dicom, --allow-resample": {"allow_resample": True},
}


def row_of(name: str, prepared: Preparation, seconds: float) -> str:
    counts = prepared.as_dict()
    normal = {True: "yes", False: "no", None: "unknown"}[counts["normal_only"]]
    subjects = f"{counts['subjects']}{'' if counts['subjects_known'] else ' pseudo'}"
    kinds: dict[str, Counter[str]] = {"error": Counter(), "warning": Counter(), "info": Counter()}
    for finding in prepared.findings:
        kinds[finding.severity][finding.kind] += 1
    found = [", ".join(f"{kind} {n}" for kind, n in sorted(kinds[one].items())) or "-" for one in ("error", "warning")]
    images = f"{counts['ct']} / {counts['mri']}"
    cells = [name, counts["pairing"], images, subjects, normal, str(counts["quarantined"]), *found, f"{seconds:.0f} s"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, required=True, help="folder with the real sets")
    real = parser.parse_args().real
    logging.disable(logging.WARNING)
    print("| set | pairing | CT / MRI | subjects | normal only | quarantined | errors | warnings | time |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, options in SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            prepared = prepare(real / name.split(",")[0], Path(folder) / "manifest.csv", **options)
            print(row_of(name, prepared, time.monotonic() - start), flush=True)


if __name__ == "__main__":
    main()
