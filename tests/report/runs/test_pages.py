"""What the pages of gates, comparisons, plans and checks say of files whose content is known."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_pipeline.files import csv_text
from moe_pipeline.records.check import CheckReport, Finding, Kind
from moe_pipeline.records.moe import GateCard, ReliabilityBin, ThresholdRow
from moe_pipeline.report.options import ReportOptions
from moe_pipeline.report.page.blocks import Beside, Block, Drawing, Folded, Page, Table
from moe_pipeline.report.page.render import as_html
from moe_pipeline.report.write import page_of
from moe_pipeline.workspace import Workspace

PLAIN = ReportOptions()
HOSTILE = '<b>Data</b> & "set" $x$ _y'


def blocks(page: Page) -> Iterator[Block]:
    def inside(block: Block) -> Iterator[Block]:
        yield block
        if isinstance(block, Beside | Folded):
            for one in block.blocks:
                yield from inside(one)

    for section in page.sections:
        for block in section.blocks:
            yield from inside(block)


def tables(page: Page) -> list[list[list[str]]]:
    return [[[cell.text for cell in row] for row in block.rows] for block in blocks(page) if isinstance(block, Table)]


def drawings(page: Page) -> str:
    return " ".join(block.svg for block in blocks(page) if isinstance(block, Drawing))


def gate(folder: Path, *bins: ReliabilityBin) -> Page:
    GateCard(
        outputs=("general", HOSTILE),
        width=8,
        hidden=4,
        ood_ranks=(2,),
        general_datasets=(),
        weights_sha256="0",
        samples={HOSTILE: 12},
        temperature=1.0,
        ood_percentile=99.0,
        confusion={HOSTILE: {"general": 0.25, HOSTILE: 0.75}},
        calibration_error=0.125,
        reliability=bins,
        known={HOSTILE: 1.0},
        coverage={HOSTILE: 0.75},
        tau=0.5,
        sweep=(
            ThresholdRow(tau=0.0, general_kept=None, own_expert=1.0, wrong_expert=0.0),
            ThresholdRow(tau=0.9, general_kept=None, own_expert=0.5, wrong_expert=0.0),
        ),
        seed=0,
    ).save(folder / "gate.json")
    return page_of([folder], PLAIN)


def test_a_bin_says_on_how_many_prompts_it_rests(tmp_path: Path) -> None:
    bins = [
        ReliabilityBin(low=low, high=low + 0.1, n=n, confidence=low, accuracy=1.0) for low, n in ((0.5, 3), (0.9, 214))
    ]
    page = gate(tmp_path, *bins)
    assert "3 prompts" in drawings(page)
    for n in (3, 214):
        assert f">{n}<" in drawings(page)
    assert [HOSTILE, "25.0%", "75.0%", "100%", "75%"] in tables(page)[0]
    assert "<b>Data" not in as_html(page)


def test_few_prompts_are_called_few(tmp_path: Path) -> None:
    page = gate(tmp_path, ReliabilityBin(low=0.9, high=1.0, n=3, confidence=0.95, accuracy=1.0))
    assert "one bin" in page.sections[-1].lead


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    """One set with an expert that won 0.4, one without that lost 0.05, on which the expert alone would lose 0.6."""
    models = {"general": (0.5, 0.7), "Dataset001_A": (0.9, 0.1), "moe": (0.9, 0.65)}
    sets = (("Dataset001_A", "finetuned"), (HOSTILE, "unseen"))
    matrix, prompts, described = [], [], []
    for place, (name, kind) in enumerate(sets):
        scores = {model: values[place] for model, values in models.items()}
        keys = {"dataset": name, "kind": kind, "n": 2, "n_left_out": 0}
        best = {"best": max(scores["general"], scores["Dataset001_A"])}
        for class_id, class_name in ((1, "one"), (None, "mean")):
            matrix.append({**keys, "class_id": class_id, "class_name": class_name, **scores, **best})
        for model, dice in scores.items():
            for case in ("p0", "p1"):
                known = {"class_id": 1, "class_name": "one", "dice": dice, "status": "ok", "expert": "general"}
                prompts.append({"model": model, "dataset": name, "case": case, **known})
        figures = {"general": scores["general"], "moe": scores["moe"], "gain": scores["moe"] - scores["general"]}
        shares = {"cases": 2, "prompts": 2, "right_expert": 1.0, "unchanged": 0.5 * place, "best": 0.9, "to_best": 0.0}
        described.append({"dataset": name, "kind": kind, **shares, **figures, "origin": "all cases"})
    for table, rows in (("matrix", matrix), ("prompts", prompts), ("sets", described)):
        (tmp_path / f"{table}_1_click.csv").write_text(csv_text(list(rows[0]), rows))
    return tmp_path


def test_a_comparison_says_what_was_won_and_lost(compared: Path) -> None:
    page = page_of([compared], PLAIN)
    assert "0.900, the foundation alone 0.500" in page.lead
    assert "lost 0.0500 Dice on average" in page.lead
    by_set, dice, _, lost, _, *cases = tables(page)
    assert by_set[0][4:7] == ["0.500", "0.900", "+0.400"]
    assert dice[1] == [HOSTILE, "never seen", "2", "0.700", "0.100", "0.650", "0.700"]
    assert lost[1] == [HOSTILE, "never seen", "2", "+0.600", "+0.050"]
    assert cases[1] == [[case, "one", "general", "0.700", "0.100", "0.650"] for case in ("p0", "p1")]
    assert "<b>Data" not in as_html(page)


def test_several_runs_stand_below_each_other(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("gate")
    own = gate(folder, ReliabilityBin(low=0.9, high=1.0, n=3, confidence=0.95, accuracy=1.0))
    both = page_of([compared, folder], PLAIN)
    assert both.title == page_of([compared], PLAIN).title
    assert both.sections[-1].title == own.sections[-1].title


def test_a_plan_stands_against_its_dataset(trained_workspace: Workspace) -> None:
    page = page_of([trained_workspace.plans("Dataset001_One")], PLAIN)
    choices = {row[0]: row for row in tables(page)[0]}
    assert choices["foundation"][1] == "tiny"
    assert choices["view"][2]
    assert "the crop" in drawings(page)
    assert "the view" in drawings(page)
    held_back = [row[3] for row in tables(page)[-1]]
    assert sorted(", ".join(held_back).split(", ")) == [f"p{number:03d}" for number in range(6)]


def test_trainings_of_experts_name_them_and_hold_them_against_the_foundation(trained_workspace: Workspace) -> None:
    page = page_of([trained_workspace.experts_root], PLAIN)
    assert [row[0] for row in tables(page)[0]] == [
        f"Dataset00{n}_{name}, fold 0" for n, name in enumerate(("One", "Two", "Three"), 1)
    ]
    alone = page_of([trained_workspace.expert("Dataset001_One")], PLAIN)
    assert "than the foundation" in alone.lead
    assert page_of([trained_workspace.model], PLAIN).kind == "gate"


def test_a_check_lists_every_finding(tmp_path: Path) -> None:
    given = {"found": f"/data/{HOSTILE}/p0.nii.gz is torn", "expected": "a whole file", "repair": "copy it again"}
    findings = tuple(
        Finding(case_id=case, file="p0.nii.gz", kind=Kind.TRUNCATED, severity=severity, **given)
        for case, severity in (("p0", "error"), ("p1", "warning"))
    )
    CheckReport(source="/data/x", source_format="nnU-Net", cases=5, findings=findings, seconds=1.0).save(
        tmp_path / "check.json"
    )
    page = page_of([tmp_path], PLAIN)
    assert page.lead == "1 of 5 cases cannot be used as they are."
    assert tables(page)[0][0][:3] == ["p0", "error", "truncated"]
    hidden = page_of([tmp_path], ReportOptions(anonymous=True))
    assert "/data" not in as_html(hidden)
    assert "p0" not in as_html(hidden).partition("</style>")[2]
