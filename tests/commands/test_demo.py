from pathlib import Path

from moe_pipeline.commands.demo import predict_held_back
from moe_pipeline.commands.phantoms import paint_capsule, paint_pebbles, write_phantoms
from moe_pipeline.evaluation.forgetting.datasets import paired_set
from moe_pipeline.evaluation.table import read_table
from moe_pipeline.progress import silent
from moe_pipeline.report.options import ReportOptions
from moe_pipeline.report.page.blocks import Viewer
from moe_pipeline.report.write import page_of
from moe_pipeline.workspace import Workspace


def test_the_held_back_scans_of_all_sets_stand_in_one_page_with_another_run(place: Workspace, tmp_path: Path) -> None:
    sets = []
    for seed, (name, painter, classes) in enumerate(
        (
            ("901_Capsule", paint_capsule, {1: "front", 2: "back"}),
            ("903_Pebbles", paint_pebbles, {1: "bright", 2: "dark"}),
        )
    ):
        held = tmp_path / name
        write_phantoms(held, painter, classes, 1, seed)
        sets.append(paired_set(f"Dataset{name}", held / "imagesTr", held / "labelsTr", classes))
    predicted = predict_held_back(place, sets, silent)
    scores = read_table(predicted / "dice.csv")
    scored = scores[scores["status"] == "ok"]
    assert list(zip(scored["case"], scored["class_name"], strict=True)) == [
        ("capsule_case_00", "front"),
        ("capsule_case_00", "back"),
        ("pebbles_case_00", "bright"),
        ("pebbles_case_00", "dark"),
    ]
    page = page_of([place.model, predicted], ReportOptions())
    assert page.kind == "gate"
    (viewer,) = [block for section in page.sections for block in section.blocks if isinstance(block, Viewer)]
    assert {name: len(case.objects) for name, case in viewer.cases.items()} == {
        "capsule_case_00": 2,
        "pebbles_case_00": 2,
    }
