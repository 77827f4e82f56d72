"""The page that leads to the runs of an unpaired set."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from monai_ctmri.report.index import write_index


def results(modality: str, value: float | None, low: float | None, notes: list[str]) -> dict:
    auroc = {"value": value, "low": low, "high": None if low is None else 0.875}
    methods = [{"name": "other", "auroc": {"value": 0.99, "low": None, "high": None}}, {"name": "l1", "auroc": auroc}]
    return {
        "data": {"modalities": [modality]},
        "decision": {"method": "l1", "label": "Mean <L1>"},
        "sets": [{"name": "Injected", "methods": methods, "n_normal": 7, "n_abnormal": 21}],
        "notes": notes,
    }


class Reader(HTMLParser):
    """Cells of the table, targets of links and items of lists."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.links: list[str] = []
        self.items: list[str] = []
        self._into: list[str] | None = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.links.append(dict(attrs)["href"])
        if tag in ("td", "li"):
            self._into = self.cells if tag == "td" else self.items
            self._into.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "li"):
            self._into = None

    def handle_data(self, data):
        if self._into is not None:
            self._into[-1] += data


def page(tmp_path: Path, title: str = "Set", low: float | None = 0.75) -> Reader:
    reports = [
        (results("ct", 0.8125, low, ["shared", "of ct"]), tmp_path / "run" / "ct" / "report.html"),
        (results("mri", None, None, ["shared", "of mri"]), tmp_path / "run" / "mri" / "report.html"),
    ]
    assert write_index(tmp_path / "run" / "report.html", title, reports) == tmp_path / "run" / "report.html"
    return Reader((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))


def test_a_row_a_run_with_the_deciding_score(tmp_path):
    found = page(tmp_path)
    assert found.cells[0] == "CT"
    assert found.cells[1].startswith("7 normal, 21 abnormal")
    assert found.cells[2:4] == ["Mean <L1>", "0.81 [0.75, 0.88]"]
    assert found.cells[5] == "MRI"
    assert found.cells[8] == "\N{EN DASH}"


def test_no_interval_where_there_is_none(tmp_path):
    assert page(tmp_path, low=None).cells[3] == "0.81"


def test_links_lead_to_the_reports_wherever_the_folder_is_moved(tmp_path):
    assert page(tmp_path).links == ["ct/report.html", "mri/report.html"]


def test_notes_are_there_once(tmp_path):
    assert page(tmp_path).items == ["shared", "of ct", "of mri"]


def test_text_is_escaped(tmp_path):
    page(tmp_path, title="<script>alert(1)</script>")
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert text.count("<script") == 1, "that of the colour theme"
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2, "in the title and the heading"


def test_the_set_is_called_unpaired(tmp_path):
    page(tmp_path)
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "No modality is in every case: the set is unpaired." in text
    assert "nothing here compares CT with MRI" in text


def test_it_has_the_theme_of_the_reports_and_no_empty_contents(tmp_path):
    page(tmp_path)
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'data-choice="(\w+)"', text) == ["auto", "light", "dark"]
    assert "<nav" not in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?://", text)


def test_no_notes_no_heading_for_them(tmp_path):
    write_index(tmp_path / "report.html", "Set", [(results("ct", 0.8, None, []), tmp_path / "ct" / "report.html")])
    assert "Notes" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_run_without_a_test_set_has_no_number(tmp_path):
    empty = results("ct", 0.8, None, []) | {"sets": []}
    write_index(tmp_path / "report.html", "Set", [(empty, tmp_path / "ct" / "report.html")])
    assert Reader((tmp_path / "report.html").read_text(encoding="utf-8")).cells[3] == "\N{EN DASH}"
