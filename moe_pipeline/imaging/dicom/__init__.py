"""DICOM: series as volumes, contours and segmentations as masks, label maps as segmentations.

The modules, each using only those before it: `library` (pydicom, when it is needed), `marks` and `frame` (one slice),
`stack` (slices that make a grid), `pixels` (their voxels), `series` (a folder), `structure` (one mask), `contours`
(RTSTRUCT) and `segments` (SEG), `labels` (either), `tree` (everything below a folder), `writing` (SEG).
"""

from moe_pipeline.imaging.dicom.series import (
    find_series_folders,
    is_series_folder,
    read_series,
    read_series_geometry,
    series_folders,
)

__all__ = ["find_series_folders", "is_series_folder", "read_series", "read_series_geometry", "series_folders"]
