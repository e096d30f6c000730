"""Images and label maps in any image format, put together by their names.

With --images and --masks these templates say which files belong together (see `templates`). Without, there are two
rules, of which the first that finds anything is taken:

1. A folder of images beside one of labels: images/labels, imagesTr/labelsTr, img/label, image/masks and the like. Test
   images lie in imagesTs or imagesTest.
2. Images and labels side by side, in one folder or in many: a label has a word such as label, seg or mask at one end of
   its name (x_label.nrrd, x-seg.nii.gz, x_gmseg-manual.nii.gz, label_x.mha, x_seg_01.nii).

An image and a label belong together if their names are the same without the words for label and image (image, img,
volume, scan), or if they are the only two in their folder. In folders of images, x_0000 and x_0001 are channels of x if
there is a label x. Where nothing is left of a name, or it is found in several folders, the folders become part of the
case id. No file says what the values are called, so classes are class_1, class_2, ... unless --labels names them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.pairing import match_files, pair_by_fields, together
from dataset_conversion.templates import CHANNEL, Match, Template, all_files
from moe_pipeline.errors import DatasetError
from moe_pipeline.imaging.io.files import case_id_of, has_image_suffix

_IMAGE_FOLDER = re.compile(r"(images?|imgs?|volumes?|scans?)_?(tr|train|training)?", re.IGNORECASE)
_LABEL_FOLDER = re.compile(
    r"(labels?|masks?|segs?|segmentations?|gts?|annotations?)_?(tr|train|training)?", re.IGNORECASE
)
_TEST_FOLDER = re.compile(r"(images?|imgs?|volumes?|scans?)_?(ts|test|testing)", re.IGNORECASE)
_IMAGE_WORD = re.compile(
    r"^(image|img|volume|scan)([-_.]|(?=\d)|$)|[-_.](image|img|volume|scan)(?=([-_.]\d+)?$)", re.IGNORECASE
)
_LABEL_WORD = re.compile(
    r"^(labels?|masks?|seg|segmentation|gt)([-_.]|(?=\d)|$)"
    r"|[-_.](labels?|masks?|[a-z]{0,3}seg|segmentation|gt)([-_]manual)?(?=([-_.]\d+)?$)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def detect(source: Path) -> bool:
    """There are labels by their names; whether each has an image is found later, so that the message can be precise."""
    return bool(_by_rules(source, ())[1])


def describe(source: Path, options: Options) -> SourceDataset:
    """Cases by the templates or else by the rules.

    Raises:
        DatasetError: if only one template is given, a template fits no file, or no rule finds a pair.
    """
    if bool(options.images) != bool(options.masks):
        raise DatasetError(
            f"{source}: --images and --masks need each other, such as '{{case}}.nii.gz' and '{{case}}_seg.nii.gz'"
        )
    if options.images:
        images, labels = match_files(source, all_files(source), Template(options.images), Template(options.masks))
        return pair_by_fields(source, images, labels, channels=options.channels)
    images, labels, tests = _by_rules(source, options.channels)
    if not (images and labels):
        raise DatasetError(
            f"{source}: {len(images)} images and {len(labels)} labels, judged by their names. Say which are pairs, "
            "such as --images '{case}/ct.nii.gz' --masks '{case}/organs.nii.gz'"
        )
    training = pair_by_fields(source, images, labels, channels=options.channels)
    return together(training, pair_by_fields(source, tests, [], channels=training.channel_names, part="test"))


def _by_rules(source: Path, channels: Sequence[str]) -> tuple[list[Match], list[Match], list[Match]]:
    """Images, labels and test images."""
    files = [path for path in all_files(source) if has_image_suffix(path)]
    images, labels, tests = (
        [path for path in files if path.parent.parent == source and folder.fullmatch(path.parent.name)]
        for folder in (_IMAGE_FOLDER, _LABEL_FOLDER, _TEST_FOLDER)
    )
    if images and labels:
        label_matches = [Match(path, {"case": _plain(path, _LABEL_WORD) or case_id_of(path)}) for path in labels]
        known = {match.case_id for match in label_matches}
        image_matches = [_numbered(path, channels, known) for path in images]
        if any(CHANNEL in match.fields for match in image_matches):
            known |= {match["case"] for path in tests if (match := _NUMBERED.fullmatch(case_id_of(path)))}
        return image_matches, label_matches, [_numbered(path, channels, known) for path in tests]
    is_label = {path: bool(_LABEL_WORD.search(case_id_of(path))) for path in files}
    matches = {path: Match(path, {"case": name}) for path, name in _side_by_side(is_label, source).items()}
    image_matches, label_matches = (
        [match for path, match in matches.items() if is_label[path] is wanted] for wanted in (False, True)
    )
    return image_matches, label_matches, []


def _side_by_side(is_label: Mapping[Path, bool], source: Path) -> dict[Path, str]:
    """Case id of every file."""
    names = {path: _plain(path, _LABEL_WORD if label else _IMAGE_WORD) for path, label in is_label.items()}
    of_folder: dict[Path, list[Path]] = {}
    for path in names:
        of_folder.setdefault(path.parent, []).append(path)
    for paths in of_folder.values():
        if len(paths) == 2 and is_label[paths[0]] != is_label[paths[1]]:  # the only two
            image, label = sorted(paths, key=lambda path: is_label[path])
            names[label] = names[image]
    folders = Counter(name for _, name in {(path.parent, name) for path, name in names.items()})
    alone = {path: name for path, name in names.items() if name and folders[name] == 1}
    return {path: alone.get(path) or _with_folders(path, name, source) for path, name in names.items()}


def _with_folders(path: Path, name: str, source: Path) -> str:
    return "_".join(part for part in (*path.parent.relative_to(source).parts, name) if part) or source.resolve().name


def _numbered(path: Path, channels: Sequence[str], known: set[str]) -> Match:
    """An image by its case, and by its channel if only that tells it from the name of a label."""
    name = _plain(path, _IMAGE_WORD) or case_id_of(path)
    match = _NUMBERED.fullmatch(name)
    if name in known or match is None or match["case"] not in known:
        return Match(path, {"case": name})
    number = int(match["channel"])
    return Match(
        path, {"case": match["case"], CHANNEL: channels[number] if number < len(channels) else match["channel"]}
    )


def _plain(path: Path, word: re.Pattern[str]) -> str:
    return word.sub("", case_id_of(path))
