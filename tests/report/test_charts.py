import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_jax.report.charts import Line, Mark, line_chart, nice_ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 10))
def test_ticks_are_even_few_and_enclose_the_range(low, span, count):
    ticks = nice_ticks(low, low + span, count)
    assert 2 <= len(ticks) <= 3 * count + 2
    tolerance = 1e-6 * max(1, abs(low), span)
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= low + span - tolerance


def test_ticks_of_common_ranges():
    assert nice_ticks(0, 0.6, 6) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert nice_ticks(31.2, 72.8, 5) == [30, 40, 50, 60, 70, 80]
    assert nice_ticks(5, 5)[0] <= 5 < nice_ticks(5, 5)[-1]


def chart(lines, **changes):
    options = {"width": 340, "height": 300, "labels": ("x & y", "<y>"), "description": 'a "chart"'} | changes
    return ElementTree.fromstring(line_chart(lines, **options))


def test_chart_is_escaped_xml_and_maps_values_linearly():
    mark = Mark(x=1, y=20, kind="fixed", text="<fixed>")
    svg = chart([Line(name="a", x=[0, 1, 2], y=[10, 20, 30], colour=2, marks=[mark])])
    assert svg.get("aria-label") == 'a "chart"'
    numbers = re.findall(r"[\d.]+", svg.find(".//path[@class='curve']").get("d"))
    points = list(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))
    left, right, bottom, top = (float(svg.get(f"data-{key}")) for key in ("left", "right", "bottom", "top"))
    assert points == [(left, bottom), ((left + right) / 2, (bottom + top) / 2), (right, top)]
    circle = svg.find(".//circle")
    assert (float(circle.get("cx")), float(circle.get("cy"))) == points[1]
    assert circle.find("title").text == "<fixed>"


def test_line_breaks_where_values_are_missing():
    svg = chart([Line(name="a", x=[0, 1, 2, 3], y=[1, 2, math.nan, 3], colour=0)])
    assert re.sub(r"[\d. ]", "", svg.find(".//path[@class='curve']").get("d")) == "MLM"


def test_a_value_between_missing_ones_is_a_dot():
    svg = chart([Line(name="a", x=[0, 1, 2, 3], y=[1, 2, math.nan, 3], colour=0)])
    (dot,) = svg.findall(".//circle[@class='lone']")
    assert [float(dot.get("cx")), float(dot.get("cy"))] == [
        float(svg.get("data-right")),
        float(svg.get("data-top")),
    ]


def test_flat_line_and_single_point_have_axes():
    for xs, ys in (([0, 1], [5, 5]), ([3], [0])):
        svg = chart([Line(name="a", x=xs, y=ys, colour=0)])
        assert "nan" not in ElementTree.tostring(svg, encoding="unicode")


def test_chart_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one finite point"):
        chart([Line(name="a", x=[0], y=[math.inf], colour=0)])
