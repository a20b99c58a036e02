"""The charts of opinions: well-formed, escaped, and with every value where it belongs."""

import re
from xml.etree import ElementTree

import pytest

from facesr.figures.dots import Dot, Point, answers_svg, dots_svg, points_svg

HOSTILE = "<script>alert('x')</script> & \"more\" and a name that is far too long for its row"


def parsed(svg: str) -> ElementTree.Element:
    assert "<script" not in svg
    return ElementTree.fromstring(svg)


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


def test_values_and_intervals_stand_on_one_axis() -> None:
    dots = [Dot("a", 2.0, 1.5, 2.5), Dot("b", 4.0, 3.0, 5.0, True), Dot("none", None), Dot("alone", 3.0)]
    root = parsed(dots_svg(dots, "title", "MOS", (1.0, 5.0), 3.0))
    points = [float(one.attrib["cx"]) for one in root.iter("circle")]
    assert len(points) == 3 and points[2] == pytest.approx((points[0] + points[1]) / 2, abs=0.11)
    whiskers = [one.attrib["d"] for one in root.iter("path") if one.attrib.get("class") == "whisker"]
    assert len(whiskers) == 2
    low, _, high = numbers(whiskers[0])[:3]
    assert (low + high) / 2 == pytest.approx(points[0], abs=0.11)
    assert [one.attrib["class"] for one in root.iter("g")] == ["dot main", "dot muted", "dot main", "dot main"]
    (zero,) = [one.attrib["d"] for one in root.iter("path") if one.attrib.get("class") == "mean"]
    assert numbers(zero)[0] == pytest.approx(points[2], abs=0.11)


def test_one_value_and_equal_values_have_an_axis() -> None:
    for dots in ([Dot("a", 3.0)], [Dot("a", 0.0), Dot("b", 0.0)], [Dot("a", 1e-9, -1e-9, 2e-9)]):
        assert len(list(parsed(dots_svg(dots, "", "")).iter("circle"))) == len(dots)


def test_answers_fill_the_row_by_their_share() -> None:
    root = parsed(answers_svg([("a", (1, 0, 0, 0, 3)), (HOSTILE, (0, 0, 5, 0, 0)), ("none", (0,) * 5)], "t", "abcde"))
    bars = [float(one.attrib["width"]) for one in root.iter("rect") if one.attrib["height"] == "18"]
    assert len(bars) == 3
    assert bars[1] == pytest.approx(3 * bars[0], abs=0.3) and bars[2] == pytest.approx(bars[0] + bars[1], abs=0.3)


def test_names_are_escaped_and_cut() -> None:
    for svg in (
        dots_svg([Dot(HOSTILE, 1.0, 0.5, 1.5)], HOSTILE, HOSTILE),
        points_svg([Point(0.0, 1.0, HOSTILE), Point(1.0, 2.0, "b", 1)], HOSTILE, "x", "y"),
    ):
        assert HOSTILE in {*parsed(svg).attrib.values()}
