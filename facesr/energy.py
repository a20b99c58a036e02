"""The energy of a cluster by node and rank: added up without counting anything twice, kept with a run, and told.

What nothing could read is None all the way and is called not measured; a sum of the rest is a lower bound and is told
with what it lacks. `facesr.power` reads the counters of one rank; rank 0 keeps the log.
"""

import dataclasses
import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from facesr.errors import DataError

FILE = "energy.json"
FORMAT = 1
# NVML's counters move about ten times a second: of a shorter time than this a power would be mostly noise.
SHORTEST_SECONDS = 1.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Reading:
    """What one rank has measured.

    Attributes:
        rank: its number.
        node: name of its machine.
        machine: equal for all processes of one machine, containers too, and for no others.
        device: name of its device.
        seconds: that it measured for.
        has_board: whether there is an accelerator to measure.
        board_joules: energy of the accelerator's board, None where it was not measured.
        cpu_joules: energy of the machine's CPU packages, None where it was not measured, by this rank at least.
    """

    rank: int
    node: str
    machine: str
    device: str
    seconds: float
    has_board: bool
    board_joules: float | None
    cpu_joules: float | None


def this_machine() -> tuple[str, str]:
    """Returns this machine's name, and what tells it from every other one."""
    name = platform.node() or "localhost"
    try:
        told = _BOOT_ID.read_text()  # the same in all containers of a machine, whatever they are called
    except OSError:
        told = name
    return name, hashlib.sha256(told.encode()).hexdigest()[:12]


def total_joules(readings: Sequence[Reading]) -> float | None:
    """Returns what all ranks have measured, a machine's CPU once; None where a rank could measure nothing at all."""
    parts: list[float | None] = []
    for machine in dict.fromkeys(reading.machine for reading in readings):
        here = [reading for reading in readings if reading.machine == machine]
        parts.append(_cpu_of(here))
        for reading in here:
            # On a CPU the machine's first rank has counted for the others.
            if reading.board_joules is None and (reading.cpu_joules if reading.has_board else parts[-1]) is None:
                return None
        parts += [reading.board_joules for reading in here]
    return _sum(parts)


def in_turn(readings: Sequence[Reading], before: Reading) -> Reading:
    """Returns what one rank has measured in several times one after the other.

    Args:
        readings: of one rank; what one of them lacks, all of them lack.
        before: what it is without any: its board has spent nothing, and of the machine's CPU it knows nothing.
    """
    if not readings:
        return replace(before, seconds=0.0, board_joules=0.0 if before.has_board else None, cpu_joules=None)
    board, cpu = readings[0].board_joules, readings[0].cpu_joules
    for reading in readings[1:]:
        board, cpu = _plus(board, reading.board_joules), _plus(cpu, reading.cpu_joules)
    return replace(before, seconds=sum(one.seconds for one in readings), board_joules=board, cpu_joules=cpu)


def _cpu_of(readings: Sequence[Reading]) -> float | None:
    """Returns the energy of one machine's CPU by the first of its ranks that has read it."""
    return next((reading.cpu_joules for reading in readings if reading.cpu_joules is not None), None)


@dataclass
class RankEnergy:
    """The energy of one rank's board; see `Reading`."""

    rank: int
    device: str
    has_board: bool
    seconds: float = 0.0
    board_joules: float | None = 0.0


@dataclass
class NodeEnergy:
    """The energy of one machine: its CPU packages once, and its ranks' boards.

    Attributes:
        name: of the machine.
        machine: see `Reading`.
        seconds: that was measured.
        cpu_joules: None where it was not measured all the time.
        ranks: by number.
    """

    name: str
    machine: str
    seconds: float = 0.0
    cpu_joules: float | None = 0.0
    ranks: list[RankEnergy] = field(default_factory=list)

    @property
    def joules(self) -> float | None:
        """What was measured of it, None for nothing."""
        boards = [one.board_joules for one in self.ranks if one.has_board]
        return _sum([self.cpu_joules, *boards])


