"""A competition of both rounds, general pictures and faces: archives go through the web, the worker and the verifier.

The models of the perceptual index are made up, of the form of the published ones, and in place of Ma's features, which
take seconds a picture, stands a mean: with the real ones nothing but the figures would differ.
"""

import csv
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from facesr.__main__ import main
from facesr.data.export import export_dead_leaves
from facesr.leaderboard import founding, phases, teams
from facesr.leaderboard.app import create_app
from facesr.leaderboard.competition import KEY, SETTINGS, Place
from facesr.leaderboard.desk import LocalDesk
from facesr.leaderboard.operations import opened
from facesr.leaderboard.split import public_mask
from facesr.leaderboard.worker import Worker
from facesr.metrics.perceptual.perceptual_index import Ma
from facesr.png import list_png
from facesr.web.database import Database
from tests.leaderboard.site import Client
from tests.metrics.test_ma import write_forests
from tests.web.serving import served

pytestmark = pytest.mark.slow
METHODS = {"Alpha": "bicubic", "Beta": "nearest"}
ROUNDS = ("preliminary", "final")
_PRELIMINARY = """
  - name: preliminary
    title: Perceptual index
    protocol: asc19_preliminary
    starts: 2020-01-01T00:00:00Z
    ends: 2099-01-01T00:00:00Z
    references: references/preliminary
    public_share: 0.5
"""


