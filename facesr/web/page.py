"""Pages from templates: markup and style lie in facesr/web/templates/, everything that is put into them is escaped."""

import base64
import functools
import re
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# A narrow column may break a name behind these.
_BREAKS = re.compile(r"(?<=[_/])")


def render(template: str, **data: object) -> Markup:
    """Returns a template of facesr/web/templates/ with the data in it, as HTML.

    Text is escaped wherever it stands; what is a `Markup` is HTML already, which only this function returns.

    Raises:
        jinja2.UndefinedError: the template asks for what the data does not hold.
    """
    # Safe, because every value that went into it was escaped.
    return Markup(_environment().get_template(template).render(data))


def plain_text(name: str) -> str:
    """Returns a file of facesr/web/templates/ as it is: a style or a script that stands alone.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return resources.files("facesr.web").joinpath("templates", *name.split("/")).read_text(encoding="utf-8-sig")


def png_address(png: bytes) -> str:
    """Returns a PNG as the address of an ``img``, so that a page needs no other file."""
    return _address("png", png)


def jpeg_address(jpeg: bytes) -> str:
    """Returns a JPEG as the address of an ``img``, so that a page needs no other file."""
    return _address("jpeg", jpeg)


def _address(kind: str, picture: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("facesr.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["pieces"] = _BREAKS.split
    return environment
