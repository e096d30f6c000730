"""Files beside a label map: the clicks, how probable each class is, and where to look twice."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.imaging.dicom.writing import write_dicom_seg
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.probability_maps import write_fractions
from moe_pipeline.inference.interactive.segment_case import CaseResult
from moe_pipeline.inference.options import OutputOptions
from moe_pipeline.journal.written import Written
from moe_pipeline.paths import PredictionFolder
from moe_pipeline.prompts.prompt import Prompt, from_world
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile

CLICKS = PredictionFolder.CLICKS
PROBABILITIES = "probabilities"
UNCERTAINTY = "uncertainty"


@dataclass(frozen=True, slots=True)
class ExtraOutputs:
    """The files beside the label maps of a run.

    Attributes:
        own: what is ours in the folder of the label maps.
        options: which files are wanted.
    """

    own: Written
    options: OutputOptions

    def write(self, result: CaseResult, case: str, native: Geometry, image: Path) -> tuple[str, ...]:
        """Write what is wanted of one case on its image's grid, one class after the other.

        Args:
            result: of `segment_case`.
            case: case id.
            native: grid of the image as stored.
            image: its file, or the folder of its DICOM series.

        Returns:
            What was written, relative to the folder.

        Raises:
            PipelineError: if something that is not ours is in the way.
        """
        self.forget(case)
        written = [self._write_clicks(result.clicked, case, native)] if result.clicked else []
        for class_id in result.answers if self.options.save_probabilities else ():
            written.append(f"{PROBABILITIES}/{case}/{class_id}.nii.gz")
            with self.own.writing(written[-1]) as temporary:
                write_fractions(result.probability(class_id), temporary, native)
        if result.uncertainty is not None:
            written.append(f"{UNCERTAINTY}/{case}.nii.gz")
            with self.own.writing(written[-1]) as temporary:
                write_fractions(result.uncertainty, temporary, native)
        names = _names(result.rows)
        if self.options.dicom_seg and image.is_dir() and names:
            written.append(f"{case}.dcm")
            with self.own.writing(written[-1]) as temporary:
                write_dicom_seg(result.labels, names, image, temporary)
        return tuple(written)

    def folders(self) -> tuple[Path, ...]:
        """Every folder that is written to."""
        out = self.own.folder
        return out, out / CLICKS, out / UNCERTAINTY, *(out / PROBABILITIES).glob("*/")

    def names(self, case: str) -> list[str]:
        """Everything that may be written or removed of a case, beside its label map."""
        wanted = [_clicks_of(case)]
        wanted += [f"{UNCERTAINTY}/{case}.nii.gz"] if self.options.uncertainty else []
        wanted += [f"{case}.dcm"] if self.options.dicom_seg else []
        if self.options.save_probabilities:
            there = (self.own.folder / PROBABILITIES / case).glob("*")
            wanted += [path.relative_to(self.own.folder).as_posix() for path in there]
        return [*wanted, *(name for name in self._ever_written(case) if name not in wanted)]

    def forget(self, case: str) -> None:
        """Remove the maps of an older answer, as far as they are ours."""
        for name in self._ever_written(case):
            self.own.remove(name)

    def _write_clicks(self, clicked: Sequence[Prompt], case: str, native: Geometry) -> str:
        objects = [
            ObjectPrompt(
                class_id=one.class_id,
                class_name=one.class_name,
                points=from_world(one.clicks_mm, "world_lps_mm", native).round(4).tolist(),
                labels=one.labels.tolist(),
            )
            for one in clicked
        ]
        made_by = "" if clicked[0].source == "prompts" else f"moe predict, {clicked[0].source}"
        name, content = _clicks_of(case), {case: tuple(objects)}
        self.own.write_text(name, PromptFile(space="world_lps_mm", made_by=made_by, cases=content).as_text())
        return name

    def _ever_written(self, case: str) -> list[str]:
        single = (_clicks_of(case), f"{UNCERTAINTY}/{case}.nii.gz", f"{case}.dcm")
        return [*self.own.names_in(f"{PROBABILITIES}/{case}"), *(name for name in single if name in self.own)]


def _clicks_of(case: str) -> str:
    return f"{CLICKS}/{case}.json"


def _names(rows: Iterable[CaseRow]) -> dict[int, str]:
    """Class names by id, all different as DICOM wants them."""
    names = {row.class_id: row.class_name or f"class {row.class_id}" for row in rows if row.class_id}
    counts = Counter(names.values())
    return {value: f"{name} ({value})" if counts[name] > 1 else name for value, name in names.items()}
