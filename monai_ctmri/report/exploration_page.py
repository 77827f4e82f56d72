"""The page of an explored data set, with everything that lies beside it.

Written are ``images.csv``, ``findings.csv``, ``figures/``, ``dataset_summary.json`` and, last, ``exploration.html``.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_ctmri.data.dataset_summary import write_images_table
from monai_ctmri.data.exploration import Exploration
from monai_ctmri.data.files import write_json, write_text
from monai_ctmri.data.findings import KINDS, write_findings
from monai_ctmri.data.intensity import PERCENTILES
from monai_ctmri.data.trees.folder_tree import tree_lines
from monai_ctmri.report.canvas import MISSING, save_figure
from monai_ctmri.report.exploration_figures import IntensityCurve, image_sizes, intensity_distributions
from monai_ctmri.report.exploration_gallery import finding_gallery, pair_gallery, sample_gallery
from monai_ctmri.report.page import ReportFigure, embedded, render
from monai_ctmri.report.samples import choose_flagged, choose_pairs, choose_samples
from monai_ctmri.report.views import FILTERS, moment_text

__all__ = ["answer_view", "write_exploration"]

_MOST_FINDINGS = 200
_MOST_SIZES = 20
_WINDOWED = " CT in HU is shown from 0 to 80 HU."
_WORDS = {"ct": "CT", "mri": "MRI"}
_STATED = re.compile(r"(?:stated|listed as) (ct|mri)$")  # how a finding ends that a file is not what it is said to be

Progress = Callable[[str, int, int], None]
Draw = Callable[..., Any]


def write_exploration(
    exploration: Exploration, out: str | os.PathLike[str], *, command: str = "", progress: Progress | None = None
) -> Path:
    """Write an exploration's files and page.

    Args:
        exploration: what :func:`~monai_ctmri.data.exploration.explore` found.
        out: folder to write to; made where it is missing.
        command: how it was called, shown on the page.
        progress: called with (what is being done, steps done, steps in all).

    Returns:
        Path of ``exploration.html``.
    """
    folder, say = Path(out), progress or (lambda stage, done, total: None)
    write_images_table(folder / "images.csv", exploration.root, exploration.facts, exploration.modalities)
    write_findings(folder / "findings.csv", exploration.findings)
    write_json(folder / "dataset_summary.json", exploration.summary)
    drawings = list(_drawings(exploration))
    figures: dict[str, list[dict[str, Any]]] = {"properties": [], "intensities": [], "gallery": [], "findings": []}
    for done, (section, name, title, caption, draw) in enumerate(drawings, start=1):
        files = {"light": folder / "figures" / f"{name}.png", "dark": folder / "figures" / f"{name}_dark.png"}
        for theme, file in files.items():
            save_figure(draw(theme=theme), file)
        figures[section].append(embedded(ReportFigure(name, title, caption, files["light"], files["dark"])))
        say("Drawing figures", done, len(drawings))
    write_text(folder / "exploration.html", _page(exploration.summary, figures, command))
    return folder / "exploration.html"


def _drawings(exploration: Exploration) -> list[tuple[str, str, str, str, Draw]]:
    """Section, name, title, caption and drawing function of every figure."""
    summary = exploration.summary
    drawings: list[tuple[str, str, str, str, Draw]] = []
    if summary["sizes"]:
        caption = "How many images have which size."
        drawings.append(
            (
                "properties",
                "image_sizes",
                "Image sizes",
                caption,
                lambda theme: image_sizes(summary["sizes"], theme=theme),
            )
        )
    curves = intensity_curves(exploration)
    if curves:
        drawings.append(
            (
                "intensities",
                "intensity_distributions",
                "How intensities are distributed",
                _curves_caption(curves),
                lambda theme: intensity_distributions(curves, theme=theme),
            )
        )
    drawings += _gallery_drawings(exploration)
    flagged = choose_flagged(exploration)
    if flagged:
        caption = "Files with an error or a warning, each kind in turn, the gravest first."
        drawings.append(
            ("findings", "findings", "What was found", caption, lambda theme: finding_gallery(flagged, theme=theme))
        )
    return drawings


def _gallery_drawings(exploration: Exploration) -> list[tuple[str, str, str, str, Draw]]:
    pairs = choose_pairs(exploration)
    windowed = _WINDOWED if ("ct", "HU") in exploration.pools else ""
    if pairs:
        caption = (
            "Evenly chosen pairs. Contours that run on across the fields of the checkerboard are aligned. For the "
            "difference each image is brought to [0, 1] by its own 1st and 99th percentile."
        )
        return [("gallery", "pairs", "Pairs", caption + windowed, lambda theme: pair_gallery(pairs, theme=theme))]
    rows = choose_samples(exploration)
    if not rows:
        return []
    caption = "Evenly chosen images; what stands in one column does not belong together."
    return [("gallery", "samples", "Samples", caption + windowed, lambda theme: sample_gallery(rows, theme=theme))]


def intensity_curves(exploration: Exploration) -> list[IntensityCurve]:
    """The largest group of each modality, as a curve; CT first."""
    chosen: dict[str, IntensityCurve] = {}
    for entry in exploration.summary["intensities"]:
        modality = entry["modality"]
        if modality is not None and modality not in chosen:
            pool = exploration.pools[(modality, entry["unit"])]
            chosen[modality] = IntensityCurve(modality, entry["unit"], *pool.counts(), entry["background"])
    return [chosen[modality] for modality in _WORDS if modality in chosen]


def _curves_caption(curves: Sequence[IntensityCurve]) -> str:
    said = " and ".join(f"{curve.background_share:.1%} of {curve.label} pixels" for curve in curves)
    text = f"Background ({said}) is left out of the curves."
    if len({curve.unit for curve in curves}) > 1:
        text += " The two have different units: laid over each other, each is drawn on its own range."
    return text


def _page(summary: Mapping[str, Any], figures: Mapping[str, Any], command: str) -> str:
    return render(
        "exploration.html.j2",
        summary=summary,
        title=Path(summary["root"]).name or summary["root"],
        version=summary["version"],
        created=moment_text(summary["created"]),
        answer=answer_view(summary),
        tree=tree_lines(summary["tree"]),
        tallies=_tallies(summary),
        sizes=_sizes(summary["sizes"]),
        statistics=_statistics(summary["intensities"]),
        exactness=_exactness(summary["intensities"]),
        gallery_note=_gallery_note(summary),
        findings=_findings(summary["findings"]),
        going_on=_going_on(summary),
        figures=figures,
        command=command,
    )


def answer_view(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The answer in a few words (``sentence``) and as ``tiles`` of ``name``, ``value`` and ``why``.

    Where files look like the other modality than stated, the sentence ends with how many do.
    """
    counts, severities = summary["counts"], summary["findings"]["by_severity"]
    ct, mri = counts["by_modality"]["ct"], counts["by_modality"]["mri"]
    pairing = {
        "paired": f"CT and MRI are paired: {counts['pairs']} of {counts['cases']} cases have both",
        "unpaired": f"CT and MRI are not paired: {ct} CT and {mri} MRI images lie beside each other, and nothing says "
        "which belong together",
        "single": f"There is one modality: {ct} CT images" if ct else f"There is one modality: {mri} MRI images",
    }[summary["pairing"]]
    normal = {True: "Yes", False: "No", None: "Unknown"}[summary["normal_only"]]
    known = summary["subjects_known"]
    subjects = _number_of(summary["subjects"], "subject") if known else "Whom an image shows is not known"
    grave = severities["error"]
    fit = f"{_number_of(grave, 'error')} among the findings" if grave else "no file has an error"
    tiles = [
        {"name": "Pairing", "value": summary["pairing"].capitalize(), "why": _number_of(counts["pairs"], "pair")},
        {"name": "CT images", "value": _grouped(ct), "why": _share_of(ct, counts["images"])},
        {"name": "MRI images", "value": _grouped(mri), "why": _share_of(mri, counts["images"])},
        {
            "name": "Subjects",
            "value": _grouped(summary["subjects"]) if known else "Unknown",
            "why": "known from the data" if known else "a patient-wise split is impossible",
        },
        {"name": "Normal only", "value": normal, "why": summary["normal_only_reason"]},
        {
            "name": "Findings",
            "value": _grouped(summary["findings"]["total"]),
            "why": ", ".join(_number_of(severities[name], name) for name in ("error", "warning"))
            + f", {severities['info']} for information",
        },
    ]
    strays = _strays(summary["findings"])
    sentence = f"{pairing}. {subjects}; {fit}." + (f" {strays}." if strays else "")
    return {"sentence": sentence, "tiles": tiles}


