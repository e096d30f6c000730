"""What is kept of a session: a case of a dataset folder that `moe plan` takes as it is."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.errors import DatasetError, PipelineError, PromptError
from moe_pipeline.files import write_text
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import LoadedImage, Volume
from moe_pipeline.journal.together import written_together
from moe_pipeline.journal.written import Written
from moe_pipeline.paths import RawFolder
from moe_pipeline.records.dataset import BACKGROUND, DatasetJson
from moe_pipeline.records.names import check_name, fault_of_title
from moe_pipeline.records.prompts import ObjectPrompt, PromptFile, SessionEvent

ENDING = ".nii.gz"


@dataclass(frozen=True, slots=True, eq=False)
class AcceptedCase:
    """A case as a person has accepted it.

    Attributes:
        case: case id.
        image: itself.
        labels: class ids on the image's own grid.
        prompts: of its objects, in voxel_xyz.
        events: every step.
    """

    case: str
    image: LoadedImage
    labels: Volume
    prompts: tuple[ObjectPrompt, ...]
    events: tuple[SessionEvent, ...]


def write_accepted(folder: Path, done: AcceptedCase, image: Path | None, channel_name: str) -> Path:
    """Write a case into a dataset folder, all of it or nothing; arguments as of `Session.accept`."""
    check_name(done.case, str(folder))
    if not done.prompts:
        raise PromptError(f"{done.case}: no object yet, so there is nothing to accept")
    own = Written(folder / RawFolder.WRITTEN)
    description = _description(folder, done, channel_name)

    def check(staged: Path) -> None:
        names = [name for name in _names(done.case) if (staged / name).exists()]
        own.check(names)
        own.expect(names, staged)

    with written_together(folder, done.case, check) as staged:
        for name, text in _texts(done, description).items():
            write_text(staged / name, text)
        write_native(done.labels, staged / RawFolder.LABELS / f"{done.case}{ENDING}")
        _write_image(done, image, folder, staged)
    return folder / RawFolder.LABELS / f"{done.case}{ENDING}"


def journal_of(folder: Path, case: str) -> Path:
    """Every step of a case, one line of JSON each."""
    return folder / RawFolder.JOURNAL / f"{case}.jsonl"


def read_journal(path: Path) -> list[SessionEvent]:
    """The steps of a journal; a line that was cut off when the process was killed is left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return [event for line in lines if line.strip() and (event := _event(line)) is not None]


def masks_beside(journal: Path) -> Callable[[str], Volume]:
    """What reads the masks that a journal names, which lie beside it."""

    def reading(name: str) -> Volume:
        if name != Path(name).name or not (journal.parent / name).is_file():
            raise PipelineError(f"{journal.name}: names a mask {name!r} that is not beside it")
        return read_native(journal.parent / name)

    return reading


def _event(line: str) -> SessionEvent | None:
    try:
        return SessionEvent.model_validate_json(line)
    except ValueError:
        return None


def class_names(prompts: Sequence[ObjectPrompt]) -> dict[int, str]:
    """Name of each class id; those without one are called after their id."""
    return {one.class_id: one.class_name or f"class {one.class_id}" for one in prompts}


def _names(case: str) -> list[str]:
    """Files of a case that nobody else may have changed."""
    return [
        RawFolder.DESCRIPTION,
        f"{RawFolder.IMAGES}/{case}_0000{ENDING}",
        f"{RawFolder.LABELS}/{case}{ENDING}",
        f"{RawFolder.PROMPTS}/{case}.json",
    ]


def _texts(done: AcceptedCase, description: DatasetJson) -> Mapping[str, str]:
    prompts = PromptFile(space="voxel_xyz", cases={done.case: done.prompts})
    journal = "".join(f"{event.model_dump_json()}\n" for event in done.events)
    return {
        RawFolder.DESCRIPTION: description.as_text(),
        f"{RawFolder.PROMPTS}/{done.case}.json": prompts.as_text(),
        f"{RawFolder.JOURNAL}/{done.case}.jsonl": journal,
    }


def _write_image(done: AcceptedCase, image: Path | None, folder: Path, staged: Path) -> None:
    """The image as it was given; one that is there from an earlier time stays."""
    name = f"{RawFolder.IMAGES}/{done.case}_0000{ENDING}"
    if (folder / name).exists():
        return
    (staged / name).parent.mkdir(parents=True, exist_ok=True)
    if image is not None and image.name.lower().endswith(ENDING):
        shutil.copyfile(image, staged / name)
    else:
        write_native(done.image.as_stored_image(), staged / name)


def _description(folder: Path, done: AcceptedCase, channel_name: str) -> DatasetJson:
    """dataset.json with the classes of this case, too."""
    path = RawFolder(folder).description
    named = class_names(done.prompts)
    there = DatasetJson.load(path) if path.is_file() else None
    classes = dict(there.classes) if there is not None else {}
    for class_id, name in named.items():
        if why := fault_of_title(name):
            raise DatasetError(f"{folder}: class {class_id} cannot be called {name!a}: {why}")
        known = {value: title for value, title in classes.items() if (value == class_id) != (title == name)}
        if known:
            told = ", ".join(f"{value} {title}" for value, title in known.items())
            raise DatasetError(f"{folder}: {done.case} says class {class_id} {name}, but dataset.json has {told}")
        classes[class_id] = name
    cases = {path.name for path in (folder / RawFolder.LABELS).glob(f"*{ENDING}")} | {f"{done.case}{ENDING}"}
    return DatasetJson(
        channel_names=there.channel_names if there is not None else {"0": channel_name},
        labels={BACKGROUND: 0, **{classes[value]: value for value in sorted(classes)}},
        numTraining=len(cases),
        file_ending=ENDING,
    )
