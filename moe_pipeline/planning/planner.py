"""From a fingerprint to a plan: a pure function, and a reason for every choice."""

import re
from typing import Any

import numpy as np

from moe_pipeline.errors import DatasetError
from moe_pipeline.planning.machine import REASON, Machine, estimate
from moe_pipeline.planning.preset import FoundationPreset
from moe_pipeline.planning.views import choose_view, typical_view
from moe_pipeline.records.foundation import View
from moe_pipeline.records.planning import ClassSummary, Estimates, Fingerprint, Plan

_SIDES = {
    "left-right": "left|right|l|r|lt|rt|sinister|dexter",
    "front-back": "anterior|posterior|ventral|dorsal|front|back",
    "up-down": "superior|inferior|upper|lower|cranial|caudal|rostral",
}
"""Per axis the words of names that tell its two directions apart."""
_MAX_CROPS, _MAX_COPIES = 16, 8
_MIN_EPOCHS, _MAX_EPOCHS = 4, 60


def make_plan(fingerprint: Fingerprint, preset: FoundationPreset, machine: Machine, seed: int = 0) -> Plan:
    """Choose view, crops, training and costs.

    Args:
        fingerprint: of the dataset.
        preset: the foundation to plan for.
        machine: what there is to work with.
        seed: kept in the plan; the choices do not depend on it.

    Raises:
        DatasetError: if no case has a voxel of any class.
    """
    reasons: dict[str, str] = {}
    classes = _classes(fingerprint, reasons)
    reasons["foundation"] = "asked for with --foundation; nano is what comes with the package"
    view, reasons["view"] = choose_view(preset, list(fingerprint.classes.values()), fingerprint)
    reasons["channel"] = f"0, {fingerprint.channel_names['0']}: the first of {len(fingerprint.channel_names)}"
    weights = _class_weights(fingerprint, classes, reasons)
    crops = _crops(fingerprint, classes, view, preset, reasons)
    mirror_axes = _mirror_axes(classes, reasons)
    training = _training(crops, preset, machine, reasons)
    reasons["seed"] = "asked for with --seed: the same seed gives the same crops, training and folds"
    reasons["estimates"] = REASON
    plan = Plan(
        dataset=fingerprint.dataset,
        dataset_sha256=fingerprint.dataset_sha256,
        fingerprint_sha256=fingerprint.sha256(),
        foundation=preset.name,
        classes=classes,
        view=view,
        class_weights=weights,
        mirror_axes=mirror_axes,
        seed=seed,
        estimates=Estimates(disk_mb=0, memory_mb=0, minutes=0),
        reasons=reasons,
        crops_per_case=crops["crops_per_case"],
        copies_per_case=crops["copies_per_case"],
        **training,
    )
    return plan.model_copy(update={"estimates": estimate(plan, fingerprint, preset, machine)})


def _classes(fingerprint: Fingerprint, reasons: dict[str, str]) -> dict[int, str]:
    classes = {value: found.name for value, found in fingerprint.classes.items() if found.cases > 0}
    if not classes:
        raise DatasetError(f"{fingerprint.dataset}: no case has a voxel of any class, there is nothing to learn")
    absent = [found.name for found in fingerprint.classes.values() if found.cases == 0]
    reasons["classes"] = f"all {len(classes)} classes that occur" + (
        f"; never seen: {', '.join(absent)}" if absent else ""
    )
    return classes


def _class_weights(fingerprint: Fingerprint, classes: dict[int, str], reasons: dict[str, str]) -> dict[int, float]:
    """Rare and small classes are looked at more often, by roots of their rarity, at most four times the average."""
    found = [fingerprint.classes[value] for value in classes]
    rarity = np.array([len(fingerprint.cases) / one.cases for one in found])
    volume = np.array([one.volume_ml.median if one.volume_ml else 1.0 for one in found])
    raw = np.sqrt(rarity) * (volume.max() / volume) ** (1 / 6)
    weights = np.clip(raw / np.exp(np.log(raw).mean()), 0.25, 4)
    reasons["class_weights"] = (
        "how often a crop is placed around a class: root of its rarity times sixth root of its smallness"
    )
    if len(found) > 1:
        often, seldom = found[int(np.argmax(weights))], found[int(np.argmin(weights))]
        reasons["class_weights"] += (
            f"; most for {_rarity(often, fingerprint)}, least for {_rarity(seldom, fingerprint)}"
        )
    return {value: round(float(weight), 3) for value, weight in zip(classes, weights, strict=True)}


