"""Who trains, who calibrates, who tests: the protocol of a benchmark, fixed before anything is scored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.splits import assign_splits, guard_splits
from monai_ctmri.errors import InputError

__all__ = ["ASSUMED_NORMAL", "FEWEST_SUBJECTS", "Fold", "Protocol", "make_protocol"]

ASSUMED_NORMAL = (
    "No case has a label: all were taken as normal, which nobody checked. What is abnormal among them was learnt as "
    "normal, or counts as a false alarm."
)

FEWEST_SUBJECTS = 5
"""Normal subjects from which each of the four parts gets at least one and the training part more than one."""


@dataclass(frozen=True)
class Fold:
    """One training and the normals it calibrates on.

    Attributes:
        name: folder name of the training.
        training: manifest with the parts ``train`` and, where there are subjects enough, ``validation``.
        calibration: normal cases that this training never saw.
    """

    name: str
    training: Manifest
    calibration: Manifest


@dataclass(frozen=True)
class Protocol:
    """The division of a manifest.

    Attributes:
        manifest: every case with its part.
        folds: trainings whose held-out normals calibrate; the last one is the model that is tested.
        test: cases that no training and no calibration saw.
        notes: what a reader of the results has to know about the division.
    """

    manifest: Manifest
    folds: tuple[Fold, ...]
    test: Manifest
    notes: tuple[str, ...]

    @property
    def final(self) -> Fold:
        """The training whose model is tested."""
        return self.folds[-1]


def make_protocol(manifest: Manifest, seed: int = 0) -> Protocol:
    """Divide a manifest by subject.

    With splits in the manifest those are used. Else, with at least :data:`FEWEST_SUBJECTS` normal subjects:
    60/10/10/20. With fewer, every normal subject trains, and calibration scores come from leave-one-subject-out
    trainings (cross-conformal prediction, Vovk 2015): each normal case is scored by a network that never saw its
    subject. Subjects with an abnormal or an unlabelled case are only ever tested; where no case at all has a label,
    every case is taken as normal, and a note says so.

    Raises:
        InputError: no test case, too few normal subjects, or a leak between parts.
    """
    if all(case.label is None for case in manifest):
        protocol = _divide(manifest.with_cases(replace(case, label=0) for case in manifest), seed)
        return replace(protocol, notes=(ASSUMED_NORMAL, *protocol.notes))
    return _divide(manifest, seed)


def _divide(manifest: Manifest, seed: int) -> Protocol:
    given = [case.split for case in manifest]
    if any(given):
        if not all(given):
            lacking = next(case.name for case in manifest if case.split is None)
            raise InputError(f"case {lacking}: has no split while others have one; fill the split column or empty it")
        return _with_parts(manifest, ("The division is the manifest's own.",))
    normal = _normal_subjects(manifest)
    if len(normal) >= FEWEST_SUBJECTS:
        return _with_parts(assign_splits(manifest, seed=seed), ())
    return _leave_one_out(manifest, normal)


def _normal_subjects(manifest: Manifest) -> list[str]:
    tested = {case.subject for case in manifest if case.label != 0}
    return [subject for subject in manifest.subjects if subject not in tested]


def _with_parts(manifest: Manifest, notes: tuple[str, ...]) -> Protocol:
    guard_splits(manifest)
    parts = {part: manifest.select(split=part) for part in ("train", "validation", "calibration", "test")}
    for part in ("train", "calibration", "test"):
        if not len(parts[part]):
            raise InputError(f"manifest: the {part} part is empty; give it at least one subject")
    for part in ("train", "validation", "calibration"):
        wrong = next((case.name for case in parts[part] if case.label != 0), None)
        if wrong:
            raise InputError(f"case {wrong}: is not labelled normal but in the {part} part; move its subject to test")
    training = manifest.with_cases([*parts["train"], *parts["validation"]])
    return Protocol(manifest, (Fold("final", training, parts["calibration"]),), parts["test"], notes)


def _leave_one_out(manifest: Manifest, normal: list[str]) -> Protocol:
    if len(normal) < 2:
        raise InputError(
            f"manifest: {len(normal)} subject(s) with normal cases only; at least 2 are needed to train and calibrate"
        )
    if len(normal) == len(manifest.subjects):
        raise InputError(
            f"manifest: {len(normal)} normal subjects and nothing to test; give {FEWEST_SUBJECTS} or more subjects"
        )
    divided = manifest.with_splits({subject: "train" if subject in normal else "test" for subject in manifest.subjects})
    guard_splits(divided)
    train = divided.select(split="train")
    folds = [
        Fold(
            f"without-{index + 1}",
            train.select(subjects=[other for other in normal if other != subject]),
            train.select(subjects=[subject]),
        )
        for index, subject in enumerate(normal)
    ]
    notes = (
        f"Only {len(normal)} normal subjects: all of them train; calibration scores come from leave-one-subject-out "
        "trainings.",
        "No subject is left for validation: training runs its full number of epochs and keeps the lowest training "
        "error.",
    )
    empty = manifest.with_cases([])
    return Protocol(divided, (*folds, Fold("final", train, empty)), divided.select(split="test"), notes)
