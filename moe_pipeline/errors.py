"""The errors a user can meet. Each message names the case, what was found, what was expected and what to do."""


class PipelineError(Exception):
    """Anything the user can repair. The command line prints its message and ends with exit code 1.

    Args:
        message: for people.
        kind: what sort of fault it is, a value of `records.check.Kind`; where it is given, a check can sort by it.
    """

    kind: str = ""

    def __init__(self, message: str = "", *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind


def in_words(error: OSError) -> str:
    """What the system says is wrong with a file, and what to do, for people."""
    files = " to ".join(str(file) for file in (error.filename, error.filename2) if file)
    what = f"{files}: {error.strerror}" if files else str(error)
    return f"{what}; check the path, its permissions and the space on the disk"


class RecordError(PipelineError):
    """A JSON file is missing, unreadable, or does not follow its schema."""


class ImageError(PipelineError):
    """An image or label file cannot be read as one 3D volume."""

    kind = "unreadable"


class GeometryError(PipelineError):
    """Two grids that must agree do not, or one is no valid grid."""

    kind = "geometry"


class DatasetError(PipelineError):
    """A dataset folder breaks its format; lists every fault found."""


class CheckpointError(PipelineError):
    """Weights are missing, damaged, refused, or do not fit the network."""


class StaleCacheError(PipelineError):
    """Something on disk was made from other inputs than the ones given now."""


class PromptError(PipelineError):
    """A prompt file or a click does not fit its image."""
