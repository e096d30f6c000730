"""Reading of cases whose files are the volumes."""

from dataset_conversion.layout import Loaded, LoadedCase, SourceCase
from moe_pipeline.imaging.native import read_channels, read_native


def load_files(case: SourceCase) -> LoadedCase:
    """Every channel of every image file, and the label file.

    Raises:
        ImageError: if a file cannot be read, or the label is no single 3D volume.
        GeometryError: if a grid is sheared or has no positive spacing.
    """
    channels: list[Loaded] = []
    for path in case.images:
        volumes = read_channels(path)
        file = path if len(volumes) == 1 else None
        channels += [Loaded(volume, file) for volume in volumes]
    label = Loaded(read_native(case.labels[0]), case.labels[0]) if case.labels else None
    return LoadedCase(tuple(channels), label)
