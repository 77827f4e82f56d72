"""Order, distances, tilt and gaps of a series against hand-made positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monai_ctmri.data.reading.dicom_header import SliceHeader
from monai_ctmri.data.reading.series_geometry import series_affine, series_geometry

FLAT = np.eye(3)[:2]


def header(position: np.ndarray | tuple[float, float, float], name: str = "", **changes: object) -> SliceHeader:
    place = np.asarray(position, dtype=float)
    made = SliceHeader(
        path=Path(name or f"{place[2]:09.3f}.dcm"),
        instance=f"1.{name}.{place.tolist()}",
        series="1",
        frame_of_reference="f",
        patient="p",
        description="",
        modality="ct",
        localizer=False,
        size=(6, 8),
        frames=1,
        grey=True,
        dtype=np.dtype("i2"),
        spacing=(0.5, 0.25),
        position=place,
        orientation=FLAT,
        rescale=(1.0, 0.0),
        padding=None,
        gantry_tilt=None,
        compression=None,
        missing_bytes=0,
    )
    return replace(made, **changes)


def stack(heights: list[float], lean: float = 0.0, **changes: object) -> list[SliceHeader]:
    return [header((0, lean * z, z), f"{number}.dcm", **changes) for number, z in enumerate(heights)]


def kinds(headers: list[SliceHeader]) -> list[str]:
    return [each.kind for each in series_geometry(headers).problems]


def test_even_series():
    found = series_geometry(stack([0, 3, 6, 9]))
    assert found.problems == ()
    assert found.hopeless is None
    assert found.spacing == pytest.approx((0.5, 0.25, 3.0))


def test_sorted_by_position_not_by_name():
    heights = [6.0, 0.0, 9.0, 3.0]
    found = series_geometry(stack(heights))
    assert [each.path.name for each in found.slices] == ["1.dcm", "3.dcm", "0.dcm", "2.dcm"]


def test_sorted_along_an_oblique_normal():
    turn = np.deg2rad(50)
    axes = np.array([[1, 0, 0], [0, np.cos(turn), np.sin(turn)]])
    normal = np.cross(*axes)
    slices = [header(-4.0 * step * normal, f"{step}.dcm", orientation=axes) for step in range(5)]
    found = series_geometry(slices)
    assert [each.path.name for each in found.slices] == ["4.dcm", "3.dcm", "2.dcm", "1.dcm", "0.dcm"]
    assert found.problems == ()
    assert found.spacing == pytest.approx((0.5, 0.25, 4.0))


@pytest.mark.parametrize(("degrees", "expected"), [(0.2, []), (0.7, ["tilted"]), (18.5, ["tilted"])])
def test_tilt(degrees: float, expected: list[str]):
    headers = stack([0, 5, 10, 15], lean=float(np.tan(np.deg2rad(degrees))), gantry_tilt=18.5)
    found = series_geometry(headers)
    assert [each.kind for each in found.problems] == expected
    if expected:
        assert f"{degrees:.1f} degrees" in found.problems[0].measure
        assert "GantryDetectorTilt 18.5" in found.problems[0].measure
        assert found.hopeless is None


def test_one_slice_shifted_is_tilted_too():
    headers = stack([0, 2, 4, 6])
    headers[2] = replace(headers[2], position=np.array([1.0, 0, 4]))
    assert kinds(headers) == ["tilted"]


def test_uneven_distances_are_listed():
    found = series_geometry(stack([0, 4, 8, 12, 13, 20, 27]))
    (problem,) = found.problems
    assert problem.kind == "uneven_spacing"
    assert problem.measure == "distances 1.00 mm (1), 4.00 mm (3), 7.00 mm (2)"
    assert found.spacing == (0.5, 0.25, None)


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0, 5, 10.04, 15], []),  # within 0.05 mm
        ([0, 5, 10.2, 15], ["uneven_spacing"]),
        ([0, 0.625, 1.25, 1.88, 2.5], []),  # rounded in the header
        ([0, 20, 40.15, 60], []),  # within 1 %
        (list(np.cumsum([0] + [1.0] * 30 + [1.05] * 30)), ["uneven_spacing"]),  # adds up to most of a slice
    ],
)
def test_tolerance(heights: list[float], expected: list[str]):
    assert kinds(stack(heights)) == expected


def test_missing_slices():
    (problem,) = series_geometry(stack([0, 2, 4, 6, 12, 14, 16, 18, 20])).problems
    assert problem.kind == "incomplete_series"
    assert problem.measure.startswith("2 slices missing")


def test_two_ranges_with_twice_the_distance_are_uneven_and_not_incomplete():
    assert kinds(stack([0, 5, 10, 15, 20, 30, 40, 50])) == ["uneven_spacing"]


def test_copies_and_different_images_at_one_position():
    headers = stack([0, 2, 4])
    copied = series_geometry([*headers, replace(headers[1], path=Path("copy.dcm"))])
    assert [each.kind for each in copied.problems] == ["incomplete_series"]
    assert copied.hopeless is None
    echo = series_geometry([*headers, replace(headers[1], path=Path("echo.dcm"), instance="other")])
    assert [each.kind for each in echo.problems] == ["incomplete_series"]
    assert echo.hopeless is not None


@pytest.mark.parametrize(
    ("changes", "words", "hopeless"),
    [
        ({"size": (8, 6)}, "rows or columns", True),
        ({"spacing": (0.5, 0.3)}, "pixel spacing", True),
        ({"orientation": np.array([[1, 0, 0], [0, np.cos(0.1), np.sin(0.1)]])}, "orientation", True),
        ({"frame_of_reference": "g"}, "frame of reference", True),
        ({"rescale": (2.0, 0.0)}, "rescale", False),
        ({"position": None}, "no usable position", True),
        ({"spacing": None}, "no usable position", True),
        ({"frames": 5}, "multi-frame", True),
        ({"grey": False}, "colour", True),
    ],
)
def test_slices_that_do_not_fit(changes: dict[str, object], words: str, hopeless: bool):
    headers = stack([0, 2, 4])
    headers[2] = replace(headers[2], **changes)
    found = series_geometry(headers)
    assert "incomplete_series" in [each.kind for each in found.problems]
    assert words in found.problems[0].measure
    assert (found.hopeless is not None) is hopeless


def test_single_slice():
    found = series_geometry(stack([3]))
    assert found.problems == ()
    assert found.spacing == (0.5, 0.25, None)
    np.testing.assert_allclose(series_affine(found)[:, 2], [0, 0, 1, 0])


def test_affine_by_the_standards_formula():
    """DICOM PS3.3, C.7.6.2.1-1: position = origin + column * row vector * spacing between columns + ..., in LPS."""
    turn = np.deg2rad(30)
    axes = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0]])
    slices = [header((7.0, 8, 9 + 2 * step), orientation=axes) for step in range(4)]
    affine = series_affine(series_geometry(slices))
    column, row, plane = 5, 3, 2
    lps = np.array([7, 8, 9 + 2 * plane]) + column * 0.25 * axes[0] + row * 0.5 * axes[1]
    np.testing.assert_allclose(affine @ [column, row, plane, 1], [*(lps * [-1, -1, 1]), 1])
