"""The report: one file that loads nothing, escapes everything, says what it does not know and holds every figure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from monai_ctmri.errors import InputError
from monai_ctmri.report import figures as draw
from monai_ctmri.report.heatmaps import heatmap_panel
from monai_ctmri.report.html import ReportFigure, write_report
from monai_ctmri.report.page import embedded

DASH = "\N{EN DASH}"
HOSTILE = '<script>alert("case")</script>'
KINDS = ["haemorrhage", "infarct", "wrong_pair"]
VOID = {"meta", "link", "img", "br", "source", "input", "hr"}
GENERATOR = np.random.default_rng(2)


class Page(HTMLParser):
    """Elements of a page in order, with their text; balanced tags are checked while reading."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self) -> str:
        shown = [data for tag, data in self.texts if tag not in ("script", "style", "title")]
        return " ".join(" ".join(shown).split())


def method(name: str, label: str, group: str, value: float | None, modality: str = "both") -> dict[str, Any]:
    known = value is not None
    return {
        "name": name,
        "label": label,
        "group": group,
        "modality": modality,
        "auroc": {
            "value": value,
            "low": value - 0.05 if known else None,
            "high": value + 0.04 if known else None,
            "reason": None if known else "needs both modalities",
        },
        "average_precision": {"value": value, "prevalence": 0.5},
        "sensitivity_at_95_specificity": value / 2 if known else None,
        "paired_win_rate": value,
        "macro_auroc": value,
        "by_kind": {kind: {"auroc": value, "n": 10} for kind in KINDS},
    }


def sample_results(**changes: Any) -> dict[str, Any]:
    results: dict[str, Any] = {
        "title": "Cross-modal denoiser on paired CT and MRI",
        "subtitle": "Learn what normal looks like, mark what does not fit.",
        "version": "0.1.0",
        "created": "2025-11-21T11:44:00+00:00",
        "command": "monai-ctmri demo --out runs/demo",
        "data": {
            "manifest": "phantom/manifest.csv",
            "kind": "phantom",
            "modalities": ["ct", "mri"],
            "parts": [
                {"name": "train", "subjects": 120, "cases": 1440, "abnormal": 0},
                {"name": "validation", "subjects": 20, "cases": 240, "abnormal": 0},
                {"name": "calibration", "subjects": 40, "cases": 480, "abnormal": 0},
                {"name": "test", "subjects": 60, "cases": 300, "abnormal": 150},
            ],
        },
        "training": {
            "epochs_run": 40,
            "best_epoch": 27,
            "parameters": 493122,
            "image_size": [128, 128],
            "seconds": 742.3,
            "loss": "MSE",
        },
        "sets": [
            {
                "name": "Injected lesions",
                "description": "Lesion types never used in training.",
                "n_normal": 150,
                "n_abnormal": 150,
                "subjects": 60,
                "methods": [
                    method("mean", "Slice mean", "trivial baseline", 0.583),
                    method("denoiser", "Cross-modal denoiser", "network", 0.842),
                    method("ct", "Denoiser, CT only", "network", 0.793, "ct"),
                    method("maha", "Mahalanobis distance", "one-class", 0.804),
                    method("forest", "Isolation Forest on latents", "source notes", None),
                ],
                "controls": [
                    {"name": "Zero-contrast injection", "value": 0.502, "expected": 0.5, "passed": True},
                    {"name": "Mask area alone", "value": 0.634, "expected": "under 0.6", "passed": False},
                ],
            }
        ],
        "decision": {
            "method": "denoiser",
            "alpha": 0.05,
            "threshold": 5.9012,
            "n_calibration": 480,
            "smallest_p_value": 1 / 481,
            "false_alarms": {"value": 8 / 150, "low": 0.023, "high": 0.102, "k": 8, "n": 150},
            "sensitivity": {"value": 0.64, "low": 0.558, "high": 0.717, "k": 96, "n": 150},
            "confusion": {"tp": 96, "fp": 8, "tn": 142, "fn": 54},
        },
        "examples_note": "Chosen by rule.",
        "notes": ["This is a phantom result."],
    }
    return {**results, **changes}


