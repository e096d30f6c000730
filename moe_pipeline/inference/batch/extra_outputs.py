"""Files beside a label map: how probable each class is, and where to look twice."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from moe_pipeline.imaging.dicom.writing import write_dicom_seg
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.probability_maps import write_fractions
from moe_pipeline.inference.interactive.segment_case import CaseResult, Request
from moe_pipeline.journal.written import Written
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

    def write(self, result: CaseResult, own: Written, case: str, native: Geometry, image: Path) -> tuple[str, ...]:
        """Write the maps of one case on its image's grid, one class after the other.

        Args:
            result: of `segment_case`.
            own: what is ours in the folder of the label maps.
            case: case id.
            native: grid of the image as stored.
            image: its file, or the folder of its DICOM series.

        Returns:
            What was written, relative to the folder.

        Raises:
            PipelineError: if something that is not ours is in the way.
        """
        self.forget(own, case)
        written = []
        for class_id in result.answers if self.probabilities else ():
            written.append(f"{PROBABILITIES}/{case}/{class_id}.nii.gz")
            with own.writing(written[-1]) as temporary:
                write_fractions(result.probability(class_id), temporary, native)
        if result.uncertainty is not None:
            written.append(f"{UNCERTAINTY}/{case}.nii.gz")
            with own.writing(written[-1]) as temporary:
                write_fractions(result.uncertainty, temporary, native)
        names = _names(result.rows)
        if self.dicom_seg and image.is_dir() and names:
            written.append(f"{case}.dcm")
            with own.writing(written[-1]) as temporary:
                write_dicom_seg(result.labels, names, image, temporary)
        return tuple(written)

    def folders(self, out: Path) -> tuple[Path, ...]:
        """Every folder that is written to."""
        return out, out / UNCERTAINTY, *(out / PROBABILITIES).glob("*/")

    def names(self, own: Written, case: str) -> list[str]:
        """Everything that may be written or removed of a case, beside its label map."""
        wanted = [f"{UNCERTAINTY}/{case}.nii.gz"] if self.uncertainty else []
        wanted += [f"{case}.dcm"] if self.dicom_seg else []
        if self.probabilities:
            there = (own.folder / PROBABILITIES / case).glob("*")
            wanted += [path.relative_to(own.folder).as_posix() for path in there]
        return [*wanted, *(name for name in _ever_written(own, case) if name not in wanted)]

    def forget(self, own: Written, case: str) -> None:
        """Remove the maps of an older answer, as far as they are ours."""
        for name in _ever_written(own, case):
            own.remove(name)


def _ever_written(own: Written, case: str) -> list[str]:
    single = (f"{UNCERTAINTY}/{case}.nii.gz", f"{case}.dcm")
    return [*own.names_in(f"{PROBABILITIES}/{case}"), *(name for name in single if name in own)]


def _names(rows: Iterable[CaseRow]) -> dict[int, str]:
    """Class names by id, all different as DICOM wants them."""
    names = {row.class_id: row.class_name or f"class {row.class_id}" for row in rows if row.class_id}
    counts = Counter(names.values())
    return {value: f"{name} ({value})" if counts[name] > 1 else name for value, name in names.items()}


NO_MAPS = Maps()
