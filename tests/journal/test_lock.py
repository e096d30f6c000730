import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from moe_pipeline.journal.lock import LockedError, LockOwner, _retire, locked, release_lock, take_lock

HOLD = """
import sys
from pathlib import Path
from moe_pipeline.journal.lock import take_lock
take_lock(Path(sys.argv[1]), "moe finetune Other")
print("held", flush=True)
sys.stdin.read()
"""
TRY = """
import sys
from pathlib import Path
from moe_pipeline.journal.lock import LockedError, take_lock
sys.stdin.readline()
try:
    take_lock(Path(sys.argv[1]), "one of many")
    print("held", flush=True)
except LockedError:
    print("refused", flush=True)
sys.stdin.read()
"""


def start(program: str, path: Path) -> "subprocess.Popen[str]":
    asked = [sys.executable, "-c", program, str(path)]
    return subprocess.Popen(asked, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def owner(**changes: object) -> str:
    """Content of a lock file of this very process, but for some fields."""
    known = {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}
    return json.dumps({**known, "command": "moe finetune", **changes})


def test_one_at_a_time_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "new" / "training.lock"
    with locked(path, "moe finetune One"):
        assert LockOwner.model_validate_json(path.read_text()).pid == os.getpid()
        with pytest.raises(LockedError, match=rf"process {os.getpid()} on .* writes here \(moe finetune One\)"):
            take_lock(path, "moe finetune One")
    assert not list(path.parent.iterdir())
    with pytest.raises(ValueError, match="spoilt"), locked(path, "moe finetune One"):
        raise ValueError("spoilt")
    assert not list(path.parent.iterdir())


def test_a_living_process_is_named_and_a_killed_ones_lock_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    other = start(HOLD, path)
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=rf"process {other.pid} on .*moe finetune Other.*wait for it, or end it"):
            take_lock(path, "moe finetune One")
        other.kill()
    take_lock(path, "moe finetune One")
    assert json.loads(path.read_text())["pid"] == os.getpid()
    release_lock(path)


def test_a_process_of_the_same_number_that_started_later_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    path.write_text(owner(started=psutil.Process().create_time() - 3600))
    take_lock(path, "moe finetune One")
    assert json.loads(path.read_text())["command"] == "moe finetune One"


def test_nobody_knows_whether_a_process_of_another_host_lives(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    path.write_text(owner(host="elsewhere", pid=4_000_000))
    with pytest.raises(LockedError, match=r"process 4000000 on elsewhere.*if it is no more, remove .*training.lock"):
        take_lock(path, "moe finetune One")
    os.utime(path, (1, 1))  # not renewed for long: its machine is lost
    take_lock(path, "moe finetune One")
    assert LockOwner.model_validate_json(path.read_text()).pid == os.getpid()
    release_lock(path)


def test_a_lock_is_renewed_until_it_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_pipeline.journal.lock._RENEW_SECONDS", 0.01)
    path = tmp_path / "training.lock"
    with locked(path, "moe finetune One"):
        os.utime(path, (1, 1))
        limit = time.monotonic() + 20
        while path.stat().st_mtime < 2 and time.monotonic() < limit:
            time.sleep(0.01)
        assert path.stat().st_mtime > 2
    time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def test_a_file_without_content_is_another_process_at_work_or_long_dead(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    path.touch()
    with pytest.raises(LockedError, match="has just begun to write here"):
        take_lock(path, "moe finetune One")
    os.utime(path, (1, 1))
    take_lock(path, "moe finetune One")


def test_of_many_that_see_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    path.write_text(owner(started=0.0))
    with ExitStack() as running:
        others = [running.enter_context(start(TRY, path)) for _ in range(4)]
        for other in others:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
        said = [other.stdout.readline().strip() for other in others if other.stdout is not None]
        assert sorted(said) == ["held", *["refused"] * 3]
        for other in others:
            other.kill()


def test_a_lock_that_somebody_else_took_over_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    path.write_text(owner())
    _retire(path, owner(started=0.0))
    assert path.read_text() == owner()
    _retire(path, owner())
    assert not list(tmp_path.iterdir())