def _strays(findings: Mapping[str, Any]) -> str:
    """How many files look like the other modality than stated, by the stated one where every finding tells it."""
    total = findings["by_kind"].get("wrong_modality", 0)
    rows = [one for one in findings["list"] if one["kind"] == "wrong_modality"]
    stated = {one["file"]: match[1] for one in rows if (match := _STATED.search(one["measure"]))}
    if len(stated) < total:
        return f"{_number_of(total, 'file')} {_look(total)} like the other modality than stated"
    counts = Counter(stated.values())
    said = [
        f"{counts[modality]} of the {_WORDS[modality]} files {_look(counts[modality])} like {other}"
        for modality, other in (("ct", "MRI"), ("mri", "CT"))
        if counts[modality]
    ]
    return " and ".join(said)


def _look(number: int) -> str:
    return "looks" if number == 1 else "look"


def _grouped(number: int | None) -> str:
    return str(FILTERS["count"](number))


def _number_of(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _share_of(part: int, whole: int) -> str:
    return f"{part / whole:.0%} of {whole} images" if whole else MISSING


def _tallies(summary: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, int]]]]:
    counts, labels = summary["counts"], summary["labels"]
    names = {"ct": "CT", "mri": "MRI", "unknown": "not known"}
    return [
        ("By type of file", list(counts["by_type"].items())),
        ("By kind", list(counts["by_kind"].items())),
        ("By modality", [(names.get(name, name), number) for name, number in counts["by_modality"].items()]),
        ("Cases", [("all", counts["cases"]), ("with CT and MRI", counts["pairs"]), ("with a mask", counts["masks"])]),
        ("Labels of cases", list(labels.items())),
        ("Splits", list(summary["splits"].items())),
        ("Left out", list(summary["left_out"].items())),
    ]


