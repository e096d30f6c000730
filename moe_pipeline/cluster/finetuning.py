"""Experts of several datasets and folds, each a unit; before them the embeddings of their cases, each a unit, too."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from moe_pipeline.cluster.engines import Engine, EngineOptions, engine_file, open_engine
from moe_pipeline.cluster.records import EngineFile
from moe_pipeline.cluster.run import run_units
from moe_pipeline.cluster.units import Board, Unit, stat_of
from moe_pipeline.cluster.worker import Job
from moe_pipeline.datasets.dataset import open_dataset
from moe_pipeline.embeddings.cache import encode_case
from moe_pipeline.errors import PipelineError
from moe_pipeline.files import sha256_file, sha256_json
from moe_pipeline.journal.lock import LEASE_SECONDS, LockedError
from moe_pipeline.paths import ExpertFolder, RawFolder
from moe_pipeline.planning.fingerprint import case_files
from moe_pipeline.planning.plan_files import load_splits
from moe_pipeline.progress import Progress, track
from moe_pipeline.training.expert.added_cases import take_in_added
from moe_pipeline.training.expert.finetune import FinetuneOptions, finetune
from moe_pipeline.training.expert.full_finetune import NAME as WHOLE
from moe_pipeline.training.expert.full_finetune import finetune_whole
from moe_pipeline.training.planned import PlannedDataset, cache_request, open_planned
from moe_pipeline.weights.device import open_device
from moe_pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class FoldItem:
    """One fold of one dataset, to be trained; or one case of it, to be encoded."""

    dataset: str
    """Name."""
    fold: int
    case: str = ""
    """Case id."""


@dataclass(frozen=True, slots=True)
class TrainFold:
    """Trains an expert or a whole network, or goes on with it; says how well it did."""

    place: Workspace
    options: FinetuneOptions
    whole: bool

    def __call__(self, item: FoldItem, notes: Path) -> str:  # noqa: ARG002 - its folder is its own
        """The training; its outcome in one line."""
        options = replace(self.options, fold=item.fold)
        folder = self.place.raw(item.dataset)
        limit = time.monotonic() + LEASE_SECONDS + 60
        while True:
            try:
                return self._train(folder, options)
            except LockedError:  # perhaps of a worker whose machine was lost
                if time.monotonic() > limit:
                    raise
                time.sleep(10)

    def _train(self, folder: Path, options: FinetuneOptions) -> str:
        if self.whole:
            network = finetune_whole(self.place, folder, options)
            return _summary(network.training["best_step"], network.training["validation"])
        card = finetune(self.place, folder, options)
        found = card.click_proposer.validation if card.click_proposer else {}
        return _summary(card.best_step, card.validation | found)


@dataclass(frozen=True, slots=True)
class EncodeCase:
    """Encodes the crops of a case as a fold needs them; says which files they are in."""

    place: Workspace
    device: str
    encoded: bool

    def __call__(self, item: FoldItem, notes: Path) -> list[str]:  # noqa: ARG002 - names are hashes of content
        """The encoding; files relative to the workspace."""
        planned = _planned(self.place, item.dataset, item.fold, self.device)
        request, folder = cache_request(self.place, planned, planned.plan.view, augmented=True, encoded=self.encoded)
        case = planned.raw.case(item.case)
        files = encode_case(case, request, planned.foundation, folder, open_device(self.device))
        return [(folder / name).relative_to(self.place.root).as_posix() for name in files]


@dataclass(frozen=True, slots=True)
class FoldOutcome:
    """What has become of a fold."""

    dataset: str
    fold: int
    folder: Path
    """Of the expert."""
    text: str
    """How well it does, or why it is not there."""
    failed: bool


def finetune_folds(
    place: Workspace,
    folds: Sequence[tuple[str, int]],
    options: FinetuneOptions,
    engine: Engine,
    resources: EngineFile,
    progress: Progress,
    *,
    whole: bool = False,
    encode_apart: bool = True,
) -> list[FoldOutcome]:
    """Train experts, or whole networks, of several datasets and folds.

    A fold that fails is an outcome with its reason, and the others go on. Repeated, what is done with the same plan and
    options is not begun again; what was interrupted goes on from its checkpoint.

    Args:
        place: the workspace; its root is absolute.
        folds: names of raw datasets of the workspace, and folds.
        options: what differs from the plans; the fold in it is not read.
        engine: where.
        resources: that units take.
        progress: told after each unit.
        whole: train whole networks.
        encode_apart: encode the cases as units of their own first, instead of within the trainings.
    """
    if options.continued:
        for dataset, fold in folds:  # before any unit, all of which follow the plan
            take_in_added(place, place.raw(dataset), fold)
    board = Board(place.root / "units" / "finetune")
    if options.overwrite:
        board.close()
    if encode_apart:
        _encode(place, folds, options, engine, resources, progress, whole=whole)
    job = Job(TrainFold(place, options, whole), str, board, resources.of("finetune"))
    units = [_fold_unit(place, dataset, fold, options, whole=whole) for dataset, fold in folds]
    files = {unit.key: _results(place, unit.item, whole=whole) for unit in units}
    for unit in units:
        if not all(path.is_file() for path in files[unit.key]):
            board.drop(unit.key)
    found: dict[str, FoldOutcome] = {}
    for unit, record in track(run_units(engine, job, units), "finetuning", progress, len(units)):
        text = job.result_of(record) if record.status == "done" else f"{record.message} ({board.log(unit.key)})"
        item = unit.item
        found[unit.key] = FoldOutcome(item.dataset, item.fold, files[unit.key][0].parent, text, record.status != "done")
    board.close(keep_done=True)
    return [found[unit.key] for unit in units]


def finetune_folds_on(
    chosen: EngineOptions,
    place: Workspace,
    folds: Sequence[tuple[str, int]],
    options: FinetuneOptions,
    progress: Progress,
    *,
    whole: bool,
) -> list[FoldOutcome]:
    """As `finetune_folds`, on the engine that is chosen.

    Raises:
        PipelineError: if the engine is not there, or several processes are to share each training.
    """
    if options.devices > 1:  # Fabric begins the others with this command, which would begin all folds anew
        raise PipelineError(
            "--devices shares one training among processes: give one dataset and one fold, without --engine"
        )
    there, engine = Workspace(place.root.resolve()), open_engine(chosen)
    apart = not chosen.is_local or chosen.jobs > 1
    resources = engine_file(place)
    return finetune_folds(there, folds, options, engine, resources, progress, whole=whole, encode_apart=apart)


def folds_of(place: Workspace, dataset: str, wanted: str) -> list[int]:
    """Folds that `--fold` means: a number, or all that the plan has.

    Raises:
        PipelineError: if it is neither; if there is no plan.
    """
    if wanted == "all":
        return list(range(len(load_splits(place.plans(dataset)).folds)))
    if not wanted.isdigit():
        raise PipelineError(f"--fold {wanted}: expected a number, or all")
    return [int(wanted)]


def _encode(
    place: Workspace,
    folds: Sequence[tuple[str, int]],
    options: FinetuneOptions,
    engine: Engine,
    resources: EngineFile,
    progress: Progress,
    *,
    whole: bool,
) -> None:
    """Encode the cases of all folds. What fails here fails in its training, too, which says so."""
    board = Board(place.root / "units" / "encode")
    job = Job(EncodeCase(place, options.device, not whole), list[str], board, resources.of("encode"))
    units = _encode_units(place, folds, whole=whole)

    def holds(files: list[str]) -> bool:
        return all((place.root / name).is_file() for name in files)

    for _ in track(run_units(engine, job, units, holds), "encoding", progress, len(units)):
        pass
    board.close(keep_done=True)


def _encode_units(place: Workspace, folds: Sequence[tuple[str, int]], *, whole: bool) -> list[Unit[FoldItem]]:
    """One per case: as a fold that trains with it needs it, because that has all the copies that others need."""
    units = {}
    for dataset, fold in folds:
        raw, split = open_dataset(place.raw(dataset)), load_splits(place.plans(dataset)).folds[fold]
        plan = sha256_file(place.plan(dataset))
        for case_id in (*split.validation, *split.train):
            if case_id in split.train or (dataset, case_id) not in units:
                inputs = [whole, case_id in split.train, plan, stat_of(case_files(raw.case(case_id)))]
                item = FoldItem(dataset, fold, case_id)
                units[dataset, case_id] = Unit(f"{dataset}.{case_id}", item, sha256_json(inputs))
    return list(units.values())


def _fold_unit(place: Workspace, dataset: str, fold: int, options: FinetuneOptions, *, whole: bool) -> Unit[FoldItem]:
    chosen = str(replace(options, fold=fold, overwrite=False))
    files = (place.plan(dataset), place.splits(dataset), RawFolder(place.raw(dataset)).description)
    plan = [sha256_file(path) for path in files]
    return Unit(f"{dataset}.fold_{fold}", FoldItem(dataset, fold), sha256_json([whole, chosen, plan]))


def _results(place: Workspace, item: FoldItem, *, whole: bool) -> tuple[Path, ...]:
    """Files without which a fold is not done."""
    if whole:
        return (place.sft(item.dataset, item.fold) / f"{WHOLE}.safetensors",)
    folder = ExpertFolder(place.expert(item.dataset, item.fold))
    return folder.weights, folder.card


@lru_cache(maxsize=1)
def _planned(place: Workspace, dataset: str, fold: int, device: str) -> PlannedDataset:
    return open_planned(place, open_dataset(place.raw(dataset)), fold, device)


def _summary(step: int, validation: dict[str, float]) -> str:
    scores = ", ".join(f"{name} {value:.3f}" for name, value in validation.items())
    return f"best at step {step}; validation {scores}"
