"""From weights on disk to a frozen network."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import sha256_file
from moe_pipeline.model.config import FoundationConfig
from moe_pipeline.model.foundation import Foundation
from moe_pipeline.model.sam.foundation import SamFoundation, build_foundation
from moe_pipeline.model.segvol.config import SegVolConfig
from moe_pipeline.model.segvol.foundation import SegVolFoundation
from moe_pipeline.model.sizes import NetworkSizes, read_sizes
from moe_pipeline.presets import load_preset
from moe_pipeline.records.foundation import FoundationCard, View
from moe_pipeline.weights.device import open_device
from moe_pipeline.weights.official import load_strictly
from moe_pipeline.weights.published import read_published
from moe_pipeline.weights.store import (
    card_path,
    check_view,
    find_foundation,
    refuse_builtin,
    save_foundation,
    weights_path,
)
from moe_pipeline.weights.tensors import check_sha256, load_tensors
from moe_pipeline.weights.words import import_words, words_path

_PICKLES = (".pth", ".pt", ".bin", ".ckpt")

ConfigLike = NetworkSizes | Mapping[str, Any]

BUILDERS: dict[str, Callable[[Any], Foundation]] = {
    FoundationConfig.network: build_foundation,
    SegVolConfig.network: SegVolFoundation,
}
"""What makes a network of random weights from its sizes, by kind of network."""
_KINDS: dict[str, type[Foundation]] = {FoundationConfig.network: SamFoundation, SegVolConfig.network: SegVolFoundation}


def load_foundation(
    name_or_path: str | Path,
    config: ConfigLike | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    weights_root: Path | None = None,
) -> Foundation:
    """Load a foundation, frozen and in evaluation mode.

    Of SAM-Med3D and nano, with S the cube's edge, g = S / patch_size, C channels and l = 4 g, the result's parts are
    called as

        embedding = foundation.image_encoder(image)                 # (B, 1, S, S, S) -> (B, C, g, g, g)
        sparse, dense = foundation.prompt_encoder(
            points=(coordinates, labels),                           # (P, n, 3) in voxels, (P, n); or None
            mask=previous_logits,                                   # (P, 1, l, l, l); or None
        )                                                           # (P, n + 1, C), (P, C, g, g, g)
        logits, iou = foundation.mask_decoder(embedding, sparse, dense)  # (P, 1, l, l, l), (P, 1)

    Args:
        name_or_path: a built-in name, a name in `weights_root`, a .safetensors file with its card beside it, or an
            official file.
        config: sizes, for an official file that is neither SAM-Med3D's nor SegVol's published network.
        device: where to put it.
        dtype: type of the image encoder's matrix products; its result, and all else, stays fp32.
        weights_root: a workspace's weights folder.

    Raises:
        CheckpointError: if the weights are missing, damaged, refused, or do not fit.
        PipelineError: if the device is not there.
    """
    place = open_device(device)
    if str(name_or_path).endswith(_PICKLES):
        kind, weights = read_published(Path(name_or_path))
        sizes = load_preset(kind.preset).sizes if config is None else as_config(config, str(name_or_path))
        foundation = _fill(sizes, weights, str(name_or_path))
    else:
        stored = find_foundation(name_or_path, weights_root)
        sizes = as_config(stored.card.config, f"card of {stored.path}")
        if config is not None and as_config(config, "config") != sizes:
            raise CheckpointError(f"{stored.path}: its card states other sizes than the configuration given")
        check_view(stored.card.view, sizes.geometry.crop_size, str(stored.path))
        foundation = _fill(sizes, load_tensors(stored.path, stored.card.weights_sha256), str(stored.path))
    freeze(foundation)
    foundation.compute_in(dtype)
    return foundation.to(place)


def import_checkpoint(
    source: Path,
    weights_root: Path,
    *,
    name: str | None = None,
    config: ConfigLike | None = None,
    view: View | None = None,
    licence: str | None = None,
    origin: str | None = None,
    tokenizer: Path | None = None,
    overwrite: bool = False,
) -> FoundationCard:
    """Turn an official checkpoint into safetensors with a card.

    Args:
        source: official file of SAM-Med3D or SegVol, or .safetensors file with the same names. A card beside it, as
            `moe pretrain` writes one, says what else is not stated.
        weights_root: a workspace's weights folder.
        name: what to call it; else the file's name.
        config: sizes; else those of the published network of its kind.
        view: what its encoder was trained on; else that network's, with as many voxels as `config` states.
        licence: else what is known of that network's.
        origin: where the file came from; else its path.
        tokenizer: vocabulary of its text encoder; see `words.import_words`.
        overwrite: replace weights of that name.

    Raises:
        CheckpointError: if the file is refused or does not fit, or the name is taken or that of a built-in foundation.
    """
    wanted = name or source.stem
    refuse_builtin(wanted)
    if weights_path(weights_root, wanted).exists() and not overwrite:
        raise CheckpointError(f"{wanted} exists already in {weights_root}; choose another name or overwrite it")
    kind, weights = read_published(source)
    card = _card_beside(source)
    preset = load_preset(card.preset if card else kind.preset)
    stated = card.config if card and config is None else config
    sizes = preset.sizes if stated is None else as_config(stated, str(source))
    known = card.view if card else preset.view.model_copy(update={"size_voxels": sizes.geometry.crop_size})
    foundation = _fill(sizes, weights, str(source))
    if tokenizer is not None:
        import_words(tokenizer, words_path(weights_path(weights_root, wanted)), _vocabulary_of(sizes, source))
    return save_foundation(
        foundation,
        weights_root,
        name=wanted,
        source=origin or (card.source if card else str(source)),
        source_sha256=sha256_file(source),
        licence=licence or (card.licence if card else kind.licence),
        preset=preset.name,
        view=view or known,
        training=card.training if card else None,
        overwrite=overwrite,
    )


def verify_foundation(name_or_path: str | Path, weights_root: Path | None = None) -> FoundationCard:
    """Check hash, names, shapes and values of stored weights.

    Returns:
        Their card.

    Raises:
        CheckpointError: if anything is not as the card says.
    """
    stored = find_foundation(name_or_path, weights_root)
    load_foundation(stored.path)
    return stored.card


def prompts_of(card: FoundationCard) -> list[str]:
    """Kinds of prompts that a foundation takes, in the order of the alphabet.

    Raises:
        CheckpointError: if its card states no valid sizes.
    """
    return sorted(_KINDS[as_config(card.config, f"card of {card.name}").network].takes)


def freeze(network: nn.Module) -> None:
    """Stop training of all parameters, and of everything that behaves otherwise in training."""
    network.requires_grad_(False)
    network.eval()


def read_config(path: Path) -> NetworkSizes:
    """Sizes from a JSON file.

    Raises:
        CheckpointError: if it is missing, no JSON, or the sizes are invalid.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected JSON with the sizes of a network")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    return as_config(values, str(path))


