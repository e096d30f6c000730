from typing import Any

import pytest

from moe_pipeline.errors import CheckpointError, DatasetError
from moe_pipeline.model.config import DecoderConfig, EncoderConfig, FoundationConfig, PromptConfig
from moe_pipeline.model.geometry import FoundationGeometry
from moe_pipeline.planning.machine import Machine
from moe_pipeline.planning.planner import make_plan
from moe_pipeline.planning.preset import FoundationPreset, load_planning_preset, planning_preset
from moe_pipeline.presets import planning_defaults
from moe_pipeline.planning.views import choose_view, fit_class
from moe_pipeline.records.foundation import FoundationCard, View
from moe_pipeline.records.planning import (
    CaseSummary,
    ClassSummary,
    Fingerprint,
    Intensity,
    PairSummary,
    Plan,
    Spread,
)

MACHINE = Machine(memory_mb=16_000, product_gflops=150)


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


def summary(name: str, longest_mm: float, shortest_mm: float, cases: int = 10, ml: float = 8.0) -> ClassSummary:
    """A class whose large objects and whose typical thickness are as said."""
    return ClassSummary(
        name=name,
        cases=cases,
        volume_ml=spread(ml),
        longest_mm=spread(longest_mm / 1.5, longest_mm),
        shortest_mm=spread(shortest_mm),
        components=spread(1),
    )


def fingerprint(names: dict[int, str], n_cases: int = 10, **changes: Any) -> Fingerprint:
    classes = {value: summary(name, 60, 40, n_cases) for value, name in names.items()}
    row = {"shape": (100, 90, 80), "spacing_mm": (1, 1, 1), "classes": tuple(names)}
    values: dict[str, Any] = {
        "dataset": "Dataset001_X",
        "dataset_sha256": "0" * 64,
        "channel_names": {"0": "CT", "1": "PET"},
        "cases": tuple(CaseSummary(case_id=f"c{number}", **row) for number in range(n_cases)),
        "orientations": {"RAS": n_cases},
        "spacing_mm": (spread(1),) * 3,
        "shape": (spread(100),) * 3,
        "foreground": (intensity(-50, 150), intensity(0, 9)),
        "classes": classes,
    }
    return Fingerprint(**{**values, **changes})


ISOTROPIC = fingerprint({})


def preset(spacing_mm: float = 1.5, size: int = 64, cells: float = 8) -> FoundationPreset:
    nano = load_planning_preset("nano")
    limits = nano.limits.model_copy(update={"min_object_low_res_voxels": cells})
    view = View(spacing_mm=spacing_mm, size_voxels=size, normalisation="zscore_clipped")
    return nano.model_copy(update={"view": view, "limits": limits})


@pytest.mark.parametrize(
    ("longest", "shortest", "expected_mm", "words"),
    [
        (60, 40, 1.5, "the foundation's own, every class is served"),  # 96 mm, cells of 3 mm: 13 cells, 60 of 76.8
        (30, 20, 1.0, "nearest step that serves every class"),  # 6.7 cells at 1.5 mm, wanted 8; 10 at 1.0
        (8, 5, 0.5, "the step that misses least"),  # 5 cells at 0.5 mm, the finest
        (100, 60, 2.0, "nearest step that serves every class"),  # 102.4 mm usable
        (400, 90, 3.0, "so prediction slides"),  # nothing holds 400 mm
        (8, 7.97, 0.5, "nearest step that serves every class"),  # 8.0 cells, as people read it
        (300, 3, 1.5, "no step misses less"),  # a vessel: what a step gains on one side it loses on the other
    ],
)
def test_the_view_fits_the_objects(longest: float, shortest: float, expected_mm: float, words: str) -> None:
    view, reason = choose_view(preset(), [summary("thing", longest, shortest)], ISOTROPIC)
    assert view.edges_mm == (expected_mm,) * 3
    assert view.size_voxels == (64,) * 3
    assert view.normalisation == "zscore_clipped"
    assert words in reason


def test_each_class_counts_by_its_own_size() -> None:
    """A thin class asks for a finer view however many thick ones there are, as long as these still fit."""
    thick = [summary(f"organ {number}", 45, 40) for number in range(5)]
    view, reason = choose_view(preset(), [*thick, summary("nerve", 30, 18)], ISOTROPIC)
    assert view.edges_mm == (1.0,) * 3
    assert "at the foundation's own 1.5 mm nerve (6.0 low-resolution voxels) would be thin" in reason
    large = [summary(f"organ {number}", 75, 40) for number in range(5)]  # at 1 mm none of them would fit into 51 mm
    view, reason = choose_view(preset(), [*large, summary("nerve", 30, 18)], ISOTROPIC)
    assert view.edges_mm == (1.5,) * 3
    assert "not served: nerve (6.0 low-resolution voxels) would be thin" in reason


