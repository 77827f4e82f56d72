from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monai_ctmri.data.findings import Finding
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.quarantine import check_rule, is_quarantined, quarantine, without_quarantined
from monai_ctmri.errors import InputError


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(
        [
            Case("a", "s1", ct=tmp_path / "a_ct.png", mri=tmp_path / "a_mri.png", note="T1"),
            Case("b", "s2", ct=tmp_path / "b_ct.png", mask=tmp_path / "b_mask.png"),
            Case("c", "s3", mri=tmp_path / "c_mri.png", note="FLAIR; seen twice"),
        ]
    )


def notes(manifest: Manifest) -> list[str]:
    return [case.note for case in manifest]


def test_an_error_marks_its_case_and_a_warning_does_not(manifest, tmp_path):
    findings = [Finding(tmp_path / "a_mri.png", "blank"), Finding(tmp_path / "c_mri.png", "cut_off")]
    marked = quarantine(manifest, findings)
    assert notes(marked) == ["quarantined: blank; T1", "", "FLAIR; seen twice"]
    assert [is_quarantined(case) for case in marked] == [True, False, False]


def test_a_mask_counts_as_a_file_of_its_case(manifest, tmp_path):
    assert notes(quarantine(manifest, [Finding(tmp_path / "b_mask.png", "truncated")]))[1] == "quarantined: truncated"


def test_a_lower_severity_takes_the_higher_ones_along(manifest, tmp_path):
    findings = [Finding(tmp_path / "a_ct.png", "constant"), Finding(tmp_path / "c_mri.png", "cut_off")]
    marked = quarantine(manifest, findings, ["warning"])
    assert notes(marked) == ["quarantined: constant; T1", "", "quarantined: cut_off; FLAIR; seen twice"]


def test_a_kind_can_be_named_beside_or_without_a_severity(manifest, tmp_path):
    findings = [Finding(tmp_path / "a_ct.png", "constant"), Finding(tmp_path / "c_mri.png", "cut_off")]
    assert [is_quarantined(case) for case in quarantine(manifest, findings, ["cut_off"])] == [False, False, True]
    assert [is_quarantined(case) for case in quarantine(manifest, findings, ["error", "cut_off"])] == [
        True,
        False,
        True,
    ]
    assert not any(is_quarantined(case) for case in quarantine(manifest, findings, ["none"]))


def test_a_case_lists_each_kind_once_whichever_file_it_is_about(manifest, tmp_path):
    findings = [Finding(tmp_path / name, kind) for name in ("a_ct.png", "a_mri.png") for kind in ("blank", "constant")]
    assert notes(quarantine(manifest, findings))[0] == "quarantined: blank, constant; T1"


def test_marking_again_replaces_the_mark_and_keeps_the_note(manifest, tmp_path):
    once = quarantine(manifest, [Finding(tmp_path / "c_mri.png", "blank")])
    assert notes(quarantine(once, [Finding(tmp_path / "c_mri.png", "constant")]))[2] == (
        "quarantined: constant; FLAIR; seen twice"
    )
    assert quarantine(once, []) == manifest


def test_relative_paths_of_findings_mean_the_same_file(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_quarantined(quarantine(manifest, [Finding(Path("b_ct.png"), "blank")])[1])


def test_a_word_that_is_no_rule_is_refused():
    with pytest.raises(InputError, match="'errors': neither a severity nor a kind"):
        check_rule(["errors"])
    assert check_rule(["error", " cut_off "]) == {"error", "cut_off"}


def test_what_is_kept_apart_is_left_out_and_counted(manifest, tmp_path, caplog):
    marked = quarantine(manifest, [Finding(tmp_path / "a_ct.png", "blank")])
    with caplog.at_level(logging.WARNING):
        kept = without_quarantined(marked, "set.csv")
    assert [case.name for case in kept] == ["b", "c"]
    assert "set.csv: 1 of 3 cases are quarantined" in caplog.text


def test_nothing_is_said_where_nothing_is_kept_apart(manifest, caplog):
    with caplog.at_level(logging.WARNING):
        assert without_quarantined(manifest, "set.csv") is manifest
    assert not caplog.records


def test_a_manifest_with_nothing_left_is_refused(manifest, tmp_path):
    findings = [Finding(tmp_path / name, "blank") for name in ("a_ct.png", "b_ct.png", "c_mri.png")]
    with pytest.raises(InputError, match=r"set\.csv: every case is quarantined"):
        without_quarantined(quarantine(manifest, findings), "set.csv")


def test_the_mark_survives_the_manifest_file(manifest, tmp_path):
    marked = quarantine(manifest, [Finding(tmp_path / "a_ct.png", "blank")])
    marked.write_csv(tmp_path / "manifest.csv")
    assert [is_quarantined(case) for case in Manifest.read(tmp_path)] == [True, False, False]
