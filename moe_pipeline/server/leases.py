"""Who may use the server now: a lease per client, which ends after silence or idleness beyond their limits."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.session.session import Session


class LeaseGoneError(PipelineError):
    """A client's lease has ended, or never was."""


class ServerFullError(PipelineError):
    """All leases are taken."""


@dataclass(slots=True, eq=False)
class Lease:
    """One client.

    Attributes:
        token: what the client shows.
        active_at: last step, on the monotonic clock.
        seen_at: last sign of life.
        session: its image; None before there is one.
        case: scan of the image folder that it works on; empty for an image that the client sent.
        target_dtype: of the masks that a client of nnInteractive's protocol wants.
        busy: requests that are worked on.
    """

    token: str
    active_at: float
    seen_at: float
    session: Session | None = None
    case: str = ""
    target_dtype: str = "uint8"
    busy: int = 0


@dataclass(slots=True, eq=False)
class Leases:
    """All leases.

    Attributes:
        capacity: most at once.
        idle_seconds: after which a lease without a step ends.
        liveness_seconds: after which a lease without a sign of life ends.
        clock: monotonic, in seconds.
    """

    capacity: int
    idle_seconds: float
    liveness_seconds: float
    clock: Callable[[], float] = time.monotonic
    _leases: dict[str, Lease] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> Lease:
        """A new lease.

        Raises:
            ServerFullError: if there is none left.
        """
        self.end_expired()
        with self._lock:
            if len(self._leases) >= self.capacity:
                raise ServerFullError(
                    f"all {self.capacity} sessions are in use; try again later, or start the server with more "
                    "--max-sessions"
                )
            now = self.clock()
            lease = Lease(secrets.token_urlsafe(24), now, now)
            self._leases[lease.token] = lease
            return lease

    def get(self, token: str | None, *, step: bool) -> Lease:
        """The lease of a client.

        Args:
            token: that it shows.
            step: whether it does something, not only gives a sign of life.

        Raises:
            LeaseGoneError: if there is no such lease.
        """
        self.end_expired()
        with self._lock:
            lease = self._leases.get(token or "")
            if lease is None:
                raise LeaseGoneError("this session has ended or never was; claim or open a new one")
            lease.seen_at = self.clock()
            if step:
                lease.active_at = lease.seen_at
            return lease

    def remaining_seconds(self, lease: Lease) -> float:
        """Until a lease ends if nothing is done."""
        return max(self.idle_seconds - (self.clock() - lease.active_at), 0.0)

    def of_case(self, case: str) -> Lease | None:
        """The lease that works on a scan."""
        with self._lock:
            return next((lease for lease in self._leases.values() if lease.case == case), None)

    def release(self, token: str | None) -> None:
        """End a lease, if there is one."""
        with self._lock:
            lease = self._leases.pop(token or "", None)
            if lease is not None:
                lease.session = None

    def end_expired(self) -> int:
        """End those that have been silent or idle beyond their limits, and that nothing is worked on for; how many."""
        now = self.clock()
        with self._lock:
            over = [
                token
                for token, lease in self._leases.items()
                if not lease.busy
                and (now - lease.active_at > self.idle_seconds or now - lease.seen_at > self.liveness_seconds)
            ]
            for token in over:
                self._leases.pop(token).session = None
            return len(over)

    def __iter__(self) -> Iterator[Lease]:
        with self._lock:
            return iter(list(self._leases.values()))

    def __len__(self) -> int:
        return len(self._leases)
