"""The page of a scoring run: order, adjusted p-values, heatmaps, what was used; on hand-made outcomes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.files import write_float_picture
from monai_ctmri.data.manifest import Case
from monai_ctmri.evaluation.scoring_run import CaseFailure, CaseOutcome, ScoringRun
from monai_ctmri.report import scoring_report
from monai_ctmri.report.scoring_report import adjusted_p_values, by_suspicion, write_scoring_report


class Reader(HTMLParser):
    """The tables as rows of texts, the list items, the pictures, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.items: list[str] = []
        self.pictures = 0
        self.text = ""
        self._into: list[str] | None = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td", "li"):
            self._into = self.items if tag == "li" else self.tables[-1][-1]
            self._into.append("")
        elif tag == "img":
            self.pictures += 1

    def handle_endtag(self, tag):
        if tag in ("th", "td", "li"):
            self._into = None

    def handle_data(self, data):
        self.text += data
        if self._into is not None:
            self._into[-1] += data


def outcome(folder: Path, name: str, score: float, p_value: float | None, label: int | None = None, **given: Any):
    """A case with its files: CT 24 x 20, MRI of twice the size, a map on the CT's grid."""
    generator = np.random.default_rng(int(100 * score))
    files = {}
    for modality, factor in (("ct", 1), ("mri", 2)):
        files[modality] = folder / f"{name}_{modality}.png"
        Image.fromarray(generator.integers(0, 255, (24 * factor, 20 * factor), dtype=np.uint8)).save(files[modality])
    path = folder / "out" / "maps" / f"{name}.tif"
    write_float_picture(path, np.full((24, 20), score, np.float32))
    case = Case(name, f"subject <{name}>", label=label, **(files | given))
    flagged = None if p_value is None else p_value <= 0.05
    return CaseOutcome(case, {"error_top": score}, score, p_value, flagged, map_path=path)


def run_of(folder: Path, outcomes: list[CaseOutcome], calibrated: bool = True, **changes: Any) -> ScoringRun:
    model: Any = SimpleNamespace(
        folder=folder / "model",
        name="brain_ctmri_crossmodal",
        configs=(Path("inference.yaml"),),
        settings={"image_size": 32},
        files={"model.pt": "f" * 64},
        default_scores=("error_top",),
    )
    fusion = SimpleNamespace(method="minimum", names_=["error_top", "mismatch_top"])
    decision: Any = SimpleNamespace(cases=30, fusion=fusion) if calibrated else None
    given = {"failures": (), "notes": ()} | changes
    return ScoringRun(folder / "out", folder / "cohort", model, decision, 0.05, tuple(outcomes), **given)


@pytest.fixture
def three(tmp_path: Path) -> list[CaseOutcome]:
    return [
        outcome(tmp_path, "usual", 0.1, 0.6, label=0),
        outcome(tmp_path, "clear", 3.0, 0.01, label=1, mri=None),
        outcome(tmp_path, "weak", 1.2, 0.04, ct=None),
    ]


def test_order_is_by_p_value_then_score_then_name(tmp_path):
    rows = [("d", 1.0, 0.5), ("b", 2.0, 0.5), ("c", 0.0, 0.01), ("a", 1.0, 0.5)]
    cases = [outcome(tmp_path, name, score, p_value) for name, score, p_value in rows]
    assert [one.case.name for one in by_suspicion(cases)] == ["c", "b", "a", "d"]
    uncalibrated = [outcome(tmp_path, name, score, None) for name, score, _ in rows]
    assert [one.case.name for one in by_suspicion(uncalibrated)] == ["b", "a", "d", "c"]


def test_adjusted_p_values_by_hand(three, tmp_path):
    # Ranks 1, 2, 3 of m = 3: .01 * 3, .04 * 3 / 2, .6.
    assert adjusted_p_values(three) == pytest.approx({"clear": 0.03, "weak": 0.06, "usual": 0.6})
    assert adjusted_p_values([outcome(tmp_path, "a", 1.0, None)]) == {}