def drawings(theme: str) -> dict[str, Any]:
    """Every figure of a report, from plausible numbers."""
    normal = GENERATOR.gamma(6, 0.5, 60)
    abnormal = {kind: GENERATOR.gamma(6, 0.5, 20) + shift for shift, kind in enumerate(KINDS)}
    truth, scores = np.repeat([0, 1], 60), np.concatenate([normal, *abnormal.values()])
    fpr, tpr, _ = roc_curve(truth, scores)
    precision, recall, _ = precision_recall_curve(truth, scores)
    auroc = roc_auc_score(truth, scores)
    plane = GENERATOR.normal(size=(120, 2))
    labels = ["normal"] * 60 + [kind for kind in KINDS for _ in range(20)]
    image = GENERATOR.uniform(size=(32, 32))
    cases = [
        {
            "title": HOSTILE,
            "kind": kind,
            "score": 1.0,
            "p_value": 0.01,
            "images": {"CT": image, "MRI": image},
            "reconstructions": {"CT": image, "MRI": image},
            "map": image,
            "mask": image > 0.9,
        }
        for kind in KINDS
    ]
    return {
        "examples": heatmap_panel(cases, 1.0, theme=theme),
        "auroc_forest": draw.auroc_forest(
            [{"name": "Denoiser", "group": "network", "value": auroc, "low": auroc - 0.1, "high": auroc + 0.1}],
            theme=theme,
        ),
        "kind_by_method": draw.kind_by_method_heatmap(KINDS, ["a", "b"], [[0.9, 0.5]] * 3, theme=theme),
        "confusion_matrix": draw.confusion_matrix(40, 3, 57, 20, 5.0, theme=theme),
        "p_values": draw.p_value_histogram(GENERATOR.uniform(size=60), GENERATOR.beta(0.5, 4, 60), theme=theme),
        "calibration_curve": draw.calibration_curve([0.05, 0.1], [0.04, 0.1], [0.01, 0.05], [0.1, 0.2], theme=theme),
        "score_distributions": draw.score_distributions(normal, abnormal, 5.0, "denoiser", theme=theme),
        "roc_curves": draw.roc_curves({"Denoiser": (fpr, tpr, f"{auroc:.2f}")}, theme=theme),
        "precision_recall_curves": draw.precision_recall_curves(
            {"Denoiser": (recall, precision, "")}, 0.5, theme=theme
        ),
        "latent_view": draw.latent_view(plane, labels, np.hypot(*plane.T), theme=theme),
        "training_curves": draw.training_curves([1, 2, 3], [3, 2, 1], [3, 2.5, 2.6], 2, theme=theme),
    }


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[ReportFigure]:
    """All figures of a report on disk, light and dark; the first bears a hostile title and caption."""
    folder = tmp_path_factory.mktemp("figures")
    for theme, ending in (("light", ""), ("dark", "_dark")):
        for name, figure in drawings(theme).items():
            draw.save_figure(
                figure, folder / f"{name}{ending}.png", dpi=150 if name in ("examples", "roc_curves") else 40
            )
    names = sorted(path.stem for path in folder.glob("*.png") if not path.stem.endswith("_dark"))
    assert len(names) == 11
    return [
        ReportFigure(
            name,
            HOSTILE if name == "examples" else f"Title of {name}",
            f'Caption of {name} "quoted" {HOSTILE}',
            folder / f"{name}.png",
            folder / f"{name}_dark.png",
        )
        for name in names
    ]


@pytest.fixture(scope="module")
def text(pictures: list[ReportFigure], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, sample_results(), pictures)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def written(tmp_path: Path, results: dict[str, Any], figures: list[ReportFigure] | None = None) -> Page:
    write_report(tmp_path / "report.html", results, figures or [])
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def loads(text: str) -> Iterator[str]:
    """Every address the page could fetch: attributes that load and url() or @import of its style."""
    for name, attributes in Page(text).elements:
        for key in ("src", "srcset", "href", "poster", "data", "action", "xlink:href"):
            if key in attributes and not (name == "a" and (attributes[key] or "").startswith("#")):
                yield attributes[key] or ""
        yield from re.findall(r"url\(([^)]*)\)", attributes.get("style") or "")
    for style in re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL):
        yield from re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", style)


