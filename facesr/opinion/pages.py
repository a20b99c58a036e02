"""The pages of a study: personal link, consent, one question after the other, breaks, withdrawal."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import RedirectResponse, Response

from facesr.opinion import raters
from facesr.opinion.ratings import ACR, PAIR, SAME
from facesr.opinion.sessions import TRAINING, TRAP, Trial
from facesr.opinion.site import ASSETS, Asked, AskedNow, page, reported, signed_in
from facesr.opinion.tables import RaterRow
from facesr.opinion.words import Words, paragraphs_of
from facesr.web.assets import FOREVER
from facesr.web.forms import Form, is_from_elsewhere
from facesr.web.security import Refusal, require
from facesr.web.tokens import digest, is_token

router = APIRouter(include_in_schema=False)
Token = Annotated[str, Path(max_length=64)]
_LOST = "this link is not valid; ask whoever gave it to you."
# CSS pixels that a picture is wide where a window has room; a whole number of device pixels for each of its pixels.
SHOWN_WIDTH = 384


def see_other(address: str) -> RedirectResponse:
    """Returns the answer to a form that was dealt with; `address` is always one of the study's own."""
    return RedirectResponse(address, 303, {"referrer-policy": "no-referrer"})


@router.api_route("/r/{token}", methods=["GET", "HEAD"])
def personal_link(asked: AskedNow, token: Token) -> Response:
    """Opens a personal link: the browser gets a cookie, and the address without the token is shown."""
    site = asked.site
    _require_calm(asked)
    with site.database.read() as session:
        rater = raters.rater_of(session, digest(token)) if is_token(token) else None
    if rater is None:
        site.failures.take(asked.visit.client)
        raise Refusal(404, "link", _LOST)
    response = see_other("/")
    signed_in(site, asked.visit, response, rater.sha256)
    return response


@router.api_route("/join/{code}", methods=["GET", "HEAD"])
def join_page(asked: AskedNow, code: Token) -> Response:
    """The first page of who takes part without a personal link."""
    _require_code(asked, code)
    return page(asked.site, asked.words, "join.html", asked.site.study.settings.title, code=code, **_first(asked))


@router.post("/join/{code}")
def join(asked: AskedNow, request: Request, code: Token) -> Response:
    """Makes a personal link for somebody, and shows it this once."""
    site = asked.site
    _require_code(asked, code)
    if is_from_elsewhere(request):
        raise _bad_form()
    require(site.joins, asked.visit.client, "people from this address")
    with site.database.write() as session:
        if raters.progress(site.database, session, site.study).free == 0:
            raise Refusal(409, "full", "the study has all the raters that it needs.")
        token = raters.invite(site.database, session)
    link = f"{request.url.scheme if not asked.visit.is_https else 'https'}://{request.url.netloc}/r/{token}"
    response = page(site, asked.words, "link.html", asked.words("your_link"), link=link)
    signed_in(site, asked.visit, response, digest(token))
    return response


@router.api_route("/", methods=["GET", "HEAD"])
def front(asked: AskedNow, request: Request) -> Response:
    """Whatever comes next for who asks, except a question."""
    site, words, rater = asked.site, asked.words, asked.rater
    settings, count = site.study.settings, site.study.plan.num_trials
    if rater is None:
        return page(site, words, "front.html", settings.title, **_first(asked))
    if rater.withdrawn is not None:
        return _said(asked, words("withdrawn"), [words("withdrawn_text")])
    if rater.joined is None:
        return _consent_page(asked)
    if rater.finished is not None:
        return _said(asked, words("finished"), [words("finished_text")])
    trial = asked.trial
    assert trial is not None
    kind = _pause_before(asked, asked.place)
    if kind == "intro":
        title, texts = _intro(words, trial, site.study.settings.design.with_reference)
        return _said(asked, title, texts, words("begin"))
    if kind == "ready":
        return _said(asked, words("ready"), [words("ready_text")], words("begin"))
    title = words("pause") if kind == "pause" else words("resume")
    text = words("pause_text" if kind == "pause" else "resume_text", done=asked.place, count=count)
    return _said(asked, title, [text], words("go_on"))


def _said(asked: Asked, title: str, texts: list[str], button: str = "") -> Response:
    """Returns a page between two questions, or behind the last one, where it has no button."""
    rater = asked.rater
    may_withdraw = rater is not None and rater.withdrawn is None
    return page(asked.site, asked.words, "said.html", title, texts=texts, button=button, may_withdraw=may_withdraw)


