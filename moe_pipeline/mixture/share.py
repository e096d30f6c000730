"""A model as one folder or zip file that can be given away: every file listed with its hash, nothing else let in."""

import logging
import os
import shutil
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from moe_pipeline.errors import CheckpointError, PipelineError, RecordError
from moe_pipeline.files import atomic_folder, atomic_path, sha256_file
from moe_pipeline.mixture.archive import Archive, copy_checked, is_plain, open_archive, safe_name
from moe_pipeline.mixture.gate_files import own_files
from moe_pipeline.mixture.model import foundation_of, load_router
from moe_pipeline.paths import RUN_JSON, ExpertFolder, GateFolder, ModelFolder
from moe_pipeline.records.experts import ExpertCard
from moe_pipeline.records.moe import MANIFEST, ModelCard, SharedFile, ShareManifest
from moe_pipeline.weights.store import StoredFoundation, card_path, find_foundation
from moe_pipeline.weights.tensors import check_sha256
from moe_pipeline.weights.words import words_path

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_LARGEST_MANIFEST_BYTES = 1 << 24
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same model gives the same zip


def export_model(
    model: Path,
    out: Path,
    weights_root: Path | None = None,
    *,
    with_foundation: bool = False,
    with_features: bool = True,
    overwrite: bool = False,
) -> ShareManifest:
    """Write a model as one zip file, or as one folder if `out` does not end in .zip.

    Args:
        model: folder of the model.
        out: what to write.
        weights_root: a workspace's weights folder, for imported foundations.
        with_foundation: copy the foundation's weights too; its card with source and licence always goes along.
        with_features: keep the gate features, without which nobody can add an expert.
        overwrite: replace `out`.

    Raises:
        PipelineError: if `out` exists and is not to be replaced, or holds files that are not ours, or lies inside the
            model.
        StaleCacheError: if experts or gate are not those that belong together.
        CheckpointError: if weights are missing or damaged.
    """
    if os.path.lexists(out) and not overwrite:
        raise PipelineError(f"{out}: exists already; give another name or --overwrite")
    if model.resolve() in (out.resolve(), *out.resolve().parents):
        raise PipelineError(f"{out}: lies inside the model that is exported; give another place")
    card = ModelCard.load(ModelFolder(model).card)
    load_router(model, card)  # whole and matching, or nothing is given away
    stored = find_foundation(foundation_of(model, card), weights_root)
    check_sha256(stored.path, card.foundation_sha256)
    files = _files_to_share(model, card, stored, with_foundation, with_features)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix != ".zip":
        with atomic_folder(out, check_ours) as folder:
            return _gather(card, stored, files, folder)
    if out.exists():
        _check_zip(out)
    with TemporaryDirectory(prefix=f".{out.stem}.", dir=out.parent) as name:
        manifest = _gather(card, stored, files, Path(name))
        _zip(Path(name), [*manifest.files, MANIFEST], out)
    return manifest


def import_model(source: Path, target: Path, *, overwrite: bool = False) -> ShareManifest:
    """Check an exported model file by file and put it where models are.

    Args:
        source: folder or zip file that `export_model` wrote.
        target: the model folder to make.
        overwrite: replace a model that stands there.

    Raises:
        PipelineError: if `target` exists and is not to be replaced, or holds files that are not ours; if `source` holds
            a path that would leave it, a link, a file that is not in its manifest, a file of another kind, or one whose
            size or hash differs; nothing is written then.
        RecordError: if manifest, cards or gates do not fit each other.
    """
    if os.path.lexists(target) and not overwrite:
        raise PipelineError(f"{target}: exists already; give another place with --out, or --overwrite")
    if os.path.lexists(target):
        check_ours(target)
    with open_archive(source) as archive:
        manifest = _manifest(archive)
        listed = {safe_name(name, source) for name in manifest.files}
        found = {safe_name(name, source) for name in archive.names()}
        if found - {MANIFEST} != listed:
            odd = sorted((found - {MANIFEST}) ^ listed)[:3]
            raise PipelineError(
                f"{source}: {', '.join(odd)}: listed but missing, or there but not listed; get it again"
            )
        with atomic_folder(target, check_ours) as folder:
            for name, expected in manifest.files.items():
                copy_checked(archive, name, expected, folder / name)
            manifest.save(folder / MANIFEST)
            _check_whole(folder, manifest, source)
    return manifest


def foundation_is_there(model: Path, weights_root: Path | None = None) -> bool:
    """Whether the foundation of a model is at hand, in the model itself, the package or the workspace."""
    card = ModelCard.load(ModelFolder(model).card)
    try:
        stored = find_foundation(foundation_of(model, card), weights_root)
    except CheckpointError as error:
        _log.debug("%s", error)
        return False
    return stored.card.weights_sha256 == card.foundation_sha256


