"""Objects that are named in words: a look at the whole image, and a click on what the foundation finds there."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from moe_pipeline.errors import PromptError
from moe_pipeline.inference.search.proposals import Missing
from moe_pipeline.inference.windows.embedding_cache import CropBank
from moe_pipeline.mixture.model import Mixture
from moe_pipeline.prompts.class_ids import ClassIds, ClassTable, WrittenClass
from moe_pipeline.prompts.prompt import Prompt
from moe_pipeline.weights.words import Words, read_words

SOURCE = "text"


def named_classes(names: Sequence[str], tables: Sequence[ClassTable]) -> dict[int, str]:
    """Class ids of what is named: those that the tables give a name, else the lowest free ones.

    Raises:
        PromptError: if a name has two ids.
    """
    written = [WrittenClass(None, name, "--text") for name in names]
    ids = ClassIds(written, tables)
    return {ids.of(name, "--text"): name for name in names}


def words_of(model: Mixture) -> Words:
    """The vocabulary of a model's foundation.

    Raises:
        PromptError: if the foundation takes no text.
        CheckpointError: if there is no vocabulary, or the package that reads it is missing.
    """
    if "text" not in model.foundation.takes or model.weights_file is None:
        raise PromptError(
            f"text: the foundation {next(iter(model.hashes), '')} takes no text prompts; give clicks, or use a "
            "foundation that does, such as SegVol"
        )
    return read_words(model.weights_file)


@torch.no_grad()
def find_named(
    model: Mixture, bank: CropBank, names: Mapping[int, str]
) -> tuple[tuple[Prompt, ...], tuple[Missing, ...]]:
    """Prompts for objects that are named.

    The general expert looks at the whole image, brought to one crop, with the words alone. Where it finds something,
    the deepest place of that gets a click, and the words go with it.

    Args:
        model: of a foundation that takes text.
        bank: crops of the case.
        names: by class id.

    Returns:
        The prompts, and what was not found.

    Raises:
        PipelineError: as `words_of`.
    """
    foundation = model.foundation
    ids, known = words_of(model).encode(list(names.values()))
    texts = foundation.encode_text(ids.to(model.device), known.to(model.device))  # (P, C)
    view = model.view.model_copy(update={"spacing_mm": "fitted"})
    grid = bank.crop_grid(view)
    start = grid.clamped(grid.lowest)
    decoder = foundation.decoder
    prepared = decoder.prepare(bank.crop(view, start).embedding)
    prompts, missing = [], []
    for (class_id, name), text in zip(names.items(), torch.split(texts, 1), strict=True):
        logits, _ = decoder.decode(prepared, foundation.embed_prompts(text=text)).answer()
        voxel = _deepest((logits[0, 0] > 0).cpu().numpy(), np.asarray(grid.geometry.spacing_mm))
        if voxel is None:
            why = "the foundation found nothing of this name in the image"
            missing.append(Missing(class_id, name, "general", why, False, SOURCE))
            continue
        place = grid.geometry.voxel_to_world(voxel[None] + np.asarray(start, dtype=float))  # (1, 3)
        place = bank.image.geometry.voxel_to_world(_inside(bank, place))
        wording = text.float().cpu().numpy()
        prompts.append(Prompt(class_id, name, place, np.array([1]), SOURCE, text=wording))
    return tuple(prompts), tuple(missing)


def _deepest(mask: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The place (3,) of a mask that is farthest from its border; None if it is empty."""
    if not mask.any():
        return None
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    return np.array(np.unravel_index(int(depth.argmax()), mask.shape), dtype=float)


def _inside(bank: CropBank, place_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """The voxel (1, 3) of the image nearest to a place."""
    voxel = bank.image.geometry.world_to_voxel(place_mm)
    return np.asarray(np.clip(voxel, 0, np.asarray(bank.image.geometry.shape) - 1.0))
