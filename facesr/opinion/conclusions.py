"""What may and may not be concluded, in plain sentences, none of them stronger than the numbers."""

from collections.abc import Sequence

from facesr.opinion.correlation import CEILING, Correlation
from facesr.opinion.findings import Findings
from facesr.opinion.ratings import ORIGINAL, Records
from facesr.opinion.scores import MEASURES, Difference, Score

# ITU-T P.910 and BT.500 ask for at least 15 raters.
FEWEST_RATERS = 15
FEWEST_FACES = 20
_LEVEL = 0.05


def warnings_of(records: Records, kept: Findings, everyone: Findings) -> list[str]:
    """Returns what a reader has to know before the numbers."""
    found = []
    if kept.raters == 0:
        found.append(
            "The rules exclude every rater, so nothing may be concluded; what all of them answered stands below."
        )
    elif kept.raters < FEWEST_RATERS:
        found.append(
            f"Informal: {_number(kept.raters, 'rater')} where ITU-T P.910 and BT.500 ask for at least {FEWEST_RATERS}. "
            "The intervals hold for what they say, but may be quoted as an informal study only."
        )
    faces = max((one.faces for one in kept.scores), default=0)
    if 0 < faces < FEWEST_FACES:
        found.append(
            f"{_number(faces, 'face')} only: at least {FEWEST_FACES} are advised; other faces may tell otherwise."
        )
    found += _odd_references(records, kept)
    if kept.raters and everyone.raters > kept.raters and _order(kept) != _order(everyone):
        found.append("The order of the methods depends on who is excluded; see the table without exclusions.")
    if kept.preferences is not None and not kept.preferences.is_bounded:
        found.append(
            "The strengths, or what a side is worth, have no finite estimate: methods won or lost all comparisons, in "
            "all or on one side. Half a win was added to both methods of each pair."
        )
    if any(one.low is None for one in (kept.scores or everyone.scores)):
        found.append(
            "Some values have no interval: it takes two raters and two faces, and answers that are not all the same."
        )
    return found


def _odd_references(records: Records, kept: Findings) -> list[str]:
    found = []
    mos = kept.of("mos")
    methods = [one for name, one in mos.items() if name != ORIGINAL]
    if ORIGINAL in mos and methods:
        best = max(methods, key=lambda one: one.value)
        if best.value > mos[ORIGINAL].value:
            found.append(
                f"{best.method} has a higher MOS than the hidden originals: people rated how pleasant a picture is, "
                "not how true, or did not see the difference at this size."
            )
    for anchor in records.anchors:
        others = [one for one in methods if one.method not in records.anchors]
        below = [one.method for one in others if anchor in mos and one.value < mos[anchor].value]
        if below:
            found.append(f"{_listed(below)} below {anchor}, an anchor that should be the worst.")
    return found


def conclusions_of(records: Records, kept: Findings) -> list[str]:
    """Returns what may be concluded and then what may not, each a sentence or two."""
    measure = kept.main_measure
    if measure is None:
        return []
    scores = [one for name, one in kept.of(measure).items() if name != ORIGINAL]
    found = []
    if scores:
        found += _ranking(scores, kept.pairs_of(measure), measure)
    found += _references(kept)
    found += _agreement(kept)
    found += _metrics(kept)
    found.append(_limits(records, kept, measure))
    return found