def as_config(config: ConfigLike, origin: str) -> NetworkSizes:
    """Sizes from their JSON form.

    Raises:
        CheckpointError: if they are invalid.
    """
    if isinstance(config, NetworkSizes):
        return config
    try:
        return read_sizes(config)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{origin}: invalid configuration: {error}") from error


def _card_beside(source: Path) -> FoundationCard | None:
    """Of a safetensors file of ours; what is no card, or that of other weights, is an error."""
    if source.suffix != ".safetensors" or not card_path(source).is_file():
        return None
    card = find_foundation(source).card
    check_sha256(source, card.weights_sha256)
    return card


def _vocabulary_of(sizes: NetworkSizes, source: Path) -> int:
    if not isinstance(sizes, SegVolConfig):
        raise CheckpointError(f"{source}: this network has no text encoder, so it needs no tokenizer")
    return sizes.text.vocab_size


class _Undrawn(TorchFunctionMode):
    """Leaves out normal numbers: to draw them on the meta device torch loads its compiler, which takes a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.init.normal_:
            return kwargs["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


def _fill(sizes: NetworkSizes, weights: Mapping[str, Any], origin: str) -> Foundation:
    with torch.device("meta"), _Undrawn():  # neither memory nor random numbers for weights that are replaced at once
        foundation = BUILDERS[sizes.network](sizes)
    load_strictly(foundation, weights, origin)
    return foundation
