"""How many raters and faces a study needs: the intervals and the power of simulated studies of each size.

facesr opinion plan [--methods N] [--raters N ...] [--faces N ...] [--kind acr|pairs|same] [--difference X]

Every rater sees every face by every method. What is told are means over the simulated studies, each analysed as
`facesr opinion analyse` would.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from facesr.errors import ConfigError
from facesr.opinion.intervals import CONFIDENCE, crossed_mean
from facesr.opinion.simulation import Deviations, Floats, continuous, rounded

_MOST_DRAWS = 2_000_000_000
_AT_ONCE = 2_000_000
# Where the better of two methods stands: in the middle of the scale, and called the same person in so many cases.
_MIDDLE, _RECOGNISED = 3.2, 0.75
_UNITS = {"acr": "MOS", "pairs": "share chosen", "same": "share called the same person"}


@dataclass(frozen=True)
class Size:
    """What a study of some size finds, on the average of the simulated ones.

    Attributes:
        raters: how many.
        faces: how many.
        half_width: of the 95 % interval of one method's value; 0 for pairs, where only two methods have one.
        half_width_difference: of the difference of two methods; for pairs of the share that chooses the first one.
        half_width_naive: the same, were all answers independent, which they are not.
        power: share of the studies that find the difference at the 5 % level.
        power_corrected: the same with the 5 % shared by all pairs of methods (Holm's first step).
    """

    raters: int
    faces: int
    half_width: float
    half_width_difference: float
    half_width_naive: float
    power: float
    power_corrected: float


def size_of(
    raters: int,
    faces: int,
    deviations: Deviations,
    *,
    kind: str = "acr",
    methods: int = 6,
    difference: float = 0.3,
    simulations: int = 1000,
    seed: int = 0,
) -> Size:
    """Returns what studies of so many raters and faces find.

    Args:
        raters: at least 2.
        faces: at least 2.
        deviations: in points of the scale.
        kind: ``acr``, ``pairs`` or ``same``.
        methods: how many are compared; it decides the correction alone.
        difference: between two methods, in points of the scale.
        simulations: how many studies.
        seed: of the draws.
    """
    totals = np.zeros(5)
    level = 1.0 - CONFIDENCE
    num_pairs = methods * (methods - 1) // 2
    for one, both in _studies(raters, faces, deviations, kind, difference, simulations, seed):
        single, paired = crossed_mean(one), crossed_mean(both)
        p_values = paired.p_value()
        centre = 0.5 if kind == "pairs" else 0.0
        if kind == "pairs":
            p_values = crossed_mean(both - centre).p_value()
        naive = 1.96 * both.std(axis=(-2, -1), ddof=1) / np.sqrt(raters * faces)
        if kind != "pairs":
            # Answers to two methods as if other raters had given them.
            naive = 1.96 * np.sqrt(2.0 * one.var(axis=(-2, -1), ddof=1) / (raters * faces))
        for i, values in enumerate(
            (_half(single.interval()), _half(paired.interval()), naive, p_values < level, p_values < level / num_pairs)
        ):
            # A study whose answers are all equal has no interval and finds nothing.
            totals[i] += float(np.nansum(values))
    means = totals / simulations
    if kind == "pairs":
        means[0] = 0.0
    return Size(raters, faces, *(float(value) for value in means))


def _half(ends: tuple[Floats, Floats]) -> Floats:
    return (ends[1] - ends[0]) / 2.0


def _studies(
    raters: int, faces: int, deviations: Deviations, kind: str, difference: float, simulations: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """Yields answers of simulated studies (S, R, F): for one method, and the comparison of two."""
    random = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // (2 * raters * faces))
    means = np.array([_MIDDLE + difference / 2.0, _MIDDLE - difference / 2.0])
    # In the units of the opinions: who finds more than this alike calls it the same person.
    threshold = means[0] - deviations.total * float(ndtri(_RECOGNISED))
    for start in range(0, simulations, at_once):
        opinions = continuous(means, raters, faces, deviations, random, min(at_once, simulations - start))
        if kind == "pairs":
            chosen = (opinions[:, :, 0] > opinions[:, :, 1]).astype(np.float64)
            yield chosen, chosen
            continue
        answers = rounded(opinions) if kind == "acr" else (opinions > threshold).astype(np.float64)
        yield answers[:, :, 0], answers[:, :, 0] - answers[:, :, 1]


def table_of(sizes: list[Size], kind: str) -> list[list[str]]:
    """Returns the table, its heads in the first row."""
    of_one = [] if kind == "pairs" else [f"+- {_UNITS[kind]}"]
    of_two = f"+- {_UNITS[kind]}" if kind == "pairs" else "+- difference"
    rows = [["raters x faces", *of_one, of_two, "if independent", "power", "power, corrected"]]
    for size in sizes:
        first = [] if kind == "pairs" else [f"{size.half_width:.2f}"]
        rows.append(
            [
                f"{size.raters} x {size.faces}",
                *first,
                f"{size.half_width_difference:.2f}",
                f"{size.half_width_naive:.2f}",
                f"{100 * size.power:.0f} %",
                f"{100 * size.power_corrected:.0f} %",
            ]
        )
    return rows


def plan(options: argparse.Namespace) -> None:
    """Prints what studies of the asked sizes find.

    Raises:
        ConfigError: the simulation would take too long, or nothing varies.
    """
    deviations = Deviations(
        options.sd_rater, options.sd_face, options.sd_rater_method, options.sd_method_face, options.sd_noise
    )
    if deviations.total == 0:
        raise ConfigError("all standard deviations are 0, so one rater would do; give at least one --sd-... above 0.")
    draws = 2 * options.simulations * sum(r * f for r in options.raters for f in options.faces)
    if draws > _MOST_DRAWS:
        raise ConfigError(
            f"--raters and --faces ask for {draws / 1e9:.1f} billion simulated answers; give fewer, or --simulations "
            f"{max(options.simulations * _MOST_DRAWS // draws, 200)}."
        )
    sizes = [
        size_of(
            raters,
            faces,
            deviations,
            kind=options.kind,
            methods=options.methods,
            difference=options.difference,
            simulations=options.simulations,
            seed=options.seed,
        )
        for raters in dict.fromkeys(options.raters)
        for faces in dict.fromkeys(options.faces)
    ]
    rows = table_of(sizes, options.kind)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]))
    print("\n" + explanation(options.kind, options.methods, options.difference, options.simulations, deviations))


def explanation(kind: str, methods: int, difference: float, simulations: int, deviations: Deviations) -> str:
    """Returns what the table's columns mean."""
    given = ", ".join(f"{name.replace('_', ' x ')} {value:g}" for name, value in vars(deviations).items())
    of_two = "of the share that chooses one of two methods" if kind == "pairs" else "of the difference of two methods"
    pairs = methods * (methods - 1) // 2
    return f"""\
+-              half width of the 95 % interval, the last one {of_two}, over samples of raters and faces
if independent  what one would claim by taking every answer for independent, which is wrong
power           share of {simulations} studies that find a difference of {difference:g} points at the 5 % level
corrected       the same with the 5 % shared by all {pairs} pairs of {methods} methods
Standard deviations in points of the scale: {given}.
These are guesses; analyse tells those of a study that was made. More faces help little where raters are few, and more
raters where faces are."""
