from __future__ import annotations

import logging
from pathlib import Path

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.pseudo_subjects import assign_pseudo_subjects
from monai_ctmri.data.splits import assign_splits


def cases(count: int) -> Manifest:
    return Manifest(Case(f"case{i}", f"file-{i}", ct=Path(f"/data/{i}.png"), label=0) for i in range(count))


def test_cases_that_look_alike_share_a_subject():
    subjects = [case.subject for case in assign_pseudo_subjects(cases(5), [[1, 3]])]
    assert subjects == ["pseudo-0001", "pseudo-0002", "pseudo-0003", "pseudo-0002", "pseudo-0004"]


def test_groups_that_share_a_case_are_one():
    subjects = [case.subject for case in assign_pseudo_subjects(cases(5), [[0, 4], [4, 2]])]
    assert subjects[0] == subjects[2] == subjects[4]
    assert len(set(subjects)) == 3


@given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=4), max_size=8))
def test_subjects_are_the_connected_components(groups):
    graph = networkx.Graph()
    graph.add_nodes_from(range(12))
    for group in groups:
        networkx.add_path(graph, group)
    expected = {frozenset(component) for component in networkx.connected_components(graph)}
    found: dict[str, set[int]] = {}
    for index, case in enumerate(assign_pseudo_subjects(cases(12), groups)):
        found.setdefault(case.subject, set()).add(index)
    assert {frozenset(members) for members in found.values()} == expected


def test_everything_but_the_subject_stays():
    before = cases(3)
    after = assign_pseudo_subjects(before, [])
    assert [(c.name, c.ct, c.label) for c in after] == [(c.name, c.ct, c.label) for c in before]


def test_a_warning_says_that_a_patient_wise_split_is_impossible(caplog):
    with caplog.at_level(logging.WARNING):
        assign_pseudo_subjects(cases(2), [])
    assert "patient-wise split is impossible" in caplog.text


@pytest.mark.parametrize("seed", range(5))
def test_look_alikes_never_end_up_on_two_sides(seed):
    divided = assign_splits(assign_pseudo_subjects(cases(30), [[0, 1, 2], [5, 9], [20, 28]]), seed=seed)
    for group in ([0, 1, 2], [5, 9], [20, 28]):
        assert len({divided[index].split for index in group}) == 1


def test_numbers_sort_as_text_in_large_sets():
    subjects = [case.subject for case in assign_pseudo_subjects(cases(10_001), [])]
    assert subjects == sorted(subjects)
    assert len(set(subjects)) == 10_001


def some_known() -> Manifest:
    """Cases 0 and 1 are of p1, 2 is of p2, the others of nobody in particular; 4 and 5 come from one volume."""
    subjects = ["p1", "p1", "p2", "x3", "volume", "volume", "x6"]
    return Manifest(Case(f"c{i}", subject, ct=Path(f"/d/{i}.png")) for i, subject in enumerate(subjects))


def subjects_of(manifest: Manifest) -> list[str]:
    return [case.subject for case in manifest]


def test_known_subjects_keep_their_cases_and_slices_of_a_volume_stay_together():
    found = assign_pseudo_subjects(some_known(), [], {"x3", "volume", "x6"})
    assert subjects_of(found) == ["p1", "p1", "p2", "pseudo-0001", "pseudo-0002", "pseudo-0002", "pseudo-0003"]


def test_an_unknown_case_that_looks_like_a_known_subjects_is_taken_to_be_theirs():
    found = assign_pseudo_subjects(some_known(), [[1, 3], [5, 6]], {"x3", "volume", "x6"})
    assert subjects_of(found) == ["p1", "p1", "p2", "p1", "pseudo-0001", "pseudo-0001", "pseudo-0001"]


def test_known_subjects_are_never_joined():
    found = assign_pseudo_subjects(some_known(), [[0, 2], [2, 6]], {"x3", "volume", "x6"})
    assert subjects_of(found)[:3] == ["p1", "p1", "p2"]
    assert found[6].subject == "p1"
