"""report.html: one self-contained page, readable on a phone; no script, no file and no address outside it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from facesr.evaluation.bootstrap import Statistics
from facesr.evaluation.report.examples import MOST_PIXELS, Example
from facesr.evaluation.report.tables import digits, shown_figure
from facesr.evaluation.result import Evaluation, Judge, environment, warnings_of
from facesr.figures.charts import histogram_svg
from facesr.guard import guard_line
from facesr.image import Picture
from facesr.png import encode_png
from facesr.protocols import Column
from facesr.web.style import STYLE

_ROW_TITLES = {"worst": "Least alike", "best": "Most alike", "random": "Chosen at random"}
_MOST_ROWS = 100  # of the table of pictures


def report_html(evaluation: Evaluation, faces: Mapping[str, Sequence[Example]]) -> str:
    """Returns the page as text."""
    title = f"{evaluation.subject.name} on {evaluation.protocol.name}"
    body = [
        _headline(evaluation),
        *(f'<p class="warning">{escape(text)}</p>' for text in warnings_of(evaluation)),
        _metrics(evaluation),
        _figures(evaluation),
        _guard(evaluation),
        _histograms(evaluation) if evaluation.judges else _per_picture(evaluation),
        *(_row(evaluation, name, row) for name, row in faces.items() if row),
        *(_groups(evaluation, name, groups) for name, groups in evaluation.groups.items()),
        _origin(evaluation),
    ]
    return page(title, "\n".join(part for part in body if part))


def page(title: str, body: str) -> str:
    """Returns a whole HTML page around a body, with the style inside it."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + body
        + "\n</main></body></html>\n"
    )


def _headline(evaluation: Evaluation) -> str:
    found, ranking = evaluation.score, evaluation.ranking
    rules = "strict" if evaluation.protocol.strict else "official rules"
    if found is None:
        value, interval = "no score", ""
    else:
        what = "perceptual index, lower is better" if ranking is None else f"identity similarity by {ranking.name}"
        value = f"<b>{found.mean:.4f}</b> {escape(what)}"
        interval = f"95 % interval {found.low:.4f} to {found.high:.4f} over "
    return (
        f"<header><p class='kind'>{escape(evaluation.subject.label)}</p><h1>{escape(evaluation.subject.name)}</h1>"
        f'<p class="score">{value}</p><p class="quiet">{interval}{len(evaluation.scores.ids)} pictures; protocol '
        f"{escape(evaluation.protocol.name)}, {rules}</p></header>"
    )


def _metrics(evaluation: Evaluation) -> str:
    judges = {judge.metric: judge for judge in evaluation.judges}
    rows: list[str] = []
    for metric in evaluation.scores.metrics:
        found, decimals = evaluation.statistics[metric.name], digits(metric)
        unit = "" if metric.unit == "1" else f" <span class='quiet'>{escape(metric.unit)}</span>"
        arrow = "&uarr;" if metric.higher_is_better else "&darr;"
        tags = _tags(judges[metric.name], evaluation) if metric.name in judges else ""
        rows.append(
            f"<tr><th scope='row'>{_breakable(metric.name)}{unit} <span title='better'>{arrow}</span>{tags}</th>"
            f"<td class='strong'>{found.mean:.{decimals}f}</td><td>{_interval(found, decimals)}</td>"
            f"<td class='wide'>{found.std:.{decimals}f}</td>"
            f"<td class='wide'>{found.minimum:.{decimals}f} to {found.maximum:.{decimals}f}</td></tr>"
        )
    wide = "".join(f"<th class='wide'>{name}</th>" for name in ("std", "range"))
    head = f"<tr><th>metric</th><th>mean</th><th>95 % interval</th>{wide}</tr>"
    return f"<section><h2>Scores</h2><table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></section>"


def _figures(evaluation: Evaluation) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{_breakable(figure.name)} <span class='quiet'>{escape(figure.unit)}</span></th>"
        f"<td class='strong'>{shown_figure(figure)}</td><td class='note'>{escape(figure.conditions)}</td></tr>"
        for figure in evaluation.figures
    )
    return f"<section><h2>Of the whole set</h2><table><tbody>{rows}</tbody></table></section>" if rows else ""


