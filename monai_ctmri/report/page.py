"""What every page has in common: figures inside it, and the templates it is rendered from.

A page is a Jinja template with automatic escaping. It extends ``page.html.j2``, which holds the head, the style, the
colour theme and the footer, and requests nothing from anywhere.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_ctmri.errors import InputError
from monai_ctmri.report.views import FILTERS, MISSING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["ReportFigure", "embedded", "render"]

_PNG = b"\x89PNG\r\n\x1a\n"
_WIDE = 700  # CSS pixels from which a figure takes the whole width


@dataclass(frozen=True)
class ReportFigure:
    """A picture of a page.

    Attributes:
        name: identifier, such as ``roc_curves``; its beginning decides the section of a report.
        title: short heading.
        caption: what one sees, in one or two sentences.
        light: PNG file for the light theme.
        dark: PNG file for the dark theme, or None to show the light one in both.
    """

    name: str
    title: str
    caption: str
    light: Path
    dark: Path | None = None


def embedded(figure: ReportFigure) -> dict[str, Any]:
    """Return a figure as ``figure_card.html.j2`` shows it, its pictures as data URIs.

    Returns:
        ``name``, ``title``, ``caption``, ``light``, ``dark`` (None without one), ``width`` and ``height`` of the light
        picture in CSS pixels, ``wide`` (takes the whole width) and ``alone`` (False; for a page with rows of figures
        to set).

    Raises:
        InputError: when a picture is missing or no PNG.
    """
    light, width, height = _picture(figure.light)
    dark = None if figure.dark is None else _picture(figure.dark)[0]
    return {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "light": light,
        "dark": dark,
        "width": width,
        "height": height,
        "wide": width > _WIDE,
        "alone": False,
    }


def render(template: str, **values: Any) -> str:
    """Return a template of this room filled in; text is escaped, and a name without a value is an error.

    Args:
        template: its name, such as ``report.html.j2``.
        **values: what the template shows. ``page.html.j2`` shows ``version`` unless it is empty or None; ``missing``
            (an en dash) and :data:`~monai_ctmri.report.views.FILTERS` are always there.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("monai_ctmri.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals["missing"] = MISSING
    return environment


def _picture(path: Path) -> tuple[str, int, int]:
    """Data URI, width and height in CSS pixels (figures are drawn at 150 dots an inch, CSS has 96)."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError.about(
            path, f"figure cannot be read ({error.strerror})", "draw it before the report"
        ) from error
    if not content.startswith(_PNG) or len(content) < 24:
        raise InputError.about(path, "figure is no PNG", "save figures as .png")
    width, height = struct.unpack(">II", content[16:24])
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return uri, round(0.64 * width), round(0.64 * height)
