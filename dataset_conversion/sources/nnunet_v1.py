"""nnU-Net v1 task folders: one file per channel, labels and modalities numbered in dataset.json."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from dataset_conversion.common import faults_of_labels, files_of, keys_of, labels_of, pair_up
from dataset_conversion.layout import Options, SourceCase, SourceDataset
from dataset_conversion.sources.decathlon_json import DecathlonEntry, DecathlonJson
from moe_pipeline.imaging.io.files import case_id_of
from moe_pipeline.paths import RawFolder

_NAME = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})\.nii\.gz")


def detect(source: Path) -> bool:
    """dataset.json as in the Decathlon, but every image name carries a channel number, each case from 0000 on."""
    names = [path.name for path in files_of(source / "imagesTr") if path.name.endswith(".nii.gz")]
    matches = [_NAME.fullmatch(name) for name in names]
    numbered = bool(names) and all(match and f"{match['case']}_0000.nii.gz" in names for match in matches)
    return "modality" in keys_of(source) and numbered


def describe(source: Path, _: Options) -> SourceDataset:
    """Cases by file name, those that dataset.json lists for training, as nnU-Net v1 takes them.

    Raises:
        RecordError: if dataset.json breaks its schema.
    """
    description = DecathlonJson.load(RawFolder(source).description)
    channels = description.channel_names
    labels = labels_of(source / "labelsTr", ".nii.gz")
    cases, faults = pair_up(files_of(source / "imagesTr"), labels, _NAME, len(channels))
    faults |= faults_of_labels(source / "labelsTr", ".nii.gz")
    if description.training:
        cases, more = _listed(description.training, cases, faults)
        faults = more | faults
    tests, more = pair_up(files_of(source / "imagesTs"), {}, _NAME, len(channels), "test")
    return SourceDataset(
        channels,
        description.label_values,
        (*cases, *tests),
        faults | more,
        description.kept,
        notes=_other_labels(source, description.training, cases),
        n_counted=description.numTraining,
        refusals=description.faults_of_labels,
    )


def _listed(
    training: Sequence[DecathlonEntry], cases: Sequence[SourceCase], known: Collection[str]
) -> tuple[list[SourceCase], dict[str, str]]:
    """The cases that are listed, and why others are left out."""
    listed = {case_id_of(Path(entry.image)) for entry in training}
    chosen, faults = [], {}
    for case in cases:
        if case.case_id not in listed:
            faults[case.case_id] = "not listed in dataset.json for training, but its files are there"
        else:
            chosen.append(case)
    there = {case.case_id for case in cases} | set(known)
    for case_id in sorted(listed):
        if case_id not in there:
            faults[case_id] = f"listed in dataset.json, but imagesTr/{case_id}_0000.nii.gz is not there"
    return chosen, faults


def _other_labels(source: Path, training: Sequence[DecathlonEntry], cases: Sequence[SourceCase]) -> tuple[str, ...]:
    """A note on labels that are listed in another folder than the one that nnU-Net v1 reads."""
    taken = {case.case_id: case.labels[0] for case in cases if case.labels}
    others = [
        entry.label
        for entry in training
        if entry.label
        and (own := taken.get(case_id_of(Path(entry.image))))
        and (source / entry.label).resolve() != own.resolve()
    ]
    if not others:
        return ()
    return (
        f"dataset.json lists {len(others)} labels such as {others[0]}; those of labelsTr are taken, as nnU-Net v1 does",
    )
