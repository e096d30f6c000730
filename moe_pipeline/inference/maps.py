"""Files beside a label map: how probable each class is, and where to look twice."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from moe_pipeline.files import atomic_folder
from moe_pipeline.imaging.fractions import write_fractions
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.case import CaseResult, Request

PROBABILITIES = "probabilities"
UNCERTAINTY = "uncertainty"


@dataclass(frozen=True, slots=True)
class Maps:
    """What to write beside the label maps.

    Attributes:
        probabilities: `probabilities/<case>/<class id>.nii.gz`.
        uncertainty: `uncertainty/<case>.nii.gz`.
    """

    probabilities: bool = False
    uncertainty: bool = False

    def wanted_by(self, request: Request) -> Request:
        """The same request, for what these maps are made of."""
        return replace(request, uncertainty=self.uncertainty, keep_answers=self.probabilities)

    def write(self, result: CaseResult, out: Path, case: str, native: Geometry) -> None:
        """Write the maps of one case on its image's grid, one class after the other.

        Args:
            result: of `segment_case`.
            out: folder of the label maps.
            case: case id.
            native: grid of the image as stored.
        """
        self.forget(out, case)
        if self.probabilities:
            with atomic_folder(out / PROBABILITIES / case) as folder:
                for class_id in result.answers:
                    write_fractions(result.probability(class_id), folder / f"{class_id}.nii.gz", native)
        if result.uncertainty is not None:
            write_fractions(result.uncertainty, out / UNCERTAINTY / f"{case}.nii.gz", native)

    def forget(self, out: Path, case: str) -> None:
        """Remove the maps of an older answer."""
        shutil.rmtree(out / PROBABILITIES / case, ignore_errors=True)
        (out / UNCERTAINTY / f"{case}.nii.gz").unlink(missing_ok=True)


NO_MAPS = Maps()
