"""Who is kept out, what cannot be had, and what garbage leads to."""

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moe_pipeline.errors import PipelineError
from moe_pipeline.server.options import ServeOptions
from tests.server.conftest import KEY, Running

ROUTES = [
    "claim",
    "release",
    "heartbeat",
    "lease_status",
    "capabilities",
    "set_image",
    "set_target_buffer",
    "set_do_autozoom",
    "reset_interactions",
    "add_point_interaction",
    "add_bbox_interaction",
    "add_scribble_interaction",
    "add_lasso_interaction",
    "add_initial_seg_interaction",
    "undo",
    "predict",
    "upload_image",
    "healthz",
    "metrics",
    "openapi.json",
    "api/model",
    "api/scans",
    "api/scans/one/image",
    "api/scans/one/labels",
    "api/scans/one/session",
    "api/session",
    "api/session/click",
    "api/session/box",
    "api/session/objects",
    "api/session/objects/1",
    "api/session/objects/x/select",
    "api/session/labels",
    "api/session/accept",
    "api/session/undo",
    "api/session/open-labels",
    "static/index.html",
    "static/nothing",
]
OUTSIDE = (
    "api/scans/linked/image",
    "api/scans/..%2Felsewhere%2Fsecret/image",
    "api/scans/../elsewhere/secret.nii.gz/image",
    "api/scans/%2Fetc%2Fpasswd/image",
    "api/scans/one.nii.gz%00/image",
    "static/..%2F..%2Foptions.py",
    "static/../../options.py",
    "static//etc/passwd",
    "../../etc/passwd",
)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {KEY}"}, 401),
        ({"Authorization": "Bearer é"}, 401),
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
        ({"Host": "[::1"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_who_is_let_in(server: Running, headers: dict[str, str], status: int) -> None:
    with server.client() as client:
        sent = {name: value.encode() for name, value in headers.items()}
        assert client.get("/api/scans", headers=sent).status_code == status  # type: ignore[arg-type]
        own = {"Origin": server.url}
        assert client.get("/api/scans", headers=own).status_code == 200
    with server.client(key=None) as nobody:
        assert nobody.get("/healthz").json() == {"ok": True}
        assert nobody.get("/metrics").status_code == 401


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "give --api-key"),
        ({"host": "192.168.0.7"}, "give --api-key"),
        ({"api_key": " "}, "ASCII"),
        ({"images": Path("/nowhere")}, "no such folder"),
        ({"dataset": Path("liver")}, "must be named like Dataset900_Liver"),
        ({"max_sessions": 0}, "--max-sessions: expected at least 1"),
    ],
)
def test_what_a_server_may_not_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        ServeOptions(**options)  # type: ignore[arg-type]
    assert ServeOptions(host="::1").host_names >= {"::1", "localhost"}


def test_nothing_outside_is_served(server: Running) -> None:
    secret = (server.images.parent / "elsewhere" / "secret.nii.gz").read_bytes()
    for path in OUTSIDE:
        answer = raw(server, f"GET /{path} HTTP/1.1")
        assert answer.split(b" ")[1] in (b"400", b"404"), path
        assert secret not in answer
        assert b"root:" not in answer