@dataclass
class Contest:
    """A competition of both rounds whose teams' archives are scored.

    Attributes:
        tables: phase and team -> what `evaluate` says of the same pictures: metric -> id -> value.
        rankings: phase -> the metric that ranks, by `evaluate`.
        archives: team -> the file that it sent to the preliminary round.
    """

    place: Place
    database: Database
    app: Any
    organiser: str
    tokens: dict[str, str]
    tables: dict[tuple[str, str], dict[str, dict[str, float]]]
    rankings: dict[str, str]
    archives: dict[str, Path] = field(default_factory=dict)

    def submission(self, code: str) -> Any:
        answer = Client(self.app).get(
            f"/api/v1/submissions/{code}", headers={"Authorization": f"Bearer {self.organiser}"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def public(self, phase: str) -> list[str]:
        settings = self.place.competition.phase(phase)
        ids = sorted(list_png(self.place.high(settings)))
        return [key for key, is_in in zip(ids, public_mask(self.place.key, phase, ids, 0.5), strict=True) if is_in]


def _command(*words: object) -> None:
    try:
        code: Any = main([str(word) for word in words])
    except SystemExit as left:
        code = left.code
    assert code == 0, words


def _evaluated(folder: Path, restored: Path, references: Path, phase: str) -> tuple[dict[str, dict[str, float]], str]:
    out = folder / f"eval-{phase}-{restored.name}"
    pairs = (f"low={references / 'low'}", f"high={references / 'high'}")
    protocol = f"protocol=asc19_{phase}"
    _command("evaluate", f"submission={restored}", *pairs, protocol, f"out={out}", "num_resamples=50")
    with (out / "per_image.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name, value in rows[0].items() if name != "id" and _is_number(value)]
    table = {name: {row["id"]: float(row[name]) for row in rows} for name in names}
    return table, json.loads((out / "summary.json").read_text(encoding="utf-8"))["ranking_metric"]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", text) is not None


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("rounds")
        patch.setenv("FACESR_WEIGHTS", str(folder / "weights"))
        patch.setenv("FACESR_CACHE", str(folder / "cache"))
        (folder / "weights").mkdir()
        pristine = {"mu_prisparam": np.random.default_rng(1).normal(size=(1, 36)), "cov_prisparam": np.eye(36)}
        scipy.io.savemat(folder / "weights" / "modelparameters.mat", pristine)
        write_forests(folder / "weights" / "model.mat")
        patch.setattr(Ma, "__call__", lambda self, inputs: 10 * inputs.restored.double().mean((1, 2, 3)).cpu().numpy())
        patch.setattr(founding, "DEMO_FACES", 6)
        organiser = founding.make_competition(folder / "contest", title="Both rounds")
        # One of the keys by which both rounds have public and private pictures.
        (folder / "contest" / KEY).write_text("07" * 32, encoding="ascii")
        export_dead_leaves(folder / "contest" / "references" / "preliminary", 6, 208, 212)
        with (folder / "contest" / SETTINGS).open("a", encoding="utf-8") as file:
            file.write(_PRELIMINARY)
        with opened(folder / "contest") as (place, database):
            yield _sent_and_scored(folder, place, database, organiser)


def _sent_and_scored(folder: Path, place: Place, database: Database, organiser: str) -> Contest:
    found = Contest(place, database, create_app(place, database), organiser, {}, {}, {})
    with database.write() as session:
        for team in METHODS:
            _, found.tokens[team] = teams.register(database, session, teams.invite(database, session), team)
    for phase in ROUNDS:
        references = place.folder / "references" / phase
        for team, method in METHODS.items():
            archive = folder / f"{team}-{phase}.zip"
            found.archives.setdefault(team, archive)
            rest = (f"team={team}", f"out={archive}", f"restored_dir={folder / 'restored'}")
            _command("submit", f"method={method}", f"low={references / 'low'}", f"protocol=asc19_{phase}", *rest)
            table, found.rankings[phase] = _evaluated(folder, archive, references, phase)
            found.tables[phase, team] = table
            browser = Client(found.app).sign_in(found.tokens[team])
            form = {"form_token": (None, browser.form_token("/team", f"/team/upload/{phase}"))}
            sent = {**form, "archive": (archive.name, archive.read_bytes(), "application/zip")}
            assert browser.request("POST", f"/team/upload/{phase}", files=sent).status_code == 303
    assert Worker(LocalDesk(place, database, "test")).run(threading.Event(), until_idle=True) == 4
    return found


def standing_of(contest: Contest, phase: str, view: str = "", token: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = Client(contest.app).get(f"/api/v1/phases/{phase}/standing?view={view}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("phase", ROUNDS)
def test_figures_are_those_of_an_evaluation(contest: Contest, phase: str) -> None:
    ranking = contest.rankings[phase]
    public = contest.public(phase)
    for view in ("public", "private"):
        shown = standing_of(contest, phase, view, contest.organiser)
        assert shown["ranking_metric"] == ranking and len(shown["entries"]) == 2
        assert shown["higher_is_better"] is (phase == "final")
        for entry in shown["entries"]:
            table = contest.tables[phase, entry["team"]]
            assert set(entry["means"]) == set(table)
            for name, values in table.items():
                kept = [value for key, value in values.items() if (key in public) == (view == "public")]
                assert len(kept) == shown["num_faces"]
                wanted = np.sqrt(np.mean(np.square(kept))) if name == "rmse_y" else np.mean(kept)
                assert entry["means"][name] == pytest.approx(wanted, rel=1e-5, abs=1e-6), name
            assert entry["score"] == pytest.approx(entry["means"][ranking])


@pytest.mark.parametrize("view", ["public", "private"])
def test_figures_of_a_share_are_those_of_an_evaluation_of_its_pictures(
    contest: Contest, tmp_path: Path, view: str
) -> None:
    references, public = contest.place.folder / "references" / "preliminary", contest.public("preliminary")
    shown = standing_of(contest, "preliminary", view, contest.organiser)
    for entry in shown["entries"]:
        folder = tmp_path / entry["team"]
        with zipfile.ZipFile(contest.archives[entry["team"]]) as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
            kept = [name for name in names if (Path(name).stem in public) == (view == "public")]
            archive.extractall(folder / "restored", kept)
        for kind in ("low", "high"):
            (folder / kind).mkdir()
            for name in kept:
                shutil.copy(references / kind / Path(name).name, folder / kind)
        out = folder / "out"
        restored = folder / "restored" / Path(kept[0]).parent
        pairs = [f"restored={restored}", f"low={folder / 'low'}", f"high={folder / 'high'}"]
        _command("evaluate", *pairs, "protocol=asc19_preliminary", f"out={out}")
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        assert entry["means"]["rmse_y"] == pytest.approx(summary["set"]["rmse_of_set"]["value"], rel=1e-12)
        assert entry["means"]["rmse_y"] > 1.0001 * summary["metrics"]["rmse_y"]["mean"]
        index = summary["metrics"]["perceptual_index"]
        assert entry["score"] == pytest.approx(index["mean"], rel=1e-12)
        assert (entry["low"], entry["high"]) == pytest.approx(tuple(index["ci95"]), rel=1e-9)
        told = contest.submission(entry["submission"])["scores"][view]
        assert told["rmse_y"]["mean"] == entry["means"]["rmse_y"]
        assert told["rmse_y"]["low"] < told["rmse_y"]["mean"] < told["rmse_y"]["high"]
        assert told["niqe"]["low"] == pytest.approx(summary["metrics"]["niqe"]["ci95"][0], rel=1e-9)


def test_the_ranking_metrics_are_those_of_the_rounds(contest: Contest) -> None:
    assert contest.rankings == {"preliminary": "perceptual_index", "final": "is/builtin"}


@pytest.mark.parametrize("phase", ROUNDS)
def test_the_better_entry_stands_first(contest: Contest, phase: str) -> None:
    shown = standing_of(contest, phase)
    scores = [entry["score"] for entry in shown["entries"]]
    assert scores == sorted(scores, reverse=phase == "final") and scores[0] != scores[1]
    front = Client(contest.app).get("/").text
    first, second = (front.index(f"{score:.4f}") for score in scores)
    assert first < second


def test_the_page_of_general_pictures_speaks_of_them(contest: Contest) -> None:
    page = Client(contest.app).get("/phases/preliminary").text
    text = re.sub(r"<[^>]+>", " ", page)
    assert "perceptual index" in text and "lower is better" in text
    assert "faces" not in text and "White box" not in text and "judge" not in text
    for heading in ("NIQE", "RMSE (luma)", "PSNR (luma)", "LR consistency"):
        assert heading in text, heading
    final = re.sub(r"<[^>]+>", " ", Client(contest.app).get("/phases/final").text)
    assert "means over" in final and "faces" in final and "higher is better" in final and "White box" in final


def test_a_click_on_a_column_shows_the_better_end_first(contest: Contest) -> None:
    """Of metrics where lower is better the smallest, of others the largest."""
    page = Client(contest.app).get("/phases/preliminary").text
    first = {key.lstrip("-"): key.startswith("-") for key in re.findall(r"sort=(-?\w+)", page)}
    wanted = {"score": False, "niqe": False, "rmse_y": False, "psnr_y": True, "consistency": True}
    assert {key: first[key] for key in wanted} == wanted


def test_general_pictures_have_no_white_box(contest: Contest) -> None:
    for phase, wanted in (("preliminary", {None}), ("final", {False})):
        assert {entry["white_box"] for entry in standing_of(contest, phase)["entries"]} == wanted


def test_single_values_that_need_no_original_are_kept_back(contest: Contest) -> None:
    code = standing_of(contest, "preliminary")["entries"][0]["submission"]
    page = Client(contest.app).get(f"/submissions/{code}").text
    captions = re.findall(r"<figcaption>([^<]+?) -?[0-9.]+ <span.*?</figcaption>\s*(<svg|<p)", page)
    drawn = {name: what == "<svg" for name, what in captions}
    assert {name for name, is_drawn in drawn.items() if is_drawn} == {"RMSE (luma)", "PSNR (luma)", "SSIM"}
    assert {name for name, is_drawn in drawn.items() if not is_drawn} == {
        "perceptual index",
        "NIQE",
        "Ma",
        "LR consistency",
    }


def test_pages_of_the_team_and_the_organiser_open(contest: Contest) -> None:
    rows = standing_of(contest, "preliminary")["entries"]
    codes = [row["submission"] for row in rows]
    member = Client(contest.app).sign_in(contest.tokens[rows[0]["team"]])
    pages = ["/team", f"/submissions/{codes[0]}", f"/compare?a={codes[0]}&b={codes[1]}", "/feed.atom"]
    pages += [f"/submissions/{codes[0]}/report.html", "/badge/preliminary.svg", "/phases/preliminary/plane.png"]
    for address in pages:
        answer = member.get(address)
        assert answer.status_code == 200, address
        if address.startswith(("/sub", "/compare")):
            assert "face" not in re.sub(r"<style.*?</style>|<[^>]+>", " ", answer.text, flags=re.DOTALL), address
    assert "perceptual index" in member.get("/feed.atom").text


@pytest.mark.browser
def test_pages_in_a_browser(contest: Contest) -> None:
    from tests.web.reader import NARROW, WIDE, Reader, chromium

    codes = [row["submission"] for row in standing_of(contest, "preliminary")["entries"]]
    pages = {"front": "/", "phase": "/phases/preliminary", "final": "/phases/final"}
    pages |= {"submission": f"/submissions/{codes[0]}", "compare": f"/compare?a={codes[0]}&b={codes[1]}"}
    with served(create_app(contest.place, contest.database)) as url, chromium() as browser:
        for size in (WIDE, NARROW):
            reader = Reader(browser, url, size)
            seen = {name: reader.see(address, f"two-{name}-{size['width']}") for name, address in pages.items()}
            reader.page.goto("/phases/preliminary")
            hidden = "[...document.querySelectorAll('.scroll')].map(one => one.scrollWidth - one.clientWidth)"
            assert reader.page.evaluate(hidden) == [0], "the whole table is seen"
            assert "Example pictures" in seen["submission"] and "Example faces" not in seen["submission"]
            reader.page.goto("/signin")
            reader.page.fill("input[name=token]", contest.tokens["Alpha"])
            reader.submit("Sign in")
            reader.check(f"two-team-{size['width']}")


def test_after_the_end_the_other_pictures_decide_and_the_worst_are_the_highest(contest: Contest) -> None:
    with contest.database.write() as session:
        phases.close(contest.database, session, "preliminary", "the end")
    shown = standing_of(contest, "preliminary")
    assert shown["view"] == "private"
    kept = {key for key in contest.tables["preliminary", "Alpha"]["niqe"] if key not in contest.public("preliminary")}
    first = shown["entries"][0]
    table = contest.tables["preliminary", first["team"]]["perceptual_index"]
    means = {t: np.mean([contest.tables["preliminary", t]["perceptual_index"][key] for key in kept]) for t in METHODS}
    assert first["team"] == min(means, key=lambda team: means[team])
    assert first["score"] == pytest.approx(means[first["team"]], rel=1e-5)
    page = Client(contest.app).get(f"/submissions/{first['submission']}").text
    worst = re.findall(r"<li>(\d+) ([0-9.]+)</li>", page.partition("Worst pictures")[2].partition("</ul>")[0])
    wanted = sorted(kept, key=lambda key: -table[key])
    assert [key for key, _ in worst] == wanted