@dataclass
class EnergyLog:
    """What was measured of a cluster so far.

    Attributes:
        num_images: that were computed meanwhile.
        seconds: that was measured.
        peak_watts: the highest mean power of all nodes together over a time that they share; None if nothing is known.
        sessions: [start, end] in seconds since 1970 by rank 0's clock, one for each start of the program.
        nodes: in the order in which they were met.
    """

    num_images: int = 0
    seconds: float = 0.0
    peak_watts: float | None = None
    sessions: list[list[float]] = field(default_factory=list)
    nodes: list[NodeEnergy] = field(default_factory=list)
    _images_before: int = 0
    _short: tuple[float, float] = (0.0, 0.0)  # joules and seconds of a time too short for a power of its own

    @classmethod
    def resumed(cls, facts: Mapping[str, Any] | None, num_images: int) -> "EnergyLog":
        """Returns a log that goes on at so many images, from an earlier log's `as_dict` or from nothing."""
        log = cls() if facts is None else cls.from_dict(facts)
        now = time.time()
        log.sessions.append([now, now])
        log._images_before = num_images
        return log

    def add(self, readings: Sequence[Reading], num_images: int) -> None:
        """Adds what all ranks have measured since the last call, up to so many images."""
        self.num_images += max(num_images - self._images_before, 0)  # a rollback goes back, and its images are counted
        self._images_before = num_images
        if self.sessions:
            self.sessions[-1][1] = time.time()
        seconds = max(reading.seconds for reading in readings)
        self.seconds += seconds
        parts: list[float | None] = []
        for machine in dict.fromkeys(reading.machine for reading in readings):
            here = [reading for reading in readings if reading.machine == machine]
            node = self._node(here[0])
            cpu = _cpu_of(here)
            node.cpu_joules = _plus(node.cpu_joules, cpu)
            node.seconds += max(reading.seconds for reading in here)
            parts.append(cpu)
            for reading in here:
                rank = _rank(node, reading)
                rank.seconds += reading.seconds
                if reading.has_board:
                    rank.board_joules = _plus(rank.board_joules, reading.board_joules)
                    parts.append(reading.board_joules)
        self._note_peak(_sum(parts), seconds)

    def _note_peak(self, joules: float | None, seconds: float) -> None:
        if joules is None:
            return
        self._short = (self._short[0] + joules, self._short[1] + seconds)
        if self._short[1] >= SHORTEST_SECONDS:
            self.peak_watts = max(self.peak_watts or 0.0, self._short[0] / self._short[1])
            self._short = (0.0, 0.0)

    def _node(self, reading: Reading) -> NodeEnergy:
        for node in self.nodes:
            if node.machine == reading.machine:
                return node
        like = sum(node.name.split(" (")[0] == reading.node for node in self.nodes)
        self.nodes.append(NodeEnergy(f"{reading.node} ({like + 1})" if like else reading.node, reading.machine))
        return self.nodes[-1]

    @property
    def joules(self) -> float | None:
        """What was measured of all nodes, None for nothing."""
        return _sum([node.joules for node in self.nodes])

    @property
    def mean_watts(self) -> float | None:
        """The mean power of what was measured, None for nothing."""
        joules = self.joules
        return None if joules is None or self.seconds <= 0 else joules / self.seconds

    @property
    def images_per_joule(self) -> float | None:
        """Images for a joule of what was measured, None where there is none."""
        joules = self.joules
        return self.num_images / joules if joules else None

    @property
    def sources(self) -> list[str]:
        """By what something was measured, of NVML and RAPL."""
        boards = [one.board_joules for node in self.nodes for one in node.ranks if one.has_board]
        found = {"NVML": _sum(boards), "RAPL": _sum([node.cpu_joules for node in self.nodes])}
        return [name for name, joules in found.items() if joules is not None]

    @property
    def unmeasured(self) -> list[str]:
        """What was not measured, in words; empty where NVML and RAPL read everything that they can."""
        found = [f"CPU of {node.name}" for node in self.nodes if node.cpu_joules is None]
        boards = [one for node in self.nodes for one in node.ranks if one.has_board and one.board_joules is None]
        return found + [f"board of rank {one.rank}" for one in boards]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain containers that `from_dict` reads."""
        facts = {key: value for key, value in dataclasses.asdict(self).items() if not key.startswith("_")}
        return {"format": FORMAT, **facts}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "EnergyLog":
        """Returns the log that `as_dict` was asked of.

        Raises:
            ValueError: these are no such facts.
        """
        try:
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']}")
            nodes = [
                NodeEnergy(
                    str(node["name"]),
                    str(node["machine"]),
                    _amount(node["seconds"]),
                    _amount_or_none(node["cpu_joules"]),
                    [
                        RankEnergy(
                            int(one["rank"]),
                            str(one["device"]),
                            bool(one["has_board"]),
                            _amount(one["seconds"]),
                            _amount_or_none(one["board_joules"]),
                        )
                        for one in node["ranks"]
                    ],
                )
                for node in facts["nodes"]
            ]
            sessions = [[_amount(start), _amount(end)] for start, end in facts["sessions"]]
            peak = _amount_or_none(facts["peak_watts"])
            return cls(int(_amount(facts["num_images"])), _amount(facts["seconds"]), peak, sessions, nodes)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("no energy log") from error


def read_energy(path: Path) -> EnergyLog | None:
    """Returns the log in an energy.json, None where there is no such file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return EnergyLog.from_dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged; remove it, and its energy counts as not measured.") from error


def energy_bytes(log: EnergyLog) -> bytes:
    """Returns the bytes of an energy.json."""
    return (json.dumps(log.as_dict(), indent=1, allow_nan=False) + "\n").encode("ascii")


def _rank(node: NodeEnergy, reading: Reading) -> RankEnergy:
    for one in node.ranks:
        if (one.rank, one.has_board) == (reading.rank, reading.has_board):
            return one
    node.ranks.append(RankEnergy(reading.rank, reading.device, reading.has_board))
    node.ranks.sort(key=lambda one: one.rank)
    return next(one for one in node.ranks if (one.rank, one.has_board) == (reading.rank, reading.has_board))


def _plus(total: float | None, value: float | None) -> float | None:
    return None if total is None or value is None else total + value


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _amount(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError("no amount")
    return number


def _amount_or_none(value: Any) -> float | None:
    return None if value is None else _amount(value)
