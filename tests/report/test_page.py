"""What every page has in common: figures inside it in both themes, escaped text, one head, no name without a value."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from PIL import Image

from monai_ctmri.errors import InputError
from monai_ctmri.report import html, page
from monai_ctmri.report.page import ReportFigure, embedded, render
from monai_ctmri.report.views import FILTERS

HOSTILE = '"><script>alert("case")</script>'
TEMPLATES = Path(page.__file__).parent / "templates"
PAGES = ("report.html.j2", "exploration.html.j2", "index.html.j2")


class Reader(HTMLParser):
    """Elements with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def picture(path: Path, size: tuple[int, int] = (300, 150), grey: int = 9) -> Path:
    Image.new("L", size, grey).save(path)
    return path


@pytest.fixture
def figure(tmp_path: Path) -> ReportFigure:
    light, dark = picture(tmp_path / "roc.png"), picture(tmp_path / "roc_dark.png", grey=200)
    return ReportFigure("roc", "ROC", "Curves.", light, dark)


def decoded(uri: str) -> Image.Image:
    head, content = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def card(figure: ReportFigure, **changes: object) -> Reader:
    """The figure's card, on an empty page of its own."""
    template = page._environment().from_string(
        '{% from "figure_card.html.j2" import figure_card %}{{ figure_card(figure) }}'
    )
    return Reader(template.render(figure={**embedded(figure), **changes}))


def test_the_pictures_come_back_as_they_were(figure: ReportFigure) -> None:
    inside = embedded(figure)
    assert decoded(inside["light"]).getextrema() == (9, 9)
    assert decoded(inside["dark"]).getextrema() == (200, 200)
    assert decoded(inside["light"]).size == (300, 150)
    assert {key: inside[key] for key in ("name", "title", "caption")} == {
        "name": "roc", "title": "ROC", "caption": "Curves.",
    }  # fmt: skip


@pytest.mark.parametrize("size", [(300, 150), (1, 1), (1501, 7), (1239, 640)])
def test_size_is_told_in_css_pixels(size: tuple[int, int], tmp_path: Path) -> None:
    """An inch has 150 dots in the picture and 96 in CSS."""
    inside = embedded(ReportFigure("a", "A", "a", picture(tmp_path / "a.png", size)))
    assert (inside["width"], inside["height"]) == tuple(round(side * 96 / 150) for side in size)


@pytest.mark.parametrize(("pixels", "wide"), [(100, False), (1093, False), (1096, True), (3000, True)])
def test_a_picture_wider_than_seven_hundred_css_pixels_is_wide(pixels: int, wide: bool, tmp_path: Path) -> None:
    inside = embedded(ReportFigure("a", "A", "a", picture(tmp_path / "a.png", (pixels, 10))))
    assert inside["wide"] is wide
    assert inside["alone"] is False


def test_without_a_dark_picture_the_light_one_lies_on_paper(figure: ReportFigure) -> None:
    only = ReportFigure("roc", "ROC", "Curves.", figure.light)
    assert embedded(only)["dark"] is None
    shown = card(only)
    assert shown.all("source") == []
    assert shown.all("img")[0]["class"] == "paper"
    both = card(figure)
    assert "class" not in both.all("img")[0]
    assert both.all("source")[0]["srcset"] == embedded(figure)["dark"]
    assert "prefers-color-scheme: dark" in (both.all("source")[0]["media"] or "")


def test_a_card_has_words_for_who_does_not_see_it(figure: ReportFigure) -> None:
    shown = card(figure)
    image = shown.all("img")[0]
    assert image["alt"] == "ROC. Curves."
    assert (image["width"], image["height"]) == ("192", "96")
    assert shown.all("figure") == [{"class": "card plot", "id": "figure-roc"}]
    assert [text for text in shown.texts if text] == ["ROC", "Curves."]


