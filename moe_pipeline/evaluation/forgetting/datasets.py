"""Images with references to compare models on."""

from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.datasets.classes import classes_beside, classes_of
from moe_pipeline.datasets.dataset import RawDataset, open_dataset
from moe_pipeline.errors import DatasetError, ImageError
from moe_pipeline.imaging.io.files import list_images, list_label_maps
from moe_pipeline.inference.batch.prompt_sources import channel_file
from moe_pipeline.paths import RawFolder
from moe_pipeline.planning.plan_files import load_splits
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import ModelCard
from moe_pipeline.workspace import Workspace

_PAIRS = (("images", "labels"), ("imagesTs", "labelsTs"), ("imagesTr", "labelsTr"), ("imagesVa", "labelsVa"))


@dataclass(frozen=True, slots=True)
class EvaluationCase:
    """One image and its reference."""

    case: str
    image: Path
    reference: Path


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Cases of one dataset that nothing was trained on."""

    name: str
    """Row of the table; an expert's dataset name for its own held-back cases."""
    cases: tuple[EvaluationCase, ...]
    """Sorted by id."""
    classes: dict[int, str]
    """What to prompt."""
    origin: str
    """Which cases these are, in words."""


def raw_set(place: Workspace, name: str, card: ExpertCard | None, channel: int) -> EvaluationSet:
    """The held-back cases of a raw dataset: those with labelsTs, else its validation fold.

    Args:
        place: the workspace.
        name: of the dataset.
        card: of its expert, if it has one.
        channel: that the models look at.

    Raises:
        DatasetError: if no case is held back, or the dataset has no such channel.
        RecordError: if dataset.json or splits.json is missing or invalid.
    """
    raw = open_dataset(place.raw(name))
    tests = raw.folder / "labelsTs"
    if tests.is_dir():
        labels = dict(list_label_maps(tests))
        pairs = [(case.case_id, case.images, labels[case.case_id]) for case in raw.test_cases if case.case_id in labels]
        origin = "test cases (labelsTs)"
    else:
        pairs, origin = _validation_fold(place, raw, card)
    if not pairs:
        raise DatasetError(f"{name}: no case is held back ({origin}); give some as --unseen FOLDER")
    if channel >= len(pairs[0][1]):
        raise DatasetError(
            f"{name}: the model looks at channel {channel}, {pairs[0][0]} has {len(pairs[0][1])} channels"
        )
    cases = tuple(EvaluationCase(case, images[channel], label) for case, images, label in pairs)
    return EvaluationSet(name, cases, card.classes if card else raw.classes, origin)


def folder_set(folder: Path, channel: int) -> EvaluationSet:
    """Pairs of a folder with images/ and labels/, or nnU-Net's imagesTs/ and labelsTs/ and the like.

    Class names are those of a dataset.json beside them, else the label values.

    Raises:
        DatasetError: if there are no such folders, or no image has a reference of its name.
    """
    for images, labels in _PAIRS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return paired_set(folder.resolve().name, folder / images, folder / labels, channel=channel)
    known = ", ".join("/ and ".join(pair) for pair in _PAIRS)
    raise DatasetError(f"{folder}: expected two folders of images and label maps of the same names: {known}/")


def paired_set(
    name: str, images: Path, references: Path, classes: dict[int, str] | None = None, channel: int = 0
) -> EvaluationSet:
    """Images and label maps of the same names.

    Args:
        name: of the set.
        images: folder of images.
        references: folder of label maps.
        classes: what to prompt; else those of a dataset.json beside the references, else the label values.
        channel: that the models look at.

    Raises:
        DatasetError: if no image has a reference.
        ImageError: if a folder is missing.
    """
    labels = dict(list_label_maps(references))
    found = [(case, path) for case, path in list_images(images) if case in labels]
    if not found:
        raise DatasetError(f"{references}: no label map has the name of an image in {images}")
    cases = tuple(EvaluationCase(case, channel_file(path, channel), labels[case]) for case, path in found)
    return EvaluationSet(name, cases, classes or classes_beside(references) or classes_of(references), "all cases")


def sets_of(
    place: Workspace, model: ModelCard, cards: dict[str, ExpertCard], general: tuple[str, ...]
) -> list[EvaluationSet]:
    """Held-back cases of every raw dataset of the workspace that the model knows.

    Args:
        place: the workspace.
        model: its model.
        cards: of the experts, by dataset.
        general: datasets that the gate learned as the general expert's.
    """
    names = [name for name in (*cards, *general) if RawFolder(place.raw(name)).description.is_file()]
    return [raw_set(place, name, cards.get(name), model.channel) for name in names]


def _validation_fold(
    place: Workspace, raw: RawDataset, card: ExpertCard | None
) -> tuple[list[tuple[str, tuple[Path, ...], Path]], str]:
    fold = card.fold if card and card.fold >= 0 else 0
    splits = load_splits(place.plans(raw.name))
    if fold >= len(splits.folds):
        raise DatasetError(f"{raw.name}: its expert was trained on fold {fold}, splits.json has {len(splits.folds)}")
    pairs = []
    for case_id in splits.folds[fold].validation:
        case = raw.case(case_id)
        if case.label is None:
            raise ImageError(f"{raw.name}: {case_id} of the validation fold has no label")
        pairs.append((case_id, case.images, case.label))
    return pairs, f"validation cases of fold {fold}, by which the expert's best step and tau were chosen"
