"""Counts of requests in the text format of Prometheus.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What a site has answered since it was started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[Labels] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts an answer.

        Args:
            route: the pattern of the address, not the address: their number has to be bounded.
            method: of HTTP.
            status: of HTTP.
            seconds: until the last byte.
        """
        with self._lock:
            self._requests[(("route", route), ("method", method), ("status", str(status)))] += 1
            counts = self._buckets.setdefault(route, [0] * (len(_BOUNDS) + 1))
            counts[sum(seconds > bound for bound in _BOUNDS)] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self, gauges: Mapping[str, tuple[str, Sequence[tuple[Labels, float]]]]) -> str:
        """Returns all counts, and gauges: name -> (what it is, its values by labels)."""
        with self._lock:
            requests, seconds = dict(self._requests), dict(self._seconds)
            buckets = {route: list(counts) for route, counts in self._buckets.items()}
        lines = ["# HELP facesr_requests_total Answers.", "# TYPE facesr_requests_total counter"]
        lines += [_line("facesr_requests_total", labels, count) for labels, count in sorted(requests.items())]
        name = "facesr_request_seconds"
        lines += [f"# HELP {name} Seconds from a request to the end of its answer.", f"# TYPE {name} histogram"]
        for route, counts in sorted(buckets.items()):
            below = 0
            for bound, count in zip((*map(str, _BOUNDS), "+Inf"), counts, strict=True):
                below += count
                lines.append(_line(f"{name}_bucket", (("route", route), ("le", bound)), below))
            lines.append(_line(f"{name}_sum", (("route", route),), round(seconds[route], 6)))
            lines.append(_line(f"{name}_count", (("route", route),), below))
        for gauge, (about, values) in gauges.items():
            lines += [f"# HELP {gauge} {about}", f"# TYPE {gauge} gauge"]
            lines += [_line(gauge, labels, value) for labels, value in values]
        return "\n".join(lines) + "\n"


def _line(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
