"""Medical Segmentation Decathlon: dataset.json lists the files, images with several modalities are 4D."""

from pathlib import Path

from dataset_conversion.common import files_of, keys_of
from dataset_conversion.layout import Options, Part, SourceCase, SourceDataset
from dataset_conversion.sources.decathlon_json import DecathlonEntry, DecathlonJson
from moe_pipeline.files import is_file
from moe_pipeline.imaging.io.files import case_id_of
from moe_pipeline.paths import RawFolder


def detect(source: Path) -> bool:
    """dataset.json names modalities and lists its files."""
    return {"modality", "training"} <= keys_of(source)


def describe(source: Path, _: Options) -> SourceDataset:
    """Cases as dataset.json lists them; files it does not list, and files it lists in vain, are faults.

    Raises:
        RecordError: if dataset.json breaks its schema.
    """
    description = DecathlonJson.load(RawFolder(source).description)
    cases: list[SourceCase] = []
    faults: dict[str, str] = {}
    entries: list[tuple[DecathlonEntry, Part]] = [(entry, "training") for entry in description.training]
    entries += [(entry, "test") for entry in description.test]
    for entry, part in entries:
        image = source / entry.image
        label = source / entry.label if entry.label and part == "training" else None
        case_id = case_id_of(image)
        missing = [_name(path, source) for path in (image, label) if path and not is_file(path)]
        if missing:
            faults[case_id] = f"{' and '.join(missing)}: listed in dataset.json, but not there"
        elif part == "training" and label is None:
            faults[case_id] = "dataset.json lists it for training without a label"
        else:
            cases.append(SourceCase(case_id, (image,), (label,) if label else (), part))
    listed = {path for case in cases for path in (*case.images, *case.labels)}
    for folder in ("imagesTr", "labelsTr"):
        for path in files_of(source / folder):
            case_id = case_id_of(path)
            if path not in listed and case_id not in faults:
                faults[case_id] = _orphan(source, path)
    return SourceDataset(
        description.channel_names,
        description.label_values,
        tuple(cases),
        faults,
        description.kept,
        n_counted=description.numTraining,
        refusals=description.faults_of_labels,
    )


def _name(path: Path, source: Path) -> str:
    return str(path.relative_to(source) if path.is_relative_to(source) else path)


def _orphan(source: Path, path: Path) -> str:
    other = source / ("labelsTr" if path.parent.name == "imagesTr" else "imagesTr") / path.name
    state = "but has its counterpart" if is_file(other) else f"and has no {other.parent.name}/{other.name}"
    return f"{path.parent.name}/{path.name}: not listed in dataset.json, {state}"
