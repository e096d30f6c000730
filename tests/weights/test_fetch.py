import sys
from pathlib import Path
from types import ModuleType

import pytest

from moe_pipeline.errors import CheckpointError
from moe_pipeline.presets import preset_names, published_weights
from moe_pipeline.weights import fetch_foundation


def test_all_published_weights_have_a_preset() -> None:
    assert {entry.preset for entry in published_weights().values()} <= set(preset_names())


def test_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no published weights 'other'; there are: sam_med3d_turbo"):
        fetch_foundation("other", tmp_path)


def test_without_the_extra_it_says_how_to_import_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    by_hand = r"moe-pipeline\[fetch\].*download sam_med3d_turbo.pth from https.*`moe weights import sam_med3d_turbo.pth"
    with pytest.raises(CheckpointError, match=by_hand):
        fetch_foundation("sam_med3d_turbo", tmp_path)


def test_without_a_network_it_fails_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")

    class Unreachable(OSError):
        """Stands for the library's errors."""

    def download(repository: str, file: str) -> str:
        assert (repository, file) == ("blueyo0/SAM-Med3D", "sam_med3d_turbo.pth")
        raise Unreachable("no route to host\nwith details")

    hub.hf_hub_download = download  # type: ignore[attr-defined]
    errors.HfHubHTTPError = errors.LocalEntryNotFoundError = Unreachable  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    with pytest.raises(
        CheckpointError, match=r"cannot download .* \(no route to host\); download .* and run"
    ) as caught:
        fetch_foundation("sam_med3d_turbo", tmp_path)
    assert len(str(caught.value).splitlines()) == 1
