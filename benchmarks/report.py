"""How large a page of predictions is, and how long it takes to make.

    python -m benchmarks.report RUN [--cases N]        a prediction that is there
    python -m benchmarks.report --ct 3                 made CT volumes of 512 x 512 x 300, extrapolated to 30

The time is of the processor as well as of the clock: on a busy machine only the first means anything.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from moe_pipeline.files import csv_text
from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.imaging.io.files import write_label_map
from moe_pipeline.imaging.io.native import write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.records.cases import CaseRow
from moe_pipeline.records.run import RunRecord, library_versions
from moe_pipeline.report.options import MEGABYTE, ReportOptions
from moe_pipeline.report.page.render import base_bytes
from moe_pipeline.report.write import write_report

GRID = Geometry((512, 512, 300), (0.8, 0.8, 1.0), (-204.0, -204.0, 0.0))
WANTED = 30
_FINE = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a page."""

    megabytes: float
    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> None:
    """Print the costs of a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--cases", type=int, default=None)
    parser.add_argument("--max-mb", type=float, default=25.0)
    parser.add_argument("--ct", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.ct:
            share_mb = (given.max_mb - base_bytes() / MEGABYTE) / WANTED
            run = write_ct(Path(name), given.ct)
            options = ReportOptions(max_mb=base_bytes() / MEGABYTE + share_mb * given.ct, cases=given.ct)
        else:
            run, options = given.run, ReportOptions(max_mb=given.max_mb, cases=given.cases)
        cost = measure(run, Path(name) / "page.html", options)
    n = given.ct or len(list(run.glob("*.nii.gz")))
    print(
        f"{n} cases: {cost.megabytes:.2f} MB, {cost.seconds:.1f} s by the clock, {cost.cpu_seconds:.1f} s of processor"
    )
    print(f"a case: {cost.seconds / n:.2f} s by the clock, {cost.cpu_seconds / n:.2f} s of processor")
    print(f"most memory: {cost.peak_mb:.0f} MB")
    if given.ct:
        whole = base_bytes() / MEGABYTE + (cost.megabytes - base_bytes() / MEGABYTE) * WANTED / given.ct
        print(f"{WANTED} such cases: {whole:.1f} MB, extrapolated")


def measure(run: Path, page: Path, options: ReportOptions) -> Cost:
    """Make the page of a run."""
    began, busy = time.perf_counter(), time.process_time()
    write_report([run], page, options)
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(page.stat().st_size / MEGABYTE, seconds, cpu, peak)


def write_ct(root: Path, n_cases: int) -> Path:
    """Trunks with a large and a small organ in noise, of the size of a CT; and predictions that miss a little."""
    out = root / "out"
    rows = []
    for number in range(n_cases):
        case, random = f"ct_{number:02d}", np.random.default_rng(number)
        reference = _organs(random)
        coarse = gaussian_filter(random.standard_normal([n // _FINE for n in GRID.shape], dtype=np.float32), 3)
        field = 400 * zoom(coarse, _FINE, order=1)
        x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID.shape), indexing="ij", sparse=True)
        field = np.where((x / 0.9) ** 2 + (y / 0.65) ** 2 < 1, field, np.float32(-1000))
        field += 60 * (reference > 0) + 15 * random.standard_normal(GRID.shape, dtype=np.float32)
        (root / "images").mkdir(parents=True, exist_ok=True)
        write_native(Volume(np.rint(field).astype(np.int16), GRID), root / "images" / f"{case}.nii.gz")
        prediction = np.roll(reference, 4, axis=0)
        write_label_map(Volume(reference, GRID), root / "references" / f"{case}.nii.gz", GRID)
        write_label_map(Volume(prediction, GRID), out / f"{case}.nii.gz", GRID)
        rows += [CaseRow(case=case, class_id=k, class_name=f"organ {k}", status="ok", expert="general") for k in (1, 2)]
    (out / "cases.csv").write_text(csv_text(list(CaseRow.model_fields), (row.model_dump() for row in rows)))
    settings = {"images": str(root / "images"), "references": str(root / "references")}
    record = RunRecord(command="predict", versions=library_versions(), device="cpu", settings=settings, seconds=0)
    record.save(out / "run.json")
    return out


def _organs(random: np.random.Generator) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    places = np.meshgrid(
        *(np.arange(n) * mm for n, mm in zip(GRID.shape, GRID.spacing_mm, strict=True)), indexing="ij", sparse=True
    )
    labels = np.zeros(GRID.shape, np.uint8)
    for value, centre, radii in ((1, (150, 200, 170), (95, 75, 80)), (2, (270, 190, 150), (18, 18, 25))):
        jitter = random.uniform(-10, 10, 3)
        distance = sum(
            ((place - at - off) / radius) ** 2
            for place, at, off, radius in zip(places, centre, jitter, radii, strict=True)
        )
        labels[np.asarray(distance) < 1] = value
    return labels


if __name__ == "__main__":
    main()