def _pause_before(asked: Asked, place: int) -> str:
    """Returns what stands before a question: ``intro``, ``ready``, ``pause``, or "" for nothing."""
    rater = asked.rater
    assert rater is not None and rater.slot is not None
    trials = asked.site.study.plan.sessions[rater.slot]
    if place >= len(trials):
        return "end"
    if place == 0 or trials[place - 1].kind != trials[place].kind:
        return "intro"
    if trials[place - 1].part == TRAINING and trials[place].part != TRAINING:
        return "ready"
    # Not just before the end, and not just behind another page.
    every = asked.site.study.settings.break_every
    is_near_end = place + 5 > len(trials)
    return "pause" if place % every == 0 and not is_near_end else ""


def _first(asked: Asked) -> dict[str, Any]:
    """Returns what the pages before the consent say."""
    settings, words, plan = asked.site.study.settings, asked.words, asked.site.study.plan
    about = settings.about.get(words.code) or words("about")
    return {
        "about": [
            *paragraphs_of(about),
            words("what_you_do", count=plan.num_trials, minutes=plan.minutes),
            words("please"),
        ],
        "languages": [(one.code, one("language")) for one in asked.site.languages.values()],
        "plan_sha256": plan.sha256,
    }


def _consent_page(asked: Asked) -> Response:
    settings, words = asked.site.study.settings, asked.words
    consent = settings.consent.get(words.code)
    token = asked.site.sessions.form_token(asked.cookie, "consent")
    return page(
        asked.site,
        words,
        "consent.html",
        settings.title,
        consent=paragraphs_of(consent) if consent else words.paragraphs("consent"),
        form_token=token,
        **_first(asked),
    )


def _intro(words: Words, trial: Trial, with_reference: bool) -> tuple[str, list[str]]:
    named = "reference" if trial.kind == PAIR and with_reference else trial.kind
    keys = words("intro_keys", keys=words(f"keys_{trial.kind}"))
    return words(f"intro_{trial.kind}"), [words(f"intro_{named}_text"), words("intro_control"), keys]


@router.post("/consent")
def consent(asked: AskedNow, request: Request, fields: Form) -> Response:
    """Gives who consents a session of the plan."""
    rater = _rater(asked)
    _require_form(asked, request, "consent", fields)
    with asked.site.database.write() as session:
        row = session.get_one(RaterRow, rater.id)
        language = fields.get("language", "")
        known = language if language in asked.site.languages else asked.words.code
        raters.join(asked.site.database, session, asked.site.study, row, known)
    return see_other("/")


