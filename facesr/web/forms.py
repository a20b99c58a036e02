"""Forms and cookies, as every site here has them."""

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from starlette.responses import Response

from facesr.web.security import Refusal, Visit

_MAX_FIELDS = 40


async def form_of(request: Request) -> dict[str, str]:
    """Returns the fields of a form without files.

    Raises:
        Refusal: it is no such form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if kind != "application/x-www-form-urlencoded":
        raise Refusal(415, "bad_form", "this is not the form of a page.")
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise Refusal(400, "bad_form", "the form cannot be read.") from error
    if any("\0" in text for pair in pairs for text in pair):
        raise Refusal(400, "bad_form", "the form holds characters that are no text.")
    return dict(pairs)


Form = Annotated[dict[str, str], Depends(form_of)]


def is_from_elsewhere(request: Request) -> bool:
    """Returns whether the browser says that a form was sent from a page of another site."""
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def cookie_name(visit: Visit, what: str = "session") -> str:
    """Returns the name of a cookie; the prefix has browsers insist on Secure, this host and all of its paths."""
    return f"__Host-facesr-{what}" if visit.is_https else f"facesr-{what}"


def set_cookie(
    visit: Visit, response: Response, what: str, value: str, seconds: int, *, comes_along_links: bool = False
) -> None:
    """Gives the browser a cookie that no script can read; 0 seconds take it away.

    Args:
        visit: who asks.
        response: the answer that carries it.
        what: which cookie.
        value: its content.
        seconds: how long it is kept.
        comes_along_links: whether it is also sent when somebody follows a link from elsewhere (SameSite=Lax).
    """
    response.set_cookie(
        cookie_name(visit, what),
        value,
        max_age=seconds,
        path="/",
        secure=visit.is_https,
        httponly=True,
        samesite="lax" if comes_along_links else "strict",
    )
