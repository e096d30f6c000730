from pathlib import Path

import pytest

from tests.phantoms.label_maps import write_heads


@pytest.fixture(scope="session")
def label_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("label_maps")
    write_heads(folder)
    return folder
