from pathlib import Path

from moe_pipeline.inference import sources as stage
from moe_pipeline.inference.sources import PromptSource


def test_references_with_numbers_like_channels_are_all_found(tmp_path: Path) -> None:
    names = [f"scan_{number:04d}" for number in range(3)]
    for name in names:
        (tmp_path / f"{name}.nii.gz").touch()
    assert list(stage._references(PromptSource(labels=tmp_path))) == names