def test_the_page_fetches_nothing(text: str) -> None:
    addresses = list(loads(text))
    assert len(addresses) == 23, "two pictures a figure and an empty icon"
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"https?://", text)
    assert "fetch(" not in text
    assert "XMLHttpRequest" not in text


def test_a_policy_forbids_what_the_page_does_not_do(page: Page) -> None:
    policy = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"]


def test_every_figure_is_inside_in_both_themes(page: Page, pictures: list[ReportFigure]) -> None:
    shown = {image["src"] for image in page.all("img")}
    dark = {source["srcset"] for source in page.all("source")}
    figures = [embedded(figure) for figure in pictures]
    assert shown == {figure["light"] for figure in figures}
    assert dark == {figure["dark"] for figure in figures}
    assert len(shown) == len(dark) == len(pictures)


def test_hostile_names_are_shown_and_never_run(text: str, page: Page) -> None:
    assert len(page.all("script")) == 1
    assert "<script>alert" not in text
    assert HOSTILE in page.words()


def test_hostile_results_are_shown_and_never_run(tmp_path: Path) -> None:
    results = sample_results(title=HOSTILE, subtitle=HOSTILE, command=HOSTILE, notes=[HOSTILE], examples_note=HOSTILE)
    results.update(created=HOSTILE, version=HOSTILE)
    results["data"] = {"manifest": HOSTILE, "kind": HOSTILE, "modalities": [HOSTILE], "parts": [{"name": HOSTILE}]}
    hostile = {**method("x", HOSTILE, HOSTILE, 0.5, HOSTILE), "by_kind": {HOSTILE: {"auroc": 0.5, "n": 1}}}
    control = {"name": HOSTILE, "value": HOSTILE, "expected": HOSTILE, "passed": True}
    results["sets"] = [{"name": '"' + HOSTILE, "methods": [hostile], "description": HOSTILE, "controls": [control]}]
    results["training"] = {"loss": HOSTILE, "image_size": HOSTILE, "seconds": HOSTILE}
    results["decision"] = {"method": HOSTILE, "threshold": HOSTILE}
    page = written(tmp_path, results)
    assert len(page.all("script")) == 1
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)


def test_headings_come_in_order_and_sections_as_promised(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    order = ["data", "examples", "methods", "decision", "scores", "training", "controls", "limits", "reproduce"]
    assert [section["id"] for section in page.all("section")] == order


def test_identifiers_are_unique_and_links_lead_somewhere(page: Page) -> None:
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for link in page.all("a"):
        assert (link["href"] or "").removeprefix("#") in identifiers
    assert all(section["aria-labelledby"] in identifiers for section in page.all("section"))


def test_tables_name_their_rows_and_columns(page: Page) -> None:
    assert len(page.all("table")) == 4
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]


def test_the_headline_is_honest_and_complete(page: Page) -> None:
    words = page.words().replace("\u00a0", " ")
    assert "was asked to tell 150 abnormal from 150 normal cases of 60 subjects" in words
    assert "trained on 120 normal subjects" in words
    assert re.search(r"AUROC 0\.842 , 95 % interval 0\.792 to 0\.882: good", words)
    assert "The best trivial baseline (Slice mean on CT + MRI) reaches 0.583." in words
    assert "Phantom result: simulated images, no patients" in words
    assert "Not a medical device; research only" in words


@pytest.mark.parametrize(
    ("auroc", "word"), [(0.52, "near chance"), (0.65, "weak"), (0.75, "moderate"), (0.95, "strong")]
)
def test_a_poor_result_is_called_so(auroc: float, word: str, tmp_path: Path) -> None:
    results = sample_results(sets=[{"name": "Set", "methods": [method("denoiser", "Denoiser", "network", auroc)]}])
    assert f": {word} ." in written(tmp_path, results).words()


def test_real_data_carry_no_phantom_flag(tmp_path: Path) -> None:
    words = written(tmp_path, sample_results(data={"kind": "real", "parts": []}, notes=[])).words()
    assert "hantom" not in words.replace("phantom/manifest.csv", "")


