"""The page: one file that loads nothing, escapes names, says what is paired and what is not, and holds every figure."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.dataset_summary import summary_schema
from monai_ctmri.data.exploration import Exploration, explore
from monai_ctmri.data.findings import read_findings
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.report.exploration_page import answer_view, intensity_curves, write_exploration

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "link", "img", "br", "source", "input", "hr"}


class Page(HTMLParser):
    """Elements of a page and the text shown; balanced tags are checked while reading."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style", "title"):
            self.shown.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.shown).split())


def written(exploration: Exploration, out: Path, **options) -> Page:
    page = write_exploration(exploration, out, **options)
    assert page == out / "exploration.html"
    return Page(page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def paired(phantom_manifest, tmp_path_factory):
    """Three pairs of the phantom explored: folder, exploration and page."""
    out = tmp_path_factory.mktemp("paired") / "out"
    (out.parent / "set").mkdir()
    cases = Manifest.read(phantom_manifest)
    cases.with_cases([cases[0], cases[3], cases[6]]).write_csv(out.parent / "set" / "manifest.csv")
    exploration = explore(out.parent / "set")
    return out, exploration, written(exploration, out, command="monai-ctmri explore phantom --out out")


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    """Two CT and two MRI of noise, no pair; one name is hostile, one file is broken."""
    root = tmp_path_factory.mktemp("unpaired") / "A & B"
    random = np.random.default_rng(0)
    cases = []
    # A slash cannot be part of a file name, so the tag's end is a folder.
    for number, (key, name) in enumerate(
        [("ct", f"{HOSTILE}.png"), ("ct", "b.png"), ("mri", "c.png"), ("mri", "d.png")]
    ):
        file = root / key / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 30 + number), dtype=np.uint8)).save(file)
        cases.append(Case(f"case{number}", f"s{number}", **{key: file}))
    (root / "ct" / f"{HOSTILE}.png").write_bytes(b"broken")
    Manifest(cases).write_csv(root / "manifest.csv")
    out = tmp_path_factory.mktemp("unpaired_out")
    exploration = explore(root)
    return out, exploration, written(exploration, out)


def test_everything_is_written_and_nothing_half(paired):
    out, exploration, _ = paired
    names = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert {"exploration.html", "dataset_summary.json", "images.csv", "findings.csv", "figures/pairs.png"} <= names
    assert not [name for name in names if ".tmp" in name]
    for name in (name for name in names if name.startswith("figures/") and not name.endswith("_dark.png")):
        assert name.replace(".png", "_dark.png") in names
    with open(out / "images.csv", newline="", encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == len(exploration.facts) == 6
    assert len(read_findings(out / "findings.csv")) == len(exploration.findings)


@pytest.mark.parametrize("which", ["paired", "unpaired"])
def test_the_summary_beside_the_page_is_valid(which, request):
    out, _, _ = request.getfixturevalue(which)
    summary = json.loads((out / "dataset_summary.json").read_text(encoding="utf-8"))
    assert not list(jsonschema.Draft202012Validator(summary_schema()).iter_errors(summary))


@pytest.mark.parametrize("which", ["paired", "unpaired"])
def test_the_page_loads_nothing(which, request):
    _, _, page = request.getfixturevalue(which)
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value[:60])
    policy = [a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv")]
    assert policy
    assert policy[0].startswith("default-src 'none'; img-src data:;")


@pytest.mark.parametrize("which", ["paired", "unpaired"])
def test_every_picture_has_words_and_a_dark_twin(which, request):
    _, _, page = request.getfixturevalue(which)
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) >= 3
    assert all(len(picture["alt"] or "") > 15 for picture in pictures)
    assert sum(tag == "source" for tag, _ in page.elements) == len(pictures)


@pytest.mark.parametrize("which", ["paired", "unpaired"])
def test_every_link_of_the_contents_leads_somewhere(which, request):
    _, _, page = request.getfixturevalue(which)
    places = {attributes.get("id") for _, attributes in page.elements}
    targets = {(a.get("href") or "")[1:] for tag, a in page.elements if tag == "a"}
    assert targets <= places
    assert {"evidence", "structure", "properties", "intensities", "gallery", "findings", "next"} <= targets


def test_a_paired_set_is_called_so_and_compared(paired):
    _, exploration, page = paired
    assert exploration.summary["pairing"] == "paired"
    assert "CT and MRI are paired: 3 of 3 cases have both" in page.words
    assert "checkerboard" in page.words
    assert "monai-ctmri explore phantom --out out" in page.words
    assert "monai-ctmri prepare" in page.words


def test_an_unpaired_set_is_called_so_and_not_compared(unpaired):
    out, _, page = unpaired
    assert "CT and MRI are not paired: 2 CT and 2 MRI images" in page.words
    assert "No pair exists" in page.words
    assert (out / "figures" / "samples.png").exists()
    assert not (out / "figures" / "pairs.png").exists()


def test_a_hostile_file_name_is_text(unpaired):
    out, exploration, page = unpaired
    assert any(HOSTILE in one["file"] for one in exploration.summary["findings"]["list"])
    assert f"ct/{HOSTILE}.png" in page.words
    raw = (out / "exploration.html").read_text(encoding="utf-8")
    assert HOSTILE not in raw
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert "A &amp; B" in raw


