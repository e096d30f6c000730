"""Label maps as DICOM SEG, so that they go back to where the series came from."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_pipeline.errors import ImageError
from moe_pipeline.files import atomic_path, sha256_json
from moe_pipeline.imaging.dicom.library import highdicom, pydicom, read_dataset
from moe_pipeline.imaging.dicom.series import find_stack
from moe_pipeline.imaging.dicom.stack import Stack
from moe_pipeline.imaging.volume import Volume, to_grid_orientation
from moe_pipeline.records.run import package_version

_MAKER = "moe-pipeline"
_CODING_SCHEME = "99MOE"  # 99 marks codes that are not in a public dictionary
_CATEGORY = ("123037004", "SCT", "Anatomical structure")
_FAMILY = ("123110", "DCM", "Artificial Intelligence")
_MAX_NAME = 64
_SERIES_NUMBER = 9000
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


def write_dicom_seg(labels: Volume, class_names: dict[int, str], series_folder: Path, path: Path) -> None:
    """Write a label map as a BINARY SEG that refers to every slice of the series it was made for.

    One segment per class, numbered in the order of the values; a class that has no voxel is listed without frames. The
    value of each class is kept as the code of its property type.

    Args:
        labels: canonical, unsigned integers, on the grid of the series.
        class_names: name of each value but 0.
        series_folder: folder with the one series.
        path: file to write, such as case.dcm.

    Raises:
        ImageError: if there are values without name or names alike, or the series lacks what a SEG must repeat.
        GeometryError: if the label map does not lie on the series' grid.
        PipelineError: if pydicom or highdicom is not installed.
    """
    classes = _checked_classes(labels.array, class_names, path)
    stack = find_stack(series_folder)
    native = to_grid_orientation(labels, stack.geometry).array  # (x, y, z)
    number_of = np.zeros(int(labels.array.max()) + 1, np.uint16 if len(classes) > np.iinfo(np.uint8).max else np.uint8)
    for number, value in enumerate(classes, start=1):
        if value < len(number_of):
            number_of[value] = number
    segmentation = _segmentation(number_of[native.transpose(2, 1, 0)], classes, stack, series_folder)  # (z, y, x)
    with atomic_path(path) as temporary:
        _quietly(segmentation.save_as, temporary)


def _checked_classes(array: NDArray[Any], class_names: dict[int, str], path: Path) -> dict[int, str]:
    """Names short enough for DICOM, by value in order."""
    classes = {value: class_names[value].strip()[:_MAX_NAME] for value in sorted(class_names) if value > 0}
    nameless = sorted(set(np.unique(array).tolist()) - set(classes) - {0})
    if nameless:
        raise ImageError(f"{path}: label values {', '.join(map(str, nameless))} have no name; known: {classes}.")
    if not classes or len(set(classes.values())) < len(classes) or not all(classes.values()):
        listed = ", ".join(f"{value}: {name!r}" for value, name in classes.items()) or "none"
        raise ImageError(
            f"{path}: a SEG needs classes with different names of up to {_MAX_NAME} letters, got {listed}."
        )
    return classes


def _segmentation(pixels: NDArray[np.unsignedinteger[Any]], classes: dict[int, str], stack: Stack, folder: Path) -> Any:
    """The object of highdicom; `pixels` are segment numbers (slices, rows, columns) in the order of the stack."""
    library = highdicom()
    sources, order = _sources(stack)
    pixels = np.ascontiguousarray(pixels[order])
    uids = _uids(sources[0], classes, pixels)
    try:
        return _quietly(
            library.seg.Segmentation,
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=library.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_descriptions(library, classes),
            series_instance_uid=uids[0],
            series_number=_SERIES_NUMBER,
            sop_instance_uid=uids[1],
            instance_number=1,
            manufacturer=_MAKER,
            manufacturer_model_name=_MAKER,
            software_versions=package_version(),
            device_serial_number="1",
            series_description=f"{_MAKER} segmentation",
            omit_empty_frames=bool(pixels.any()),  # a SEG without any frame is none
        )
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        raise ImageError(
            f"{folder}: no SEG can be made for this series: {str(error).rstrip('.')}. Write the label map as .nii.gz."
        ) from error


def _quietly(make: Callable[..., Any], *values: Any, **arguments: Any) -> Any:
    """Without warnings about values of the source that are copied as they are, such as one-word patient names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return make(*values, **arguments)


def _sources(stack: Stack) -> tuple[list[Any], list[int]]:
    """Headers of the series' files, and the stack's slices in the order in which highdicom counts them."""
    if stack.frames[0].number is None:
        sources = [read_dataset(frame.path) for frame in stack.frames]
        order = list(range(len(sources)))
    else:
        paths = {frame.path for frame in stack.frames}
        source = read_dataset(stack.frames[0].path)
        if len(paths) > 1 or int(source.NumberOfFrames) != len(stack.frames):
            raise ImageError(f"{stack.frames[0].path}: a SEG is made for one file with all frames, or one per slice.")
        sources = [source]
        order = sorted(range(len(stack.frames)), key=lambda index: stack.frames[index].number or 0)
    for source in sources:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in source:
                setattr(source, keyword, "")
        if not source.get("FrameOfReferenceUID"):
            source.FrameOfReferenceUID = _uid("frame of reference", str(source.SeriesInstanceUID))
    return sources, order


def _descriptions(library: Any, classes: dict[int, str]) -> list[Any]:
    category, family = (library.sr.CodedConcept(*code) for code in (_CATEGORY, _FAMILY))
    algorithm = library.AlgorithmIdentificationSequence(name=_MAKER, version=package_version(), family=family)
    return [
        library.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=category,
            segmented_property_type=library.sr.CodedConcept(str(value), _CODING_SCHEME, name),
            algorithm_type=library.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, (value, name) in enumerate(classes.items(), start=1)
    ]


def _uids(source: Any, classes: dict[int, str], pixels: NDArray[Any]) -> tuple[str, str]:
    """UIDs of the series and the object: the same label map of the same series has the same ones."""
    content = sha256_json(
        [str(source.SeriesInstanceUID), sorted(classes.items()), hashlib.sha256(pixels.tobytes()).hexdigest()]
    )
    return _uid("series", content), _uid("instance", content)


def _uid(*parts: str) -> str:
    return str(pydicom().uid.generate_uid(entropy_srcs=[_MAKER, *parts]))
