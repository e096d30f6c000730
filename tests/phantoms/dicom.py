"""Small DICOM objects for tests, written with pydicom alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR, SECONDARY = (f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2", "4", "7"))
ENHANCED_MR, RTSTRUCT, SEG, LABELMAP = (f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("4.1", "481.3", "66.4", "66.7"))
UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


def write_series(
    folder: Path,
    heights_mm: Sequence[float] = (10, 14, 18, 22),
    *,
    orientation: Sequence[float] = UPRIGHT,
    tilt_mm: float = 0.0,
    voxels: np.ndarray | None = None,
    uid: str = "1.2.3",
    patient: str = "P1",
    extra: Sequence[dict[str, Any]] = (),
    start: int = 0,
    **shared: Any,
) -> list[Path]:
    """Slices of 4 x 5 pixels of 2 x 3 mm; slice k lies heights_mm[k] along the normal and holds the value k.

    Args:
        folder: to write into.
        heights_mm: of each slice, in the order of the files.
        orientation: DICOM's six direction cosines.
        tilt_mm: how far each slice is shifted down against the one before.
        voxels: (slices, rows, columns) instead.
        uid: of the series.
        patient: its id.
        extra: attributes of each slice.
        start: number of the first file.
        shared: attributes of all slices.
    """
    pixels = np.broadcast_to(np.arange(len(heights_mm))[:, None, None], (len(heights_mm), 5, 4))
    pixels = pixels if voxels is None else voxels
    normal, down = np.cross(orientation[:3], orientation[3:]), np.array(orientation[3:])
    paths = []
    for number, height in enumerate(heights_mm):
        dataset = _object(shared.get("SOPClassUID", CT), uid, patient)
        dataset.ImagePositionPatient = _text(np.array([7, 8, 0]) + height * normal + number * tilt_mm * down)
        dataset.ImageOrientationPatient = _text(orientation)
        dataset.PixelSpacing, dataset.SliceThickness = [3, 2], 1.5
        dataset.InstanceNumber = start + number + 1
        _add_pixels(dataset, pixels[number].astype(np.int16), 16)
        for key, value in {**shared, **(extra[number] if extra else {})}.items():
            setattr(dataset, key, value)
        paths.append(_save(dataset, folder / f"{start + number:03d}.dcm"))
    return paths


def write_rtstruct(
    path: Path, regions: dict[str, Iterable[np.ndarray]], *, series_uid: str = "", patient: str = "P1", kind: str = ""
) -> Path:
    """Closed contours (n, 3) of regions in DICOM's world (LPS mm)."""
    dataset = _object(RTSTRUCT, generate_uid(), patient)
    dataset.Modality = "RTSTRUCT"
    dataset.StructureSetROISequence = Items()
    dataset.ROIContourSequence = Items()
    for number, (name, outlines) in enumerate(regions.items(), start=1):
        dataset.StructureSetROISequence.append(_item(ROINumber=number, ROIName=name))
        contours = [
            _item(
                ContourGeometricType=kind or "CLOSED_PLANAR",
                NumberOfContourPoints=len(outline),
                ContourData=_text(outline.ravel()),
            )
            for outline in outlines
        ]
        dataset.ROIContourSequence.append(_item(ReferencedROINumber=number, ContourSequence=Items(contours)))
    if series_uid:
        study = _item(RTReferencedSeriesSequence=Items([_item(SeriesInstanceUID=series_uid)]))
        frame = _item(FrameOfReferenceUID="1.9", RTReferencedStudySequence=Items([study]))
        dataset.ReferencedFrameOfReferenceSequence = Items([frame])
    return _save(dataset, path)


def write_frames(
    path: Path,
    pixels: np.ndarray,
    positions: Sequence[Sequence[float]],
    *,
    kind: str = ENHANCED_MR,
    orientation: Sequence[float] = UPRIGHT,
    per_frame: Sequence[dict[str, dict[str, Any]]] = (),
    uid: str = "1.2.3",
    patient: str = "P1",
    bits: int = 16,
    **top: Any,
) -> Path:
    """A file of several frames (frames, rows, columns) of 2 x 3 mm pixels.

    Args:
        path: to write.
        pixels: of the frames.
        positions: of each frame, LPS mm.
        kind: storage class.
        orientation: of all frames.
        per_frame: functional groups of each frame: name of the sequence to attributes of its item.
        uid: of the series.
        patient: its id.
        bits: 1, 8 or 16 a pixel.
        top: attributes of the file.
    """
    dataset = _object(kind, uid, patient)
    measures = _item(PixelSpacing=[3, 2], SliceThickness=4)
    plane = _item(ImageOrientationPatient=_text(orientation))
    dataset.SharedFunctionalGroupsSequence = Items(
        [_item(PixelMeasuresSequence=Items([measures]), PlaneOrientationSequence=Items([plane]))]
    )
    groups = []
    for number, position in enumerate(positions):
        item = _item(PlanePositionSequence=Items([_item(ImagePositionPatient=_text(position))]))
        for name, values in (per_frame[number] if per_frame else {}).items():
            setattr(item, name, Items([_item(**values)]))
        groups.append(item)
    dataset.PerFrameFunctionalGroupsSequence = Items(groups)
    dataset.NumberOfFrames = len(positions)
    _add_pixels(dataset, pixels, bits)
    for key, value in top.items():
        setattr(dataset, key, value)
    return _save(dataset, path)


def write_seg(
    path: Path,
    names: Sequence[str],
    frames: Sequence[tuple[int, np.ndarray, Sequence[float]]],
    *,
    series_uid: str = "",
    fractional: int = 0,
    **more: Any,
) -> Path:
    """A SEG of frames: number of the segment (from 1), pixels (rows, columns) and position.

    It is BINARY, or FRACTIONAL with that largest value; `more` goes to `write_frames`.
    """
    top: dict[str, Any] = {"Modality": "SEG", "SegmentationType": "FRACTIONAL" if fractional else "BINARY"}
    top["SegmentSequence"] = Items(
        [_item(SegmentNumber=number, SegmentLabel=name) for number, name in enumerate(names, start=1)]
    )
    if fractional:
        top["MaximumFractionalValue"] = fractional
    if series_uid:
        top["ReferencedSeriesSequence"] = Items([_item(SeriesInstanceUID=series_uid)])
    groups = [{"SegmentIdentificationSequence": {"ReferencedSegmentNumber": number}} for number, _, _ in frames]
    return write_frames(
        path,
        np.stack([pixels for _, pixels, _ in frames]).astype(np.uint8),
        [position for _, _, position in frames],
        per_frame=groups,
        uid=generate_uid(),
        bits=8 if fractional else 1,
        **{"kind": SEG, **top, **more},
    )


def _object(kind: str, series_uid: str, patient: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, generate_uid()
    dataset.Modality = {CT: "CT", SECONDARY: "OT"}.get(kind, "MR")
    dataset.PatientID, dataset.PatientName = patient, patient
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.StudyID = ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2", series_uid, "1.9"
    dataset.SeriesNumber = 1
    return dataset


def _add_pixels(dataset: Dataset, pixels: np.ndarray, bits: int) -> None:
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    content = np.packbits(pixels.ravel(), bitorder="little").tobytes() if bits == 1 else pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return item


def _text(values: Iterable[float]) -> list[str]:
    return [f"{value:.8g}" for value in values]


def _save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
