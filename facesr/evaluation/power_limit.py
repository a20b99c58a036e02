"""The competition's limit of electric power as a check of a submission: what its manifest states, against the limit.

A manifest states energy and seconds of the restoration, so only the mean power can be compared, and only of what was
measured (boards by NVML, CPU packages by RAPL): a mean below the limit is no proof that it was kept, one above is proof
that it was not. The final of 2019 allowed 3000 W for a team's whole cluster.
"""

from typing import Any


def power_facts(joules: float | None, seconds: float, limit_watts: float | None) -> dict[str, Any]:
    """Returns facts of a submission for summary and report.

    Args:
        joules: energy of the restoration, None where it was not measured.
        seconds: its duration.
        limit_watts: the limit, None for no check.

    Returns:
        ``energy_joules`` and ``mean_watts`` where they are stated; with a limit ``power_limit_watts``,
        ``within_power_limit`` (None where nothing is stated) and ``power_check``, a sentence.
    """
    facts: dict[str, Any] = {}
    watts = joules / seconds if joules is not None and seconds > 0 else None
    if joules is not None:
        facts["energy_joules"] = joules
    if watts is not None:
        facts["mean_watts"] = round(watts, 1)
    if limit_watts is None:
        return facts
    within = None if watts is None else watts <= limit_watts
    if watts is None:
        check = f"The limit of {limit_watts:g} W was not checked: the manifest states no energy."
    else:
        verdict = "within" if within else "above"
        check = f"Restoring took {watts:,.0f} W on average, {verdict} the limit of {limit_watts:g} W (the team's word)."
    return {**facts, "power_limit_watts": limit_watts, "within_power_limit": within, "power_check": check}
