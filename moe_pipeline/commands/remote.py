"""Images in a store such as S3, and label maps into it: copied here, worked on, copied back.

A store has no renames and no appending, so that what a prediction writes as it goes is written into scratch files here.
They stay if the command is killed, and the same command goes on with them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from moe_pipeline.errors import PipelineError
from moe_pipeline.files import sha256_json
from moe_pipeline.inference.options import PredictOptions
from moe_pipeline.journal.written import files_below
from moe_pipeline.paths import PredictionFolder, remote_url
from moe_pipeline.progress import Progress, track
from moe_pipeline.workspace import Workspace

_HERE = Path("moe_workspace")  # where the workspace would be if none were named
_SCRATCH = "scratch"


def local_workspace(place: Workspace, progress: Progress) -> Workspace:
    """The same; or of one in a store a copy of what predictions need of it, which later ones find and bring up to date.

    Raises:
        PipelineError: if the store cannot be reached, or there is neither a model nor a foundation.
    """
    url = remote_url(place.root)
    if url is None:
        return place
    here = Workspace(_HERE / _SCRATCH / sha256_json(url)[:16])
    for folder in (here.model, here.weights):
        _Store.open(f"{url}/{folder.name}").fetch(folder, progress)
    if not any(path.is_file() for path in here.root.rglob("*")):
        raise PipelineError(f"{url}: expected a workspace with a folder model or weights, found neither")
    return here


@contextmanager
def local_copies(
    given: Workspace, options: PredictOptions, progress: Progress
) -> Iterator[tuple[Workspace, PredictOptions]]:
    """The same with paths of this machine; at a good end of the block the outputs are copied to their store.

    Args:
        given: the workspace, which may be an address.
        options: whose images or outputs may be addresses.
        progress: told after each file.

    Raises:
        PipelineError: if a store cannot be reached, or cases are to be done on machines that do not see these copies.
    """
    images, out = remote_url(options.run.images), remote_url(options.outputs.out)
    remote = [url for url in (images, out, remote_url(given.root)) if url is not None]
    if remote and options.run.engine != "local":
        raise PipelineError(
            f"--engine {options.run.engine} needs folders that all machines see, not {remote[0]}: mount the store, "
            "or use --engine local"
        )
    place = local_workspace(given, progress)
    if images is None and out is None:
        yield place, options
        return
    scratch = place.root / _SCRATCH / sha256_json([images, out])[:16]
    run, outputs = options.run, options.outputs
    if images is not None:
        run = replace(run, images=scratch / "images")
        _Store.open(images).fetch(run.images, progress)
    if out is None:
        yield place, replace(options, run=run)
    else:
        outputs, store = replace(outputs, out=scratch / "out"), _Store.open(out)
        if not outputs.out.is_dir():  # else it is what a killed command has left
            store.fetch(outputs.out, progress)
        yield place, replace(options, run=run, outputs=outputs)
        store.put(outputs.out, progress)
    shutil.rmtree(scratch)


@dataclass(frozen=True, slots=True)
class _Store:
    """One folder of a store."""

    system: Any
    """fsspec's file system."""
    root: str
    url: str

    @classmethod
    def open(cls, url: str) -> "_Store":
        try:
            system, root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise PipelineError(f"{url}: {error}; for S3, pip install 'moe-pipeline[s3]'") from error
        return cls(system, root.rstrip("/"), url)

    def fetch(self, folder: Path, progress: Progress) -> None:
        """Copy here what is not here already."""
        folder.mkdir(parents=True, exist_ok=True)
        found = self._asked(lambda: self.system.find(self.root, detail=True))
        for name, info in track(list(found.items()), f"fetching {self.url}", progress):
            self._fetch_one(name, info, folder)

    def put(self, folder: Path, progress: Progress) -> None:
        """Copy to the store; last the list of what is finished. What is no longer here is removed there."""
        here = sorted(files_below(folder), key=lambda name: name == PredictionFolder.FINISHED)
        for name in track(here, f"writing {self.url}", progress):
            path, target = folder / name, f"{self.root}/{name}"
            self._asked(lambda path=path, target=target: self.system.put_file(str(path), target))  # type: ignore[misc]
        there = self._asked(lambda: self.system.find(self.root))
        gone = [name for name in there if name.removeprefix(f"{self.root}/") not in here]
        for name in gone:
            if name.endswith((".nii.gz", ".dcm", ".txt")):
                self._asked(lambda name=name: self.system.rm_file(name))  # type: ignore[misc]

    def _fetch_one(self, name: str, info: dict[str, Any], folder: Path) -> None:
        relative = PurePosixPath(name.removeprefix(f"{self.root}/"))
        if relative.is_absolute() or ".." in relative.parts:
            raise PipelineError(f"{self.url}: {name} would lie outside of its folder")
        target, changed = folder / relative, _changed(info)
        if target.is_file() and target.stat().st_size == info["size"] and target.stat().st_mtime_ns == changed:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        self._asked(lambda: self.system.get_file(name, str(target)))
        os.utime(target, ns=(changed, changed))

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except OSError as error:
            raise PipelineError(f"{self.url}: the store does not answer as it should: {error}") from error


def _changed(info: dict[str, Any]) -> int:
    """When a file was changed last, in nanoseconds since 1970; stores name it differently."""
    found = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
    return int((found.timestamp() if isinstance(found, datetime) else float(found)) * 1_000_000) * 1000