def _ranking(scores: Sequence[Score], differences: Sequence[Difference], measure: str) -> list[str]:
    name = MEASURES[measure][0]
    best = max(scores, key=lambda one: one.value)
    if len(scores) == 1:
        return [f"{best.method} has {name} {best.value:.2f}{_interval(best.low, best.high)}; there is no other method."]
    worse: list[str] = []
    open_ones: list[str] = []
    unknown: list[str] = []
    for one in sorted(scores, key=lambda one: -one.value):
        pair = next((p for p in differences if {p.first, p.second} == {one.method, best.method}), None)
        if one.method == best.method:
            continue
        if pair is None or pair.p_holm is None:
            unknown.append(one.method)
        else:
            (worse if pair.p_holm < _LEVEL else open_ones).append(one.method)
    found = [f"{best.method} has the highest {name}, {best.value:.2f}{_interval(best.low, best.high)}."]
    if worse:
        found.append(
            f"It is better than {_listed(worse)}: at most once in twenty such studies would any pair of equal methods "
            "differ this clearly."
        )
    if open_ones:
        widths = [
            (p.high - p.low) / 2
            for p in differences
            if {p.first, p.second} <= {best.method, *open_ones} and best.method in (p.first, p.second)
            if p.low is not None and p.high is not None
        ]
        unseen = f"; a difference below about {max(widths):.2f} could not be seen here" if widths else ""
        found.append(f"It is not shown to be better than {_listed(open_ones)}, which is no proof of equality{unseen}.")
    if unknown:
        found.append(f"Whether it differs from {_listed(unknown)} cannot be told.")
    return found


def _references(kept: Findings) -> list[str]:
    dmos = kept.of("dmos")
    if not dmos:
        return []
    equal = [one.method for one in dmos.values() if one.high is not None and one.high >= 5.0]
    if equal:
        return [f"Against the hidden originals {_listed(equal)} not shown to be worse."]
    known = all(one.high is not None for one in dmos.values())
    return ["Every method is rated below the hidden originals."] if known else []


def _agreement(kept: Findings) -> list[str]:
    alpha = next((one for one in kept.alphas.get("acr", ()) if one.level == "ordinal"), None)
    if alpha is None or alpha.value is None:
        return []
    # Krippendorff's own bounds, 2004: 0.8 to rely upon, 0.667 for tentative conclusions - of single answers.
    words = "high" if alpha.value >= 0.8 else "fair" if alpha.value >= 0.667 else "low"
    return [
        f"Single raters agree with each other at Krippendorff's alpha {alpha.value:.2f}, which is {words}; means over "
        "raters are surer than any one of them."
    ]


def _metrics(kept: Findings) -> list[str]:
    found = []
    for measure in dict.fromkeys(one.measure for one in kept.correlations):
        own = [
            one
            for one in kept.correlations
            if one.measure == measure and one.level == "pictures" and one.metric != CEILING and one.value is not None
        ]
        if not own:
            continue
        best = max(own, key=_value)
        behind = [one.metric for one in own if one.behind_low is not None and one.behind_low > 0]
        sure = f", ahead of {_listed(behind)} beyond chance" if behind else ", but ahead of no other beyond chance"
        points = next(o.points for o in kept.correlations if o.measure == measure and o.level == "methods")
        found.append(
            f"Over all pictures {best.metric} agrees best with people in {MEASURES[measure][0]} (Spearman "
            f"{_value(best):.2f}{_interval(best.low, best.high)}){sure if len(own) > 1 else ''}. The means of {points} "
            f"methods are only {points} points, too few to choose a metric by."
        )
    return found


def _value(one: Correlation) -> float:
    return -1.0 if one.value is None else one.value


def _limits(records: Records, kept: Findings, measure: str) -> str:
    about = {
        "mos": "a high MOS says that pictures look good, not that they show the right person",
        "bradley_terry": "a preference says which picture is liked better, not whether it is good or the right person",
    }.get(measure, "being recognised beside one other picture says nothing of how good a picture looks")
    return (
        "Not to be concluded: anything about other kinds of faces, sizes, displays or people than those of this study; "
        f"{about}; numbers of different studies cannot be compared."
    )


def _order(found: Findings) -> list[str]:
    measure = found.main_measure
    scores = [] if measure is None else list(found.of(measure).values())
    return [one.method for one in sorted(scores, key=lambda one: -one.value)]


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95 % interval {low:.2f} to {high:.2f})"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
