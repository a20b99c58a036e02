"""The parts of a running study that its pages share, and what a request brings along."""

import hmac
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from facesr.errors import ConfigError
from facesr.names import shown, shown_path
from facesr.opinion.pictures import Pictures
from facesr.opinion.raters import Device, place_of, rater_of
from facesr.opinion.sessions import Trial
from facesr.opinion.study import LANGUAGES, SETTINGS, Study
from facesr.opinion.tables import RaterRow
from facesr.opinion.words import Words, chosen, read_languages
from facesr.web.assets import icon, script, style
from facesr.web.database import Database
from facesr.web.forms import cookie_name, set_cookie
from facesr.web.metrics import Metrics
from facesr.web.page import render
from facesr.web.rates import Buckets, Rate
from facesr.web.security import Rates, Refusal, Visit, visit_of
from facesr.web.sessions import Sessions

STYLE = style("opinion", "style.css", "opinion/opinion.css")
SCRIPT = script("opinion", "opinion/opinion.js")
ICON = icon("face", "opinion/icon.svg")
ASSETS = {asset.name: asset for asset in (STYLE, SCRIPT, ICON)}
COOKIE = "rater"
MAX_AGE_SECONDS = 60 * 24 * 3600
# A whole class may sit behind one address.
RATES = Rates(requests=Rate(3000, 300), changes=Rate(1000, 100), failures=Rate(20, 0.1))
_JOINS = Rate(60, 0.1)
_HEADERS = {"referrer-policy": "no-referrer"}
_TITLES = {"full": "problem_full", "link": "problem_link", "not_found": "problem_not_found", "rate": "problem_rate"}


class Site:
    """A study that is served.

    Attributes:
        study: its folder.
        database: of the study.
        languages: words by code.
        pictures: as raters see them.
        sessions: cookies and form tokens.
        metrics: counts of requests.
        failures: wrong links, by address.
        joins: raters who registered themselves, by address.
    """

    def __init__(self, study: Study, database: Database, rates: Rates, clock: Callable[[], float] = time.time) -> None:
        self.study = study
        self.database = database
        self.languages = read_languages(study.folder / LANGUAGES)
        _check_languages(study, self.languages)
        self.pictures = Pictures(study)
        self.sessions = Sessions(study.key, clock, max_age_seconds=MAX_AGE_SECONDS)
        self.metrics = Metrics()
        self.failures, self.joins = Buckets(rates.failures), Buckets(_JOINS)
        self._clock = clock
        self._key = hmac.digest(study.key, b"facesr question", "sha256")

    def mark(self, rater_id: int, place: int) -> str:
        """Returns what the form of a question brings along: when it was sent, signed for one rater and question."""
        sent = f"{self._clock():.3f}"
        return f"{sent}.{self._signature(rater_id, place, sent)}"

    def seconds_since(self, mark: str, rater_id: int, place: int) -> float | None:
        """Returns how long ago a question was sent, None where the mark is not that of this rater and question."""
        sent, _, signature = mark.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(rater_id, place, sent).encode()):
            return None
        return max(0.0, self._clock() - float(sent))

    def _signature(self, rater_id: int, place: int, sent: str) -> str:
        return hmac.digest(self._key, f"{rater_id} {place} {sent}".encode(), "sha256").hex()


def _check_languages(study: Study, known: Mapping[str, Words]) -> None:
    """Checks that study.yaml has texts in languages that there are alone.

    Raises:
        ConfigError: a text would never be shown.
    """
    for key, texts in (("about", study.settings.about), ("consent", study.settings.consent)):
        unknown = sorted(texts.keys() - known.keys())
        if unknown:
            place = f"{shown_path(study.folder)}/{SETTINGS}"
            raise ConfigError(f"{place}: {key} has a text in {shown(unknown)}; the languages are {', '.join(known)}.")


