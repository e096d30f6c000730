"""SPPIN2023, neuroblastoma in MR: several visits per patient, each with unregistered sequences and a label on the T1.

The data is under agreement and its names may change, so --images and --masks say where files lie (see `templates`). By
default a visit is a folder of a patient's folder, its sequences have T1, T2, b0 and b100 in their names, and the label
has label, seg or mask in it. The first channel is the one that the label was drawn on; the others are resampled onto
its grid, as their headers place them. That does for any dataset of that kind: `--as sppin`.
"""

from pathlib import Path

from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.pairing import match_files, pair_by_fields
from dataset_conversion.templates import CHANNEL, PATIENT, Template, all_files
from moe_pipeline.errors import DatasetError

_IMAGES = "{patient}/{visit}/*{channel:T1|T2|b0|b100}*"
_MASKS = "{patient}/{visit}/*{:[lL]abel|[sS]eg|[mM]ask}*"
_LABELS = {"background": 0, "neuroblastoma": 1}


def detect(source: Path) -> bool:
    """By the name of the folder alone, as any layout may be told by templates."""
    return "sppin" in source.resolve().name.lower()


def describe(source: Path, options: Options) -> SourceDataset:
    """One case per visit.

    Raises:
        DatasetError: if the templates fit no file, or lack {patient} or {channel}.
    """
    template = Template(options.images or _IMAGES)
    if missing := {CHANNEL, PATIENT} - template.names:
        named = " and ".join(f"{{{name}}}" for name in sorted(missing))
        raise DatasetError(f"{source}: --images needs {named}, such as {_IMAGES}; found {template.text}")
    images, masks = match_files(source, all_files(source), template, Template(options.masks or _MASKS))
    found = sorted({match.fields[CHANNEL] for match in images}, key=lambda name: (not name.startswith("T1"), name))
    return pair_by_fields(source, images, masks, channels=options.channels or found, labels=_LABELS, on_first_grid=True)
