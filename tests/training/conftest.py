import shutil
from pathlib import Path

import pytest

from moe_pipeline.workspace import Workspace


@pytest.fixture
def place(trained_workspace: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may spoil."""
    shutil.copytree(trained_workspace.root, tmp_path / "ws", symlinks=True)
    return Workspace(tmp_path / "ws")