@dataclass(frozen=True)
class Asked:
    """What a request brings along.

    Attributes:
        site: the study.
        rater: who asks, by the cookie; None for anybody else.
        place: of the rater's next question.
        words: of the rater's language, or of the one that is asked for.
        visit: from where.
        cookie: of the session.
    """

    site: Site
    rater: RaterRow | None
    place: int
    words: Words
    visit: Visit
    cookie: str

    @property
    def trial(self) -> Trial | None:
        """The next question, None where there is none."""
        rater = self.rater
        if rater is None or rater.slot is None or self.place >= self.site.study.plan.num_trials:
            return None
        return self.site.study.plan.sessions[rater.slot][self.place]


def asked(request: Request) -> Asked:
    """Returns what a request brings along."""
    site, visit = site_of(request), visit_of(request.scope)
    cookie = request.cookies.get(cookie_name(visit, COOKIE), "")[:300]
    digest = site.sessions.digest_of(cookie)
    rater, place = None, 0
    if digest is not None:
        with site.database.read() as session:
            rater = rater_of(session, digest)
            place = 0 if rater is None else place_of(session, rater)
    return Asked(site, rater, place, words_of(site, request, rater), visit, cookie if rater is not None else "")


AskedNow = Annotated[Asked, Depends(asked)]


def words_of(site: Site, request: Request, rater: RaterRow | None) -> Words:
    """Returns the words for who asks; whoever has consented in a language keeps it."""
    if rater is not None and rater.language in site.languages:
        return site.languages[rater.language]
    return chosen(
        site.languages, request.query_params.get("lang", ""), request.headers.get("accept-language", "")[:500]
    )


def site_of(request: Request) -> Site:
    """Returns the study that a request is for."""
    found = request.app.state.site
    assert isinstance(found, Site)
    return found


def page(site: Site, words: Words, template: str, title: str, *, status: int = 200, **data: object) -> HTMLResponse:
    """Returns a page of facesr/web/templates/opinion/, which nobody keeps and which tells no other site its address."""
    text = render(
        f"opinion/{template}",
        title=title,
        study=site.study.settings,
        words=words,
        style=STYLE.address,
        script=SCRIPT.address,
        icon=ICON.address,
        **data,
    )
    return HTMLResponse(text, status, _HEADERS)


def refused(site: Site, scope: Scope, refusal: Refusal) -> Response:
    """Returns a refusal as a page in the reader's language."""
    request = Request(scope)
    words = words_of(site, request, None)
    sentence = words(_TITLES.get(refusal.kind, "problem_form" if refusal.kind == "bad_form" else "problem_other"))
    response = page(
        site, words, "problem.html", words("problem"), status=refusal.status, sentence=sentence, detail=str(refusal)
    )
    if refusal.retry_after is not None:
        response.headers["retry-after"] = str(max(1, int(refusal.retry_after)))
    return response


def signed_in(site: Site, visit: Visit, response: Response, digest: str) -> None:
    """Gives the browser the session of the rater whose token has a digest."""
    # Lax: a personal link is followed from a mail, and the page behind it has to know whose it is.
    set_cookie(visit, response, COOKIE, site.sessions.begin(digest), MAX_AGE_SECONDS, comes_along_links=True)


@dataclass(frozen=True)
class Reported:
    """What a browser says of an answer; everything is checked, and unknown where it cannot be.

    Attributes:
        seconds: from the picture being shown to the answer, None where no script ran.
        device: how the picture was shown.
    """

    seconds: float | None
    device: Device = field(default_factory=Device)


def reported(fields: dict[str, str]) -> Reported:
    """Returns what the hidden fields of a question say."""
    device = Device(
        pixel_ratio=_number(fields.get("ratio", ""), 0.1, 20.0) or 0.0,
        width=int(_number(fields.get("width", ""), 1, 100_000) or 0),
        height=int(_number(fields.get("height", ""), 1, 100_000) or 0),
        scale=int(_number(fields.get("scale", ""), 1, 256) or 0),
        touch=fields.get("touch", "") == "1",
    )
    milliseconds = _number(fields.get("ms", ""), 0, 1e10)
    return Reported(None if milliseconds is None else milliseconds / 1000, device)


def _number(text: str, low: float, high: float) -> float | None:
    try:
        found = float(text[:30])
    except ValueError:
        return None
    return found if math.isfinite(found) and low <= found <= high else None