@pytest.mark.parametrize(
    ("changes", "classes"), [({"wide": True}, "card plot wide"), ({"alone": True}, "card plot wide alone")]
)
def test_a_card_says_how_much_room_it_takes(changes: dict, classes: str, figure: ReportFigure) -> None:
    assert card(figure, **changes).all("figure")[0]["class"] == classes


def test_hostile_words_stay_words(figure: ReportFigure) -> None:
    shown = card(ReportFigure("roc", HOSTILE, HOSTILE, figure.light))
    assert shown.all("script") == []
    assert shown.all("img")[0]["alt"] == f"{HOSTILE}. {HOSTILE}"
    assert shown.texts.count(HOSTILE) == 2


@pytest.mark.parametrize("which", ["light", "dark"])
def test_a_missing_or_foreign_picture_is_refused_by_name(which: str, tmp_path: Path, figure: ReportFigure) -> None:
    foreign, short = tmp_path / "foreign.png", tmp_path / "short.png"
    foreign.write_bytes(b"GIF89a no png at all, but long enough")
    short.write_bytes(figure.light.read_bytes()[:20])
    refusals = {
        tmp_path / "absent.png": "cannot be read",
        tmp_path: "cannot be read",
        foreign: "no PNG",
        short: "no PNG",
    }
    for path, problem in refusals.items():
        files = {"light": figure.light, "dark": figure.dark, which: path}
        with pytest.raises(InputError, match=problem) as caught:
            embedded(ReportFigure("roc", "ROC", "Curves.", **files))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def index(**changes: object) -> str:
    return render("index.html.j2", **{"version": "1.2.3", "title": "Set", "rows": [], "notes": [], **changes})


def test_text_is_escaped_wherever_it_comes() -> None:
    text = index(title=HOSTILE, notes=[HOSTILE], version=HOSTILE)
    assert "<script>alert" not in text
    assert len(Reader(text).all("script")) == 1
    assert HOSTILE in Reader(text).texts


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="notes"):
        render("index.html.j2", version="1", title="Set", rows=[])


@pytest.mark.parametrize(
    ("version", "shown"), [("1.2.3", "</b> 1.2.3</span>"), (None, "</b></span>"), ("", "</b></span>")]
)
def test_the_version_is_there_if_it_is_known(version: str | None, shown: str) -> None:
    assert f"<b>monai_ctmri{shown}" in index(version=version)


def test_filters_and_the_dash_are_always_there() -> None:
    environment = page._environment()
    assert environment is page._environment()
    assert FILTERS.items() <= environment.filters.items()
    assert environment.from_string("{{ missing }}{{ none|bytes }}").render() == "\N{EN DASH}" * 2


def test_every_page_shares_one_head_and_no_rule_is_told_twice() -> None:
    def rules(name: str) -> set[str]:
        """Selectors with what they set, outside of media queries and without the colours that themes repeat."""
        text = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", (TEMPLATES / name).read_text(encoding="utf-8"))
        text = re.sub(r"\{[{%#].*?[}%#]\}", "", text)
        return {" ".join(rule.split()) for rule in re.findall(r"[^{};>]+\{[^{}]*:[^{}]*\}", text)}

    common = rules("page.html.j2")
    assert len(common) > 50
    for name in PAGES:
        text = (TEMPLATES / name).read_text(encoding="utf-8")
        assert text.startswith('{% extends "page.html.j2" %}')
        assert "<style" not in text
        assert "<head" not in text
        assert "<script" not in text
        assert not rules(name) & common


def test_a_page_may_say_what_it_alone_needs_before_small_screens_and_paper() -> None:
    """Rules for small screens and paper have the last word over equally specific ones."""
    text = index()
    assert text.index("td .q {") < text.rindex("@media (max-width") < text.rindex("@media print {")


def test_the_report_takes_its_figures_from_here() -> None:
    assert html.ReportFigure is ReportFigure


def test_templates_are_loaded_only_when_a_page_is_written() -> None:
    code = "import sys, monai_ctmri.report.page; assert 'jinja2' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
