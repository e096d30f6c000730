"""One object of a session answered, by the code that a prediction runs."""

from dataclasses import replace

import numpy as np

from moe_pipeline.imaging.geometry import Geometry
from moe_pipeline.inference.interactive.interact import Reply, interact
from moe_pipeline.inference.interactive.objects import given_object
from moe_pipeline.inference.interactive.segment_case import first_looks
from moe_pipeline.inference.options import SegmentOptions
from moe_pipeline.inference.session.labels import ObjectParts
from moe_pipeline.inference.session.state import ObjectAnswer, SessionObject
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.records.prompts import WhoAnswered

_BLANK = "the image shows no contrast around the clicks, so nothing can be told from it; click elsewhere"


def answered(
    model: Mixture,
    bank: CropBank,
    wanted: SessionObject,
    prompt: Prompt,
    options: SegmentOptions,
    parts: ObjectParts,
) -> SessionObject:
    """The same object with the model's answer.

    Args:
        model: the mixture.
        bank: crops of the image.
        wanted: an object that can be asked.
        prompt: of it.
        options: how it is answered.
        parts: gets its mask.
    """
    asked = given_object(prompt)
    ((route, initial_windows),) = first_looks(model, bank, [asked])
    if bank.crop(model.view, initial_windows[0]).blank:
        who = WhoAnswered(
            expert=model.name_of(0),
            weight=0.0,
            in_distribution=True,
            probability=0.0,
            complete=True,
            volume_ml=0.0,
            message=_BLANK,
        )
        return replace(wanted, answer=ObjectAnswer(None, {}, who), asked=True)
    turns = None if wanted.answer is None else wanted.answer.turns
    reply = interact(model, bank, asked, route, initial_windows, options, turns)
    return _with_reply(model, bank.image.geometry, wanted, reply, options, parts)


def _with_reply(
    model: Mixture,
    grid: Geometry,
    wanted: SessionObject,
    reply: Reply,
    options: SegmentOptions,
    parts: ObjectParts,
) -> SessionObject:
    """The answer with who gave it; the mask is worked out for its volume, and kept in `parts`."""
    complete = all(output.complete for output in reply.answer.output)
    message = "" if complete or options.max_crops == 1 else f"still touches a face after {options.max_crops} crops"
    told = WhoAnswered(
        expert=model.name_of(reply.route.expert),
        weight=round(reply.route.weight, 4),
        in_distribution=not reply.route.out_of_distribution,
        probability=0.0,
        complete=complete,
        volume_ml=0.0,
        message=message,
    )
    bare = replace(wanted, answer=ObjectAnswer(reply.answer, reply.turns, told), asked=True)
    part = parts.of(bare)
    voxels = int(np.count_nonzero(part.probability))
    sure = float(part.probability.sum(dtype=np.float64)) / voxels if voxels else 0.0
    update: dict[str, object] = {"probability": round(sure, 4), "volume_ml": round(voxels * grid.voxel_ml, 4)}
    if not voxels:
        update["message"] = "the mask is empty"
    assert bare.answer is not None
    final = replace(bare, answer=replace(bare.answer, who=told.model_copy(update=update)))
    parts.parts[wanted.number] = final.answer, part
    return final
