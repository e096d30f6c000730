import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.label_syntax import Wording, worded, wording


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("liver", Wording(None, "liver")),
        ("liver-", Wording(None, "liver", inside=False)),
        ("liver neg", Wording(None, "liver", inside=False)),
        ("Left Kidney_NEG", Wording(None, "Left Kidney", inside=False)),
        ("liver-12", Wording(None, "liver")),
        ("liver neg-3", Wording(None, "liver", inside=False)),
        ("F-1 neg", Wording(None, "F", inside=False)),
        ("3", Wording(3, "")),
        ("3.0", Wording(3, "")),
        ("3-1", Wording(3, "")),
        ("3: liver", Wording(3, "liver")),
        ("lesion#2-1", Wording(None, "lesion", 2)),
        ("4 lesion #2 neg", Wording(4, "lesion", 2, inside=False)),
        ("3D-2", Wording(None, "3D")),
        ("", Wording(None, "object")),
        ("-", Wording(None, "object", inside=False)),
    ],
)
def test_labels_say_class_object_and_sign(text: str, expected: Wording) -> None:
    assert wording(text, "here") == expected


@pytest.mark.parametrize("name", ["liver", "L-2", "a neg", "", "3D", "left kidney", "a#7", "12", "minus -"])
@pytest.mark.parametrize("inside", [True, False])
def test_what_we_write_is_read_as_it_was(name: str, inside: bool) -> None:
    said = Wording(65535, name, 12, inside)
    assert wording(worded(65535, name, 12, inside=inside, count=3), "here") == said


@pytest.mark.parametrize("text", ["0 liver", "65536"])
def test_a_class_id_beyond_what_a_label_map_holds_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match=r"here: label .* a class id lies in 1\.\.65535"):
        wording(text, "here")
