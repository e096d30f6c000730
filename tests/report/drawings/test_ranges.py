import re
from xml.etree import ElementTree

from moe_pipeline.records.planning import Spread
from moe_pipeline.report.drawings.ranges import Range, draw_ranges

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<b>&"x'


def drawn(*ranges: Range, **marks: float) -> ElementTree.Element:
    return ElementTree.fromstring(draw_ranges(ranges, "mm", marks, HOSTILE))


def position(picture: ElementTree.Element, text: str) -> float:
    return next(float(one.attrib["x"]) for one in picture.iter(f"{SVG}text") if one.text == text)


def test_values_lie_where_the_axis_says() -> None:
    picture = drawn(Range(HOSTILE, Spread(low=10, median=30, high=40)), crop=100)
    zero, hundred = (position(picture, text) for text in ("20", "100"))
    at = {value: zero + (value - 20) / 80 * (hundred - zero) for value in (10, 30, 40, 100)}
    bar = next(one.attrib for one in picture.iter(f"{SVG}line") if "opacity" in one.attrib["style"])
    mark = next(one.attrib for one in picture.iter(f"{SVG}line") if "dasharray" in one.attrib["style"])
    (dot,) = picture.iter(f"{SVG}circle")
    found = [float(bar["x1"]), float(dot.attrib["cx"]), float(bar["x2"]), float(mark["x1"])]
    assert all(abs(x - y) < 0.2 for x, y in zip(found, at.values(), strict=True))
    texts = [one.text for one in picture.iter(f"{SVG}text")]
    assert HOSTILE in texts
    assert "crop: 100 mm" in texts


def test_a_range_of_one_value_and_one_of_many_sizes_can_be_drawn() -> None:
    for low, high in ((0.0, 0.0), (2.5, 2.5), (-1e6, 3e6), (0.0123, 0.0124)):
        picture = drawn(Range("one", Spread(low=low, median=low, high=high)))
        texts = [one.text or "" for one in picture.iter(f"{SVG}text")]
        numbers = [float(text) for text in texts if re.fullmatch(r"-?[\d.]+", text)]
        assert 3 <= len(numbers) <= 8
        assert len(set(numbers)) == len(numbers)
        assert all(0 <= float(one.attrib["x"]) <= 520 for one in picture.iter(f"{SVG}text"))
