"""What may be chosen for a server."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from moe_pipeline.errors import PipelineError
from moe_pipeline.workspace import DATASET_NAME

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where a server listens, what it shows, and how much it lets its clients have."""

    images: Path | None = None
    """Folder of scans for the annotator and the JSON API; none: only images that clients send."""
    dataset: Path | None = None
    """Dataset folder that accepted cases go into; needed where there are images."""
    labels: Path | None = None
    """Folder of label maps that can be opened and corrected, such as those of `moe predict`."""
    host: str = "127.0.0.1"
    """Address to listen at. Any other than this machine's own needs a key."""
    port: int = 1527
    """Port to listen at; 0 for any that is free."""
    api_key: str | None = None
    """What clients have to show."""
    hosts: tuple[str, ...] = ()
    """Names under which the server is reached, beside its address: behind a proxy, or in a network."""
    max_sessions: int = 8
    """Sessions at once; each holds an image and its embeddings."""
    idle_seconds: float = 600.0
    """After which a session without a step ends. Its steps are kept."""
    liveness_seconds: float = 120.0
    """After which a session ends whose client gives no sign of life."""
    max_upload_mb: int = 2048
    """Most that a client may send at once, packed or unpacked."""

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.api_key:
            raise PipelineError(
                f"--host {self.host}: others could reach the server there; give --api-key, or stay at 127.0.0.1"
            )
        if self.api_key is not None and (not self.api_key.isascii() or not self.api_key.strip()):
            raise PipelineError("--api-key: expected ASCII characters, at least one of them no blank")
        if self.images is not None:
            if not self.images.is_dir():
                raise PipelineError(f"--images {self.images}: no such folder; expected a folder of scans")
            if self.dataset is None:
                raise PipelineError("--images needs --dataset: a folder such as Dataset900_Liver for accepted cases")
        if self.dataset is not None and not DATASET_NAME.fullmatch(self.dataset.name):
            raise PipelineError(f"--dataset {self.dataset}: the folder must be named like Dataset900_Liver")
        if self.labels is not None and not self.labels.is_dir():
            raise PipelineError(f"--labels {self.labels}: no such folder; expected a folder of label maps")
        for name, least in (("max_sessions", 1), ("idle_seconds", 1), ("liveness_seconds", 1), ("max_upload_mb", 1)):
            if getattr(self, name) < least:
                raise PipelineError(f"--{name.replace('_', '-')}: expected at least {least}")

    @property
    def max_upload_bytes(self) -> int:
        """As bytes."""
        return self.max_upload_mb << 20

    @property
    def host_names(self) -> frozenset[str]:
        """What may stand in a request's Host header, without the port."""
        own = _LOOPBACK_NAMES if is_loopback(self.host) else (self.host,)
        return frozenset(name.lower() for name in (*own, *self.hosts))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
