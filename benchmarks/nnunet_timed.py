"""Train nnU-Net for so many minutes, its learning rate falling to nothing within them, and predict a folder.

Runs in a virtual environment that has nnunetv2, with nnUNet_raw, nnUNet_preprocessed and nnUNet_results set, after
`nnUNetv2_plan_and_preprocess`; nnunet.py calls it.

    VENV/bin/python benchmarks/nnunet_timed.py DATASET MINUTES IMAGES OUT
"""

import json
import sys
import time
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # type: ignore[import-not-found]
from nnunetv2.paths import nnUNet_preprocessed  # type: ignore[import-not-found]
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # type: ignore[import-not-found]


def train(dataset: str, minutes: float) -> tuple[nnUNetTrainer, list[float], float]:
    """A trainer after its training, the loss of each of its steps, and their seconds with the start of its workers."""
    folder = Path(str(nnUNet_preprocessed)) / dataset
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    description = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, description, torch.device("cpu"))
    trainer.disable_checkpointing = True
    began, losses = time.monotonic(), []
    trainer.on_train_start()
    trainer.network.train()
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - done) ** 0.9
        losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
    seconds = time.monotonic() - began
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        loader._finish()
    return trainer, losses, seconds


def predict(trainer: nnUNetTrainer, images: Path, out: Path) -> None:
    """Label maps with nnU-Net's own defaults: half a patch's steps, mirroring."""
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    out.mkdir(parents=True, exist_ok=True)
    cases = sorted(images.glob("*.nii.gz"))
    targets = [str(out / case.name.replace("_0000", "")) for case in cases]
    predictor.predict_from_files(
        [[str(case)] for case in cases],
        targets,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )


if __name__ == "__main__":
    trained, course, took = train(sys.argv[1], float(sys.argv[2]))
    predict(trained, Path(sys.argv[3]), Path(sys.argv[4]))
    print(f"{len(course)} steps in {took:.0f} s; loss of every tenth {[round(loss, 3) for loss in course[::10]]}")
