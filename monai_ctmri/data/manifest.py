"""A manifest: which files make one case, whose they are, what is known about them; as CSV or as MONAI datalist."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, overload

from monai_ctmri import keys
from monai_ctmri.data.files import relative_path, write_atomically, write_json
from monai_ctmri.errors import InputError

__all__ = ["COLUMNS", "SPLITS", "Case", "Manifest", "case_names"]

SPLITS = ("train", "validation", "calibration", "test")
COLUMNS = (keys.CT, keys.MRI, keys.SUBJECT, keys.LABEL, keys.MASK, keys.SPLIT, keys.NOTE)

_FILE_KEYS = (keys.CT, keys.MRI, keys.MASK)
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LIST_OF_SPLIT = {"train": "training", "validation": "validation", "calibration": "calibration", "test": "test"}
_SPLIT_OF_LIST = {**{v: k for k, v in _LIST_OF_SPLIT.items()}, "train": "train", "val": "validation", "testing": "test"}
_UNSPLIT_LIST = "cases"
_ANY: Any = object()


@dataclass(frozen=True, slots=True)
class Case:
    """One case: a CT slice, an MRI slice, or both.

    Attributes:
        name: unique in its manifest and safe as a file name (``[A-Za-z0-9._-]``, no leading dot).
        subject: whom the images show; the unit of every split.
        ct: CT file, or None.
        mri: MRI file, or None.
        label: 0 normal, 1 abnormal, None unknown.
        mask: lesion mask file on the grid of the images, or None.
        split: one of ``SPLITS``, or None.
        note: free text.

    Raises:
        InputError: no image, no subject, an unsafe name, an unknown label or split.
    """

    name: str
    subject: str
    ct: Path | None = None
    mri: Path | None = None
    label: int | None = None
    mask: Path | None = None
    split: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        where = f"case {self.name!r}"
        object.__setattr__(self, "subject", self.subject.strip())
        if not _SAFE_NAME.fullmatch(self.name):
            raise InputError.about(
                where, "not a safe file name", "use letters, digits, '_', '-' and '.', no leading dot"
            )
        _check(where, self.subject, self.ct or self.mri, self.label, self.split)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities this case has, in the order (ct, mri)."""
        return tuple(key for key in keys.MODALITIES if getattr(self, key) is not None)


