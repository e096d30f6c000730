"""A plain installation, without Ray, submitit and s3fs: everything else works, and what is missing is named."""

import json
import re
import subprocess
import sys
from pathlib import Path

from moe_pipeline.model.sam.foundation import SamFoundation
from moe_pipeline.records.foundation import View
from moe_pipeline.workspace import Workspace
from tests.phantoms.foundations import save_tiny
from tests.phantoms.night import write_good

PLAIN = """
import json, sys
for name in ("ray", "submitit", "s3fs"):
    sys.modules[name] = None
from moe_pipeline.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as ended:
        print("ended with", ended.code, flush=True)
"""


def test_what_is_missing_is_named_and_nothing_else_needs_it(tmp_path: Path, tiny_foundation: SamFoundation) -> None:
    place = Workspace(tmp_path / "ws")
    save_tiny(tiny_foundation, place.weights, View(spacing_mm=1.0, size_voxels=16))
    (tmp_path / "scans").mkdir()
    write_good(tmp_path / "scans", "one", 1)
    clicks = {"one": [{"class_id": 3, "points": [[6, 6, 4]], "labels": [1]}]}
    (tmp_path / "clicks.json").write_text(json.dumps({"space": "voxel_xyz", "cases": clicks}))
    predict = ["predict", "--prompts", "clicks.json", "--foundation", "tiny", "--workspace", "ws", "-o", "out"]
    commands = [
        [*predict, "-i", "scans"],
        [*predict, "-i", "scans", "--engine", "ray"],
        [*predict, "-i", "scans", "--engine", "slurm"],
        [*predict, "-i", "s3://bucket/scans"],
    ]
    ran = subprocess.run(
        [sys.executable, "-c", PLAIN, json.dumps(commands)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert re.findall(r"^ended with (.*)$", ran.stdout, re.MULTILINE) == ["0", "1", "1", "1"], ran.stdout
    plain, *faults, _ = ran.stdout.split("ended with ")
    assert "out: 1 label maps, 0 failed cases" in plain
    for fault, package, extra in zip(faults, ("ray", "submitit", "s3fs"), ("ray", "slurm", "s3"), strict=True):
        assert package in fault
        assert f"pip install 'moe-pipeline[{extra}]'" in fault