def raw(server: Running, first: str, body: bytes = b"", wait: float = 5.0) -> bytes:
    """Answer to a request that no client would send."""
    port = int(server.url.rpartition(":")[2])
    lines = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", port), wait) as connection:
        connection.sendall(f"{first}\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    return answer


def garbage(random: np.random.Generator) -> tuple[str, str, dict[str, str], bytes]:
    """Method, path, headers and body that mean nothing, often near to something that does."""
    route = str(random.choice(ROUTES))
    if random.random() < 0.2:
        route = "a" + "".join(random.choice(list("abc/%.~ü?&_-0123")) for _ in range(int(random.integers(1, 40))))
    bodies: list[Callable[[], bytes]] = [
        lambda: random.bytes(int(random.integers(0, 400))),
        lambda: b"NNIA\x01\x01\x04\x05uint8" + random.bytes(int(random.integers(0, 200))),
        lambda: b"NNIA\x01\x01\x01\x05uint8" + (10**12).to_bytes(8, "little") + b"\x01\0\0\0" + random.bytes(64),
        lambda: b"[" * int(random.integers(1, 3000)),
        lambda: b'{"point": [1e999, null, "x"], "inside": 7, "coordinates": [NaN, 1, {}], "shape": [-1, 0, 1e30]}',
        lambda: b'{"class_name": "\\u0000", "class_id": 99999999, "steps": -1, "bbox_coords": [[1, 2]]}',
        lambda: b"",
    ]
    body = bodies[int(random.integers(len(bodies)))]()
    headers = {"X-Meta": str(random.choice(["{", "[]", '{"image_properties": {"spacing": [1, "a", 2]}}', "nil"]))}
    if random.random() < 0.5:
        headers["Content-Type"] = str(random.choice(["application/json", "application/octet-stream", "text/x"]))
    return str(random.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS"])), f"/{route}", headers, body


def send_garbage(server: Running, n: int) -> set[int]:
    """Statuses of the answers; a session is open, so that what needs one is reached."""
    random = np.random.default_rng(n)
    statuses = set()
    with server.client() as client:
        client.headers["X-Lease-Token"] = client.post("/claim").json()["lease_token"]
        for _ in range(n):
            method, path, headers, body = garbage(random)
            if path in ("/release",):
                continue
            answer = client.request(method, path, headers=headers, content=body)
            statuses.add(answer.status_code)
            assert "Traceback" not in answer.text
            assert str(server.images.parent) not in answer.text
    return statuses


def test_garbage_is_refused_with_a_reason_and_leaves_nothing_behind(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="moe_pipeline.server"):
        assert not send_garbage(server, 400) & set(range(500, 503))
    assert "one" not in {word for record in caplog.records for word in record.getMessage().split()}
    server.end_all()
    assert state(server)["moe_sessions"] == 0


def state(server: Running) -> dict[str, float]:
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_metrics_count_prompts_and_name_nobody(server: Running) -> None:
    before = state(server)
    with server.client() as client:
        opened = client.post("/api/scans/one/session", json={"take": True}).json()
        client.headers["X-Lease-Token"] = opened["lease_token"]
        client.post("/api/session/click", json={"point": [12, 10, 8]})
        after = state(server)
        assert '"/api/scans/{case}/session"' in client.get("/metrics").text
    assert after["moe_prompt_seconds_count"] == before["moe_prompt_seconds_count"] + 1
    assert after["moe_session_bytes"] > 0


def test_a_slow_client_holds_nobody_up(server: Running) -> None:
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as slow, server.client() as quick:
        slow.sendall(
            f"POST /set_image HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Length: 1000000\r\n\r\nhalf".encode()
        )
        began = time.monotonic()
        assert quick.get("/healthz").status_code == 200
        opened = quick.post("/api/scans/one/session", json={"take": True})
        assert opened.status_code == 200
        assert time.monotonic() - began < 20


def test_a_full_disk_is_told_and_changes_nothing(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "secret-patient.jsonl")

    with server.client() as client:
        opened = client.post("/api/scans/two/session", json={"take": True}).json()
        client.headers["X-Lease-Token"] = opened["lease_token"]
        client.post("/api/session/click", json={"point": [12, 10, 8]})
        before = client.get("/api/session").json()["objects"]
        monkeypatch.setattr("moe_pipeline.server.scans.append_line", full)
        answer = client.post("/api/session/click", json={"point": [13, 10, 8]})
        assert answer.status_code == 507
        assert "patient" not in answer.text
        assert client.get("/api/session").json()["objects"] == before


def test_an_unknown_error_is_told_without_its_message(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Jane Doe")

    monkeypatch.setattr("moe_pipeline.server.service.Service.gauges", broken)
    with server.client() as client, caplog.at_level(logging.DEBUG):
        answer = client.get("/metrics")
    assert answer.status_code == 500
    assert "Jane" not in answer.text + caplog.text
    assert "RuntimeError at" in caplog.text


def test_without_the_extra_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'fastapi' else find(name, *rest)\n"
        "from moe_pipeline.cli import main; main(['serve', '--foundation', 'nano'])"
    )
    told = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert told.returncode == 1
    assert "pip install 'moe-pipeline[serve]'" in told.stderr
