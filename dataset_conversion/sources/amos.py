"""AMOS22, abdominal organs in CT and MR: imagesTr and labelsTr for training, imagesVa, labelsVa and imagesTs for tests.

Cases up to amos_0500 are CT, later ones MR; --channels CT or --channels MRI takes one kind, as the challenge's task 1
does. Validation cases become test cases with labels, so that what the challenge holds out stays held out.
"""

import re
from pathlib import Path

from dataset_conversion.common import files_of
from dataset_conversion.layout import Options, Part, SourceDataset
from dataset_conversion.pairing import pair_by_fields, together
from dataset_conversion.templates import Match
from moe_pipeline.errors import DatasetError

_NAME = re.compile(r"(?P<case>amos_(?P<number>\d{4}))\.nii\.gz")
_LAST_CT = 500
_PARTS: dict[str, Part] = {"Tr": "training", "Va": "test", "Ts": "test"}
_ORGANS = (
    *("background", "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta"),
    *("postcava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder", "prostate or uterus"),
)


def detect(source: Path) -> bool:
    """Files of AMOS lie in a folder of images or labels."""
    return any(_found(source, f"{kind}{part}", None) for kind in ("images", "labels") for part in _PARTS)


def describe(source: Path, options: Options) -> SourceDataset:
    """Cases by folder.

    Raises:
        DatasetError: if --channels asks for anything but CT or MRI, or there is no image.
    """
    if options.channels not in ((), ("CT",), ("MRI",)):
        raise DatasetError(f"{source}: --channels takes CT or MRI, found {', '.join(options.channels)}")
    kind = options.channels[0] if options.channels else None
    found = {part: (_found(source, f"images{part}", kind), _found(source, f"labels{part}", kind)) for part in _PARTS}
    if not any(images for images, _ in found.values()):
        n_labels = sum(len(labels) for _, labels in found.values())
        raise DatasetError(f"{source}: {n_labels} labels and no image amos_*.nii.gz in imagesTr, imagesVa or imagesTs")
    kinds = {"CT" if _is_ct(match.path) else "MRI" for images, _ in found.values() for match in images}
    channel = kinds.pop() if len(kinds) == 1 else "CT or MRI"
    labels = {name: value for value, name in enumerate(_ORGANS)}
    parts = [
        pair_by_fields(source, *found[ending], channels=[channel], labels=labels, part=part)
        for ending, part in _PARTS.items()
    ]
    return together(*parts)


def _found(source: Path, folder: str, kind: str | None) -> list[Match]:
    matches = [(path, _NAME.fullmatch(path.name)) for path in files_of(source / folder)]
    return [
        Match(path, {"case": match["case"]})
        for path, match in matches
        if match and (kind is None or _is_ct(path) == (kind == "CT"))
    ]


def _is_ct(path: Path) -> bool:
    match = _NAME.fullmatch(path.name)
    return match is not None and int(match["number"]) <= _LAST_CT