def test_the_page_of_a_calibrated_run(three, tmp_path):
    failure = CaseFailure(Case("broken", "s9", ct=tmp_path / "x.png"), "../x.png", "no such file; <correct> it")
    run = run_of(tmp_path, three, failures=(failure,), notes=("20 normals & more",))
    path = write_scoring_report(run, command="monai-ctmri score x --alpha 0.05", phantom=True)
    assert path == tmp_path / "out" / "report.html"
    text = path.read_text()
    page = Reader(text)
    cases, failures, used = page.tables
    assert cases[1:] == [
        ["clear", "subject <clear>", "CT", "abnormal", "3", "0.01", "0.03", "yes"],
        ["weak", "subject <weak>", "MRI", "\N{EN DASH}", "1.2", "0.04", "0.06", "yes"],
        ["usual", "subject <usual>", "CT + MRI", "normal", "0.1", "0.6", "0.6", "no"],
    ]
    assert failures[1:] == [["broken", "../x.png", "no such file; <correct> it"]]
    shown = {row[0]: row[1] for row in used}
    assert shown["Bundle"] == "brain_ctmri_crossmodal"
    assert shown["model.pt"] == "SHA-256 " + "f" * 64
    assert shown["image_size"] == "32"
    assert shown["Calibrated on"] == "30 normals, one a subject"
    assert shown["Fused"] == "by minimum: error_top, mismatch_top"
    assert "20 normals & more" in page.items
    assert page.pictures == 1
    assert "a phantom result" in page.text
    assert "monai-ctmri score x --alpha 0.05" in page.text
    assert re.search(r"Flagged at alpha 0.05\s*2\s*were all of them normal, 0.15 at most", page.text)
    assert re.search(r"Stand among many\s*1\s*adjusted", page.text)
    assert "<correct>" not in text
    assert not re.search(r'(src|href|srcset)="(?!data:|#)', text)


def test_the_page_without_calibration_claims_no_p_value(tmp_path):
    cases = [outcome(tmp_path, name, score, None) for name, score in (("low", 0.2), ("high", 0.9))]
    page = Reader(write_scoring_report(run_of(tmp_path, cases, calibrated=False)).read_text())
    assert page.tables[0][0] == ["Case", "Subject", "Has", "Label", "Score"]
    assert [row[0] for row in page.tables[0][1:]] == ["high", "low"]
    assert "not calibrated" in page.items
    assert "Flagged" not in page.text
    assert "a phantom result" not in page.text
    assert len(page.tables) == 2


def test_heatmaps_share_the_scale_of_the_normal_cases(three, tmp_path, monkeypatch):
    seen: list[tuple[list[Any], float]] = []
    real = scoring_report.heatmap_panel

    def watched(panel, scale, theme):
        seen.append((panel, scale))
        return real(panel, scale, theme=theme)

    monkeypatch.setattr(scoring_report, "heatmap_panel", watched)
    write_scoring_report(run_of(tmp_path, three))
    (panel, scale), dark = seen
    assert scale == pytest.approx(0.1)  # the only case labelled normal is .1 everywhere
    assert dark[1] == scale
    assert [one["title"] for one in panel] == ["clear", "weak", "usual"]
    assert [list(one["images"]) for one in panel] == [["CT"], ["MRI"], ["CT", "MRI"]]
    assert all(image.shape == one["map"].shape == (24, 20) for one in panel for image in one["images"].values())
    assert panel[0]["map"].mean() == pytest.approx(3.0)
    unlabelled = [outcome(tmp_path, name, score, None) for name, score in (("a", 4.0), ("b", 2.0), ("c", 1.0))]
    write_scoring_report(run_of(tmp_path, unlabelled, calibrated=False))
    assert seen[-1][1] == pytest.approx(2.0)  # the less abnormal half: b and c


def test_a_long_cohort_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring_report, "_LISTED", 2)
    cases = [outcome(tmp_path, f"c{number}", float(number), None) for number in range(3)]
    page = Reader(write_scoring_report(run_of(tmp_path, cases, calibrated=False)).read_text())
    assert [row[0] for row in page.tables[0][1:]] == ["c2", "c1"]
    assert "The first 2 of 3; all are in scores.csv." in page.text


def test_nothing_judged_is_a_page_too(tmp_path):
    (tmp_path / "out").mkdir()
    failure = CaseFailure(Case("broken", "s9", ct=tmp_path / "x.png"), "", "because")
    page = Reader(write_scoring_report(run_of(tmp_path, [], failures=(failure,))).read_text())
    assert page.pictures == 0
    assert page.tables[1][1:] == [["broken", "\N{EN DASH}", "because"]]
