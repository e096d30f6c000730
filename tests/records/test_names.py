import pytest

from moe_pipeline.errors import DatasetError
from moe_pipeline.records.names import check_name, fault_of_name, fault_of_title, joined, printable

BAD = {
    "": "it is empty",
    " ": "it is empty",
    "a/b": "it is a path",
    "../a": "it is a path",
    "/a": "it is a path",
    "a\\b": "it is a path",
    "C:a": "it is a path",
    "..": "begins with a dot",
    ".a": "begins with a dot",
    "a\0b": "control characters",
    "a\nb": "control characters",
    "a\u2028b": "control characters",
    "a\udc80": "control characters",
    "NUL": "Windows",
    "con.v1": "Windows",
    "Com1": "Windows",
    "n" * 201: "it has 201 bytes, at most 200",
    "ü" * 101: "it has 202 bytes",
}
GOOD = ("a", "a b", "x.y.z", "1.2.840.113", "Müller", "张三", "-dash", "br[1]", "console", "com10", "n" * 200, "tail.")


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_what_cannot_be_a_file_name_is_refused(name: str) -> None:
    assert BAD[name] in (fault_of_name(name) or "")
    with pytest.raises(DatasetError, match=r"^dataset\.json: key `dataset`: '.* cannot be a case id: .*; rename it"):
        check_name(name, "dataset.json: key `dataset`")


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_is_not(name: str) -> None:
    assert fault_of_name(name) is None
    check_name(name, "x")


def test_a_class_may_be_named_like_a_path_as_it_is_none() -> None:
    assert fault_of_title("prostate/uterus") is None
    assert fault_of_title("a\tb") == "it holds control characters"
    assert fault_of_title("") == "it is empty"
    assert fault_of_title("n" * 201) == "it has more than 200 letters"


def test_names_do_nothing_to_the_terminal() -> None:
    assert printable("M\u00fcller 1") == "M\u00fcller 1"
    assert printable("a\x1b[2Jb\nc") == r"'a\x1b[2Jb\nc'"


def test_folders_are_joined() -> None:
    assert joined("a/b\\c") == "a_b_c"
