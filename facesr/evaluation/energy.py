"""Energy in evaluations and comparisons: what a submission states, what restoring took here, and what runs took."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesr.energy import FILE, EnergyLog, read_energy
from facesr.evaluation.meter import Meter, Metered, metered


def power_facts(joules: float | None, seconds: float, limit_watts: float | None) -> dict[str, Any]:
    """Returns facts of a submission's electric power for summary and report, and the check against a limit.

    A manifest states energy and seconds of the restoration, so only the mean power of what was measured (boards by
    NVML, CPU packages by RAPL) can be compared: a mean below the limit is no proof that it was kept, one above is
    proof that it was not. The final of 2019 allowed 3000 W for a team's whole cluster.

    Args:
        joules: energy of the restoration, None where it was not measured.
        seconds: its duration.
        limit_watts: the limit, None for no check.

    Returns:
        ``energy_joules`` and ``mean_watts`` where they are stated; with a limit ``power_limit_watts``,
        ``within_power_limit`` (None where nothing is stated) and ``power_check``, a sentence.
    """
    watts = joules / seconds if joules is not None and seconds > 0 else None
    facts = _stated(joules, watts)
    if limit_watts is None:
        return facts
    within = None if watts is None else watts <= limit_watts
    if watts is None:
        check = f"The limit of {limit_watts:g} W was not checked: the manifest states no energy."
    else:
        verdict = "within" if within else "above"
        check = f"Restoring took {watts:,.0f} W on average, {verdict} the limit of {limit_watts:g} W (the team's word)."
    return {**facts, "power_limit_watts": limit_watts, "within_power_limit": within, "power_check": check}


def measured_facts(log: EnergyLog | None, limit_watts: float | None) -> dict[str, Any]:
    """Returns the same facts of what restoring took on the machines that it was measured on.

    Args:
        log: of the restoration, None where there is none.
        limit_watts: the limit, None for no check.
    """
    joules, watts = (None, None) if log is None else (log.joules, log.mean_watts)
    facts = _stated(joules, watts)
    if limit_watts is None:
        return facts
    within, check = limit_check(watts, limit_watts, "Restoring", [] if log is None else log.unmeasured)
    return {**facts, "power_limit_watts": limit_watts, "within_power_limit": within, "power_check": check}


def _stated(joules: float | None, watts: float | None) -> dict[str, Any]:
    facts: dict[str, Any] = {} if joules is None else {"energy_joules": joules}
    return facts if watts is None else {**facts, "mean_watts": round(watts, 1)}


@dataclass(frozen=True)
class RunEnergy:
    """The energy of a run.

    Attributes:
        log: by node and rank, None where the run has kept none.
        by_meter: by external meters, None where there are none or they have not measured all of it.
    """

    log: EnergyLog | None
    by_meter: Metered | None

    @property
    def joules(self) -> float | None:
        """Of the whole cluster: by the meters, else by NVML and RAPL."""
        if self.by_meter is not None:
            return self.by_meter.joules
        return None if self.log is None else self.log.joules

    def cells(self) -> list[str]:
        """Returns kJ, mean watts, the highest watts, images a joule, and by what they were measured, as text."""
        joules, watts, peak, by = self.joules, None, None, "-"
        if self.by_meter is not None:
            watts, peak, by = self.by_meter.joules / self.by_meter.seconds, self.by_meter.peak_watts, "meter"
        elif self.log is not None and joules is not None:
            watts, peak, by = self.log.mean_watts, self.log.peak_watts, " and ".join(self.log.sources)
            by += ", not all of it" if self.log.unmeasured else ""
        images = None if self.log is None or not joules else self.log.num_images / joules
        kilojoules = None if joules is None else joules / 1000
        return [shown(kilojoules, ",.3f"), shown(watts, ",.1f"), shown(peak, ",.1f"), shown(images, ".4g"), by]

    def check(self, name: str, limit_watts: float) -> str:
        """Returns a sentence: whether the run `name` kept a limit of the whole cluster."""
        if self.by_meter is not None:
            return limit_check(self.by_meter.peak_watts, limit_watts, f"{name}, by its meter,", [])[1]
        if self.log is None:
            return limit_check(None, limit_watts, name, [])[1]
        watts = self.log.mean_watts if self.log.peak_watts is None else self.log.peak_watts
        nodes = len(self.log.nodes)
        return limit_check(watts, limit_watts, f"{name} on {nodes} node{'s' * (nodes > 1)}", self.log.unmeasured)[1]


HEADS = ("kJ", "mean W", "highest W", "images/J", "measured by")


def energy_of_run(folder: Path, meters: Sequence[Meter]) -> RunEnergy:
    """Returns the energy of the run in a folder.

    Raises:
        DataError: its energy.json is damaged.
    """
    log = read_energy(folder / FILE)
    return RunEnergy(log, None if log is None else metered(meters, log.sessions))


def rows_by_rank(runs: Sequence[tuple[str, RunEnergy]]) -> list[list[str]]:
    """Returns node and rank line by line of all runs that have kept a log, the heads first; none where none has."""
    rows: list[list[str]] = []
    for name, energy in runs:
        if energy.log is not None and energy.log.nodes:
            heads, *lines = energy_table(energy.log)
            rows += ([] if rows else [["run", *heads]]) + [[name, *line] for line in lines]
    return rows


def limit_check(watts: float | None, limit: float, what: str, unmeasured: Sequence[str]) -> tuple[bool | None, str]:
    """Returns whether a power is within a limit, None where that is not known, and a sentence about it.

    Args:
        watts: of what was measured, None for nothing.
        limit: in watts.
        what: the subject of the sentence, for example "Restoring".
        unmeasured: what the power lacks: it may be above the limit all the same.
    """
    if watts is None:
        return None, f"{what} was not checked against the limit of {limit:g} W: no power was measured."
    if watts > limit:
        return False, f"{what} took {watts:,.0f} W, above the limit of {limit:g} W."
    if unmeasured:
        told = ", ".join(unmeasured[:3]) + (f" and {len(unmeasured) - 3} more" if unmeasured[3:] else "")
        return None, (
            f"{what} took {watts:,.0f} W without what was not measured ({told}), so the limit of {limit:g} W was not "
            "checked."
        )
    return True, f"{what} took {watts:,.0f} W, within the limit of {limit:g} W."


def energy_table(log: EnergyLog) -> list[list[str]]:
    """Returns node and rank line by line, the heads first: seconds, joules, watts and by what they were measured."""
    rows = [["node", "rank", "device", "seconds", "joules", "watts", "by"]]
    for node in log.nodes:
        cpu, boards = node.cpu_joules, [one.board_joules for one in node.ranks if one.has_board]
        known = [
            name for name, values in (("NVML", boards), ("RAPL", [cpu])) if any(value is not None for value in values)
        ]
        whole = cpu is not None and None not in boards
        by = " and ".join(known) + ("" if whole or not known else ", not all of it")
        rows.append([node.name, "all", _counted(len(node.ranks)), *_figures(node.seconds, node.joules), by or "-"])
        rows.append([node.name, "-", "CPU", *_figures(node.seconds, cpu), "-" if cpu is None else "RAPL"])
        for one in node.ranks:
            joules = one.board_joules if one.has_board else None
            by = "in the CPU's" if not one.has_board else "-" if joules is None else "NVML"
            figures = _figures(one.seconds, joules) if one.has_board else [f"{one.seconds:.1f}", "-", "-"]
            rows.append([node.name, str(one.rank), one.device, *figures, by])
    return rows


def shown(value: float | None, form: str) -> str:
    """Returns a figure for people, `not measured` where there is none."""
    return "not measured" if value is None else format(value, form)


def _figures(seconds: float, joules: float | None) -> list[str]:
    watts = None if joules is None or seconds <= 0 else joules / seconds
    return [f"{seconds:.1f}", shown(joules, ",.1f"), shown(watts, ",.1f")]


def _counted(ranks: int) -> str:
    return "1 rank" if ranks == 1 else f"{ranks} ranks"