def _guard(evaluation: Evaluation) -> str:
    """Returns what the guard did, and the pictures that a fallback restored, least consistent first."""
    guard, scores = evaluation.subject.guard, evaluation.scores
    if guard is None:
        return ""
    state = guard_line(guard, len(scores.ids)) + (" (as its manifest says)" if evaluation.subject.is_claim else "")
    place = {key: i for i, key in enumerate(scores.ids)}
    columns = [evaluation.ordering] + [column for column in scores.metrics if column.name == "consistency"]
    heads = "".join(f"<th>{_breakable(column.name)} now</th>" for column in columns)
    found = sorted((item for item in guard.replaced.items() if item[0] in place), key=lambda i: i[1].consistency_db)
    rows = "".join(
        f"<tr><th scope='row'>{escape(key)}</th><td>{one.consistency_db:.2f}</td><td>{escape(one.restored_by)}</td>"
        + "".join(f"<td>{scores.values[column.name][place[key]]:.{digits(column)}f}</td>" for column in columns)
        + "</tr>"
        for key, one in found[:_MOST_ROWS]
    )
    table = (
        "<div class='scroll'><table><thead><tr><th>picture</th><th>refused, dB</th><th>restored by</th>"
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return f"<section><h2>Guard</h2><p class='quiet'>{escape(state)}.</p>{table if rows else ''}</section>"


def _per_picture(evaluation: Evaluation) -> str:
    """Returns a table of the pictures, worst first."""
    scores, ordering = evaluation.scores, evaluation.ordering
    columns = [metric for metric in scores.metrics if metric.name in scores.values]
    values = scores.values[ordering.name]
    order = np.argsort(values if ordering.higher_is_better else -values, kind="stable")[:_MOST_ROWS]
    heads = "".join(f"<th>{_breakable(metric.name)}</th>" for metric in columns)
    rows = "".join(
        f"<tr><th scope='row'>{escape(scores.ids[i])}</th>"
        + "".join(f"<td>{scores.values[metric.name][i]:.{digits(metric)}f}</td>" for metric in columns)
        + "</tr>"
        for i in order
    )
    return (
        f"<section><h2>Per picture</h2><p class='quiet'>Worst by {escape(ordering.name)} first.</p>"
        f"<div class='scroll'><table><thead><tr><th>picture</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        "</section>"
    )


def _tags(judge: Judge, evaluation: Evaluation) -> str:
    tags = ["<span class='tag'>ranks</span>"] if judge.ranks else []
    if judge.in_training_loss:
        tags.append("<span class='tag hot'>white-box</span>")
    elif judge.in_training_loss is False and evaluation.subject.loss_judges:
        tags.append("<span class='tag'>held out</span>")
    return "".join(tags)


def _breakable(name: str) -> str:
    """Returns the name with places where a narrow column may break it."""
    return escape(name).replace("_", "_<wbr>").replace("/", "/<wbr>")


def _interval(found: Statistics, decimals: int) -> str:
    return f"<span class='part'>{found.low:.{decimals}f}</span> <span class='part'>to {found.high:.{decimals}f}</span>"


def _histograms(evaluation: Evaluation) -> str:
    # One range for all, so that the judges can be compared.
    lowest = min(evaluation.statistics[judge.metric].minimum for judge in evaluation.judges)
    charts = "".join(
        f"<figure><figcaption>{escape(judge.name)}</figcaption>"
        + histogram_svg(evaluation.scores.values[judge.metric], f"Identity similarity by {judge.name}", lowest)
        + "</figure>"
        for judge in evaluation.judges
    )
    return f"<section><h2>Identity similarity per face</h2><div class='charts'>{charts}</div></section>"


def _row(evaluation: Evaluation, name: str, row: Sequence[Example]) -> str:
    column, ranking = evaluation.ordering, evaluation.ranking
    cards = "".join(_card(example, column, ranking is not None) for example in row)
    if ranking is None:
        title = _ROW_TITLES[name] if name == "random" else f"{name.capitalize()} by {column.name}"
        part = f"of large ones the busiest {MOST_PIXELS}x{MOST_PIXELS} pixels are shown"
        text = f"Under each picture: its {column.name}; {part}."
    else:
        title, text = _ROW_TITLES[name], f"Under each picture: its identity similarity by {ranking.name}."
    kind = "faces large" if ranking is None else "faces"
    note = f"<p class='quiet'>{escape(text)}</p>"
    return f"<section><h2>{escape(title)}</h2>{note}<div class='{kind}'>{cards}</div></section>"


def _card(example: Example, column: Column, is_similarity: bool) -> str:
    cells: list[str] = []
    decimals = 3 if is_similarity else digits(column)
    if example.low is not None:
        value = "" if example.low_value is None else f"{example.low_value:.3f}"
        cells.append(_cell(example.low, value, "low", "low", example.high))
    cells.append(_cell(example.restored, f"<b>{example.value:.{decimals}f}</b>", "restored", "", example.high))
    cells.append(_cell(example.high, "1" if is_similarity else "", "original", "", example.high))
    return f"<figure class='face'><figcaption>{escape(example.id)}</figcaption><div>{''.join(cells)}</div></figure>"


def _cell(picture: Picture, value: str, label: str, kind: str, like: Picture) -> str:
    data = base64.b64encode(encode_png(picture)).decode("ascii")
    height, width = like.shape[:2]
    return (
        f"<div class='cell'><img class='{kind}' width='{width}' height='{height}' alt='{label}' "
        f"src='data:image/png;base64,{data}'><span>{value}</span><span class='quiet'>{label}</span></div>"
    )


def _groups(evaluation: Evaluation, attribute: str, groups: Mapping[str, Mapping[str, Statistics]]) -> str:
    similarities = [(judge.metric, 4) for judge in evaluation.judges]
    columns = similarities or [(metric.name, digits(metric)) for metric in evaluation.scores.metrics]
    heads = "".join(f"<th>{_breakable(column.removeprefix('is/'))}</th>" for column, _ in columns)
    what = "Mean identity similarity" if similarities else "Means"
    rows = "".join(
        f"<tr><th scope='row'>{escape(group)}</th><td>{found[evaluation.ordering.name].count}</td>"
        + "".join(_group_cell(found[column], decimals) for column, decimals in columns)
        + "</tr>"
        for group, found in groups.items()
    )
    return (
        f"<section><h2>By {escape(attribute)}</h2><p class='quiet'>{what} with 95 % intervals.</p>"
        f"<div class='scroll'><table><thead><tr><th>group</th><th>pictures</th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _group_cell(found: Statistics, decimals: int) -> str:
    interval = _interval(found, max(decimals - 1, 1))
    return f"<td><b>{found.mean:.{decimals}f}</b> <span class='quiet'>{interval}</span></td>"


def _origin(evaluation: Evaluation) -> str:
    protocol, subject = evaluation.protocol, evaluation.subject
    size = f"{protocol.width}x{protocol.height}" if protocol.width else "any size"
    rules = "strict" if protocol.strict else "official rules of the 2019 script"
    trained = (
        "not known"
        if subject.loss_judges is None
        else (", ".join(subject.loss_judges) or "none") + (" (as its manifest says)" if subject.is_claim else "")
    )
    facts = {
        "Protocol": f"{protocol.name}, {rules}, 8-bit RGB PNG, {size}, {len(evaluation.scores.ids)} pictures",
        "Judges in its training loss": trained,
        **{f"Judge {judge.name}": f"weights sha256 {judge.weights_sha256}" for judge in evaluation.judges},
        **{f"Model of {name}": f"sha256 {sha256}" for name, sha256 in evaluation.models.items() if sha256},
        **{name.replace("_", " ").capitalize(): str(value) for name, value in subject.facts.items() if value},
        "Originals": str(evaluation.high),
        "Pixels scored": f"sha256 {evaluation.scores.pixels_sha256['restored']}",
        **{
            f"Metric {metric.name}": f"version {metric.version}: {metric.conditions}"
            for metric in evaluation.scores.metrics
        },
        **{
            f"{note.capitalize()} under official rules": ", ".join(names) or "none"
            for note, names in evaluation.pairs.notes.items()
        },
        "Versions": ", ".join(f"{name} {value}" for name, value in environment(evaluation.device).items()),
        "Seconds": ", ".join(f"{name} {value:.1f}" for name, value in evaluation.seconds.items()),
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return (
        "<section><h2>Where this comes from</h2><p class='quiet'>Intervals are 95 % percentile bootstrap intervals of "
        f"the mean, {evaluation.settings['num_resamples']} resamples.</p><dl>{rows}</dl></section>"
    )
