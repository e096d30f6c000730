"""What the commands that segment and compare print, and how they end."""

from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.cli import main
from tests.phantoms.images import write_file


def ended(*arguments: str) -> object:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as ending:
        main(list(arguments))
    return ending.value.code or 0


def test_a_challenge_scores_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, stop in (("predictions", 5), ("references", 9)):
        array = np.zeros((12, 5, 5), np.uint8)
        array[3:stop, 2, 2] = 1
        write_file(tmp_path / folder / "a.mha", array, (1.0, 2.0, 4.0))
    folders = ["-i", str(tmp_path / "predictions"), "-r", str(tmp_path / "references")]
    assert ended("evaluate", *folders, "--preset", "sppin2023") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("SPPIN 2023")
    assert [line.split() for line in lines[4:]] == [
        ["dice", "1", "0.500", "0.000", "0"],
        ["hd95_mm", "1", "3.750", "0.000", "0"],
        ["volumetric_similarity", "1", "0.500", "0.000", "0"],
    ]
    for more, code, said in (
        (["--preset", "nowhere"], 1, "no preset 'nowhere'; there are: sppin2023, cvpr25"),
        (["--preset", "sppin2023", "--matrix"], 2, "leave out -i, -r and --preset"),
    ):
        assert ended("evaluate", *folders, *more) == code
        assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
