"""Every folder and file name, from one root."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.errors import DatasetError
from moe_pipeline.paths import PlanFolder, RawFolder

DATASET_NAME = re.compile(r"Dataset(\d{3})_[A-Za-z0-9][A-Za-z0-9_-]*")
_MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a project's files live. Nothing is created until a stage writes."""

    root: Path

    @property
    def raw_root(self) -> Path:
        """Holds one nnU-Net v2 raw folder per dataset."""
        return self.root / "raw"

    def raw(self, dataset: str) -> Path:
        """Folder with dataset.json, imagesTr, labelsTr, imagesTs."""
        return self.raw_root / dataset

    def checks(self, dataset: str) -> Path:
        """Folder with check.json and check.txt of a raw dataset, converted or not."""
        return self.root / "checks" / dataset

    def plans(self, dataset: str) -> Path:
        """Folder with fingerprint.json, plan.json, splits.json."""
        return self.root / "plans" / dataset

    def fingerprint(self, dataset: str) -> Path:
        """Statistics of the dataset."""
        return PlanFolder(self.plans(dataset)).fingerprint

    def plan(self, dataset: str) -> Path:
        """The plan made from preset and fingerprint; users may edit it."""
        return PlanFolder(self.plans(dataset)).plan

    def splits(self, dataset: str) -> Path:
        """The folds."""
        return PlanFolder(self.plans(dataset)).splits

    def embeddings(self, dataset: str) -> Path:
        """Cached crops and embeddings."""
        return self.root / "embeddings" / dataset

    @property
    def experts_root(self) -> Path:
        """Holds a folder per dataset, and in it one per fold."""
        return self.root / "experts"

    def expert(self, dataset: str, fold: int = 0) -> Path:
        """Folder with expert.safetensors, expert.json, log.csv, curve.png, run.json of the expert of one fold."""
        return self.experts_root / dataset / f"fold_{fold}"

    def expert_folds(self, dataset: str) -> list[int]:
        """Folds of which there is a finished expert."""
        cards = (self.experts_root / dataset).glob("fold_*/expert.json")
        return sorted(int(number) for card in cards if (number := card.parent.name.removeprefix("fold_")).isdigit())

    def sft(self, dataset: str, fold: int = 0) -> Path:
        """Folder of the network that was finetuned as a whole: foundation.safetensors, foundation.json, log.csv ..."""
        return self.expert(dataset, fold) / "sft"

    @property
    def model(self) -> Path:
        """Folder with moe.json, gate.safetensors, gate.json."""
        return self.root / "model"

    def predictions(self, name: str) -> Path:
        """Folder with label maps and tables."""
        return self.root / "predictions" / name

    @property
    def weights(self) -> Path:
        """Imported foundations: <name>.safetensors with its card <name>.json."""
        return self.root / "weights"

    def raw_folder(self, wanted: str) -> Path:
        """Raw folder of a dataset of this workspace, by number or name, or of one elsewhere, by path.

        A folder elsewhere is linked into raw/, so that later commands know it by name.

        Raises:
            DatasetError: if there is no such dataset, or the folder's name is none of nnU-Net's.
        """
        elsewhere = Path(wanted)
        if not os.path.lexists(RawFolder(elsewhere).description):
            try:
                return self.raw(self.dataset_name(wanted))
            except DatasetError:
                refuse_one_below(elsewhere)
                raise
        name = elsewhere.resolve().name
        if not DATASET_NAME.fullmatch(name):
            raise DatasetError(f"{wanted}: the folder must be named like Dataset004_Hippocampus, found {name!r}")
        if not self.raw(name).exists():
            self.raw_root.mkdir(parents=True, exist_ok=True)
            self.raw(name).unlink(missing_ok=True)  # a link to where the dataset was before it moved
            self.raw(name).symlink_to(elsewhere.resolve(), target_is_directory=True)
        elif self.raw(name).resolve() != elsewhere.resolve():
            raise DatasetError(f"{wanted}: {self.raw(name)} is another dataset of that name; rename one of them")
        return self.raw(name)

    def dataset_name(self, wanted: str) -> str:
        """Full name for `4`, `Hippocampus` or `Dataset004_Hippocampus`.

        Raises:
            DatasetError: if no dataset or several datasets of the workspace answer to it; lists those there are.
        """
        if not self.root.is_dir():
            raise DatasetError(
                f"{wanted}: no such folder with a dataset.json, and no workspace {self.root} with such a dataset; "
                "give its folder with --workspace, or begin with `moe convert SOURCE --out X`"
            )
        known = sorted(path.name for path in self.raw_root.glob("Dataset*") if DATASET_NAME.fullmatch(path.name))
        number = f"Dataset{int(wanted):03d}_" if wanted.isdigit() else None
        found = [
            name
            for name in known
            if name == wanted or name.partition("_")[2] == wanted or (number and name.startswith(number))
        ]
        if len(found) == 1:
            return found[0]
        fault = f"no such dataset; there are: {', '.join(known) or 'none'}"
        if found:
            fault = f"several datasets answer to it: {', '.join(found)}"
        raise DatasetError(f"{wanted} in {self.raw_root}: {fault}. Give the full name, or run `moe convert` first.")


def refuse_one_below(folder: Path) -> None:
    """Raise where it is not a folder that is a dataset, but some in it are.

    Raises:
        DatasetError: names them.
    """
    found = [path.parent for deep in ("*", "*/*") for path in folder.glob(f"{deep}/{RawFolder.DESCRIPTION}")]
    if found:
        listed = ", ".join(str(one) for one in sorted(found)[:_MAX_LISTED])
        raise DatasetError(f"{folder}: is no dataset, but holds {listed}. Give the folder of one dataset.")
