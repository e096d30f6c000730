from itertools import product

import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.label_syntax import ParsedLabel, format_label, parse_label, sign_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("liver", ParsedLabel(None, "liver")),
        ("liver-", ParsedLabel(None, "liver", inside=False)),
        ("liver neg", ParsedLabel(None, "liver", inside=False)),
        ("Left Kidney_NEG", ParsedLabel(None, "Left Kidney", inside=False)),
        ("liver-12", ParsedLabel(None, "liver")),
        ("liver neg-3", ParsedLabel(None, "liver", inside=False)),
        ("F-1 neg", ParsedLabel(None, "F", inside=False)),
        ("3", ParsedLabel(3, "")),
        ("3.0", ParsedLabel(3, "")),
        ("3,0", ParsedLabel(3, "")),
        ("3-1", ParsedLabel(3, "")),
        ("3 neg", ParsedLabel(3, "", inside=False)),
        ("3 (neg)-2", ParsedLabel(3, "", inside=False)),
        ("3: liver", ParsedLabel(3, "liver")),
        ("lesion#2-1", ParsedLabel(None, "lesion", 2)),
        ("4 lesion #2 neg", ParsedLabel(4, "lesion", 2, inside=False)),
        ("3D-2", ParsedLabel(None, "3D")),
        ("false lumen", ParsedLabel(None, "false lumen")),
        ("Segment_1-1", ParsedLabel(None, "Segment_1")),
        ("", ParsedLabel(None, "object")),
        ("-", ParsedLabel(None, "object", inside=False)),
        ("neg-1", ParsedLabel(None, "object", inside=False)),
    ],
)
def test_labels_say_class_object_and_sign(text: str, expected: ParsedLabel) -> None:
    assert parse_label(text, "here") == expected


SEPARATORS = (" ", "_", ", ", ": ", " - ", "/")


@pytest.mark.parametrize("word", ["neg", "negative", "Negative", "NEG", "background", "outside", "bg"])
def test_a_sign_puts_a_click_outside_however_it_is_set(word: str) -> None:
    outside = ParsedLabel(None, "liver", inside=False)
    for separator, count in product(SEPARATORS, ("", "-4")):
        assert parse_label(f"liver{separator}{word}{count}", "here") == outside, (separator, count)
    for opening, closing in ("()", "[]"):
        for space in ("", " ", "_"):
            assert parse_label(f"liver{space}{opening}{word}{closing}", "here") == outside, (opening, space)


@pytest.mark.parametrize("text", ["negative", "False", "FALSE", "bg", "(neg)", "[-]", "background", "outside", "neg-2"])
def test_a_sign_alone_names_no_class(text: str) -> None:
    assert sign_of(text) == "outside"
    assert parse_label(text, "here").is_stray


@pytest.mark.parametrize("text", ["positive", "True", "fg", "(pos)", "+", "foreground", "pos-1"])
def test_a_sign_for_inside_alone_is_an_unnamed_object(text: str) -> None:
    assert sign_of(text) == "inside"
    assert parse_label(text, "here") == ParsedLabel(None, "object")


@pytest.mark.parametrize("text", ["liver -1", "neg liver", "liver neg (old)", "neg#2", "HER2 negative lesion"])
def test_what_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match=r"here: label .* can be read in two ways; write 'liver neg'"):
        parse_label(text, "here")


@pytest.mark.parametrize("name", ["liver", "L-2", "a neg", "", "3D", "left kidney", "a#7", "12", "minus -", "neg"])
@pytest.mark.parametrize("inside", [True, False])
def test_what_we_write_is_read_as_it_was(name: str, inside: bool) -> None:
    parsed = ParsedLabel(65535, name, 12, inside)
    assert parse_label(format_label(65535, name, 12, inside=inside, count=3), "here") == parsed


@pytest.mark.parametrize(
    "text", ["0 liver", "65536", "0", "-1", "+3", "1.5", "1,5", "nan", "inf", "-0", ".5", "9" * 400]
)
def test_what_is_no_class_id_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match=r"here: label .* a class id lies in 1\.\.65535"):
        parse_label(text, "here")
