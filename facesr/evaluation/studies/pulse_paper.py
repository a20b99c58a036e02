"""The evidence of PULSE's paper, repeated: naturalness, robustness, and how near a search comes to a known face.

    uv run --extra portraits facesr evaluate study=pulse_paper
    uv run --extra portraits facesr evaluate study=pulse_paper high=DIR

Faces of the generator's size are shrunk to 16x16 pixels and enlarged again: by nearest and bicubic interpolation, by
whatever `entries=` reach that size, and by the search. NIQE needs no original; consistency, identity and the share of
found faces stand beside it. Then the inputs are degraded otherwise and searched again. Without high= the originals are
portraits that the generator makes itself, whose latents are known.

Source: Menon et al., "PULSE", CVPR 2020, table 1, figure 7.
"""

import sys
from collections.abc import Sequence

from facesr import dist, ranks
from facesr.errors import WeightsError
from facesr.evaluation.studies.paper_faces import make_faces
from facesr.evaluation.studies.paper_report import Paper, Scored, paper_table, write_paper
from facesr.evaluation.studies.paper_rows import (
    ORIGINAL,
    Row,
    Scorer,
    copy_pictures,
    entry_rows,
    find_model,
    interpolation_rows,
    names_of,
)
from facesr.evaluation.studies.paper_search import (
    PLAIN,
    Searches,
    compare_known,
    degraded_cases,
    require_pulse,
    scored,
    search_degraded,
)
from facesr.evaluation.studies.study import Job
from facesr.evaluation.subjects import progress, say
from facesr.methods.pulse.mobilestylegan import find_place
from facesr.names import shown_path

STUDY = "pulse_paper"
_KEY = "generator="


def with_portraits(arguments: Sequence[str]) -> list[str]:
    """Returns a command line's words with the generator of this study, where they name none; says which one it is."""
    found = list(arguments)
    if f"study={STUDY}" not in found or any(word.lstrip("+").startswith(_KEY) for word in found):
        return found
    try:
        find_place(None)
    except WeightsError:
        if ranks.rank() == 0:
            print(
                "note: generator=eigenfaces (96x112) is searched, which NIQE is not defined for; uv run --extra "
                "portraits facesr evaluate ... installs generator=mobilestylegan (1024x1024).",
                file=sys.stderr,
            )
        return [*found, f"{_KEY}eigenfaces"]
    return [*found, f"{_KEY}mobilestylegan"]


def run(job: Job) -> None:
    """Makes inputs, searches, scores, writes the study's files and prints its tables."""
    settings, options = job.settings, job.options
    method = job.method()
    pulse = require_pulse(method)
    generator = pulse.generator
    faces = dist.once(lambda: make_faces(settings, generator, job.out))
    left_out: list[str] = []
    if faces.high is None:
        left_out.append("Without originals (high=DIR) there is no identity, and nothing to degrade otherwise.")
    rows = dist.once(lambda: interpolation_rows(faces, generator.size, job.out / "methods"))
    rows += entry_rows(job, faces, generator.size, job.out / "methods", left_out)
    rows.append(Row(method.name, job.out / "methods" / method.name))
    names_of([*rows, Row(ORIGINAL, faces.low)])
    is_degraded = settings.paper.robustness and faces.high is not None
    cases = degraded_cases(settings.operators) if is_degraded else []
    searches = Searches(job, method, 1 + len(cases))
    plain = searches(PLAIN, faces.low, job.out / "search")
    copy_pictures(plain.folder, rows[-1].folder, faces)
    degraded = search_degraded(job, faces, searches, cases) if cases else []
    rows += [] if faces.high is None else [Row(ORIGINAL, faces.high)]
    model, about_niqe = dist.once(lambda: find_model(settings, generator, job.out / "pristine"))
    scorer = Scorer(faces, generator.size, job.judges, model, options.device, settings.niqe.strip_blocks)
    found: list[Scored] = []
    for row in rows:
        with progress(f"score {row.name}", row.folder) as advance:
            values = dist.once(lambda folder=row.folder: scorer(folder, faces.low))  # type: ignore[misc]
            advance(len(faces.ids))
        is_search = row.name == method.name
        found.append(Scored(row, values, plain.num_found if is_search else None))
    all_searches = tuple(scored(one, scorer, False) for one in (plain, *degraded))
    if not dist.is_main():
        return
    searched = next(one for one in found if one.num_found is not None)
    cosines = searched.values.get(f"is/{job.judges[0].name}")
    paper = Paper(
        faces=faces,
        generator=generator.name,
        size=generator.size,
        columns=tuple(scorer.columns),
        rows=tuple(found),
        searches=all_searches,
        known=() if cosines is None else tuple(compare_known(faces, plain, pulse, cosines, settings.seed)),
        notes=(*left_out, about_niqe, *notes_of(settings.pulse.steps, getattr(generator, "licence", ""))),
        settings=settings,
        device=str(options.device),
    )
    write_paper(job.out, paper)
    say(f"{paper_table(paper)}\nreport: {shown_path(job.out / 'report.html')}")


def notes_of(steps: int, licence: str) -> list[str]:
    """Returns what a reader has to know whatever was found."""
    found = [f"The search took at most {steps} steps a face; its pictures are invented faces, not the persons."]
    return [*found, licence[:1].upper() + licence[1:]] if licence else found
