"""Every folder and file name, from one root."""

import re
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.errors import DatasetError

DATASET_NAME = re.compile(r"Dataset(\d{3})_[A-Za-z0-9][A-Za-z0-9_-]*")


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

    def plans(self, dataset: str) -> Path:
        """Folder with fingerprint.json, plan.json, splits.json."""
        return self.root / "plans" / dataset

    def fingerprint(self, dataset: str) -> Path:
        """Statistics of the dataset."""
        return self.plans(dataset) / "fingerprint.json"

    def plan(self, dataset: str) -> Path:
        """The plan made from preset and fingerprint; users may edit it."""
        return self.plans(dataset) / "plan.json"

    def splits(self, dataset: str) -> Path:
        """The folds."""
        return self.plans(dataset) / "splits.json"

    def embeddings(self, dataset: str) -> Path:
        """Cached crops and embeddings."""
        return self.root / "embeddings" / dataset

    def expert(self, dataset: str) -> Path:
        """Folder with expert.safetensors, expert.json, log.csv, run.json."""
        return self.root / "experts" / dataset

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

    def dataset_name(self, wanted: str) -> str:
        """Full name for `4`, `Hippocampus` or `Dataset004_Hippocampus`.

        Raises:
            DatasetError: if no dataset or several datasets of the workspace answer to it; lists those there are.
        """
        if DATASET_NAME.fullmatch(wanted):
            return wanted
        known = sorted(path.name for path in self.raw_root.glob("Dataset*") if DATASET_NAME.fullmatch(path.name))
        number = f"Dataset{int(wanted):03d}_" if wanted.isdigit() else None
        found = [name for name in known if (number and name.startswith(number)) or name.partition("_")[2] == wanted]
        if len(found) == 1:
            return found[0]
        fault = f"no such dataset; there are: {', '.join(known) or 'none'}"
        if found:
            fault = f"several datasets answer to it: {', '.join(found)}"
        raise DatasetError(f"{wanted} in {self.raw_root}: {fault}. Give the full name, or run `moe convert` first.")