@router.api_route("/question", methods=["GET", "HEAD"])
def question(asked: AskedNow) -> Response:
    """The question that comes next; there is no other."""
    site, words, rater, trial = asked.site, asked.words, asked.rater, asked.trial
    if rater is None or trial is None or rater.slot is None:
        return see_other("/")
    names = site.pictures.names(rater.id, rater.slot, asked.place)
    sizes = [site.pictures.size(key) for key in trial.shows]
    roles = _roles(trial, len(names))
    shown = [
        {"src": f"/pictures/{name}.png", "width": width, "height": height, "role": role}
        for name, (width, height), role in zip(names, sizes, roles, strict=True)
    ]
    answers = _answers(words, trial.kind)
    expected = None
    if trial.part == TRAP:
        expected = words("control", answer=next(text for value, text, _ in answers if value == trial.expected))
    reference = trial.kind == PAIR and site.study.settings.design.with_reference
    upcoming = [f"/pictures/{name}.png" for name in site.pictures.names(rater.id, rater.slot, asked.place + 1)]
    return page(
        site,
        words,
        "question.html",
        words("progress", number=asked.place + 1, count=site.study.plan.num_trials),
        ask=words("ask_reference" if reference else f"ask_{trial.kind}"),
        shown=shown,
        answers=answers,
        kind=trial.kind,
        control=expected,
        place=asked.place,
        count=site.study.plan.num_trials,
        mark=site.mark(rater.id, asked.place),
        upcoming=" ".join(upcoming),
        shown_width=SHOWN_WIDTH,
        default_scale=max(1, SHOWN_WIDTH // max(width for width, _ in sizes) // (1 if len(shown) == 1 else 2)),
    )


def _roles(trial: Trial, count: int) -> list[str]:
    """Returns what the pictures of a question are called, as keys of the words."""
    if trial.kind == ACR:
        return ["picture"]
    return ["picture_left", "picture_right", "picture_original"][:count]


def _answers(words: Words, kind: str) -> list[tuple[int, str, str]]:
    """Returns value, text and keys of the answers to a question, in the order of the page."""
    if kind == PAIR:
        return [(0, words("left"), "1 ArrowLeft"), (1, words("right"), "2 ArrowRight")]
    if kind == SAME:
        return [(1, words("same"), "1"), (0, words("other"), "2")]
    return [(value, words(f"answer_{value}"), str(value)) for value in (1, 2, 3, 4, 5)]


@router.post("/question")
def answer(asked: AskedNow, request: Request, fields: Form) -> Response:
    """Stores an answer; sent twice, or sent again after going back, it changes nothing."""
    site, rater = asked.site, _rater(asked)
    place, value = _whole(fields.get("place", "")), _whole(fields.get("answer", ""))
    waited = site.seconds_since(fields.get("mark", ""), rater.id, place)
    if is_from_elsewhere(request) or waited is None:
        raise _bad_form()
    said = reported(fields)
    # The browser's clock counts from the picture being there; more than has passed here it cannot be.
    seconds = waited if said.seconds is None else min(said.seconds, waited)
    with site.database.write() as session:
        row = session.get_one(RaterRow, rater.id)
        upcoming = raters.answer(site.database, session, site.study, row, place, value, seconds, said.device)
    return see_other("/" if _pause_before(asked, upcoming) else "/question")


@router.api_route("/withdraw", methods=["GET", "HEAD"])
def withdraw_page(asked: AskedNow) -> Response:
    """Asks once more."""
    rater = asked.rater
    if rater is None or rater.joined is None or rater.withdrawn is not None:
        return see_other("/")
    token = asked.site.sessions.form_token(asked.cookie, "withdraw")
    text = asked.words("withdraw_text", done=asked.place)
    return page(asked.site, asked.words, "withdraw.html", asked.words("withdraw"), text=text, form_token=token)


@router.post("/withdraw")
def withdraw(asked: AskedNow, request: Request, fields: Form) -> Response:
    """Deletes all answers of who asks."""
    rater = _rater(asked)
    _require_form(asked, request, "withdraw", fields)
    raters.withdraw(asked.site.database, rater.id)
    return see_other("/")


@router.api_route("/pictures/{name}.png", methods=["GET", "HEAD"])
def picture(asked: AskedNow, name: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> Response:
    """A picture of the question that comes next, or of the one behind it; no other, and for nobody else."""
    rater = asked.rater
    found = None
    if rater is not None and rater.slot is not None:
        found = asked.site.pictures.found(name, rater.id, rater.slot, asked.place)
    if found is None:
        raise Refusal(404, "not_found", "there is no such page.")
    # A proxy that makes pictures smaller would change what is rated.
    headers = {"cache-control": "private, max-age=3600, no-transform"}
    return Response(found, media_type="image/png", headers=headers)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
def static_file(name: str) -> Response:
    """Style, script or icon."""
    asset = ASSETS.get(name)
    if asset is None:
        raise Refusal(404, "not_found", "there is no such file.")
    return Response(asset.content, headers={"content-type": asset.kind, "cache-control": FOREVER})


def _rater(asked: Asked) -> RaterRow:
    if asked.rater is None:
        raise Refusal(401, "link", _LOST)
    return asked.rater


def _bad_form() -> Refusal:
    return Refusal(403, "bad_form", "this form is not from this page, or is too old; load the page anew.")


def _require_form(asked: Asked, request: Request, form: str, fields: dict[str, str]) -> None:
    is_own = asked.site.sessions.is_form_token(asked.cookie, form, fields.get("form_token", ""))
    if is_from_elsewhere(request) or not is_own:
        raise _bad_form()


def _require_calm(asked: Asked) -> None:
    wait = asked.site.failures.wait(asked.visit.client)
    if wait > 0:
        raise Refusal(429, "rate", "too many wrong links.", wait)


def _require_code(asked: Asked, code: str) -> None:
    _require_calm(asked)
    with asked.site.database.read() as session:
        is_known = raters.is_code(session, code)
    if not is_known:
        asked.site.failures.take(asked.visit.client)
        raise Refusal(404, "link", _LOST)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Refusal(400, "bad_form", "the form of a question has a value that is none.")
    return int(text)
