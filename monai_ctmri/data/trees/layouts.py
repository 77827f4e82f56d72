"""Layouts of a data set that state by themselves what a file is: CycleGAN, SynthRAD, BIDS; and folders with names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from monai_ctmri import keys
from monai_ctmri.data.trees import content, naming
from monai_ctmri.data.trees.evidence import Layout, Placed
from monai_ctmri.data.trees.listing import ImageFile, shared_folders
from monai_ctmri.errors import InputError

__all__ = ["HOW_TO_STATE", "NAMED_SET", "bids", "cyclegan", "named", "synthrad"]

NAMED_SET = "darren2020/ct-to-mri-cgan"
HOW_TO_STATE = "state the cases in a CSV with the columns ct,mri,subject,label and give that file"

_SIDE = re.compile(r"(train|test|val|valid|validation)([ab])")
_NAMED = {keys.CT: (re.compile(r"ct\d+"), ".png"), keys.MRI: (re.compile(r"mri\d+"), ".jpg")}
_BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_BIDS_SESSION = re.compile(r"ses-[A-Za-z0-9]+")
_MOST = 0.95
_OTHER_MODALITY = {keys.CT: keys.MRI, keys.MRI: keys.CT}


def cyclegan(
    files: Sequence[ImageFile], *, a_is: str | None = None, check_content: bool = True, seed: int = 0
) -> Layout | None:
    """Recognise ``trainA/trainB/testA/testB``; None where the files lie otherwise.

    Which side is CT is told by ``a_is``, else by the names of the files, else by what they look like.

    Raises:
        InputError: when nothing tells which side is CT.
    """
    sides: dict[str, list[tuple[ImageFile, str]]] = {"a": [], "b": []}
    layout = Layout("cyclegan")
    for file in files:
        found = [match for part in file.folders if (match := _SIDE.fullmatch(part.casefold()))]
        if found and file.kind != "dicom":
            sides[found[-1][2]].append((file, found[-1][1]))
        else:
            layout.ignored.append((file.path, "outside the folders trainA, trainB, testA, testB"))
    if not sides["a"] or not sides["b"]:
        return None
    stated = {side: _stated(file for file, _ in members) for side, members in sides.items()}
    by_name = stated["a"] if stated["a"] and stated["b"] == _OTHER_MODALITY[stated["a"]] else None
    counts = ", ".join(f"{side.upper()} {len(members)}" for side, members in sides.items())
    layout.say("CycleGAN layout", f"folders named train/test + A/B; files: {counts}", "two unpaired domains, A and B")
    if a_is:
        modality, basis = (
            a_is,
            f"stated (A is {a_is})" + (f", against the files' names ({by_name})" * (by_name != a_is)),
        )
        basis = basis if by_name else f"stated (A is {a_is})"
    elif by_name:
        modality, basis = by_name, f"the files' names: A {by_name}<N>, B {_OTHER_MODALITY[by_name]}<N>"
    else:
        modality, basis = _side_by_content(sides, check_content, seed)
    layout.say(f"A is {modality}, B is {_OTHER_MODALITY[modality]}", basis, "taken")
    parts = Counter(part for members in sides.values() for _, part in members)
    layout.say(
        "train and test folders",
        ", ".join(f"{part} {count}" for part, count in sorted(parts.items())),
        "not taken over as splits: near duplicates can lie on both sides of this division",
    )
    for side, members in sides.items():
        what = modality if side == "a" else _OTHER_MODALITY[modality]
        for file, part in members:
            key = (part, naming.key_of(file.stem))
            layout.images.append(_placed(file, what, key if key[1] else (), naming.patient_of_stem(file.stem)))
    named = all(
        sum(bool(form.fullmatch(i.stem)) and i.path.suffix == suffix for i in images) >= _MOST * len(images)
        for what, (form, suffix) in _NAMED.items()
        for images in [[image for image in layout.images if image.modality == what]]
    )
    if named:
        layout.named_set = True
        layout.say(f"the public set {NAMED_SET}", "layout and names ct<N>.png, mri<N>.jpg", "recognised")
    return layout


def synthrad(files: Sequence[ImageFile], root: Path) -> Layout | None:
    """Recognise case folders that hold ``ct`` and ``mr`` as volumes; None where fewer than half the volumes lie so."""
    volumes = [file for file in files if file.kind == "volume"]
    inside: dict[tuple[str, ...], set[str]] = {}
    for file in volumes:
        inside.setdefault(file.folders, set()).add(file.stem.casefold())
    cases = {folders for folders, stems in inside.items() if "ct" in stems and stems & {"mr", "mri"}}
    if not cases or 2 * sum(file.folders in cases for file in volumes) < len(volumes):
        return None
    layout, body = Layout("synthrad", linked=True), 0
    for file in files:
        stem = file.stem.casefold()
        modality = {"ct": keys.CT, "mr": keys.MRI, "mri": keys.MRI}.get(stem)
        if file.kind != "volume" or not modality:
            is_body = file.kind == "volume" and stem == "mask"
            body += is_body
            reason = "body outline, no lesion mask" if is_body else "not ct, mr or mask of a case folder"
            layout.ignored.append((file.path, reason))
            continue
        layout.images.append(
            _placed(file, modality, (*file.folders, "case"), file.folders[-1] if file.folders else root.name)
        )
    layout.say("SynthRAD layout", f"{len(cases)} case folders hold ct and mr", "one folder, one patient: a pair")
    if body:
        layout.say(
            "mask files", f"{body} named mask beside ct and mr", "outline of the body: not taken as lesion masks"
        )
    return layout


def bids(files: Sequence[ImageFile]) -> Layout | None:
    """Recognise ``sub-XX[/ses-YY]/{anat,ct}/sub-XX_..._<suffix>``; None where fewer than half the images lie so."""
    layout, inside, outside = Layout("bids", linked=True), 0, 0
    for file in files:
        subject = next((part for part in file.folders if _BIDS_SUBJECT.fullmatch(part)), None)
        derived = "derivatives" in (part.casefold() for part in file.folders)
        if not subject or not file.stem.startswith(f"{subject}_") or file.kind == "dicom":
            outside += not derived and file.kind != "dicom"
            layout.ignored.append((file.path, "outside the folders sub-<name>"))
            continue
        inside += not derived
        session = next((part for part in file.folders if _BIDS_SESSION.fullmatch(part)), "")
        entities = [e for e in file.stem.split("_")[1:] if not _BIDS_SESSION.fullmatch(e)]
        name, suffix = "_".join(entities), entities[-1] if entities else ""
        if naming.is_mask(name):
            if naming.is_body_mask(name) or naming.label_of(name) != 1:
                layout.ignored.append((file.path, "a mask that does not say it outlines a lesion"))
            else:
                layout.masks.append(_placed(file, "", (subject, session), subject))
        elif derived:
            layout.ignored.append((file.path, "derived from other images"))
        elif not (modality := naming.modality_of(suffix)) or not {"anat", "ct"} & set(file.folders):
            layout.ignored.append((file.path, "no anatomical image by its suffix and folder"))
        else:
            image = _placed(file, modality, (subject, session), subject, contrast=naming.contrast_of(name))
            layout.images.append(image)
    if not inside or outside > inside or not layout.images:
        return None
    subjects = len({image.subject for image in layout.images})
    layout.say(
        "BIDS layout", f"{subjects} subjects named sub-<name>", "one subject and session: one patient at one time"
    )
    return layout


def named(files: Sequence[ImageFile], root: Path, *, check_content: bool = True, seed: int = 0) -> Layout:
    """Place files by whole words in their names and in the folders below the root.

    What neither names nor folders say is asked of the content, folder by folder; the root's own name comes last.

    Raises:
        InputError: when nothing tells the modality of any file.
    """
    layout = Layout("names")
    common = shared_folders([file.folders for file in files])
    places = {file.folders[: depth + 1] for file in files for depth in range(len(file.folders))}
    numbered = Counter(folders[:-1] for folders in places if folders[-1].isdigit())
    sources: Counter[str] = Counter()
    unknown: dict[tuple[str, ...], list[ImageFile]] = {}

    def place(file: ImageFile, modality: str) -> None:
        subject = _patient(file, common, numbered)
        contrast = naming.contrast_of(file.stem) or next(
            (c for part in reversed(file.folders) if (c := naming.contrast_of(part))), ""
        )
        key = (*naming.folder_key(file.folders), naming.key_of(file.stem))
        layout.images.append(
            _placed(file, modality, key if any(key) else (), subject, contrast=contrast if modality == keys.MRI else "")
        )

    for file in files:
        if naming.is_mask(file.stem) or any(naming.is_mask_folder(part) for part in file.folders[common:]):
            key = (*naming.folder_key(file.folders), naming.key_of(file.stem))
            layout.masks.append(_placed(file, "", key, _patient(file, common, numbered)))
            continue
        if other := naming.other_modality_of(file.stem):
            layout.ignored.append((file.path, f"its name says {other}, neither CT nor MRI"))
            continue
        by_name = naming.modality_of(file.stem)
        by_folder = next((m for part in reversed(file.folders) if (m := naming.modality_of(part))), None)
        if by_name and by_folder and by_name != by_folder:
            layout.ignored.append((file.path, f"its name says {by_name}, its folder {by_folder}"))
        elif modality := by_name or by_folder:
            sources["folders" if by_folder else "names"] += 1
            place(file, modality)
        else:
            unknown.setdefault(file.folders, []).append(file)
    if sources:
        layout.name = "folders" if sources["folders"] >= sources["names"] else "names"
        found = ", ".join(
            f"{count} by {'their folder' if s == 'folders' else 'their name'}" for s, count in sources.items()
        )
        layout.say("modality", f"whole words: {found}", "taken")
    for folders, members in unknown.items():
        modality = _unnamed(layout, "/".join(folders) or ".", members, root, check_content, seed)
        for file in members:
            if modality:
                place(file, modality)
            else:
                layout.ignored.append((file.path, "nothing tells whether it is CT or MRI"))
    if unknown and not sources:
        layout.name = "unnamed"
    if not layout.images:
        problem = "neither names nor content tell which files are CT and which MRI"
        raise InputError.about(root, problem, f"put them into folders named ct and mri, or {HOW_TO_STATE}")
    order = {file.path: index for index, file in enumerate(files)}
    layout.images.sort(key=lambda image: order[image.path])
    return layout


def _unnamed(
    layout: Layout, place: str, members: Sequence[ImageFile], root: Path, check_content: bool, seed: int
) -> str | None:
    """Tell the modality of a folder whose names say nothing."""
    if check_content:
        result = content.vote([file.path for file in members], seed)
        basis = f"{result.agreeing} of {result.decided} decided files agree, {result.asked} of {len(members)} looked at"
        verdict = f"taken as {result.modality}" if result.modality else "undecided"
        layout.say(f"modality of folder {place} by content", basis, verdict)
        if result.modality:
            return result.modality
    if by_root := naming.modality_of(root.name):
        verdict = f"taken as {by_root}: the weakest evidence, nothing else says more"
        layout.say(f"modality of folder {place}", f"the root's own name, {root.name}", verdict)
    return by_root


def _side_by_content(sides: dict[str, list[tuple[ImageFile, str]]], check_content: bool, seed: int) -> tuple[str, str]:
    if check_content:
        votes = {side: content.vote([file.path for file, _ in members], seed) for side, members in sides.items()}
        a, b = votes["a"], votes["b"]
        if a.modality and b.modality == _OTHER_MODALITY[a.modality]:
            seen = ", ".join(f"{s.upper()} {v.agreeing} of {v.decided} {v.modality}" for s, v in votes.items())
            return a.modality, f"content of a sample: {seen}"
    where = sides["a"][0][0].path.parent
    raise InputError.about(where, "nothing tells whether A is CT or MRI", "say so: --a-is ct (or --a-is mri)")


def _stated(files: Iterable[ImageFile]) -> str | None:
    """Return the modality that the names of nearly all files state."""
    said = [naming.modality_of(file.stem) for file in files]
    return next((m for m in keys.MODALITIES if said.count(m) >= _MOST * len(said)), None)


def _patient(file: ImageFile, common: int, numbered: Counter[tuple[str, ...]]) -> str | None:
    for depth, part in enumerate(file.folders):
        if depth < common and not naming.is_explicit_patient(part):
            continue
        if patient := naming.patient_of_folder(part, numbered[file.folders[:depth]]):
            return patient
    return naming.patient_of_stem(file.stem, volume=file.kind == "volume")


def _placed(file: ImageFile, modality: str, key: tuple[str, ...], subject: str | None, *, contrast: str = "") -> Placed:
    return Placed(file.path, file.folders, file.stem, file.kind, modality, contrast, key, subject)