def _manifest(archive: Archive) -> ShareManifest:
    if MANIFEST not in archive.names() and ModelFolder.CARD in archive.names():
        raise PipelineError(
            f"{archive.source}: a model, but not an exported one, as it has no {MANIFEST}; predict with --model "
            f"{archive.source}, or share it with `moe export`"
        )
    if MANIFEST not in archive.names():
        raise PipelineError(f"{archive.source}: has no {MANIFEST}; expected what `moe export` wrote")
    with archive.open(MANIFEST) as stream:
        text = stream.read(_LARGEST_MANIFEST_BYTES)
    try:
        return ShareManifest.model_validate_json(text)
    except ValueError as error:
        raise RecordError(f"{archive.source}: not a valid {MANIFEST}: {error}") from error


def _check_whole(folder: Path, manifest: ShareManifest, source: Path) -> None:
    card = ModelCard.load(ModelFolder(folder).card)
    if (card.foundation, card.foundation_sha256) != (manifest.foundation, manifest.foundation_sha256):
        raise PipelineError(f"{source}: moe.json and {MANIFEST} name different foundations; get it again")
    for entry in card.experts:
        if not is_plain(entry.dataset) or entry.folder != f"experts/{entry.dataset}":
            raise PipelineError(f"{source}: refused, its expert {entry.dataset!r} lies at {entry.folder!r}")
        own = ExpertFolder(folder / entry.folder)
        expert = ExpertCard.load(own.card)
        check_sha256(own.weights, entry.weights_sha256)
        if expert.foundation_sha256 != card.foundation_sha256:
            raise PipelineError(f"{source}: the expert {entry.dataset} belongs to another foundation; get it again")
    if card.experts:
        load_router(folder, card)


def _gather(card: ModelCard, stored: StoredFoundation, files: Mapping[str, Path], folder: Path) -> ShareManifest:
    """Copy the files, then write moe.json with the places where they are now, then the manifest."""
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    entries = tuple(entry.model_copy(update={"folder": f"experts/{entry.dataset}"}) for entry in card.experts)
    card.model_copy(update={"experts": entries, "foundation": stored.card.name}).save(ModelFolder(folder).card)
    manifest = ShareManifest(
        files={name: _described(folder / name) for name in sorted((*files, ModelFolder.CARD))},
        foundation=stored.card.name,
        foundation_sha256=card.foundation_sha256,
        foundation_included=f"foundation/{stored.card.name}.safetensors" in files,
        package_version=version("moe-pipeline"),
    )
    manifest.save(folder / MANIFEST)
    return manifest


def _files_to_share(
    model: Path, card: ModelCard, stored: StoredFoundation, with_foundation: bool, with_features: bool
) -> dict[str, Path]:
    """Source of each file by its name in the exported model, without moe.json and the manifest."""
    files = {name: model / name for name in (GateFolder.WEIGHTS, GateFolder.CARD, GateFolder.CHART, RUN_JSON)}
    for entry in card.experts:
        own = model / entry.folder
        ExpertCard.load(ExpertFolder(own).card)
        check_sha256(ExpertFolder(own).weights, entry.weights_sha256)
        parts = [path for suffix in (".json", ".safetensors") for path in own.glob(f"*{suffix}")]
        files |= {f"experts/{entry.dataset}/{p.name}": p for p in parts if not p.name.startswith("checkpoint")}
        if entry.added_gate_sha256 is not None:
            files |= _below(model, f"added/{entry.dataset}")
    if with_features:
        files |= _below(model, "features")
    files[f"foundation/{stored.card.name}.json"] = card_path(stored.path)
    if with_foundation:
        files[f"foundation/{stored.card.name}.safetensors"] = stored.path
        if (words := words_path(stored.path)).is_file():
            files[f"foundation/{words.name}"] = words
    return {name: path for name, path in files.items() if path.is_file()}


def _below(model: Path, part: str) -> Mapping[str, Path]:
    return {f"{part}/{path.name}": path for path in sorted((model / part).glob("*")) if path.is_file()}


def _described(path: Path) -> SharedFile:
    return SharedFile(sha256=sha256_file(path), n_bytes=path.stat().st_size)


def check_ours(folder: Path) -> None:
    """Look whether a folder holds nothing but a model as we wrote it.

    Raises:
        PipelineError: names what would be lost.
    """
    own_files(folder).check_all()


def _check_zip(out: Path) -> None:
    """The same for a zip file."""
    fault = f"{out}: was not written by `moe export`, or was changed since; give another name, or move it away"
    try:
        with open_archive(out) as archive:
            manifest = _manifest(archive)
            if set(archive.names()) != {*manifest.files, MANIFEST}:
                raise PipelineError(fault)
            for name, expected in manifest.files.items():
                with archive.open(name) as stream:
                    if _sha256(stream) != expected.sha256:
                        raise PipelineError(fault)
    except PipelineError as error:
        raise PipelineError(fault) from error


def _sha256(stream: IO[bytes]) -> str:
    digest = sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _zip(folder: Path, names: list[str], out: Path) -> None:
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as stream, archive.open(entry, "w", force_zip64=True) as copy:
                shutil.copyfileobj(stream, copy, _CHUNK_BYTES)
