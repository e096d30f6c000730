"""BraTS: a folder per case with one file per contrast and one for the tumour.

Known names end in flair, t1, t1ce, t2 and seg (to 2021), in t2f, t1n, t1c, t2w and seg (from 2023), or are those of
DeepMedic's example data (Flair_subtrMeanDivStd, T1c_subtrMeanDivStd, OTMultiClass). --channels FLAIR,T1ce takes fewer,
or cases that have no others. BraTS scores overlapping regions. The labels here are the plain values, and dataset.json
lists the regions as `evaluation_regions` for those who score them.
"""

import re
from dataclasses import replace
from pathlib import Path

from dataset_conversion.common import files_of
from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.pairing import pair_by_fields
from dataset_conversion.templates import CHANNEL, Match, all_files
from moe_pipeline.errors import DatasetError
from moe_pipeline.files import is_folder
from moe_pipeline.imaging.io.files import case_id_of, has_image_suffix

_CONTRASTS = {
    **dict.fromkeys(("flair", "t2f"), "FLAIR"),
    **dict.fromkeys(("t1", "t1n"), "T1"),
    **dict.fromkeys(("t1ce", "t1c", "t1gd"), "T1ce"),
    **dict.fromkeys(("t2", "t2w"), "T2"),
}
_ORDER = ("FLAIR", "T1", "T1ce", "T2")
_TUMOUR = {"seg", "otmulticlass"}
_NORMALISED = "_subtrmeandivstd"
_NECROSIS, _OEDEMA, _ENHANCING = "necrosis", "oedema", "enhancing tumour"
_LABELS_2013 = {_NECROSIS: 1, _OEDEMA: 2, "non-enhancing tumour": 3, _ENHANCING: 4}
_LABELS_2017 = {_NECROSIS: 1, _OEDEMA: 2, _ENHANCING: 4}
_LABELS_PED = {_ENHANCING: 1, "non-enhancing tumour": 2, "cystic component": 3, _OEDEMA: 4}
_LABELS_2023 = {_NECROSIS: 1, _OEDEMA: 2, _ENHANCING: 3, "resection cavity": 4}
_PATIENT = re.compile(r"(BraTS-\w+-\d{5})-\d{3}|(brats_\d{4}_pat\d+)_\d+")


def detect(source: Path) -> bool:
    """A folder, one or two levels down, holds a FLAIR, a T1ce and a tumour whose names differ in nothing else."""
    return any(
        {"FLAIR", "T1ce", "tumour"} <= {_kind(path) for path in files_of(folder) if _stem(path) == stem}
        for pattern in ("*", "*/*")
        for folder in source.glob(pattern)
        if is_folder(folder)
        for stem in {_stem(path) for path in files_of(folder) if _kind(path) == "tumour"}
    )


def describe(source: Path, options: Options) -> SourceDataset:
    """Cases by folder, with the contrasts that any of them has.

    Raises:
        DatasetError: if --channels asks for what no case has, or there is no image.
    """
    files = [path for path in all_files(source) if has_image_suffix(path) and _kind(path)]
    matches = [_match(path) for path in files]
    masks, images = ([match for match in matches if (CHANNEL in match.fields) is image] for image in (False, True))
    there = [name for name in _ORDER if name in {match.fields[CHANNEL] for match in images}]
    unknown = [name for name in options.channels if name not in there]
    if unknown or not there:
        raise DatasetError(f"{source}: no {', '.join(unknown) or 'contrast'}; there is {', '.join(there) or 'none'}")
    labels = _labels([match.path for match in (*masks, *images)])
    dataset = pair_by_fields(
        source, images, masks, channels=options.channels or there, labels={"background": 0} | labels
    )
    meaning = ", ".join(f"{value} {name}" for name, value in labels.items())
    return replace(
        dataset,
        optional=frozenset({"resection cavity"}),
        extra={"evaluation_regions": _regions(labels)},
        notes=(f"label values are taken to mean what they do in BraTS: {meaning}",),
    )


def _kind(path: Path) -> str:
    """Name of the contrast, `tumour`, or nothing."""
    word = _words(path)[-1]
    return "tumour" if word in _TUMOUR else _CONTRASTS.get(word, "")


def _stem(path: Path) -> tuple[str, ...]:
    return tuple(_words(path)[:-1])


def _words(path: Path) -> list[str]:
    return re.split(r"[-_.]", case_id_of(path).lower().removesuffix(_NORMALISED))


def _match(path: Path) -> Match:
    case, kind = path.parent.name, _kind(path)
    patient = _PATIENT.fullmatch(case)
    return Match(
        path,
        {"case": case} | ({} if kind == "tumour" else {CHANNEL: kind}),
        patient[1] or patient[2] if patient else None,
    )


def _labels(files: list[Path]) -> dict[str, int]:
    """Values changed their meaning twice; the names of the files tell."""
    names = [case_id_of(path).lower() for path in files]
    if names and all("-ped-" in name for name in names):
        return _LABELS_PED  # children's tumours have values of their own
    if any(name.endswith(("t2f", "t1n")) for name in names):
        return _LABELS_2023
    return _LABELS_2013 if any(name.endswith("otmulticlass") for name in names) else _LABELS_2017


def _regions(labels: dict[str, int]) -> dict[str, list[int]]:
    values = [value for name, value in labels.items() if name != "resection cavity"]
    core = [value for value in values if value != labels[_OEDEMA]]
    return {"whole tumour": values, "tumour core": core, "enhancing tumour": [labels[_ENHANCING]]}
