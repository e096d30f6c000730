"""Convert and plan every labelled folder of the test data, and say what became of each.

    python benchmarks/convert_all.py --data FOLDER --work FOLDER [--only pyradiomics] [--no-plan]

Each line of SOURCES is one `moe convert` as a user would type it, with the number of cases it must give or the reason
for which it must be refused. Ends with exit code 1 if one of them comes out otherwise.
"""

import argparse
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import markdown_table

from dataset_conversion.convert import convert
from dataset_conversion.label_map import LabelMap
from dataset_conversion.layout import Options
from moe_pipeline.errors import PipelineError
from moe_pipeline.planning.plan_dataset import plan_dataset
from moe_pipeline.records.dataset import ConversionReport, DatasetJson

_MAX_LISTED = 6


@dataclass(frozen=True)
class Source:
    """One conversion, and what must come of it."""

    folder: str
    """Below the data folder."""
    n_cases: int = 0
    """Converted cases."""
    n_failed: int = 0
    """Cases that must be listed as failed."""
    refused: str = ""
    """Part of the message with which all of it must be refused."""
    options: Options = field(default_factory=Options)
    """--images, --masks, --channels."""
    labels: dict[str, Any] | None = None
    """--labels."""

    @property
    def typed(self) -> str:
        """The command's arguments."""
        given = {
            "images": self.options.images,
            "masks": self.options.masks,
            "channels": ",".join(self.options.channels),
        }
        parts = [f"--{name} '{value}'" for name, value in given.items() if value]
        parts += ["--labels map.json"] * (self.labels is not None)
        return " ".join([self.folder, *parts])


def _templates(images: str, masks: str, *channels: str) -> Options:
    return Options(images, masks, channels)


SOURCES = (
    Source("Task04_Hippocampus", 135),
    Source("BraTS2013_DeepMedic", 3),
    Source(
        "SAM-Med3D_samples", 1, options=_templates("edema/*/imagesTr/{case}.nii.gz", "{class}/*/labelsTr/{case}.nii.gz")
    ),
    Source("SAM-Med3D_samples/kidney_right/AMOS", refused="1 labels and no image"),
    Source(
        "TotalSegmentator_ref", 1, options=_templates("example_ct_sm.nii.gz", "example_seg_fast/{class}.nii.gz", "CT")
    ),
    Source("TotalSegmentator_ref", 1, options=_templates("example_ct_sm.nii.gz", "example_seg.nii.gz", "CT")),
    Source(
        "TotalSegmentator_ref", 1, options=_templates("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz", "CT")
    ),
    Source("TotalSegmentator_ref", 1, options=_templates("example_ct.nii.gz", "spine_report/totalseg.nii.gz", "CT")),
    Source("TotalSegmentator_ref", 1, options=_templates("example_mr_sm.nii.gz", "example_seg_mr.nii.gz", "MRI")),
    Source("pyradiomics", 3),
    Source(
        "sct_testing_data", 4, options=_templates("*/{case:mt0|mt1|t2|t2s}.nii.gz", "*/{case}_seg{:-manual|}.nii.gz")
    ),
    Source("sct_testing_data", 1, options=_templates("t2s/t2s.nii.gz", "t2s/t2s_{class:seg|gmseg_manual}.nii.gz")),
    Source("sct_testing_data", 1, options=_templates("t2/t2.nii.gz", "t2/t2_seg-manual_labeled.nii.gz")),
    Source("sct_testing_data", 1, options=_templates("t2/t2.nii.gz", "t2/t2_seg-deepseg_rootlets-manual.nii.gz")),
    Source("sct_testing_data", 1, options=_templates("t2/t2.nii.gz", "t2/t2_labeled_center_manual.nii.gz")),
    Source(
        "sct_testing_data/template/template",
        1,
        options=_templates("PAM50_small_t2.nii.gz", "PAM50_small_levels.nii.gz", "T2w"),
    ),
    Source("ivadomed_data-testing", 1),
    Source("ivadomed_data-testing/ct_scan", 1),
    Source("KiTS19_labels", refused="20 label files and no image"),
    Source("SynthSeg_labelmaps", refused="0 images and 2 labels"),
    Source("mricron_ch2", 1, options=_templates("ch2.nii.gz", "aal.nii.gz", "T1w")),
    Source("mricron_ch2", 1, options=_templates("ch2.nii.gz", "brodmann.nii.gz", "T1w")),
    Source("MedSAM2_RECIST_npz", 4, labels={"lesion": 1}),
    Source("dicom/ibsi_1_ct_radiomics_phantom", 1),
    Source("dicom/sts_images", 1, options=Options(channels=("CT",))),
    Source("dicom/sts_images", 1, options=Options(channels=("MR",))),
    Source("dicom/breast_UCSF-BR-06", 1),
    Source("dicom/dcmqi_segmentations", 4, n_failed=1),
    Source("dicom/rt-utils_mock_data", refused="in several files for one series"),
)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the test data")
    parser.add_argument("--work", type=Path, required=True, help="for the new datasets; emptied first")
    parser.add_argument("--only", default="", help="folders that begin like this")
    parser.add_argument("--no-plan", action="store_true", help="stop after the conversion")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    rows, surprises = [], []
    for number, source in enumerate(SOURCES, start=1):
        if not source.folder.startswith(arguments.only):
            continue
        name = f"Dataset{number:03d}_{source.folder.split('/')[0].replace('_', '')}"
        row, surprise = _run(source, arguments.data, arguments.work, name, plan=not arguments.no_plan)
        voxels = [f"`{source.typed}`".replace("|", "\\|"), *row]  # else Markdown takes it for a border
        rows.append([voxel.replace(f"{arguments.data}/", "") for voxel in voxels])
        surprises += [f"{source.typed}: {surprise}"] if surprise else []
    print(markdown_table(["folder", "cases", "classes", "s", "view and why", "warnings and what was refused"], rows))
    print("\n".join(["", *surprises]) if surprises else "\nall as expected")
    sys.exit(1 if surprises else 0)


