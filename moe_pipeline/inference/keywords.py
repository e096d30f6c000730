"""The options of a prediction as plain keywords."""

from typing import Any, Literal, TypedDict, Unpack

from moe_pipeline.arguments import AnyPath, Names, options_of, refuse_unknown
from moe_pipeline.inference.options import ModelOptions, OutputOptions, PredictOptions, PromptOptions, RunOptions


class LookKeywords(TypedDict, total=False):
    """Those of `ModelOptions` that say where to compute, who answers, and how closely it looks."""

    foundation: str | None
    selector: Literal["weighted", "specific", "general"] | None
    tau: float | None
    device: str
    precision: Literal["fp32", "bf16"]
    zoom: Literal["auto", "in", "out", "off"]
    max_crops: int
    tta: bool
    own_crops: bool
    weights_root: AnyPath | None


class PredictKeywords(LookKeywords, total=False):
    """All of `PredictOptions` but `images` and `out`."""

    model: AnyPath | None
    prompts: AnyPath | None
    labels: AnyPath | None
    text: Names
    clicks: int
    seed: int
    classes: Names
    experts: Names
    references: AnyPath | None
    save_probabilities: bool
    uncertainty: bool
    dicom_seg: bool
    jobs: int
    overwrite: bool
    engine: Literal["local", "slurm", "ray"]
    ray_address: str | None


def predict_options(images: AnyPath, out: AnyPath, **given: Unpack[PredictKeywords]) -> PredictOptions:
    """All records of a prediction from plain keywords.

    Raises:
        PipelineError: names the argument that does not exist, has another type, or contradicts another one.
    """
    refuse_unknown("predict", given, PredictKeywords.__annotations__)
    named: dict[str, Any] = {"images": images, "out": out, **given}
    return PredictOptions(
        model=options_of(ModelOptions, named),
        prompts=options_of(PromptOptions, named),
        outputs=options_of(OutputOptions, named),
        run=options_of(RunOptions, named),
    )
