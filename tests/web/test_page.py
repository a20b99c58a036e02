"""Pages from templates: whatever is put in is escaped, whatever is missing is an error."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

import facesr.web
from facesr.web import page
from facesr.web.page import png_address, render

HOSTILE = "<script>alert(1)</script>\" onload='x' &"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;&#34; onload=&#39;x&#39; &amp;"
TEMPLATES = Path(facesr.web.__file__).parent / "templates"


def comparison(**keys: object) -> str:
    plain = {"title": "t", "heads": ["run", "score"], "rows": [["a", "1"]], "by_rank": [], "told": []}
    return render("compare.html", **{**plain, **keys})


@pytest.mark.parametrize(
    "keys",
    [
        {"title": HOSTILE},
        {"heads": ["run", HOSTILE]},
        {"rows": [[HOSTILE, "1"]]},
        {"rows": [["a", HOSTILE]]},
        {"told": [HOSTILE]},
        {"by_rank": [["rank", "W"], [HOSTILE, "1"]]},
    ],
)
def test_text_is_escaped_wherever_it_stands(keys: dict[str, object]) -> None:
    text = comparison(**keys)
    assert ESCAPED in text and "<script" not in text and "onload='" not in text


def test_a_drawing_is_escaped_too_and_goes_into_a_page_as_it_is() -> None:
    mark = {"x": "1", "y": "2", "anchor": "end", "text": HOSTILE}
    drawn = render(
        "histogram.svg", width=1, height=1, title=HOSTILE, bars=[], axis="", ticks=[mark], mean_line="", mean=mark
    )
    assert drawn.count(ESCAPED) == 3 and "<script" not in drawn
    assert isinstance(drawn, Markup) and Markup("{}").format(drawn) == drawn


@pytest.mark.parametrize("missing", ["title", "heads", "rows", "told", "by_rank"])
def test_what_a_template_asks_for_and_does_not_get_is_an_error(missing: str) -> None:
    given: dict[str, object] = {"title": "t", "heads": ["run"], "rows": [["a"]], "told": [], "by_rank": []}
    given.pop(missing)
    with pytest.raises(UndefinedError, match=f"'{missing}' is undefined"):
        render("compare.html", **given)


def test_a_key_that_a_row_lacks_is_an_error_too() -> None:
    bar = {"x": "1", "y": "1", "width": "1", "height": "1"}
    with pytest.raises(UndefinedError, match="no attribute 'text'"):
        render("histogram.svg", width=1, height=1, title="", bars=[bar], axis="", ticks=[], mean_line="", mean={})


def test_no_template_calls_what_is_put_into_it_safe() -> None:
    words = re.compile(r"\bsafe\b|autoescape|Markup")
    files = [path for path in TEMPLATES.rglob("*") if path.is_file()]
    found = {path.name: words.findall(path.read_text("utf-8")) for path in files}
    assert len(found) > 5 and {name: words for name, words in found.items() if words} == {}
    assert page._environment().autoescape is True


def test_long_names_may_break_behind_underscores_and_slashes() -> None:
    macros = page._environment().get_template("macros.html").module
    assert macros.breakable("is/long_name_<b>") == "is/<wbr>long_<wbr>name_<wbr>&lt;b&gt;"
    assert macros.breakable("plain") == "plain"


def test_the_style_is_in_the_page_unescaped() -> None:
    text = comparison()
    assert ".face>div{" in text and '"Segoe UI"' in text
    assert text.startswith("<!doctype html>\n") and text.rstrip().endswith("</html>")


def test_a_picture_becomes_an_address() -> None:
    assert png_address(b"\x89PNG\xff\xfe") == "data:image/png;base64,iVBOR//+"