@dataclass(frozen=True, slots=True)
class Manifest(Sequence[Case]):
    """An immutable sequence of cases with unique names.

    Args:
        cases: the cases, in order; may be empty (a selection can be).

    Raises:
        InputError: when two cases have one name; letter case is ignored, since it is on some file systems.
    """

    cases: tuple[Case, ...]

    def __init__(self, cases: Iterable[Case]) -> None:
        object.__setattr__(self, "cases", tuple(cases))
        names = Counter(case.name.casefold() for case in self.cases)
        for case in self.cases:
            if names[case.name.casefold()] > 1:
                raise InputError.about(
                    f"case {case.name!r}", "this name occurs more than once", "make case names unique"
                )

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> Manifest: ...
    def __getitem__(self, index: int | slice) -> Case | Manifest:
        return Manifest(self.cases[index]) if isinstance(index, slice) else self.cases[index]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Every subject once, in the order of first appearance."""
        return tuple(dict.fromkeys(case.subject for case in self.cases))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that every case has, in the order (ct, mri); empty when there are no cases."""
        return tuple(m for m in keys.MODALITIES if self.cases and all(m in case.modalities for case in self.cases))

    @property
    def is_paired(self) -> bool:
        """Whether every case has both modalities."""
        return self.modalities == keys.MODALITIES

    def select(
        self, *, split: str | None = None, label: int | None = _ANY, subjects: Iterable[str] | None = None
    ) -> Manifest:
        """Return the cases that meet every condition given, in order.

        Args:
            split: one of ``SPLITS``; None asks for any.
            label: 0, 1, or None for cases of unknown label; left out, any label.
            subjects: names to keep; None asks for any.

        Raises:
            InputError: for an unknown split.
        """
        if split is not None and split not in SPLITS:
            raise InputError.about(f"split {split!r}", "unknown", f"use one of {', '.join(SPLITS)}")
        wanted = None if subjects is None else frozenset(subjects)
        return self.with_cases(
            case
            for case in self.cases
            if (split is None or case.split == split)
            and (label is _ANY or case.label == label)
            and (wanted is None or case.subject in wanted)
        )

    def with_cases(self, cases: Iterable[Case]) -> Manifest:
        """Return a manifest that holds ``cases`` instead of these."""
        return Manifest(cases)

    def with_splits(self, splits: Mapping[str, str | None]) -> Manifest:
        """Return a manifest whose cases have the split of their subject; subjects not in ``splits`` keep theirs.

        Raises:
            InputError: for an unknown split, or a subject that has no case here.
        """
        unknown = set(splits) - set(self.subjects)
        if unknown:
            raise InputError.about(
                f"subject {min(unknown)!r}", "has no case in the manifest", "check the subject names"
            )
        return self.with_cases(replace(case, split=splits.get(case.subject, case.split)) for case in self.cases)

    def datalist(self) -> list[dict[str, Any]]:
        """Return the cases as MONAI data dictionaries.

        Returns:
            One dictionary a case with ``case``, ``subject``; ``ct``, ``mri``, ``mask`` (absolute paths, as text) where
            present; ``label`` where known; ``split`` where set.
        """
        return [_item_of(case, os.path.abspath) for case in self.cases]

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the columns ``COLUMNS``, atomically; paths are relative to the file where possible.

        A column ``case`` is added only where the names are not those that :meth:`read` would derive from the paths, as
        in a selection, so that reading gives back an equal manifest.
        """
        folder = Path(os.path.abspath(path)).parent
        items = [_item_of(case, lambda p: relative_path(p, folder)) | {keys.NOTE: case.note} for case in self.cases]
        derived = [case.name for case in _named(folder, self.cases)] == [case.name for case in self.cases]
        columns = COLUMNS if derived else (*COLUMNS, keys.CASE)
        text = io.StringIO(newline="")
        # CRLF (RFC 4180) makes the writer quote a lone carriage return inside a note, which would else end the row.
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([item.get(column, "") for column in columns] for item in items)
        try:
            content = text.getvalue().encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError.about(path, "a file name is not valid Unicode", "rename that file") from error
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)

    def write_datalist(self, path: str | os.PathLike[str]) -> None:
        """Write MONAI datalist JSON, atomically; paths are relative to the file where possible.

        The lists are ``training``, ``validation``, ``calibration`` and ``test``, all present as soon as one case has a
        split, so that a configuration may ask for each; ``cases`` holds those without a split.
        """
        folder = Path(os.path.abspath(path)).parent
        any_split = any(case.split for case in self.cases)
        lists: dict[str, list[dict[str, Any]]] = {name: [] for name in _LIST_OF_SPLIT.values()} if any_split else {}
        for case in self.cases:
            item = _item_of(case, lambda p: relative_path(p, folder)) | ({keys.NOTE: case.note} if case.note else {})
            lists.setdefault(_LIST_OF_SPLIT[case.split] if case.split else _UNSPLIT_LIST, []).append(item)
        write_json(path, lists)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Manifest:
        """Read a manifest; whether the image files exist is not checked (see ``verification``).

        Args:
            path: a ``.csv`` file with the columns ``subject`` and at least one of ``ct`` and ``mri`` (the other
                ``COLUMNS``, and ``case`` for own names, are optional; further columns are left out); a ``.json``
                datalist, any list of dictionaries at its top level, the split taken from the list's name; or a folder
                that holds ``manifest.csv``. Paths in it are relative to the file, or absolute.

        Raises:
            InputError: the file is missing, is not what its suffix says, has no cases, or has a row that is no case.
        """
        file = Path(os.path.abspath(path))
        if file.is_dir():
            file = file / "manifest.csv"
        readers = {".csv": _read_csv, ".json": _read_datalist}
        if file.suffix.lower() not in readers:
            raise InputError.about(file, "not a manifest", "give a .csv or .json file, or a folder with manifest.csv")
        try:
            content = file.read_bytes()
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise InputError.about(file, problem, "give a manifest, or a folder with manifest.csv") from error
        entries = list(readers[file.suffix.lower()](file, content))
        if not entries:
            raise InputError.about(file, "no cases", "give one case a row")
        cases = [_case_of(where, file.parent, entry) for where, entry in entries]
        given = [entry.get(keys.CASE) for _, entry in entries]
        if not any(given):
            return cls(_named(file.parent, cases))
        if not all(given):
            where = next(where for where, entry in entries if not entry.get(keys.CASE))
            raise InputError.about(where, "no case name while others have one", "name every case or none")
        try:
            return cls(replace(case, name=name) for case, name in zip(cases, given, strict=True) if name)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error


def case_names(files: Sequence[str | os.PathLike[str]], subjects: Sequence[str]) -> list[str]:
    """Name cases by their files: the stem, prefixed where stems collide.

    Colliding names get the parent folder, then the subject, then the grandparent folder in front; what still collides
    is numbered, in the order of the files. Characters outside ``[A-Za-z0-9._-]`` become ``_``.

    Args:
        files: one file a case, best relative to a common root, so that moving the root keeps the names.
        subjects: the subject of each.

    Returns:
        One name a file; unique also when letter case is ignored.
    """

    def candidate(index: int, level: int) -> str:
        pure = PurePath(files[index])
        folders = [part for part in pure.parts[:-1] if part not in (os.pardir, pure.anchor)]
        parts = [_stem(pure.name)]
        parts[:0] = folders[-1:] if level > 0 else []
        parts[:0] = folders[-2:-1] if level > 2 else []
        parts[:0] = [subjects[index]] if level > 1 else []
        return re.sub(r"[^A-Za-z0-9._-]+", "_", "_".join(parts)).lstrip(".") or "case"

    levels = [0] * len(files)
    while True:
        names = [candidate(index, level) for index, level in enumerate(levels)]
        counts = Counter(name.casefold() for name in names)
        colliding = [i for i, name in enumerate(names) if counts[name.casefold()] > 1]
        if not any(levels[i] < 3 for i in colliding):
            break
        for i in colliding:
            levels[i] = min(levels[i] + 1, 3)
    taken = set(counts)
    for i in colliding:
        base, number = names[i], 0
        while names[i].casefold() in taken:
            number += 1
            names[i] = f"{base}-{number}"
        taken.add(names[i].casefold())
    return names


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return os.path.splitext(stem)[0] if suffix.lower() == ".gz" else stem


def _named(folder: Path, cases: Sequence[Case]) -> list[Case]:
    """Return the cases under the names that reading a manifest in ``folder`` gives them."""
    files = [relative_path(case.ct or case.mri or Path(), folder) for case in cases]
    names = case_names(files, [case.subject for case in cases])
    return [replace(case, name=name) for case, name in zip(cases, names, strict=True)]


def _item_of(case: Case, name_file: Callable[[Path], str]) -> dict[str, Any]:
    item: dict[str, Any] = {keys.CASE: case.name, keys.SUBJECT: case.subject}
    item |= {key: name_file(getattr(case, key)) for key in _FILE_KEYS if getattr(case, key) is not None}
    item |= {key: getattr(case, key) for key in (keys.LABEL, keys.SPLIT) if getattr(case, key) is not None}
    return item


def _check(where: str, subject: str, image: object, label: Any, split: str | None) -> None:
    if image is None:
        raise InputError.about(where, "neither ct nor mri is given", "name at least one image file")
    if not subject.strip():
        raise InputError.about(where, "no subject", "name whom the images show; splits are made by subject")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int) or label not in (0, 1)):
        raise InputError.about(where, f"label {label!r}", "use 0 (normal), 1 (abnormal) or leave it empty")
    if split is not None and split not in SPLITS:
        raise InputError.about(where, f"unknown split {split!r}", f"use one of {', '.join(SPLITS)} or leave it empty")


def _case_of(where: str, folder: Path, entry: Mapping[str, Any]) -> Case:
    """Build a case, not yet named, from one row or item."""
    for key in (*_FILE_KEYS, keys.SUBJECT, keys.SPLIT, keys.NOTE, keys.CASE):
        if not isinstance(entry.get(key), str | None):
            raise InputError.about(where, f"{key} is not text", "write it as text")
    subject, label, split = entry.get(keys.SUBJECT) or "", entry.get(keys.LABEL), entry.get(keys.SPLIT) or None
    _check(where, subject, entry.get(keys.CT) or entry.get(keys.MRI) or None, label, split)
    files = {key: Path(os.path.abspath(folder / entry[key])) if entry.get(key) else None for key in _FILE_KEYS}
    return Case("unnamed", subject, label=label, split=split, note=entry.get(keys.NOTE) or "", **files)


def _read_csv(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    if b"\0" in content:
        raise InputError.about(path, "binary data, not CSV", "give a comma-separated text file in UTF-8")
    header: list[str] = []
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                _check_header(path, header)
                continue
            where = f"{path}: line {reader.line_num}"
            if any(cell.strip() for cell in cells[len(header) :]):
                raise InputError.about(where, "more cells than columns", "put text that holds a comma in double quotes")
            row = dict(zip(header, cells, strict=False))
            entry = {key: text if key == keys.NOTE else text.strip() or None for key, text in row.items()}
            label = entry.get(keys.LABEL)
            yield where, entry | {keys.LABEL: int(label) if label in ("0", "1") else label}
    except UnicodeDecodeError as error:
        raise InputError.about(path, "not UTF-8 text", "save it as comma-separated text in UTF-8") from error
    except csv.Error as error:
        raise InputError.about(f"{path}: line {reader.line_num}", f"not CSV ({error})", "check the quotes") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    if len(header) == 1 and re.search("[;\t]", header[0]):
        raise InputError.about(path, "columns are not separated by commas", "save it as comma-separated text")
    if keys.SUBJECT not in header or not set(keys.MODALITIES) & set(header):
        problem = f"columns {', '.join(header)[:80]!r} lack subject, or both ct and mri"
        raise InputError.about(path, problem, f"start with the line {','.join(COLUMNS)}")
    twice = [name for name, count in Counter(header).items() if count > 1 and name in (*COLUMNS, keys.CASE)]
    if twice:
        raise InputError.about(path, f"column {twice[0]} occurs twice", "keep one")


def _read_datalist(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lists = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError.about(path, "not JSON", "give a MONAI datalist") from error
    if not isinstance(lists, dict):
        raise InputError.about(path, "no datalist", 'give an object of lists of cases, such as {"training": [...]}')
    for name, items in lists.items():
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            continue
        for index, item in enumerate(items):
            where, split = f"{path}: {name}[{index}]", _SPLIT_OF_LIST.get(name)
            if split and item.get(keys.SPLIT) not in (None, "", split):
                raise InputError.about(where, f"split {item[keys.SPLIT]!r} in the list {name!r}", "move it to its list")
            yield where, item | ({keys.SPLIT: split} if split else {})
