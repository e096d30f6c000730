"""The commands as Python functions: convert. What it needs is imported when it is called."""

import os
from typing import TYPE_CHECKING

from moe_pipeline.arguments import AnyPath, Names, as_names, as_number, as_path, as_text
from moe_pipeline.commands.learning import ROOT, workspace_of
from moe_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    from moe_pipeline.cluster.engines import EngineName
    from moe_pipeline.records.dataset import ConversionReport


def convert(
    source: AnyPath,
    *,
    out: AnyPath | None = None,
    source_format: str | None = None,
    labels: AnyPath | None = None,
    images: str | None = None,
    masks: str | None = None,
    channels: Names = (),
    threshold: float | None = None,
    fix: Names = (),
    engine: "EngineName" = "local",
    ray_address: str | None = None,
    workspace: AnyPath = ROOT,
    progress: Progress = silent,
) -> "ConversionReport":
    """Make an nnU-Net v2 raw folder of a dataset in another layout: `moe convert`.

    A case that cannot be converted is a row of the report with its reason.

    Args:
        source: folder of the dataset, which is only read.
        out: name such as Dataset004_Hippocampus, or a path; by default after the source.
        source_format: of the source; recognised if not given.
        labels: JSON of classes to make.
        images: template of image paths.
        masks: template of label paths.
        channels: to take, in order.
        threshold: smallest fraction inside a fractional DICOM segment.
        fix: names of what may be mended on the way.
        engine: where cases are converted: local, slurm or ray.
        ray_address: of a Ray cluster; one is started if not given.
        workspace: folder that holds everything moe writes.
        progress: told after each case.

    Raises:
        PipelineError: if an argument is not what it should be, or as `dataset_conversion.convert.convert`.
    """
    from dataset_conversion.checking.fixing import fixes_named
    from dataset_conversion.convert import convert as convert_dataset
    from dataset_conversion.label_map import LabelMap
    from dataset_conversion.layout import Options
    from dataset_conversion.naming import suggest_name
    from moe_pipeline.cluster.engines import EngineOptions, as_engine, engine_file, open_engine
    from moe_pipeline.commands.convert import ConvertOnEngine

    place, folder, run = workspace_of(workspace), as_path("source", source), None
    chosen = EngineOptions(engine=as_engine(engine), ray_address=ray_address)
    target = place.raw(suggest_name(folder)) if out is None else as_path("out", out)
    if out is not None and "/" not in os.fspath(out):
        target = place.raw(target.name)
    if not chosen.is_local:  # a worker may stand in another folder
        folder, target = folder.resolve(), target.resolve()
        units = place.root.resolve() / "units" / "convert"
        run = ConvertOnEngine(open_engine(chosen), engine_file(place).of("convert"), folder, units)
    options = Options(
        "" if images is None else as_text("images", images),
        "" if masks is None else as_text("masks", masks),
        as_names("channels", channels),
        None if threshold is None else as_number("threshold", threshold),
    )
    return convert_dataset(
        folder,
        target,
        None if source_format is None else as_text("source_format", source_format),
        progress,
        options=options,
        label_map=None if labels is None else LabelMap.load(as_path("labels", labels)),
        fixes=fixes_named(as_names("fix", fix)),
        run=run,
    )
