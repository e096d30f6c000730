import pytest

from moe_pipeline.errors import PromptError
from moe_pipeline.prompts.class_ids import ClassIds, ClassTable, WrittenClass

MODEL = ClassTable("the expert Hippo", {1: "Anterior", 2: "Posterior"})


def written(*classes: tuple[int | None, str, str]) -> list[WrittenClass]:
    return [WrittenClass(*one) for one in classes]


def test_names_without_ids_get_free_ones_in_the_order_of_the_alphabet() -> None:
    ids = ClassIds(written((None, "spleen", "a"), (None, "liver", "b"), (2, "", "c"), (5, "kidney", "d")))
    assert [ids.of(name, "here") for name in ("liver", "spleen", "kidney")] == [1, 3, 5]


def test_what_the_model_knows_comes_first_and_its_ids_are_not_given_to_others() -> None:
    ids = ClassIds(written((None, "posterior", "a"), (None, "Amygdala", "a")), [MODEL])
    assert ids.of("posterior", "a") == 2
    assert ids.of("Amygdala", "a") == 3
    assert ids.name_of(2) == "Posterior"


@pytest.mark.parametrize("name", ["left kidney", "Left_Kidney", " LEFT  kidney "])
def test_case_and_underscores_make_no_difference(name: str) -> None:
    table = ClassTable("model", {7: "left_kidney"})
    assert ClassIds(written((None, name, "a")), [table]).of(name, "a") == 7


def test_a_name_that_the_model_knows_under_another_id_is_an_error_that_names_both() -> None:
    ids = ClassIds(written((1, "Posterior", "a.csv")), [MODEL])
    with pytest.raises(PromptError, match=r"a\.csv: says 1 for 'Posterior', but the expert Hippo has 2 Posterior"):
        ids.check(1, "Posterior", "a.csv")
    assert ids.check(2, "Posterior", "a.csv") == 2
    assert ids.check(1, "liver", "a.csv") == 1  # no expert knows that
    assert ids.check(1, "", "a.csv") == 1


def test_two_tables_that_contradict_each_other_are_named() -> None:
    beside = ClassTable("dataset.json beside the prompts", {1: "Posterior"})
    ids = ClassIds(written((None, "Posterior", "a")), [MODEL], beside)
    with pytest.raises(
        PromptError, match=r"which class is 'Posterior'\? the expert Hippo has 2 .*; dataset\.json .* 1"
    ):
        ids.of("Posterior", "a")
    assert ids.name_of(1) == "Posterior"


def test_one_id_with_two_names_and_one_name_with_two_ids_are_errors() -> None:
    ids = ClassIds(written((3, "liver", "a"), (3, "spleen", "b"), (4, "kidney", "a"), (5, "kidney", "b")))
    with pytest.raises(PromptError, match="class 3 has two names: a says 3 liver; b says 3 spleen"):
        ids.check(3, "spleen", "b")
    with pytest.raises(PromptError, match="'kidney' has two class ids: a says 4 kidney; b says 5 kidney"):
        ids.check(4, "kidney", "a")
    with pytest.raises(PromptError, match="which class is 'kidney'"):
        ids.of("kidney", "c")


def test_a_name_without_id_may_not_land_on_the_id_of_another() -> None:
    ids = ClassIds(written((2, "liver", "a"), (None, "Posterior", "a")), [MODEL])
    with pytest.raises(PromptError, match=r"class 2 has two names: .*the expert Hippo has 2 Posterior"):
        ids.check(ids.of("Posterior", "a"), "Posterior", "a")


def test_experts_that_use_one_id_for_different_classes_do_not_name_it() -> None:
    ids = ClassIds([], [MODEL, ClassTable("the expert Spleen", {1: "spleen"})])
    assert (ids.name_of(1), ids.name_of(2)) == ("", "Posterior")


def test_two_ids_may_share_a_name_where_both_are_fields_of_their_own() -> None:
    apart = [WrittenClass(class_id, "lesion", "p.json", apart=True) for class_id in (3, 5)]
    assert ClassIds(apart).check(5, "lesion", "p.json") == 5
    mixed = ClassIds([*apart, WrittenClass(None, "lesion", "a.csv")])
    with pytest.raises(PromptError, match=r"which class is 'lesion'\? p\.json says 3 lesion; p\.json says 5 lesion"):
        mixed.of("lesion", "a.csv")