def test_the_tables_hold_the_numbers(page: Page) -> None:
    words = page.words().replace("\u00a0", " ").replace("\u202f", " ")
    for expected in (
        "Train learn what normal looks like 120 1 440 0",
        "[0.792, 0.882]",
        "needs both modalities",
        "wrong pair",
        "96 found, 54 missed, 8 false alarms, 142 correctly passed",
        "5.3 % 2.3 % to 10.2 %, 8 of 150 normal cases",
        "smallest possible p-value 0.0021",
        "493 122",
        "128 \N{MULTIPLICATION SIGN} 128",
        "12 min 22 s",
        "0.502 0.500 ✓ passed",
        "0.634 under 0.6 ✗ failed",
        "monai-ctmri demo --out runs/demo",
        "21 November 2025, 11:44 UTC",
    ):
        assert expected in words, expected


def test_the_theme_can_be_chosen(text: str, page: Page) -> None:
    assert [button["data-choice"] for button in page.all("button")] == ["auto", "light", "dark"]
    assert [button["aria-pressed"] for button in page.all("button")] == ["true", "false", "false"]
    for rule in ("prefers-color-scheme: dark", '[data-theme="dark"]', '[data-theme="light"]', "@media print"):
        assert rule in text


def test_colours_of_text_reach_contrast_aa_in_both_themes(text: str) -> None:
    def luminance(colour: str) -> float:
        channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    blocks = re.findall(r"\{([^{}]*--bg:[^{}]*)\}", text)
    assert len(blocks) == 3, "light, dark by the system, dark by choice"
    assert blocks[1].split() == blocks[2].split()
    for block in blocks:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-fA-F]{6})", block))
        for ink, ground in [
            ("ink", "bg"), ("ink", "card"), ("muted", "bg"), ("muted", "card"), ("accent", "card"),
            ("ink", "note-bg"), ("good", "card"), ("bad", "card"), ("ink", "soft"),
        ]:  # fmt: skip
            pair = sorted([luminance(colours[ink]), luminance(colours[ground])])
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (ink, ground)


def test_a_run_that_knows_nothing_still_has_a_page(tmp_path: Path) -> None:
    page = written(tmp_path, {})
    words = page.words()
    assert "no headline number" in words
    assert DASH in words
    assert not any("None" in data or "nan" in data for tag, data in page.texts if tag not in ("script", "style"))


def test_every_value_may_be_missing(tmp_path: Path) -> None:
    def emptied(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: emptied(entry) if key not in ("name", "group") else entry for key, entry in value.items()}
        return [emptied(entry) for entry in value] if isinstance(value, list) else None

    page = written(tmp_path, emptied(sample_results()))
    shown = [data for tag, data in page.texts if tag not in ("script", "style")]
    assert not any(re.search(r"\b(None|nan|Undefined)\b", data) for data in shown)
    assert sum(data.count(DASH) for data in shown) > 50


@pytest.mark.parametrize("key", list(sample_results()))
def test_every_entry_may_be_absent_or_none(key: str, tmp_path: Path) -> None:
    results = sample_results()
    assert written(tmp_path, {**results, key: None}).texts
    del results[key]
    assert written(tmp_path, results).texts


def test_an_infinite_threshold_is_explained(tmp_path: Path) -> None:
    decision = {**sample_results()["decision"], "threshold": None, "n_calibration": 6, "smallest_p_value": 1 / 7}
    words = written(tmp_path, sample_results(decision=decision)).words()
    assert "infinite 6 calibration cases cannot support so small a rate" in words
    assert "no case could be called abnormal" in words


def test_figures_find_their_section_and_a_lone_one_is_widened(pictures: list[ReportFigure], tmp_path: Path) -> None:
    by_name = {figure.name: figure for figure in pictures}

    def named(name: str) -> ReportFigure:
        return ReportFigure(name, name, "Caption.", by_name["roc_curves"].light)

    names = ["training_curves", "confusion_matrix_ct", "p_values", "calibration_curve", "something_else"]
    page = written(tmp_path, sample_results(), [named(name) for name in names])
    section, found, classes = "", {}, {}
    for tag, attributes in page.elements:
        if tag == "section":
            section = attributes["id"] or ""
        if tag == "figure":
            name = (attributes["id"] or "").removeprefix("figure-")
            found[name], classes[name] = section, (attributes["class"] or "").split()
    assert found == {
        "training_curves": "training",
        "confusion_matrix_ct": "decision",
        "p_values": "decision",
        "calibration_curve": "decision",
        "something_else": "scores",
    }
    assert [name for name, look in classes.items() if "alone" in look] == [
        "calibration_curve", "something_else", "training_curves",
    ]  # fmt: skip