def _run(source: Source, data: Path, work: Path, name: str, *, plan: bool) -> tuple[list[str], str]:
    """The low-resolution voxels of one line, and what was not as expected."""
    began = time.monotonic()
    raw = work / "raw" / name
    label_map = None if source.labels is None else LabelMap.model_validate(source.labels)
    try:
        report = convert(data / source.folder, raw, options=source.options, label_map=label_map)
    except PipelineError as error:
        message = " ".join(str(error).split())
        known = source.refused and source.refused in message
        return ["refused", "", "", "", message], "" if known else f"refused: {message}"
    seconds = time.monotonic() - began
    classes = DatasetJson.load(raw / "dataset.json").classes
    done = len(report.rows) - len(report.failed)
    surprise = "" if (done, len(report.failed)) == (source.n_cases, source.n_failed) else report.summary()
    view, warnings = _planned(raw, work / "plans" / name) if plan else ("", [])
    voxels = [str(done), _listed(list(classes.values())), f"{seconds:.1f}", view]
    return [*voxels, _listed([*_told(report), *warnings], "; ")], surprise or ("refused: no" if source.refused else "")


def _planned(raw: Path, out: Path) -> tuple[str, list[str]]:
    """View with its reason, and warnings."""
    made = plan_dataset(raw, out, leave_out_faulty=True)
    faults = [f"{fault.case_id}: {fault.message}" for fault in made.fingerprint.faults]
    return f"{made.plan.view.spacing_mm:g} mm: {made.plan.reasons['view']}", faults


def _told(report: ConversionReport) -> list[str]:
    """What the conversion said of cases and of the whole, but for files that were merely written anew."""
    rows = [
        f"{row.case_id}: {part}"
        for row in report.rows
        for part in row.message.split("; ")
        if "written anew" not in part
    ]
    return [*report.notes, *(row for row in rows if not row.endswith(": "))]


def _listed(texts: list[str], separator: str = ", ") -> str:
    more = f"{separator}{len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return separator.join(texts[:_MAX_LISTED]) + more


if __name__ == "__main__":
    main()
