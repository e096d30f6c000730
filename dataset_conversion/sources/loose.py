"""Folders that follow no known layout, for checks only: files are put together by their names as well as can be."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from dataset_conversion.layout import SourceCase, SourceDataset
from moe_pipeline.errors import DatasetError
from moe_pipeline.files import is_file
from moe_pipeline.imaging.dicom import is_series_folder
from moe_pipeline.imaging.io.files import case_id_of, has_image_suffix

NAME = "loose files"
_LABEL_FOLDERS = re.compile(r"labels?(Tr|Ts)?|masks?|seg(mentation)?s?|gt|ground_?truth|annotations?", re.IGNORECASE)
_IMAGE_FOLDERS = re.compile(r"(images?|imgs?)(Tr|Ts)?", re.IGNORECASE)
_LABEL_NAME = re.compile(
    r"(^|[_.-])(\w*(labels?|seg|segmentation|masks?|lesions?)|gt|truth|manual|annotation)([_.-]|$)", re.IGNORECASE
)
_SEQUENCE = re.compile(
    r"[_.-](t1|t1w|t1c|t1ce|t1gd|t1n|t2|t2w|t2f|t2star|flair|adc|dwi|hbv|pd|pdw|swi|mra|ct|cta|pet|\d{4})$",
    re.IGNORECASE,
)
_ROLE_WORDS = re.compile(
    r"(^|[_.-])(image|img|scan|volume|labels?|seg|segmentation|mask|gt|truth|\d{4})(?=[_.-]|$)", re.IGNORECASE
)


def describe(source: Path) -> SourceDataset:
    """Cases of files that seem to belong together. Labels without image and images without label are faults.

    Raises:
        DatasetError: if there is no image at all.
    """
    series = [folder for folder in (source, *_folders(source)) if is_series_folder(folder)]
    cases = [SourceCase(_id(folder, source), (folder,), part="test") for folder in series]
    groups: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(source.rglob("*")):
        if is_file(path) and has_image_suffix(path) and not path.name.startswith("."):
            groups[_home(path)].append(path)
    faults: dict[str, str] = {}
    for home, paths in groups.items():
        prefix = "" if len(groups) == 1 else f"{home.relative_to(source).as_posix()}/".removeprefix("./")
        found, wrong = _put_together(paths)
        cases += [replace(case, case_id=prefix + case.case_id) for case in found]
        faults |= {prefix + case_id: why for case_id, why in wrong.items()}
    if not cases:
        raise DatasetError(f"{source}: no image files and no DICOM series; expected a dataset")
    return SourceDataset(("image",), None, tuple(cases), faults)


def is_label(path: Path) -> bool:
    """Whether the name of a file, or of its folder, says that it is a label map."""
    return bool(_LABEL_FOLDERS.fullmatch(path.parent.name) or _LABEL_NAME.search(case_id_of(path)))


def _folders(source: Path) -> list[Path]:
    return sorted(path for path in source.rglob("*") if path.is_dir() and not path.name.startswith("."))


def _home(path: Path) -> Path:
    """The folder that holds both images and labels: imagesTr stands beside labelsTr."""
    is_part = _LABEL_FOLDERS.fullmatch(path.parent.name) or _IMAGE_FOLDERS.fullmatch(path.parent.name)
    return path.parent.parent if is_part else path.parent


def _id(folder: Path, source: Path) -> str:
    return folder.resolve().name if folder == source else folder.relative_to(source).as_posix()


def _put_together(paths: list[Path]) -> tuple[list[SourceCase], dict[str, str]]:
    """Cases of one folder, and what is missing."""
    labels = {case_id_of(path): path for path in paths if is_label(path)}
    images = {case_id_of(path): path for path in paths if not is_label(path)}
    if not images:  # label maps alone
        return [SourceCase(name, (), (path,)) for name, path in labels.items()], {}
    stacks = _stacks(images, {_image_of(name, images) for name in labels})
    partner = {name: _stack_of(_image_of(name, images), stacks) for name in labels}
    if len(stacks) == len(labels) == 1:  # one image, one label, whatever their names
        partner = dict.fromkeys(labels, next(iter(stacks)))
    cases, faults = [], {}
    for name, stem in partner.items():
        files = tuple(images[member] for member in stacks[stem]) if stem else ()
        is_only = list(partner.values()).count(stem) == 1 and stem
        cases.append(SourceCase(stem if is_only and stem else name, files, (labels[name],)))
        if stem is None:
            faults[name] = f"{labels[name].name}: a label without image"
    for stem in set(stacks) - set(partner.values()):
        files = tuple(images[name] for name in stacks[stem])
        cases.append(SourceCase(stem, files, part="test"))
        if _IMAGE_FOLDERS.fullmatch(files[0].parent.name) and files[0].parent.name[-2:] != "Ts":
            faults[stem] = f"{files[0].name}: an image without label"
    return cases, faults


def _stacks(images: Mapping[str, Path], labelled: set[str | None]) -> dict[str, list[str]]:
    """Images that differ only in the name of their sequence are channels, unless they have labels of their own."""
    stacks: dict[str, list[str]] = defaultdict(list)
    for name in images:
        stacks[name if name in labelled else _SEQUENCE.sub("", name)].append(name)
    return dict(stacks)


def _stack_of(image: str | None, stacks: Mapping[str, list[str]]) -> str | None:
    return next((stem for stem, members in stacks.items() if image in members), None)


def _image_of(label: str, images: Iterable[str]) -> str | None:
    """The image of a label: the same name but for words like `image`, or the longest name that it begins with."""
    same = [name for name in images if _plain(name) == _plain(label) != ""]
    begun = [name for name in images if label.startswith(name)]
    return max(same or begun, key=len, default=None)


def _plain(name: str) -> str:
    return _ROLE_WORDS.sub("", name).strip("_.-")