def test_detail_is_judged_by_the_shortest_side() -> None:
    assert choose_view(preset(), [summary("ball", 50, 24)], ISOTROPIC)[0].edges_mm == (1.5,) * 3
    assert choose_view(preset(), [summary("disc", 50, 17)], ISOTROPIC)[0].edges_mm == (1.0,) * 3


def test_without_objects_the_view_stays() -> None:
    view, reason = choose_view(preset(), [ClassSummary(name="absent", cases=0)], ISOTROPIC)
    assert view == preset().view
    assert "no object was measured" in reason


def test_a_spacing_of_its_own_stays_among_the_choices() -> None:
    view, _ = choose_view(preset(spacing_mm=1.2), [summary("a", 50, 40)], ISOTROPIC)
    assert view.edges_mm == (1.2,) * 3


FLAT = FoundationGeometry((64, 64, 16), (8, 8, 8), (16, 16, 16))


def flat_preset(spacing_mm: Any) -> FoundationPreset:
    view = View(spacing_mm=spacing_mm, size_voxels=FLAT.crop_size)
    return preset().model_copy(update={"view": view, "geometry": FLAT})


def lying(extent_mm: tuple[float, float, float], shortest_mm: float) -> ClassSummary:
    """A class of single objects with these extents along R, A, S."""
    boxes = tuple(spread(mm / 1.5, mm) for mm in extent_mm)
    return summary("bar", max(extent_mm), shortest_mm).model_copy(update={"extent_mm": boxes})


def test_a_flat_crop_is_judged_along_each_axis() -> None:
    """64 x 64 x 48 mm, low-resolution voxels of 4 x 4 x 3 mm."""
    flat = flat_preset((1, 1, 3))
    along, across = lying((50, 40, 35), 34), lying((40, 35, 50), 34)
    fits = [fit_class(found, flat.view, flat) for found in (along, across)]
    assert [fit and fit.fits for fit in fits] == [True, False]  # 50 mm in 51.2 mm, but not in 38.4 mm
    assert fits[1] is not None
    assert (fits[1].longest_mm, fits[1].low_res_mm) == (50, 4)
    assert choose_view(flat, [along], ISOTROPIC)[0] == flat.view
    view, reason = choose_view(flat, [across.model_copy(update={"shortest_mm": spread(50)})], ISOTROPIC)
    assert view.edges_mm == (1.5, 1.5, 4.5)
    assert reason.startswith("1.5 x 1.5 x 4.5 mm, 64 x 64 x 16 voxels, 96 x 96 x 72 mm: nearest step that serves")


def test_a_fitted_view_stays_or_gives_way_to_the_images_own_voxels() -> None:
    """Images of 100 voxels of 1 mm: fitted, low-resolution voxels are 6.25 mm; else 4 x 4 x 1 mm, of 64 x 64 x 16."""
    fitted = flat_preset("fitted")
    view, reason = choose_view(fitted, [lying((80, 70, 60), 55)], ISOTROPIC)
    assert view == fitted.view
    assert reason.startswith(
        "the whole image as 64 x 64 x 16 voxels, 100 mm over a typical image: the foundation's own"
    )
    view, reason = choose_view(fitted, [lying((40, 36, 12), 33)], ISOTROPIC)
    assert view == fitted.view.model_copy(update={"spacing_mm": "native"})
    assert "since, fitted to the image, bar (5.3 low-resolution voxels) would be thin" in reason
    plan = make_plan(fingerprint({1: "liver"}), fitted, MACHINE)
    assert plan.view.spacing_mm in ("fitted", "native")
    more = make_plan(fingerprint({1: "liver"}), fitted.model_copy(update={"embedding_values": 10**7}), MACHINE)
    assert more.estimates.disk_mb > plan.estimates.disk_mb > 0


def test_each_choice_has_a_reason() -> None:
    plan = make_plan(fingerprint({1: "liver", 2: "tumour"}), preset(), MACHINE, seed=7)
    no_choices = {"schema_version", "dataset", "dataset_sha256", "fingerprint_sha256", "reasons"}
    assert set(plan.reasons) == set(Plan.model_fields) - no_choices
    assert all(len(reason.split()) > 1 for reason in plan.reasons.values())
    assert plan.seed == 7
    assert plan.fingerprint_sha256 == fingerprint({1: "liver", 2: "tumour"}).sha256()


def test_the_plan_is_a_pure_function() -> None:
    seen = fingerprint({1: "liver", 2: "tumour"})
    assert make_plan(seen, preset(), MACHINE) == make_plan(seen, preset(), MACHINE)


