import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.label_syntax import ParsedLabel, format_label, parse_label


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
        ("3-1", ParsedLabel(3, "")),
        ("3: liver", ParsedLabel(3, "liver")),
        ("lesion#2-1", ParsedLabel(None, "lesion", 2)),
        ("4 lesion #2 neg", ParsedLabel(4, "lesion", 2, inside=False)),
        ("3D-2", ParsedLabel(None, "3D")),
        ("", ParsedLabel(None, "object")),
        ("-", ParsedLabel(None, "object", inside=False)),
    ],
)
def test_labels_say_class_object_and_sign(text: str, expected: ParsedLabel) -> None:
    assert parse_label(text, "here") == expected


@pytest.mark.parametrize("name", ["liver", "L-2", "a neg", "", "3D", "left kidney", "a#7", "12", "minus -"])
@pytest.mark.parametrize("inside", [True, False])
def test_what_we_write_is_read_as_it_was(name: str, inside: bool) -> None:
    parsed = ParsedLabel(65535, name, 12, inside)
    assert parse_label(format_label(65535, name, 12, inside=inside, count=3), "here") == parsed


@pytest.mark.parametrize("text", ["0 liver", "65536"])
def test_a_class_id_beyond_what_a_label_map_holds_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match=r"here: label .* a class id lies in 1\.\.65535"):
        parse_label(text, "here")
