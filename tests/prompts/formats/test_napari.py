"""Layers of napari: points with their signs, and shapes as boxes."""

from pathlib import Path

import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.formats.napari_points import read
from moe_pipeline.prompts.read import read_prompts

HEAD = "index,axis-0,axis-1,axis-2"
SHAPES = "index,shape-type,vertex-index,axis-0,axis-1,axis-2"


def points(path: Path, column: str, *values: str) -> Path:
    rows = [f"{number},{10 + number},20,30,{value}" for number, value in enumerate(values)]
    path.write_text("\n".join([f"{HEAD},{column}", *rows]) + "\n")
    return path


def rectangle(number: int, kind: str = "rectangle") -> list[str]:
    corners = [(22, 20), (22, 42), (40, 42), (40, 20)]
    return [f"{number},{kind},{k},{5 + number},{y},{x}" for k, (y, x) in enumerate(corners)]


@pytest.mark.parametrize("inside", ["positive", "True", "foreground", "pos", "(pos)", "liver", "liver (pos)"])
@pytest.mark.parametrize("outside", ["negative", "False", "background", "NEG", "(neg)"])
def test_signs_in_the_column_of_labels(inside: str, outside: str, tmp_path: Path) -> None:
    (prompt,) = read_prompts(points(tmp_path / "a.csv", "label", inside, outside, inside)).given("a").objects
    assert prompt.labels == (1, 0, 1)
    assert prompt.class_name == ("liver" if "liver" in inside else "object")


@pytest.mark.parametrize("column", ["positive", "sign", "inside", "Foreground"])
@pytest.mark.parametrize("values", [("True", "False"), ("1", "0"), ("positive", "negative")])
def test_a_column_of_signs(column: str, values: tuple[str, str], tmp_path: Path) -> None:
    annotations = read(points(tmp_path / "a.csv", column, *values)).annotations
    assert [one.label.inside for one in annotations] == [True, False]


def test_a_column_that_could_be_signs_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"a\.csv: column kind holds negative, positive: .* call it sign"):
        read(points(tmp_path / "a.csv", "kind", "positive", "negative"))
    assert len(read(points(tmp_path / "a.csv", "confidence", "0.5", "0.7")).annotations) == 2


@pytest.mark.parametrize(("value", "message"), [("maybe", "column sign says 'maybe'"), ("", "column sign says ''")])
def test_a_sign_that_is_none_is_refused(value: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=message):
        read(points(tmp_path / "a.csv", "sign", "True", value))


def test_a_sign_that_contradicts_its_label_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEAD},label,sign\n0,1,2,3,liver neg,True\n")
    with pytest.raises(PromptError, match="column sign says 'True' beside the label 'liver neg'"):
        read(tmp_path / "a.csv")


def test_a_click_outside_of_one_of_several_objects_must_say_of_which(tmp_path: Path) -> None:
    points(tmp_path / "a.csv", "label", "liver", "spleen", "negative")
    with pytest.raises(PromptError, match="1 clicks outside do not say of what; there are liver#1, spleen#1"):
        read_prompts(tmp_path / "a.csv")


def test_a_rectangle_is_a_box(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join([SHAPES, *rectangle(0)]) + "\n")
    (prompt,) = read_prompts(tmp_path / "a.csv").given("a").objects
    assert (prompt.points, prompt.box) == ((), ((5, 22, 20), (5, 40, 42)))


def test_each_rectangle_is_an_object(tmp_path: Path) -> None:
    rows = [f"{row},liver#{1 + number}" for number in (0, 1) for row in rectangle(number, "ellipse")]
    (tmp_path / "a.csv").write_text("\n".join([f"{SHAPES},label", *rows]) + "\n")
    assert [one.box for one in read_prompts(tmp_path / "a.csv").given("a").objects] == [
        ((5, 22, 20), (5, 40, 42)),
        ((6, 22, 20), (6, 40, 42)),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rectangle(0, "polygon"), "row 1: a shape of type polygon; rectangle and ellipse can be prompts"),
        (rectangle(0, "path"), "a shape of type path"),
        (rectangle(0)[:3], "row 1: a rectangle with 3 corners, expected 4"),
        ([], "no shape in it"),
        (rectangle(0) + rectangle(1), "2 boxes; an object has one. Number objects as in 'object#2'"),
    ],
)
def test_shapes_that_are_no_boxes_are_refused(rows: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join([SHAPES, *rows]) + "\n")
    with pytest.raises(PromptError, match=message):
        read_prompts(tmp_path / "a.csv")


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_byte_order_mark_is_understood(coding: str, tmp_path: Path) -> None:
    text = f"{HEAD},label\n0,1,2,3,léber\n"
    (tmp_path / "a.csv").write_bytes(
        text.encode(coding) if coding != "utf-16-le" else b"\xff\xfe" + text.encode(coding)
    )
    assert read(tmp_path / "a.csv").annotations[0].label.name == "léber"


def test_empty_rows_of_a_spreadsheet_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEAD}\r\n0,1,2,3\r\n,,,\r\n\r\n")
    assert [one.place for one in read(tmp_path / "a.csv").annotations] == [(1, 2, 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}\n0,20,5,32,0,32,0\n", "7 cells for 4 columns; is a decimal comma"),
        (f"{HEAD}\n0,20,32\n", "3 cells for 4 columns"),
        ('axis-0,axis-1,axis-2\n"20,5",1,2\n', "expected a number such as 20.5, found '20,5'"),
        ("axis-0,axis-1,axis-2,axis-2\n1,2,3,4\n", "two columns are called 'axis-2'"),
        ("axis-0,axis-1,axis-2,label,class\n1,2,3,4,5\n", "which column counts, label or class"),
        ("index;axis-0;axis-1;axis-2\n0;1;2;3\n", "expected columns axis-0, axis-1, axis-2"),
        ('axis-0,axis-1,axis-2\n1,2,"3\n', "not readable as a table"),
        ("axis-0,axis-1,axis-2\n1,2,3\x00\n", "expected a number"),
    ],
)
def test_a_table_that_can_be_read_in_two_ways_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(PromptError, match=message):
        read(tmp_path / "a.csv")
