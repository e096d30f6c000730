"""BTCV, the abdominal organs of the workshop "Beyond the Cranial Vault": img/img0001.nii.gz and label/label0001.nii.gz.

Both folders may lie deeper, as in RawData/Training. Images below a folder Testing are test cases.
"""

from pathlib import Path

from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.pairing import match_files, pair_by_fields, together
from dataset_conversion.templates import Match, Template, all_files

_IMAGES, _MASKS = r"**/img/img{case:\d+}.nii*", r"**/label/label{case:\d+}.nii*"
_ORGANS = (
    *("background", "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta"),
    *("inferior vena cava", "portal and splenic vein", "pancreas", "right adrenal gland", "left adrenal gland"),
)


def detect(source: Path) -> bool:
    """There is a label by its name."""
    return any(source.glob("label/label[0-9]*.nii*")) or any(source.glob("*/*/label/label[0-9]*.nii*"))


def describe(source: Path, _: Options) -> SourceDataset:
    """Cases btcv_0001, btcv_0002, ...

    Raises:
        DatasetError: if there are no images or no labels by those names.
    """
    images, masks = match_files(source, all_files(source), Template(_IMAGES), Template(_MASKS))
    images, masks = ([_named(match) for match in matches] for matches in (images, masks))
    training, tests = ([match for match in images if _is_test(match.path, source) is test] for test in (False, True))
    labels = {name: value for value, name in enumerate(_ORGANS)}
    return together(
        pair_by_fields(source, training, masks, channels=["CT"], labels=labels),
        pair_by_fields(source, tests, [], channels=["CT"], labels=labels, part="test"),
    )


def _named(match: Match) -> Match:
    return Match(match.path, {"case": f"btcv_{match.fields['case']}"})


def _is_test(path: Path, source: Path) -> bool:
    return any(part.lower().startswith("test") for part in path.relative_to(source).parts)
