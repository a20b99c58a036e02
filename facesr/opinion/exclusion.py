"""Who is left out, by the rules that were fixed before the first rater; every exclusion has its reasons in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facesr.opinion.ratings import ACR, PAIR, Rating, Records, Rules


@dataclass(frozen=True)
class Conduct:
    """How a rater worked; None where there is nothing to tell it by.

    Attributes:
        rater: opaque name.
        answers: to all trials, training included.
        rated: answers of the main part, which count.
        traps: answered ones.
        failed_traps: those answered wrongly.
        share_too_fast: of all answers outside the training.
        repeat_difference: mean absolute difference between the two answers to a repeated trial; of several kinds of
            questions that of the worst.
        answers_sd: sample standard deviation of the ratings from 1 to 5 in the main part.
        completed_share: answered trials over those of a whole session.
        median_seconds: of all answers outside the training.
        reasons: why the rater is excluded; empty for one who stays.
    """

    rater: str
    answers: int
    rated: int
    traps: int
    failed_traps: int
    share_too_fast: float | None
    repeat_difference: float | None
    answers_sd: float | None
    completed_share: float
    median_seconds: float | None
    reasons: tuple[str, ...] = ()


def conduct_of(records: Records) -> list[Conduct]:
    """Returns how each rater worked and who is excluded, in the order of `Records.raters`.

    Withdrawn raters, whose answers are deleted, and those without an answer that counts are excluded, too.
    """
    answered: dict[str, list[Rating]] = {one.rater: [] for one in records.raters}
    for rating in records.ratings:
        answered.setdefault(rating.rater, []).append(rating)
    longest = max((len(found) for found in answered.values()), default=0)
    whole = records.trials or longest
    finished = {one.rater for one in records.raters if one.finished is not None}
    withdrawn = {one.rater for one in records.raters if one.withdrawn}
    return [
        _conduct(rater, found, whole, rater in finished, rater in withdrawn, records.rules)
        for rater, found in answered.items()
    ]


def kept(conducts: Sequence[Conduct]) -> frozenset[str]:
    """Returns the raters whose answers count."""
    return frozenset(one.rater for one in conducts if not one.reasons)


def everyone(conducts: Sequence[Conduct]) -> frozenset[str]:
    """Returns all raters with an answer of the main part, whether the rules exclude them or not."""
    return frozenset(one.rater for one in conducts if one.rated)


def _conduct(
    rater: str, found: Sequence[Rating], whole: int, is_finished: bool, is_withdrawn: bool, rules: Rules
) -> Conduct:
    serious = [one for one in found if one.part != "training"]
    seconds = np.array([one.seconds for one in serious], np.float64)
    main = [one for one in found if one.part == "main"]
    stars = np.array([one.answer for one in main if one.kind == ACR], np.float64)
    traps = [one for one in found if one.part == "trap"]
    known = Conduct(
        rater=rater,
        answers=len(found),
        rated=len(main),
        traps=len(traps),
        failed_traps=sum(one.answer != one.expected for one in traps),
        share_too_fast=float((seconds < rules.min_seconds).mean()) if len(seconds) else None,
        repeat_difference=_repeat_difference(found, main),
        answers_sd=float(stars.std(ddof=1)) if len(stars) > 1 else None,
        completed_share=1.0 if is_finished else min(len(found) / max(whole, 1), 1.0),
        median_seconds=float(np.median(seconds)) if len(seconds) else None,
    )
    reasons = ["withdrew"] if is_withdrawn else ["no answer that counts"] if not main else _reasons(known, rules)
    return Conduct(**{**vars(known), "reasons": tuple(reasons)})


def _reasons(known: Conduct, rules: Rules) -> list[str]:
    found = []
    if known.failed_traps > rules.max_failed_traps:
        found.append(f"failed {known.failed_traps} of {known.traps} traps (at most {rules.max_failed_traps})")
    if known.share_too_fast is not None and known.share_too_fast > rules.max_share_too_fast:
        found.append(
            f"{_percent(known.share_too_fast)} of the answers within {rules.min_seconds:g} s "
            f"(at most {_percent(rules.max_share_too_fast)})"
        )
    if known.repeat_difference is not None and known.repeat_difference > rules.max_repeat_difference:
        found.append(
            f"repeated trials differ by {known.repeat_difference:.2f} (at most {rules.max_repeat_difference:g})"
        )
    if known.answers_sd is not None and known.answers_sd < rules.min_answers_sd:
        found.append(f"answers hardly vary: SD {known.answers_sd:.2f} (at least {rules.min_answers_sd:g})")
    if known.completed_share < rules.min_completed_share:
        found.append(
            f"{_percent(known.completed_share)} of the session done (at least {_percent(rules.min_completed_share)})"
        )
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _repeat_difference(found: Sequence[Rating], main: Sequence[Rating]) -> float | None:
    """Returns the mean absolute difference of repeated answers, that of the kind of question where it is largest."""
    first: dict[tuple[str, ...], float] = {}
    for one in main:
        first.setdefault(_trial(one), _chosen(one))
    by_kind: dict[str, list[float]] = {}
    for one in found:
        if one.part == "repeat" and _trial(one) in first:
            by_kind.setdefault(one.kind, []).append(abs(_chosen(one) - first[_trial(one)]))
    return max((float(np.mean(differences)) for differences in by_kind.values()), default=None)


def _trial(one: Rating) -> tuple[str, ...]:
    """Returns what was asked, whichever of a pair stood left."""
    pictures = sorted((one.method, one.other)) if one.kind == PAIR else [one.method, one.other]
    return (one.kind, one.face, *pictures)


def _chosen(one: Rating) -> float:
    """Returns the answer; of a pair, which of the two methods by name, whichever stood left."""
    return float(one.answer if one.kind != PAIR or one.method < one.other else 1 - one.answer)


def reasons_of(conducts: Sequence[Conduct]) -> Mapping[str, int]:
    """Returns how many raters each rule excludes, by the reason without its numbers."""
    names = {
        "withdrew": "withdrew",
        "no answer": "no answer that counts",
        "failed": "failed traps",
        "answers within": "too fast",
        "repeated": "repeats differ",
        "hardly": "answers hardly vary",
        "session": "not completed",
    }
    found = dict.fromkeys(names.values(), 0)
    for one in conducts:
        for reason in one.reasons:
            found[next(name for key, name in names.items() if key in reason)] += 1
    return {name: count for name, count in found.items() if count}
