"""The division of a benchmark: nobody is tested who trained or calibrated, whatever the manifest looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.protocol import ASSUMED_NORMAL, FEWEST_SUBJECTS, make_protocol


@pytest.fixture
def cohort(tmp_path: Path):
    """Build a manifest of pictures from {subject: [labels]}."""

    def build(subjects: dict[str, list[int | None]], splits: dict[str, str] | None = None) -> Manifest:
        rng = np.random.default_rng(0)
        cases = []
        for subject, labels in subjects.items():
            for index, label in enumerate(labels):
                path = tmp_path / f"{subject}_{index}.png"
                Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
                split = (splits or {}).get(subject)
                cases.append(Case(path.stem, subject, ct=path, label=label, split=split))
        return Manifest(cases)

    return build


def subjects_of(manifest: Manifest) -> set[str]:
    return set(manifest.subjects)


def test_enough_subjects_are_divided_into_four_parts(cohort):
    manifest = cohort({f"n{i}": [0, 0] for i in range(10)} | {"a": [1, 0]})
    protocol = make_protocol(manifest)
    (fold,) = protocol.folds
    assert fold is protocol.final
    parts = [subjects_of(fold.training), subjects_of(fold.calibration), subjects_of(protocol.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 11
    assert "a" in parts[2]
    assert all(case.label == 0 for case in [*fold.training, *fold.calibration])
    assert len(protocol.test.select(label=0)) >= 2


def test_few_subjects_all_train_and_are_calibrated_by_networks_that_never_saw_them(cohort):
    manifest = cohort({"n1": [0, 0], "n2": [0], "mixed": [0, 1], "unknown": [None, 1]})
    protocol = make_protocol(manifest)
    assert subjects_of(protocol.final.training) == {"n1", "n2"}
    assert subjects_of(protocol.test) == {"mixed", "unknown"}
    assert len(protocol.folds) == 3
    for fold in protocol.folds:
        assert not subjects_of(fold.training) & subjects_of(fold.calibration)
    calibrated = [case.name for fold in protocol.folds for case in fold.calibration]
    assert sorted(calibrated) == sorted(case.name for case in protocol.final.training)
    assert any("leave-one-subject-out" in note for note in protocol.notes)


def test_the_threshold_between_the_two_protocols(cohort):
    many = {f"n{i}": [0] for i in range(FEWEST_SUBJECTS)}
    assert len(make_protocol(cohort(many)).folds) == 1
    few = dict(list(many.items())[:-1]) | {"a": [1]}
    assert len(make_protocol(cohort(few)).folds) == FEWEST_SUBJECTS


def test_splits_of_the_manifest_are_kept(cohort):
    splits = {"t": "train", "v": "validation", "c": "calibration", "x": "test"}
    protocol = make_protocol(cohort({name: [0] for name in splits}, splits))
    assert subjects_of(protocol.final.training) == {"t", "v"}
    assert subjects_of(protocol.final.calibration) == {"c"}
    assert subjects_of(protocol.test) == {"x"}


@pytest.mark.parametrize(
    ("subjects", "splits", "message"),
    [
        ({"a": [None], "b": [None, 1]}, None, "0 subject"),
        ({"a": [0], "b": [1]}, None, "at least 2"),
        ({"a": [0], "b": [0]}, None, "nothing to test"),
        ({"a": [0], "b": [0]}, {"a": "train"}, "has no split"),
        ({"a": [0], "b": [0]}, {"a": "train", "b": "test"}, "calibration part is empty"),
        ({"a": [1], "b": [0], "c": [0]}, {"a": "train", "b": "calibration", "c": "test"}, "not labelled normal"),
    ],
)
def test_what_cannot_be_divided_is_one_clear_line(cohort, subjects, splits, message):
    with pytest.raises(InputError, match=message) as caught:
        make_protocol(cohort(subjects, splits))
    assert "\n" not in str(caught.value)


def test_a_manifest_without_any_label_is_taken_as_normal_and_a_note_says_so(cohort):
    protocol = make_protocol(cohort({f"s{i}": [None] for i in range(8)}))
    assert {case.label for case in protocol.manifest} == {0}
    assert len(protocol.test)
    assert protocol.notes[0] == ASSUMED_NORMAL
    assert ASSUMED_NORMAL not in make_protocol(cohort({f"t{i}": [0] for i in range(8)})).notes


def test_an_identical_picture_in_two_parts_is_refused(cohort):
    manifest = cohort({"n1": [0], "n2": [0], "a": [1]})
    manifest[2].ct.write_bytes(manifest[0].ct.read_bytes())
    with pytest.raises(InputError, match="identical"):
        make_protocol(manifest)


def test_the_real_pairs_train_on_their_two_normal_subjects(real_data):
    protocol = make_protocol(Manifest.read(real_data / "pairs"))
    assert subjects_of(protocol.final.training) == {"aanlib-16", "aanlib-21"}
    assert subjects_of(protocol.test) == {"aanlib-34", "aanlib-41"}