def _rarity(found: ClassSummary, fingerprint: Fingerprint) -> str:
    volume = f", {found.volume_ml.median:.3g} ml" if found.volume_ml else ""
    return f"{found.name} ({found.cases} of {len(fingerprint.cases)} cases{volume})"


def _crops(
    fingerprint: Fingerprint, classes: dict[int, str], view: View, preset: FoundationPreset, reasons: dict[str, str]
) -> dict[str, int]:
    n_cases = sum(1 for case in fingerprint.cases if case.classes)
    extent_mm = typical_view(view, fingerprint).extent_mm
    together = _classes_per_crop(fingerprint, classes, preset.rules.fit_fraction * min(extent_mm))
    per_case = float(np.mean([len(case.classes) for case in fingerprint.cases if case.classes]))
    target = preset.limits.target_crops
    wanted = max(2, np.ceil(per_case / together), np.ceil(target / _MAX_COPIES / n_cases))
    crops = int(min(wanted, _MAX_CROPS))
    copies = int(np.clip(np.ceil(target / (crops * n_cases)), 1, _MAX_COPIES))
    reasons["crops_per_case"] = (
        f"{crops}: a case has {per_case:.1f} classes and a crop shows {together:.1f} of them, and {n_cases} cases "
        f"should give about {target} crops, copies included"
    )
    reasons["copies_per_case"] = (
        f"{copies}: {n_cases} cases x {crops} crops x {copies} = {n_cases * crops * copies} crops"
    )
    return {"crops_per_case": crops, "copies_per_case": copies, "total": n_cases * crops * copies}


def _classes_per_crop(fingerprint: Fingerprint, classes: dict[int, str], usable_mm: float) -> float:
    """How many classes a crop around one of them holds, on average over the classes."""
    total = float(len(classes))
    for pair, found in fingerprint.pairs.items():
        if found.extent_mm.median <= usable_mm:
            total += sum(found.cases / fingerprint.classes[int(value)].cases for value in pair.split())
    return total / len(classes)


def _mirror_axes(classes: dict[int, str], reasons: dict[str, str]) -> tuple[int, ...]:
    sided = {
        direction: [name for name in classes.values() if _has_word(name, words)] for direction, words in _SIDES.items()
    }
    if not any(sided.values()):
        reasons["mirror_axes"] = "all three: no class name tells sides apart"
        return (0, 1, 2)
    told = [f"not {direction} ({', '.join(names[:3])})" for direction, names in sided.items() if names]
    reasons["mirror_axes"] = f"names tell sides apart: {'; '.join(told)}"
    return tuple(axis for axis, names in enumerate(sided.values()) if not names)


def _has_word(name: str, words: str) -> bool:
    return re.search(rf"(?<![a-z])({words})(?![a-z])", name.replace("_", " "), re.IGNORECASE) is not None


def _training(
    crops: dict[str, int], preset: FoundationPreset, machine: Machine, reasons: dict[str, str]
) -> dict[str, Any]:
    limits, costs = preset.limits, preset.costs
    room_mb = max(machine.memory_mb * 0.7 - costs.fixed_memory_mb, costs.prompt_memory_mb)
    batch = int(np.clip(room_mb // costs.prompt_memory_mb, 1, min(limits.batch_size, crops["total"])))
    steps = limits.passes * crops["total"] / batch
    epochs = int(np.clip(round(steps / limits.steps_per_epoch), _MIN_EPOCHS, _MAX_EPOCHS))
    reasons["batch_size"] = f"{batch} prompts of {costs.prompt_memory_mb:.0f} MB a step, which fit into memory"
    if batch < limits.batch_size:  # what is free changes from minute to minute: named only where it decides
        free_gb = machine.memory_mb / 1000
        reasons["batch_size"] = f"{batch} prompts instead of {limits.batch_size}: {free_gb:.1f} GB of memory are free"
    passes = epochs * limits.steps_per_epoch * batch / crops["total"]
    reasons["epochs"] = (
        f"{epochs} x {limits.steps_per_epoch} steps: about {passes:.1f} passes over {crops['total']} crops"
    )
    reasons["steps_per_epoch"] = f"{limits.steps_per_epoch}: so often is it validated, and can be continued from"
    return {"batch_size": batch, "epochs": epochs, "steps_per_epoch": limits.steps_per_epoch}
