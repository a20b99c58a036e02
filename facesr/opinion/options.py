"""What ``facesr opinion plan`` and ``facesr opinion analyse`` take on the command line; nothing heavy is imported."""

import argparse
from pathlib import Path
from typing import Annotated

from facesr.arguments import number
from facesr.ranges import Range

Deviation = Annotated[float, Range(0, 10)]
_Methods = Annotated[int, Range(2, 100)]
_People = Annotated[int, Range(2, 1_000)]
_Resamples = Annotated[int, Range(200, 100_000)]
_Seed = Annotated[int, Range(0, 4_294_967_295)]
_Difference = Annotated[float, Range(0, 4, above=True)]

# Standard deviations in points of the scale from 1 to 5: guesses, chosen so that one rating of a method varies by 1 in
# all, and in the range of the raters' biases and inconsistencies that Annex E of ITU-T P.910 finds in video studies.
DEVIATIONS = {
    "rater": (0.50, "how lenient raters are"),
    "face": (0.30, "how well faces are liked, whatever the method"),
    "rater_method": (0.29, "taste: which methods a rater likes"),
    "method_face": (0.30, "which faces a method does well"),
    "noise": (0.70, "what is left in one answer"),
}


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``plan``."""
    parser.add_argument("--methods", type=number(_Methods), default=6, metavar="N", help="methods that are compared")
    parser.add_argument("--raters", type=number(_People), nargs="+", default=[15, 24, 40], metavar="N")
    parser.add_argument("--faces", type=number(_People), nargs="+", default=[20, 40], metavar="N")
    parser.add_argument("--kind", choices=["acr", "pairs", "same"], default="acr", help="of the question")
    for name, (value, text) in DEVIATIONS.items():
        flag = f"--sd-{name.replace('_', '-')}"
        parser.add_argument(flag, type=number(Deviation), default=value, metavar="X", help=f"{text} (default {value})")
    parser.add_argument(
        "--difference",
        type=number(_Difference),
        default=0.3,
        metavar="X",
        help="of two methods' MOS, whose discovery is counted (default 0.3)",
    )
    parser.add_argument("--simulations", type=number(_Resamples), default=1000, metavar="N", help="of each study")
    parser.add_argument("--seed", type=number(_Seed), default=0)


def add_analyse_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``analyse`` behind the study's folder."""
    parser.add_argument("--out", type=Path, metavar="OUT", help="folder for the result; by default DIR/analysis")
    parser.add_argument(
        "--judges", default="builtin", metavar="A,B", help="judges that opinions are held against; none for no metric"
    )
    parser.add_argument("--resamples", type=number(_Resamples), default=2000, metavar="N")
    parser.add_argument("--seed", type=number(_Seed), default=0)
