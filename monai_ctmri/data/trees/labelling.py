"""What is known about a case: the lesion mask that belongs to it, and normal or abnormal where something states it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from monai_ctmri.data.trees import content, naming
from monai_ctmri.data.trees.evidence import DraftCase, Layout, Placed
from monai_ctmri.data.trees.layouts import NAMED_SET
from monai_ctmri.data.trees.listing import shared_folders
from monai_ctmri.errors import InputError

__all__ = ["attach_masks", "judge_normal", "label_cases"]


def attach_masks(layout: Layout, drafts: Sequence[DraftCase]) -> None:
    """Give each mask to the cases whose image has its name and lies on its grid; the others are left out, with reason.

    A mask that names a contrast or a modality belongs to that image alone; else to every image of its name.
    """
    holders: dict[tuple[str, ...], list[tuple[DraftCase, Placed]]] = defaultdict(list)
    for draft in drafts:
        for image in draft.images:
            holders[image.key].append((draft, image))
    attached = 0
    for mask in layout.masks:
        named = [pair for pair in holders.get(mask.key, ()) if mask.key]
        contrast, modality = naming.contrast_of(mask.stem), naming.modality_of(mask.stem)
        named = [(d, i) for d, i in named if not contrast or i.contrast == contrast]
        named = [(d, i) for d, i in named if not modality or i.modality == modality]
        free = [(draft, image) for draft, image in named if draft.mask is None]
        grid = content.grid_of(mask.path) if free else None
        fitting = [
            draft
            for draft, _ in free
            if all(content.on_one_grid(grid, content.grid_of(image.path)) for image in draft.images)
        ]
        for draft in fitting:
            draft.mask = mask
        attached += bool(fitting)
        if not fitting:
            reason = "no image has its size and place" if free else "its image has a mask already"
            reason = reason if named else "a mask whose name fits no image"
            layout.ignored.append((mask.path, reason))
    if layout.masks:
        basis = f"{attached} of {len(layout.masks)} have the name and the grid of an image"
        layout.say("masks", basis, "attached; the others left out")


def label_cases(
    layout: Layout,
    drafts: Sequence[DraftCase],
    *,
    check_content: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Label the cases that a folder's name or a lesion mask speaks about; the others stay unknown.

    The folder nearest to the file decides. A folder that all images share says something only where all its words are
    about normal or abnormal: ``normal`` does, ``head-ct-hemorrhage`` is merely the set's name.

    Args:
        layout: takes the reasons.
        drafts: the cases; changed in place.
        check_content: whether masks may be opened; without, they give no label.
        progress: called after each case with the number done and of all.
    """
    folders = [image.folders for draft in drafts for image in draft.images]
    common = shared_folders(folders)
    sources: Counter[str] = Counter()
    emptiness: dict[Path, int | None] = {}
    for done, draft in enumerate(drafts, start=1):
        stated = {label for image in draft.images if (label := _by_folder(image, common)) is not None}
        by_folder = stated.pop() if len(stated) == 1 else None
        by_mask = None
        if draft.mask is not None and check_content:
            if draft.mask.path not in emptiness:
                emptiness[draft.mask.path] = _by_mask(draft.mask.path)
            by_mask = emptiness[draft.mask.path]
        if by_folder is not None and by_mask is not None and by_folder != by_mask:
            sources["contradiction"] += 1
        else:
            draft.label = by_folder if by_folder is not None else by_mask
            if draft.label is not None:
                sources["folder" if by_folder is not None else "mask"] += 1
        if progress is not None:
            progress(done, len(drafts))
    labels = Counter(draft.label for draft in drafts)
    counts = f"{labels[0]} normal, {labels[1]} abnormal, {labels[None]} unknown"
    bases = {
        "folder": "by the word in a folder's name",
        "mask": "by their lesion mask, empty or not",
        "contradiction": "left unknown: folder and mask disagree",
    }
    basis = "; ".join(f"{count} {bases[source]}" for source, count in sorted(sources.items()))
    layout.say("labels", basis or "no folder's name and no mask states any", counts)


def judge_normal(layout: Layout, labels: Sequence[int | None]) -> bool | None:
    """Whether a set holds normal cases only: True when every case says so, False when one does not, else None."""
    if layout.named_set:
        layout.say(
            "normal cases only",
            f"documented, not measured here: about 22-30 % of the MRI files of {NAMED_SET} show a tumour",
            "no: a model trained on all of it does not learn the normal brain alone",
        )
        return False
    if 1 in labels:
        verdict, answer = "no", False
    elif labels and set(labels) == {0}:
        verdict, answer = "yes", True
    else:
        layout.say("normal cases only", f"{list(labels).count(None)} cases have no label", "unknown")
        return None
    layout.say(
        "normal cases only", f"labels: {list(labels).count(0)} normal, {list(labels).count(1)} abnormal", verdict
    )
    return answer


def _by_folder(image: Placed, common: int) -> int | None:
    for depth in range(len(image.folders) - 1, -1, -1):
        label = naming.label_of(image.folders[depth])
        if label is not None and (depth >= common or naming.is_label_alone(image.folders[depth])):
            return label
    return None


def _by_mask(path: Path) -> int | None:
    try:
        return int(content.any_pixel(path))
    except InputError:
        return None
