from typing import Any

import pytest

from moe_pipeline.errors import CheckpointError, DatasetError
from moe_pipeline.planning.planner import make_plan
from moe_pipeline.planning.preset import FoundationPreset, Machine, load_planning_preset, planning_preset
from moe_pipeline.planning.views import choose_view
from moe_pipeline.records.planning import CaseRow, ClassSummary, Fingerprint, Intensity, Spread
from moe_pipeline.records.view import View
from moe_pipeline.records.weights import FoundationCard

MACHINE = Machine(memory_mb=16_000)


def spread(median: float, high: float | None = None) -> Spread:
    return Spread(low=median / 2, median=median, high=high or median * 1.5)


def intensity(low: float, high: float) -> Intensity:
    middle = (low + high) / 2
    return Intensity(
        mean=middle,
        std=1,
        median=middle,
        percentile_00_5=low,
        percentile_05=low,
        percentile_95=high,
        percentile_99_5=high,
    )


def fingerprint(
    names: dict[int, str], n_cases: int = 10, object_mm: Spread | None = None, **changes: Any
) -> Fingerprint:
    classes = {
        value: ClassSummary(name=name, cases=n_cases, volume_ml=spread(8.0), object_mm=spread(40.0))
        for value, name in names.items()
    }
    row = {"shape": (100, 90, 80), "spacing_mm": (1, 1, 1), "classes": tuple(names)}
    values: dict[str, Any] = {
        "dataset": "Dataset001_X",
        "dataset_sha256": "0" * 64,
        "channel_names": {"0": "CT", "1": "PET"},
        "cases": tuple(CaseRow(case_id=f"c{number}", **row) for number in range(n_cases)),
        "orientations": {"RAS": n_cases},
        "spacing_mm": (spread(1),) * 3,
        "shape": (spread(100),) * 3,
        "foreground": (intensity(-50, 150), intensity(0, 9)),
        "classes": classes,
        "object_mm": object_mm or spread(40),
    }
    return Fingerprint(**{**values, **changes})


def preset(spacing_mm: float = 1.5, size: int = 64, cells: float = 8) -> FoundationPreset:
    nano = load_planning_preset("nano")
    limits = nano.limits.model_copy(update={"min_object_cells": cells})
    view = View(spacing_mm=spacing_mm, size_voxels=size, normalisation="zscore_clipped")
    return nano.model_copy(update={"view": view, "limits": limits})


@pytest.mark.parametrize(
    ("median", "high", "expected_mm", "words"),
    [
        (40, 60, 1.5, "the foundation's own;"),  # 96 mm, cells of 3 mm: 13 cells, and 60 fits into 76.8
        (20, 30, 1.0, "zoomed in"),  # 6.7 cells at 1.5 mm; 10 at 1.0
        (5, 8, 0.5, "zoomed in"),  # 5 cells at 0.5 mm, the finest
        (20, 60, 1.5, "the foundation's own;"),  # finer would cut the large ones: 60 > 51.2
        (60, 100, 2.0, "own cube is too small"),  # 102.4 mm usable
        (90, 400, 3.0, "are larger, so prediction slides"),  # nothing holds 400 mm
    ],
)
def test_the_view_fits_the_objects(median: float, high: float, expected_mm: float, words: str) -> None:
    view, reason = choose_view(preset(), Spread(low=1, median=median, high=high))
    assert view.spacing_mm == expected_mm
    assert view.size_voxels == 64
    assert view.normalisation == "zscore_clipped"
    assert words in reason


def test_a_spacing_of_its_own_stays_among_the_choices() -> None:
    view, _ = choose_view(preset(spacing_mm=1.2), spread(40, 50))
    assert view.spacing_mm == 1.2


def test_each_choice_has_a_reason() -> None:
    plan = make_plan(fingerprint({1: "liver", 2: "tumour"}), preset(), MACHINE, seed=7)
    stated = {
        "classes",
        "view",
        "channel",
        "class_weights",
        "crops_per_case",
        "copies_per_case",
        "mirror_axes",
        "batch_size",
        "epochs",
        "estimates",
    }
    assert set(plan.reasons) == stated
    assert plan.seed == 7
    assert plan.fingerprint_sha256 == fingerprint({1: "liver", 2: "tumour"}).sha256()


def test_the_plan_is_a_pure_function() -> None:
    seen = fingerprint({1: "liver", 2: "tumour"})
    assert make_plan(seen, preset(), MACHINE) == make_plan(seen, preset(), MACHINE)