def test_rare_and_small_classes_weigh_more() -> None:
    classes = {
        1: summary("big", 100, 100, ml=1000),
        2: summary("rare", 100, 100, cases=2, ml=1000),
        3: summary("small", 10, 10, ml=1),
        4: ClassSummary(name="absent", cases=0),
    }
    plan = make_plan(fingerprint({1: "big"}, classes=classes), preset(), MACHINE)
    assert plan.classes == {1: "big", 2: "rare", 3: "small"}
    assert plan.class_weights[2] > plan.class_weights[1]
    assert plan.class_weights[3] > plan.class_weights[1]
    assert "never seen: absent" in plan.reasons["classes"]
    assert (
        "most for small (10 of 10 cases, 1 ml), least for big (10 of 10 cases, 1e+03 ml)"
        in plan.reasons["class_weights"]
    )


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

    def planned(extent_mm: float, n_both: int) -> int:
        found = PairSummary(cases=n_both, extent_mm=spread(extent_mm))
        seen = fingerprint(names, n_cases=400, pairs=dict.fromkeys(pairs, found))
        return make_plan(seen, preset(), MACHINE).crops_per_case

    assert planned(50, 400) == 2
    assert planned(500, 400) == 12
    assert planned(50, 40) == 6  # near each other, but in one case of ten: a crop shows 1 + 11 / 10 of them


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        ({1: "liver", 2: "pancreas"}, (0, 1, 2)),
        ({1: "anterior_hippocampus", 2: "Posterior"}, (0, 2)),
        ({1: "lung_upper_lobe_left", 2: "dorsal horn"}, ()),
        ({1: "vena_cava_inferior"}, (0, 1)),
        ({1: "kidney_left", 2: "kidney_right"}, (1, 2)),
        ({1: "Right Lung"}, (1, 2)),
        ({1: "hippocampus_l"}, (1, 2)),
        ({1: "bright", 2: "cleft"}, (0, 1, 2)),
    ],
)
def test_sides_in_names_forbid_mirroring(names: dict[int, str], axes: tuple[int, ...]) -> None:
    assert make_plan(fingerprint(names), preset(), MACHINE).mirror_axes == axes


def test_little_memory_makes_small_batches() -> None:
    small = make_plan(fingerprint({1: "a"}), preset(), Machine(memory_mb=1350, product_gflops=150))
    assert small.batch_size == 1
    assert make_plan(fingerprint({1: "a"}), preset(), MACHINE).batch_size == 2
    assert make_plan(fingerprint({1: "a"}), preset(), Machine(memory_mb=10, product_gflops=150)).batch_size == 1


def test_presets_are_known_by_name_and_by_card(tmp_path: Any) -> None:
    assert load_planning_preset("sam_med3d").view.size_voxels == (128,) * 3
    assert load_planning_preset("sam_med3d").embedding_values == 384 * 8**3
    segvol = load_planning_preset("segvol")
    assert segvol.view.size_voxels == segvol.geometry.crop_size == (256, 256, 32)
    assert segvol.embedding_values == 768 * 8 * 16 * 16
    nano = load_planning_preset("nano")
    assert nano.limits.min_object_low_res_voxels == 8
    assert nano.geometry == FoundationGeometry.of_cubes(64, 8, 32)
    config = FoundationConfig(
        encoder=EncoderConfig(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, out_chans=48),
        prompt=PromptConfig(embed_dim=48),
        decoder=DecoderConfig(transformer_dim=48, num_heads=4),
    )
    view = View(spacing_mm=2, size_voxels=32)
    card = FoundationCard(
        name="mine",
        weights_sha256="0" * 64,
        source="x",
        licence="CC0",
        preset="nano",
        view=view,
        config=config.to_dict(),
    )
    card.save(tmp_path / "mine.json")
    mine = load_planning_preset("mine", tmp_path)
    assert (mine.view, mine.embedding_values, mine.limits) == (view, 48 * 4**3, nano.limits)
    assert mine.geometry.low_resolution_size == (16,) * 3  # four times the tokens along an edge
    assert load_planning_preset(str(tmp_path / "mine.safetensors")).view == view
    with pytest.raises(CheckpointError, match="no foundation 'other'; there are: nano, sam_med3d, segvol, mine"):
        load_planning_preset("other", tmp_path)
    assert planning_preset("x", view, config, "sam_med3d").limits.min_object_low_res_voxels == 4
    for name in ("nano", "sam_med3d", "segvol"):
        assert load_planning_preset(name).costs == planning_defaults().foundations[name].costs
    assert mine.costs.encode_seconds < nano.costs.encode_seconds / 2
    assert mine.costs.prompt_memory_mb < nano.costs.prompt_memory_mb / 2
    with pytest.raises(CheckpointError, match="x: its card names the preset 'large'; rules are known for: nano"):
        planning_preset("x", view, config, "large")
