"""Files beside a label map: how probable each class is, and where to look twice."""

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from moe_pipeline.files import atomic_folder
from moe_pipeline.imaging.dicom.writing import write_dicom_seg
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.probability_maps import write_fractions
from moe_pipeline.inference.interactive.segment_case import CaseResult, Request
from moe_pipeline.records.cases import CaseRow

PROBABILITIES = "probabilities"
UNCERTAINTY = "uncertainty"


@dataclass(frozen=True, slots=True)
class Maps:
    """What to write beside the label maps.

    Attributes:
        probabilities: `probabilities/<case>/<class id>.nii.gz`.
        uncertainty: `uncertainty/<case>.nii.gz`.
        dicom_seg: `<case>.dcm` where the image is a DICOM series.
    """

    probabilities: bool = False
    uncertainty: bool = False
    dicom_seg: bool = False

    def wanted_by(self, request: Request) -> Request:
        """The same request, for what these maps are made of."""
        return replace(request, uncertainty=self.uncertainty, keep_answers=self.probabilities)

    def write(self, result: CaseResult, out: Path, case: str, native: Geometry, image: Path) -> tuple[str, ...]:
        """Write the maps of one case on its image's grid, one class after the other.

        Args:
            result: of `segment_case`.
            out: folder of the label maps.
            case: case id.
            native: grid of the image as stored.
            image: its file, or the folder of its DICOM series.

        Returns:
            What was written, relative to `out`.
        """
        self.forget(out, case)
        written = []
        if self.probabilities:
            with atomic_folder(out / PROBABILITIES / case) as folder:
                for class_id in result.answers:
                    write_fractions(result.probability(class_id), folder / f"{class_id}.nii.gz", native)
            written += [f"{PROBABILITIES}/{case}/{class_id}.nii.gz" for class_id in result.answers]
        if result.uncertainty is not None:
            write_fractions(result.uncertainty, out / UNCERTAINTY / f"{case}.nii.gz", native)
            written.append(f"{UNCERTAINTY}/{case}.nii.gz")
        names = _names(result.rows)
        if self.dicom_seg and image.is_dir() and names:
            write_dicom_seg(result.labels, names, image, out / f"{case}.dcm")
            written.append(f"{case}.dcm")
        return tuple(written)

    def folders(self, out: Path) -> tuple[Path, ...]:
        """Every folder that is written to."""
        return out, out / PROBABILITIES, out / UNCERTAINTY

    def forget(self, out: Path, case: str) -> None:
        """Remove the maps of an older answer."""
        shutil.rmtree(out / PROBABILITIES / case, ignore_errors=True)
        (out / UNCERTAINTY / f"{case}.nii.gz").unlink(missing_ok=True)
        (out / f"{case}.dcm").unlink(missing_ok=True)


def _names(rows: Iterable[CaseRow]) -> dict[int, str]:
    """Class names by id, all different as DICOM wants them."""
    names = {row.class_id: row.class_name or f"class {row.class_id}" for row in rows if row.class_id}
    counts = Counter(names.values())
    return {value: f"{name} ({value})" if counts[name] > 1 else name for value, name in names.items()}


NO_MAPS = Maps()
