"""What a server counts, in Prometheus' text format. No names of scans or people."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

_BUCKETS = (0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True, eq=False)
class Metrics:
    """Requests, and how long the model took to answer prompts.

    Attributes:
        requests: by route, as it stands in the API's description, and status.
        prompts: how many took up to each of the buckets' seconds.
        seconds: in all.
        count: of prompts.
    """

    requests: dict[tuple[str, int], int] = field(default_factory=dict)
    prompts: list[int] = field(default_factory=lambda: [0] * len(_BUCKETS))
    seconds: float = 0.0
    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, route: str, status: int) -> None:
        """Count a request."""
        with self._lock:
            self.requests[route, status] = self.requests.get((route, status), 0) + 1

    def prompt(self, seconds: float) -> None:
        """Count a prompt that was answered."""
        with self._lock:
            self.count += 1
            self.seconds += seconds
            for index, most in enumerate(_BUCKETS):
                self.prompts[index] += seconds <= most

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of it.

        Args:
            gauges: further numbers by name.
        """
        with self._lock:
            lines = ["# TYPE moe_requests_total counter"]
            for (route, status), number in sorted(self.requests.items()):
                lines.append(f'moe_requests_total{{route="{route}",status="{status}"}} {number}')
            lines.append("# TYPE moe_prompt_seconds histogram")
            for most, number in zip(_BUCKETS, self.prompts, strict=True):
                lines.append(f'moe_prompt_seconds_bucket{{le="{most:g}"}} {number}')
            lines.append(f'moe_prompt_seconds_bucket{{le="+Inf"}} {self.count}')
            lines += [f"moe_prompt_seconds_sum {self.seconds:.6f}", f"moe_prompt_seconds_count {self.count}"]
            for name, value in gauges.items():
                lines += [f"# TYPE moe_{name} gauge", f"moe_{name} {value:g}"]
        return "\n".join(lines) + "\n"