def test_a_broken_file_is_among_the_findings(unpaired):
    _, exploration, page = unpaired
    assert exploration.summary["findings"]["by_severity"]["error"] >= 1
    assert "cannot be decoded at all" in page.words or "ends before its content does" in page.words
    errors = exploration.summary["findings"]["by_severity"]["error"]
    assert re.search(rf"\b{errors} errors? among the findings", page.words)


def test_the_statistics_on_the_page_are_those_of_the_summary(paired):
    _, exploration, page = paired
    for group in exploration.summary["intensities"]:
        assert f"{group['mean']:.5g}" in page.words
        assert f"{group['percentiles']['p99']:.5g}" in page.words
    assert "Counted value by value on every pixel" in page.words


def test_curves_hold_the_pooled_counts(paired):
    _, exploration, _ = paired
    ct, mri = intensity_curves(exploration)
    assert (ct.modality, mri.modality) == ("ct", "mri")
    pixels = {entry["modality"]: entry["pixels"] for entry in exploration.summary["intensities"]}
    assert ct.counts.sum() == pixels["ct"]
    assert mri.counts.sum() == pixels["mri"]


def test_only_two_hundred_findings_are_on_the_page(unpaired, tmp_path):
    _, exploration, _ = unpaired
    one = exploration.summary["findings"]["list"][0]
    rows = [{**one, "file": f"file-{number:04d}.png"} for number in range(250)]
    findings = {**exploration.summary["findings"], "list": rows, "total": 250}
    changed = Exploration(
        **{
            **{name: getattr(exploration, name) for name in ("root", "discovery", "facts", "modalities", "pools")},
            "findings": (),
            "summary": {**exploration.summary, "findings": findings},
        }
    )
    page = written(changed, tmp_path)
    assert "file-0199.png" in page.words
    assert "file-0200.png" not in page.words
    assert "50 more are in findings.csv" in page.words


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pairing": "single"}, "There is one modality: 2 CT images"),
        ({"subjects_known": False, "subjects": None}, "Whom an image shows is not known"),
    ],
)
def test_the_answer_says_what_is_known(unpaired, changes, sentence):
    _, exploration, _ = unpaired
    assert sentence in answer_view({**exploration.summary, **changes})["sentence"]


def strayed(exploration, measures, total=None):
    """The summary with a finding of the wrong modality a measure, and nothing else found."""
    rows = [
        {"file": f"{number}.png", "kind": "wrong_modality", "measure": measure, "severity": "error"}
        for number, measure in enumerate(measures)
    ]
    rows.append({"file": "0.png", "kind": "burnt_in_text", "measure": "text 0.2, stated mri", "severity": "warning"})
    by_kind = {"wrong_modality": len(measures) if total is None else total, "burnt_in_text": 1}
    return {**exploration.summary, "findings": {**exploration.summary["findings"], "list": rows, "by_kind": by_kind}}


@pytest.mark.parametrize(
    ("measures", "total", "ending"),
    [
        (["ct-likeness 0.97, stated mri"] * 6, None, " among the findings. 6 of the MRI files look like CT."),
        (["ct-likeness 0.02, stated ct"], None, "1 of the CT files looks like MRI."),
        (["its header says CT, it is listed as mri"], None, "1 of the MRI files looks like CT."),
        (
            ["ct-likeness 0.97, stated mri", "ct-likeness 0.02, stated ct", "its header says MR, it is listed as ct"],
            None,
            "2 of the CT files look like MRI and 1 of the MRI files looks like CT.",
        ),
        (["ct-likeness 0.97, stated mri", "by eye"], None, "2 files look like the other modality than stated."),
        (["by eye"], None, "1 file looks like the other modality than stated."),
        (["ct-likeness 0.97, stated mri"], 9, "9 files look like the other modality than stated."),
    ],
)
def test_the_answer_ends_with_files_of_the_other_modality(unpaired, measures, total, ending):
    _, exploration, _ = unpaired
    assert answer_view(strayed(exploration, measures, total))["sentence"].endswith(ending)


def test_without_files_of_the_other_modality_the_answer_is_silent_about_them(paired, unpaired):
    assert "wrong_modality" not in paired[1].summary["findings"]["by_kind"]
    assert "look" not in answer_view(paired[1].summary)["sentence"]
    assert answer_view(strayed(unpaired[1], []))["sentence"].endswith(" among the findings.")


def test_a_slice_under_the_name_of_the_other_modality_is_in_the_answer(phantom_manifest, tmp_path):
    """Every CT of the phantom stated as MRI: whatever the look tells is told apart from what is stated."""
    cases = [Case(case.name, case.subject, mri=case.ct) for case in list(Manifest.read(phantom_manifest))[:4]]
    (tmp_path / "set").mkdir()
    Manifest(cases).write_csv(tmp_path / "set" / "manifest.csv")
    exploration = explore(tmp_path / "set")
    number = len({one.file for one in exploration.findings if one.kind == "wrong_modality"})
    assert number > 1
    assert answer_view(exploration.summary)["sentence"].endswith(f" {number} of the MRI files look like CT.")


@pytest.mark.parametrize(("verdict", "word"), [(True, "Yes"), (False, "No"), (None, "Unknown")])
def test_normal_only_has_three_answers(unpaired, verdict, word):
    _, exploration, _ = unpaired
    summary = {**exploration.summary, "normal_only": verdict, "normal_only_reason": "because"}
    tile = next(tile for tile in answer_view(summary)["tiles"] if tile["name"] == "Normal only")
    assert (tile["value"], tile["why"]) == (word, "because")
