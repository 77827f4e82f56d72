"""What is wrong, or worth knowing, with a file of a data set: one finding a line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from monai_ctmri.data.files import relative_path, write_atomically
from monai_ctmri.errors import InputError

__all__ = ["COLUMNS", "KINDS", "SEVERITIES", "Finding", "read_findings", "write_findings"]

SEVERITIES = ("info", "warning", "error")
"""From harmless to unusable. An ``error`` makes a case unfit as it is; a ``warning`` wants a look."""

COLUMNS = ("file", "kind", "measure", "severity")

KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "unreadable": ("error", "cannot be decoded at all"),
        "truncated": ("error", "ends before its content does"),
        "too_large": ("error", "its header claims more voxels than are read"),
        "not_finite": ("error", "holds NaN or infinity"),
        "constant": ("error", "one value everywhere"),
        "blank": ("error", "hardly anything above the background"),
        "exact_duplicate": ("error", "shows exactly what an earlier file shows"),
        "near_duplicate": ("warning", "looks like another file"),
        "wrong_modality": ("error", "looks like the other modality"),
        "unequal_channels": ("warning", "a colour picture whose channels differ"),
        "burnt_in_text": ("warning", "writing inside the picture"),
        "not_brain_level": ("warning", "a slice below or above the brain"),
        "cut_off": ("warning", "the head reaches beyond the picture"),
        "size_mismatch": ("error", "the images of a pair differ in size"),
        "geometry_mismatch": ("error", "the images of a pair lie on different grids"),
        "implausible_pair": ("warning", "shares no more with its partner than with a stranger"),
        "implausible_hu": ("error", "values that are not Hounsfield units"),
        "tilted": ("error", "a series with tilted gantry"),
        "uneven_spacing": ("error", "a series with uneven slice distances"),
        "incomplete_series": ("error", "a series with slices that do not form one volume"),
        "resampled": ("info", "brought to an even grid when it was read"),
        "registered": ("info", "moved onto the grid of its partner"),
        "registration_failed": ("error", "could not be registered to its partner"),
    }
)
"""Every kind: its usual severity and its meaning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        file: the file it is about.
        kind: one of :data:`KINDS`.
        measure: what was seen, in a few words or numbers, without a line break.
        severity: one of :data:`SEVERITIES`; the kind's usual one where left out.

    Raises:
        InputError: for an unknown kind or severity.
    """

    file: Path
    kind: str
    measure: str = ""
    severity: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            problem = f"unknown kind of finding {self.kind!r}"
            raise InputError.about(self.file, problem, f"use one of {', '.join(KINDS)}")
        object.__setattr__(self, "severity", self.severity or KINDS[self.kind][0])
        object.__setattr__(self, "measure", " ".join(self.measure.split()))
        if self.severity not in SEVERITIES:
            raise InputError.about(self.file, f"severity {self.severity!r}", f"use one of {', '.join(SEVERITIES)}")


def write_findings(path: str | os.PathLike[str], findings: Iterable[Finding]) -> None:
    """Write findings as CSV with :data:`COLUMNS`, atomically; files relative to the folder of ``path``, or absolute
    where they lie on another drive.

    Raises:
        InputError: when a file's name is not valid Unicode.
    """
    folder = Path(os.path.abspath(path)).parent
    text = io.StringIO(newline="")
    # CRLF (RFC 4180) makes the writer quote a lone carriage return inside a name, which would else end the row.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for finding in findings:
        writer.writerow([relative_path(finding.file, folder), finding.kind, finding.measure, finding.severity])
    try:
        content = text.getvalue().encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError.about(path, "a file name is not valid Unicode", "rename that file") from error
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def read_findings(path: str | os.PathLike[str]) -> list[Finding]:
    """Read what :func:`write_findings` wrote.

    Raises:
        InputError: when the file is missing or is no list of findings.
    """
    folder = Path(os.path.abspath(path)).parent
    findings = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:  # spreadsheets put a byte order mark in front
            reader = csv.reader(stream, strict=True)
            if tuple(next(reader, ())) != COLUMNS:
                raise InputError.about(path, "no list of findings", f"its first line has to be {','.join(COLUMNS)}")
            for row in reader:
                if len(row) != len(COLUMNS) or not row[0]:
                    problem = f"line {reader.line_num} is no finding"
                    raise InputError.about(path, problem, f"give it {','.join(COLUMNS)}, or delete it")
                findings.append(Finding(Path(os.path.abspath(folder / row[0])), *row[1:]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError.about(path, "cannot be read", "give the findings.csv that prepare wrote") from error
    return findings