def test_rare_and_small_classes_weigh_more() -> None:
    classes = {
        1: ClassSummary(name="big", cases=10, volume_ml=spread(1000), object_mm=spread(100)),
        2: ClassSummary(name="rare", cases=2, volume_ml=spread(1000), object_mm=spread(100)),
        3: ClassSummary(name="small", cases=10, volume_ml=spread(1), object_mm=spread(10)),
        4: ClassSummary(name="absent", cases=0),
    }
    plan = make_plan(fingerprint({1: "big"}, classes=classes), preset(), MACHINE)
    assert plan.classes == {1: "big", 2: "rare", 3: "small"}
    assert plan.class_weights[2] > plan.class_weights[1]
    assert plan.class_weights[3] > plan.class_weights[1]
    assert "never seen: absent" in plan.reasons["classes"]


def test_no_class_at_all_is_an_error() -> None:
    empty = {1: ClassSummary(name="a", cases=0)}
    with pytest.raises(DatasetError, match="no case has a voxel of any class"):
        make_plan(fingerprint({1: "a"}, classes=empty), preset(), MACHINE)


def test_few_cases_give_more_crops_and_copies() -> None:
    many = make_plan(fingerprint({1: "a"}, n_cases=500), preset(), MACHINE)
    few = make_plan(fingerprint({1: "a"}, n_cases=3), preset(), MACHINE)
    assert (many.crops_per_case, many.copies_per_case) == (2, 1)
    assert (few.crops_per_case, few.copies_per_case) == (16, 8)


def test_scattered_classes_need_more_crops_than_close_ones() -> None:
    names = dict.fromkeys(range(1, 13), "")
    names = {value: f"organ {value}" for value in names}
    pairs = [f"{a} {b}" for a in names for b in names if a < b]
    close = fingerprint(names, n_cases=400, pair_extent_mm=dict.fromkeys(pairs, 50.0))
    apart = fingerprint(names, n_cases=400, pair_extent_mm=dict.fromkeys(pairs, 500.0))
    assert make_plan(close, preset(), MACHINE).crops_per_case == 2
    assert make_plan(apart, preset(), MACHINE).crops_per_case == 12


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        ({1: "liver", 2: "anterior_hippocampus"}, (0, 1, 2)),
        ({1: "kidney_left", 2: "kidney_right"}, (1, 2)),
        ({1: "Right Lung"}, (1, 2)),
        ({1: "hippocampus_l"}, (1, 2)),
        ({1: "bright", 2: "cleft"}, (0, 1, 2)),
    ],
)
def test_sides_in_names_forbid_mirroring(names: dict[int, str], axes: tuple[int, ...]) -> None:
    assert make_plan(fingerprint(names), preset(), MACHINE).mirror_axes == axes


def test_little_memory_makes_small_batches() -> None:
    small = make_plan(fingerprint({1: "a"}), preset(), Machine(memory_mb=900))
    assert small.batch_size == 2
    assert make_plan(fingerprint({1: "a"}), preset(), MACHINE).batch_size == 8
    assert make_plan(fingerprint({1: "a"}), preset(), Machine(memory_mb=10)).batch_size == 1


def test_presets_are_known_by_name_and_by_card(tmp_path: Any) -> None:
    assert load_planning_preset("sam_med3d").view.size_voxels == 128
    assert load_planning_preset("sam_med3d").embedding_values == 384 * 8**3
    nano = load_planning_preset("nano")
    assert (nano.limits.min_object_cells, nano.view.size_voxels) == (8, 64)
    config = {"encoder": {"img_size": 32, "patch_size": 8, "out_chans": 48}}
    view = View(spacing_mm=2, size_voxels=32)
    card = FoundationCard(name="mine", weights_sha256="0" * 64, source="x", licence="CC0", view=view, config=config)
    card.save(tmp_path / "mine.json")
    mine = load_planning_preset("mine", tmp_path)
    assert (mine.view, mine.embedding_values, mine.limits) == (view, 48 * 4**3, nano.limits)
    assert load_planning_preset(str(tmp_path / "mine.safetensors")).view == view
    with pytest.raises(CheckpointError, match="no foundation 'other'; there are: nano, sam_med3d, mine"):
        load_planning_preset("other", tmp_path)
    assert planning_preset("x", view, config, like="sam_med3d").limits.min_object_cells == 4