def test_sections_without_content_are_left_out_with_their_link(tmp_path: Path) -> None:
    page = written(tmp_path, {"title": "Bare"})
    assert [section["id"] for section in page.all("section")] == ["data", "limits", "reproduce"]
    assert [link["href"] for link in page.all("a")] == ["#main", "#main", "#data", "#limits", "#reproduce"]


def test_a_missing_figure_is_refused_and_no_page_left(tmp_path: Path) -> None:
    figure = ReportFigure("roc", "ROC", "Curves.", tmp_path / "absent.png")
    with pytest.raises(InputError, match="cannot be read"):
        write_report(tmp_path / "report.html", sample_results(), [figure])
    assert not (tmp_path / "report.html").exists()


def test_what_only_the_report_needs_has_its_dark_colours_too(text: str) -> None:
    """The method groups are told apart by colour in each theme; a name used is a name defined in all three places."""
    blocks = [block for block in re.findall(r"\{([^{}]*)\}", text) if "--network:" in block]
    assert len(blocks) == 3, "light, dark by the system, dark by choice"
    assert blocks[1].split() == blocks[2].split() != blocks[0].split()
    names = [set(re.findall(r"(--[\w-]+):", block)) for block in blocks]
    assert names[0] == names[1] == names[2]


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    written(tmp_path, sample_results(title="First"))
    words = written(tmp_path, sample_results(title="Second")).words()
    assert "Second" in words
    assert "First" not in words
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def detector_rows() -> dict[str, Any]:
    rate = {"value": 0.125, "low": 0.05, "high": 0.25, "k": 4, "n": 32}
    never = {"value": None, "low": None, "high": None, "k": None, "n": 32}
    cost = {"fit_seconds": 1.5, "score_milliseconds": 0.25, "peak_megabytes": None, "saved_megabytes": 2.0}
    row = {"auroc": {"value": 0.71, "low": 0.6, "high": 0.8}, "false_alarms": [never, rate]}
    asked = {"alpha": 0.05, "unit": "slices", "units": 24, "smallest_p_value": 0.04, "reached": True}
    return {
        "set": "Injected",
        "n_normal": 32,
        "alphas": [{**asked, "alpha": 0.01, "reached": False}, asked],
        "rows": [
            {**row, "name": "knn", "label": HOSTILE, "group": "one-class", "cost": cost, "problem": ""},
            {**row, "name": "l1", "label": "Error", "group": "network", "cost": None, "problem": ""},
            {"name": "abod", "label": "Angles", "group": "one-class", "problem": "4 rows are needed"},
        ],
    }


def test_the_table_of_detectors_says_what_it_rests_on(tmp_path: Path) -> None:
    words = written(tmp_path, sample_results(detectors=detector_rows())).words()
    section = words[words.index("Every score, calibrated") :]
    assert "32 normal test cases. At 1 %: 24 calibration slices, taken as independent, too few" in section
    assert "the smallest possible p-value is 0.040 ; at 5 %: 24" in section.replace("0.040;", "0.040 ;")
    for shown in (HOSTILE, "Angles", "4 rows are needed", "12.5 %", "5.0 % to 25.0 %", "1.50", "0.25", "2.00"):
        assert shown in section


def test_without_detectors_there_is_no_such_section(page: Page) -> None:
    assert "Detectors calibrated" not in page.words()
    assert not [one for one in page.all("section") if one.get("id") == "detectors"]


def test_the_decision_names_what_was_counted(tmp_path: Path) -> None:
    decision = {**sample_results()["decision"], "calibration_unit": "subjects"}
    assert "Calibration subjects" in written(tmp_path, sample_results(decision=decision)).words()
