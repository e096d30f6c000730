"""The errors a user can meet. Each message names the case, what was found, what was expected and what to do."""


class PipelineError(Exception):
    """Anything the user can mend. The command line prints its message and ends with exit code 1."""


class RecordError(PipelineError):
    """A JSON file is missing, unreadable, or does not follow its schema."""


class ImageError(PipelineError):
    """An image or label file cannot be read as one 3D volume."""


class GeometryError(PipelineError):
    """Two grids that must agree do not, or one is no valid grid."""


class DatasetError(PipelineError):
    """A dataset folder breaks its format; lists every fault found."""


class CheckpointError(PipelineError):
    """Weights are missing, damaged, refused, or do not fit the network."""


class StaleCacheError(PipelineError):
    """Something on disk was made from other inputs than the ones given now."""


class PromptError(PipelineError):
    """A prompt file or a click does not fit its image."""
