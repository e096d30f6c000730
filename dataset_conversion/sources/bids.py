"""BIDS: sub-01/[ses-1/]anat/sub-01[_ses-1]_T1w.nii.gz, with masks below derivatives/.

A case is a session (and run) of a subject; a contrast is what is left of the name, such as T2w or acq-ax_T2w. The main
contrast is the one that most masks are named after; masks lie on its grid. Other contrasts become channels if every
labelled case has them on that grid, and are left out otherwise. --channels T2w,T1w takes these, main contrast first.

A mask lies below derivatives/ and has seg, mask, label, lesion or roi in its name, or lies beside the images and has
such a word at its end, as in sub-01_T1w_label-lesion_roi.nii.gz. If a case has several, those that are named after the
main image count. --masks chooses by a template such as 'derivatives/manual/**/*_lesion.nii.gz', in which {class} may
stand for a structure. Splits are by subject.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dataset_conversion.layout import Options, SourceDataset
from dataset_conversion.pairing import pair_by_fields
from dataset_conversion.templates import CHANNEL, CLASS, Match, Template, all_files
from moe_pipeline.errors import DatasetError, PipelineError
from moe_pipeline.files import is_file, is_folder
from moe_pipeline.imaging.io.files import case_id_of, has_image_suffix
from moe_pipeline.imaging.io.native import read_geometry

_ENTITY = re.compile(r"(sub|ses|run)-([A-Za-z0-9]+)_")
_MASK = re.compile(r"seg|mask|label|lesion|roi", re.IGNORECASE)
_MASK_SUFFIX = re.compile(r"_(roi|mask|dseg|probseg|seg|lesion|label)$", re.IGNORECASE)
"""Last word of files that are masks, wherever they lie."""
_DERIVATIVES = "derivatives"
_Case = tuple[tuple[str, str], ...]


def detect(source: Path) -> bool:
    """There are subjects, and derivatives or the description that BIDS demands."""
    described = is_folder(source / _DERIVATIVES) or is_file(source / "dataset_description.json")
    return described and any(is_folder(path) for path in source.glob("sub-*"))


def describe(source: Path, options: Options) -> SourceDataset:
    """Cases by subject, session and run.

    Raises:
        DatasetError: if there are no images or no masks, or --channels asks for a contrast that is not there.
    """
    files = [path for path in all_files(source) if has_image_suffix(path)]
    raw = [path for path in files if path.relative_to(source).parts[0].startswith("sub-")]
    drawn = [path for path in raw if _MASK_SUFFIX.search(case_id_of(path))]
    images = [_image(path) for path in raw if path not in drawn]
    derived = [path for path in files if path.relative_to(source).parts[0] == _DERIVATIVES]
    masks = _masks([*drawn, *derived], source, options.masks)
    taken = {match.path for match in masks}
    images = [image for image in images if image.path not in taken]
    contrasts = Counter(match.fields[CHANNEL] for match in images)
    if not images or not masks:
        by = f" by {options.masks!r}" if options.masks else ""
        where = f"{_DERIVATIVES}/{by}, nor beside the images in sub-*/" if images else "sub-*/"
        raise DatasetError(f"{source}: no {'masks' if images else 'images'} in {where}")
    if unknown := [name for name in options.channels if name not in contrasts]:
        raise DatasetError(f"{source}: no contrast {', '.join(unknown)}; there are {', '.join(sorted(contrasts))}")
    main = options.channels[0] if options.channels else _main(images, masks)
    chosen = _named_after_main(images, masks, main)
    labelled = {match.case for match in chosen}
    others = [name for name in sorted(contrasts) if name != main]
    fitting = [name for name in others if _fits([image for image in images if image.case in labelled], main, name)]
    dataset = pair_by_fields(
        source,
        [image for image in images if image.case in labelled],
        chosen,
        channels=options.channels or (main, *fitting),
    )
    others_drawn = Counter(_kind(match.path) for match in masks if match not in chosen)
    notes = _notes(main, set(others) - set(fitting), others_drawn, images, labelled, options.channels)
    return replace(dataset, notes=notes)


def _kind(path: Path) -> str:
    return _ENTITY.sub("", case_id_of(path))


def _image(path: Path) -> Match:
    """An image with its case and its contrast."""
    fields = _case(path)
    return Match(path, fields | {CHANNEL: _ENTITY.sub("", case_id_of(path))}, fields.get("sub"))


def _case(path: Path) -> dict[str, str]:
    """Subject, session and run; the subject is the patient."""
    entities = dict(_ENTITY.findall(case_id_of(path)))
    return {key: f"{key}-{entities[key]}" for key in ("sub", "ses", "run") if key in entities}


def _masks(files: list[Path], source: Path, template: str) -> list[Match]:
    if template:
        found = Template(template).matches(files, source)
        return [
            Match(match.path, _case(match.path) | {key: match.fields[key] for key in (CLASS,) if key in match.fields})
            for match in found
        ]
    return [Match(path, _case(path)) for path in files if _MASK.search(_ENTITY.sub("", case_id_of(path)))]


def _main(images: Sequence[Match], masks: Sequence[Match]) -> str:
    """The contrast with most masks named after it, then the commonest, then the first by name."""
    common = Counter(image.fields[CHANNEL] for image in images)
    masks_of = _by_case(masks)
    followed = Counter(
        image.fields[CHANNEL] for image in images for mask in masks_of.get(image.case, []) if _is_after(mask, image)
    )
    return min(common, key=lambda name: (-followed[name], -common[name], name))


def _is_after(mask: Match, image: Match) -> bool:
    return case_id_of(mask.path).startswith(f"{case_id_of(image.path)}_")


def _named_after_main(images: Sequence[Match], masks: Sequence[Match], main: str) -> list[Match]:
    """Of cases with several masks those of the main image, if there are such."""
    heads = _by_case([image for image in images if image.fields[CHANNEL] == main])
    chosen = []
    for case, found in _by_case(masks).items():
        chosen += [mask for mask in found if any(_is_after(mask, head) for head in heads.get(case, []))] or found
    return chosen


def _by_case(matches: Sequence[Match]) -> dict[_Case, list[Match]]:
    groups: dict[_Case, list[Match]] = {}
    for match in matches:
        groups.setdefault(match.case, []).append(match)
    return groups


def _fits(images: Sequence[Match], main: str, name: str) -> bool:
    """Whether every case has this contrast on the grid of the main one, by the headers."""
    of_main = {image.case: image.path for image in images if image.fields[CHANNEL] == main}
    of_other = {image.case: image.path for image in images if image.fields[CHANNEL] == name}
    if not of_main.keys() <= of_other.keys():
        return False
    try:
        return not any(read_geometry(path).differences(read_geometry(of_other[case])) for case, path in of_main.items())
    except PipelineError:
        return False  # 4D or damaged: the main contrast does without it, and the note says that it was left out


def _notes(
    main: str,
    left_out: set[str],
    others_drawn: Counter[str],
    images: Sequence[Match],
    labelled: set[_Case],
    asked: Sequence[str],
) -> tuple[str, ...]:
    notes = []
    if left_out and not asked:
        names = ", ".join(sorted(left_out))
        notes.append(
            f"{names} left out: not in every labelled case, or not on the grid of {main}; --channels takes more"
        )
    if others_drawn:
        listed = ", ".join(f"{n} {kind}" for kind, n in sorted(others_drawn.items()))
        notes.append(f"masks that are not named after {main} left out: {listed}; --masks chooses")
    if unlabelled := {image.case for image in images} - labelled:
        notes.append(f"{len(unlabelled)} sessions without mask left out")
    return tuple(notes)
