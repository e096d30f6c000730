"""Download of published weights through huggingface_hub, an extra."""

from pathlib import Path

from moe_pipeline.errors import CheckpointError
from moe_pipeline.presets import PublishedWeights, load_preset, published_weights
from moe_pipeline.records.foundation import FoundationCard
from moe_pipeline.weights.load import import_checkpoint


def fetch_foundation(name: str, weights_root: Path, *, overwrite: bool = False) -> FoundationCard:
    """Download published weights and import them.

    Args:
        name: one of `published_weights`.
        weights_root: a workspace's weights folder.
        overwrite: replace weights of that name.

    Raises:
        CheckpointError: if the name is unknown, huggingface_hub is not installed, or the download fails; says how to
            import by hand.
    """
    known = published_weights()
    if name not in known:
        raise CheckpointError(f"no published weights {name!r}; there are: {', '.join(sorted(known))}")
    entry = known[name]
    by_hand = f"download {entry.file} from {entry.page} and run `moe weights import {entry.file} --name {name}`"
    downloaded = _download(entry, by_hand)
    preset = load_preset(entry.preset)
    return import_checkpoint(
        downloaded,
        weights_root,
        name=name,
        config=preset.sizes,
        view=preset.view,
        licence=entry.licence,
        origin=f"{entry.page}/blob/main/{entry.file}",
        overwrite=overwrite,
    )


def _download(entry: PublishedWeights, by_hand: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise CheckpointError(
            f"huggingface_hub is not installed: pip install 'moe-pipeline[fetch]', or {by_hand}"
        ) from error
    try:
        return Path(hf_hub_download(entry.repository, entry.file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"cannot download {entry.file} ({reason}); {by_hand}") from error
