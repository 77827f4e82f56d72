"""Which CT and which MRI form a case; where that is in doubt they stay apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monai_ctmri import keys
from monai_ctmri.data.trees import content
from monai_ctmri.data.trees.evidence import DraftCase, Layout, Placed
from monai_ctmri.data.trees.similarity import PairingEvidence, pairing_evidence
from monai_ctmri.errors import InputError

__all__ = ["FEWEST", "LEVEL", "PREFERENCE", "WINS", "form_cases"]

PREFERENCE = ("T1", "T2", "PD", "FLAIR", "T1c")
"""Which contrast is paired with the one CT of a patient; then any other, then one that no name states."""
FEWEST = 8
"""Fewer candidate pairs than this cannot be judged by their content."""
LEVEL = 0.01
WINS = 0.7
"""A p-value says that partners share more, not by how much: candidates have to beat strangers this often."""
_SIZES_AGREE = 0.95
_COVERED = 0.5
_SAMPLE = 64

Pair = tuple[Placed, Placed]


def form_cases(
    layout: Layout, *, check_content: bool = True, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[DraftCase]:
    """Form cases from placed images; the reasons are added to the layout's evidence.

    A layout that is ``linked`` states pairs itself. Elsewhere equal names make candidates only, and these become pairs
    when their sizes agree and when they share more information than re-paired strangers do.

    Args:
        layout: the images.
        check_content: whether files may be opened; without, names alone never make a pair.
        seed: of the sampling.
        progress: called after each pair read with the number done and of all.

    Returns:
        One draft a case, in the order of the images; an image occurs in exactly one.
    """
    groups: dict[tuple[str, ...], dict[str, list[Placed]]] = {}
    for image in layout.images:
        if image.key:
            groups.setdefault(image.key, {keys.CT: [], keys.MRI: []})[image.modality].append(image)
    both = [group for group in groups.values() if group[keys.CT] and group[keys.MRI]]
    candidates = [pair for group in both if (pair := _choose(group, layout.linked))]
    if layout.linked:
        pairs = _stated(layout, candidates)
    else:
        unclear = len(both) - len(candidates)
        pairs = _judge(layout, candidates, unclear, check_content, seed, progress)
    return _drafts(layout, pairs)


def _choose(group: dict[str, list[Placed]], linked: bool) -> Pair | None:
    """Choose one CT and one MRI of a group; None where names leave more than one choice and no layout orders them."""
    cts, mris = group[keys.CT], sorted(group[keys.MRI], key=_preference)
    if not linked and (len(cts) > 1 or [_preference(mri) for mri in mris[:2]].count(_preference(mris[0])) > 1):
        return None
    return cts[0], mris[0]


def _preference(image: Placed) -> int:
    if image.contrast in PREFERENCE:
        return PREFERENCE.index(image.contrast)
    return len(PREFERENCE) + (not image.contrast)


def _stated(layout: Layout, pairs: list[Pair]) -> list[Pair]:
    if pairs:
        layout.say("pairs", f"{len(pairs)} stated by the {layout.name} layout", "paired, one CT with one MRI")
    return pairs


def _judge(
    layout: Layout,
    candidates: list[Pair],
    unclear: int,
    check_content: bool,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> list[Pair]:
    """Return the candidates that names, sizes and content together confirm: nearly all of them, or none."""
    modalities = [image.modality for image in layout.images]
    counts = [modalities.count(modality) for modality in keys.MODALITIES]
    if not all(counts):
        return []
    fewer, n = min(counts), len(candidates)
    if counts[0] == counts[1]:
        layout.say("pairs by number", f"{counts[0]} CT and {counts[1]} MRI", "equal numbers are no evidence")
    many = n >= _COVERED * fewer and n > 0
    basis = f"{n} CT and MRI share a name but for the modality, of {counts[0]} and {counts[1]}"
    basis += f"; {unclear} names have more than one partner" if unclear else ""
    layout.say("pairs by name", basis, "candidates" if many else "too few match: names do not pair this set")
    if not n:
        return []
    if not check_content:
        layout.say("pairs by content", "files not opened, as asked", "not confirmed")
        return []
    fits = [content.on_one_grid(*(content.grid_of(image.path) for image in pair)) for pair in candidates]
    agree = sum(fits) >= _SIZES_AGREE * n
    layout.say("sizes of candidates", f"equal in {sum(fits)} of {n}", "agree" if agree else "against pairs")
    if n < FEWEST:
        layout.say("shared information", f"{n} candidates, at least {FEWEST} are needed", "cannot be judged")
        return []
    result = _compare(candidates, seed, progress)
    shares = result.p_value < LEVEL and result.wins >= WINS
    layout.say(
        "shared information of candidates",
        f"normalised mutual information {result.own:.3f}, of re-paired strangers of similar level "
        f"{result.strangers:.3f}; larger in {result.wins:.0%} of comparisons; p = {result.p_value:.2g}, n = {result.n}",
        "more than strangers share" if shares else "no more than strangers share: against pairs",
    )
    if not (many and agree and shares):
        return []
    odd = n - sum(fits)
    if odd:
        layout.say("candidates of unequal size", f"{odd} of {n}", "left apart")
    return [pair for pair, fit in zip(candidates, fits, strict=True) if fit]


def _compare(candidates: Sequence[Pair], seed: int, progress: Callable[[int, int], None] | None) -> PairingEvidence:
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(candidates))[:_SAMPLE]
    planes = []
    for done, index in enumerate(sorted(order.tolist()), start=1):
        try:
            ct, mri = (content.read_plane(image.path) for image in candidates[index])
            planes.append((ct, mri))
        except InputError:  # a broken file has no say here; the quality check names it
            pass
        if progress is not None:
            progress(done, len(order))
    return pairing_evidence(planes, seed=seed, sample=_SAMPLE)


def _drafts(layout: Layout, pairs: list[Pair]) -> list[DraftCase]:
    partner = {ct.path: mri for ct, mri in pairs}
    paired = {image.path: pair for pair in pairs for image in pair}
    of_key = {ct.key: (ct, mri) for ct, mri in pairs}
    registered, drafts, left = 0, [], 0
    for image in layout.images:
        if image.path in partner:
            mri = partner[image.path]
            on_grid = content.on_one_grid(content.grid_of(image.path), content.grid_of(mri.path))
            registered += on_grid
            notes = [mri.contrast, "" if on_grid else "to be registered"]
            drafts.append(DraftCase(image, mri, "; ".join(note for note in notes if note)))
        elif image.path not in paired:
            chosen = of_key.get(image.key) if image.key else None
            what = (
                "another CT" if image.modality == keys.CT else (chosen[1].contrast if chosen else "") or "another MRI"
            )
            left += chosen is not None
            notes = [image.contrast, f"the pair holds {what}" if chosen else ""]
            draft = DraftCase(note="; ".join(note for note in notes if note))
            setattr(draft, image.modality, image)
            drafts.append(draft)
    if pairs:
        rest = len(pairs) - registered
        layout.say(
            "grids of pairs", f"{registered} on one grid by their headers, {rest} not", "the latter to be registered"
        )
    if left:
        order = ", ".join(PREFERENCE)
        layout.say(
            "further images of paired patients", f"{left}; preference {order}", "cases of their own, same subject"
        )
    return drafts