def _sizes(sizes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    distinct = len({tuple(entry["shape"]) for entry in sizes})
    return {"rows": sizes[:_MOST_SIZES], "distinct": distinct, "more": max(0, len(sizes) - _MOST_SIZES)}


def _statistics(groups: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    if not groups:
        return []
    plain = (
        ("Mean", "mean"),
        ("Standard deviation", "std"),
        ("Minimum", "min"),
        ("Maximum", "max"),
        ("Median", "median"),
    )
    table = [
        (name, [_grouped(group[key]) for group in groups]) for name, key in (("Images", "images"), ("Pixels", "pixels"))
    ]
    table += [(name, [_short(group[key]) for group in groups]) for name, key in plain]
    table += [(f"Percentile {p}", [_short(group["percentiles"][f"p{p}"]) for group in groups]) for p in PERCENTILES]
    percent = FILTERS["percent"]
    table.append(("Share zero", [percent(group["share_zero"]) for group in groups]))
    background = [f"{percent(group['share_background'])} (at most {group['background']:g})" for group in groups]
    return [*table, ("Share background", background)]


def _short(value: float) -> str:
    return f"{value:.5g}".replace("-", "\N{MINUS SIGN}")


def _exactness(groups: Sequence[Mapping[str, Any]]) -> str:
    binned = [
        f"{_WORDS.get(group['modality'], 'modality not known')} ({group['unit']})"
        for group in groups
        if not group["exact"]
    ]
    if not binned:
        return "Counted value by value on every pixel of every image."
    return (
        f"Median, percentiles and background of {', '.join(binned)} come from bins of each image; "
        "the number of pixels, mean, spread, minimum and maximum are exact."
    )


def _gallery_note(summary: Mapping[str, Any]) -> str:
    if summary["pairing"] == "paired":
        return "CT and MRI of one case beside each other, laid into each other and subtracted."
    if summary["pairing"] == "unpaired":
        return (
            "Samples of each modality. No pair exists, so a checkerboard or a difference of two of them would compare "
            "different heads and mean nothing."
        )
    return "Samples of the one modality there is."


def _findings(findings: Mapping[str, Any]) -> dict[str, Any]:
    kinds = [
        {"kind": kind.replace("_", " "), "severity": KINDS[kind][0], "meaning": KINDS[kind][1], "number": number}
        for kind, number in findings["by_kind"].items()
    ]
    rows = findings["list"][:_MOST_FINDINGS]
    more = max(0, findings["total"] - len(rows))
    return {"total": findings["total"], "files": findings["files"], "kinds": kinds, "rows": rows, "more": more}


def _going_on(summary: Mapping[str, Any]) -> dict[str, str]:
    grave = summary["findings"]["by_severity"]["error"]
    sentence = "Preparing writes one manifest, with splits that keep a subject on one side"
    sentence += "; cases with an error are kept apart, not deleted." if grave else "."
    return {
        "sentence": sentence,
        "command": f"monai-ctmri prepare {shlex.quote(summary['root'])} --out prepared/manifest.csv",
    }
