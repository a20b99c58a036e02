"""competition.yaml: what is wrong in it is one sentence that names the key."""

import contextlib
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import yaml

from facesr.errors import ConfigError, DataError, FaceSRError
from facesr.leaderboard import chain, scores
from facesr.leaderboard.command import main
from facesr.leaderboard.competition import KEY, SETTINGS, SQLITE, Place, read_competition
from facesr.leaderboard.founding import make_competition
from facesr.leaderboard.handout import Handouts
from facesr.leaderboard.operations import opened
from facesr.leaderboard.schema import upgrade
from facesr.png import write_png
from facesr.web.database import Database, sqlite_url

GOOD = {
    "title": "T",
    "phases": [
        {
            "name": "final",
            "title": "F",
            "protocol": "asc19_final",
            "starts": "2026-01-01T00:00:00Z",
            "ends": "2026-02-01T00:00:00Z",
            "references": "references/final",
        }
    ],
}


def written(folder: Path, text: str) -> Path:
    (folder / SETTINGS).write_text(text, encoding="utf-8")
    return folder


def changed(folder: Path, key: str, value: object, *, in_phase: bool = True) -> Path:
    phase = dict(GOOD["phases"][0])  # type: ignore[call-overload]
    settings = {**GOOD, "phases": [phase]}
    (phase if in_phase else settings)[key] = value
    # Moments as YAML writes them, without quotes.
    text = re.sub(r"'(20\S+Z)'", r"\1", yaml.safe_dump(settings))
    return written(folder, text)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "Final", "phases.0.name"),
        ("name", "../x", "phases.0.name"),
        ("protocol", "asc20", "phases.0.protocol"),
        ("starts", "2026-01-01 00:00:00", r"phases.0.starts has to be a moment in UTC"),
        ("starts", 5, r"phases.0.starts has to be a moment in UTC"),
        ("ends", "2025-01-01T00:00:00Z", "starts has to be before ends"),
        ("references", "/etc", "inside the competition"),
        ("references", "../other", "inside the competition"),
        ("public_share", 0.0, "phases.0.public_share"),
        ("public_share", "half", "phases.0.public_share"),
        ("rank_rule", "worst", "phases.0.rank_rule"),
        ("limits", {"scored_per_day": 0}, "phases.0.limits.scored_per_day"),
        ("limits", {"scored_a_day": 1}, r"phases.0.limits.scored_a_day is no key"),
        ("held_out_judges", ["builtin"], "cannot be a held-out judge"),
        ("colour", "red", "phases.0.colour is no key"),
    ],
)
def test_wrong_phase(tmp_path: Path, key: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_competition(changed(tmp_path, key, value))
    assert SETTINGS in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has to hold keys"),
        ("[1, 2]", "has to hold keys"),
        ("title: [", "is not YAML"),
        ("title: T", "phases is missing"),
        ("title: T\nphases: []", "phases"),
        ("title: ''\nphases: []", "title"),
        ("a: &a [1]\nb: *a\ntitle: T\nphases: [1]", "phases.0"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("[" * 20_000, "is not YAML"),
        ("x" * (1 << 20) + ": 1", "larger than 1 MiB"),
    ],
)
def test_wrong_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_competition(written(tmp_path, text))


def test_two_phases_of_one_name(tmp_path: Path) -> None:
    text = re.sub(r"'(20\S+Z)'", r"\1", yaml.safe_dump({**GOOD, "phases": [GOOD["phases"][0]] * 2}))  # type: ignore[index]
    with pytest.raises(ConfigError, match="same name"):
        read_competition(written(tmp_path, text))


def test_no_competition(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="facesr board init"):
        read_competition(tmp_path)


@pytest.mark.parametrize("text", ["", "zz", "07" * 31, "07" * 33])
def test_damaged_key(tmp_path: Path, text: str) -> None:
    changed(tmp_path, "title", "F")
    (tmp_path / KEY).write_text(text, encoding="ascii")
    with pytest.raises(DataError, match="damaged"):
        _ = Place(tmp_path).key


def test_times_of_the_file_and_of_commands(tmp_path: Path) -> None:
    """The file plans, a command moves; whichever changed last holds, and every change is in the log."""
    from facesr.leaderboard import phases

    folder = changed(tmp_path, "title", "F")
    (folder / KEY).write_text("07" * 32, encoding="ascii")
    with opened(folder) as (place, database), database.write() as session:
        later = place.competition.phases[0].ends.replace(year=2030)
        phases.move(database, session, "final", ends=later)
    with opened(folder) as (_, database), database.read() as session:
        assert phases.times_of(session, "final").ends.year == 2030
        before = chain.head(session).seq
    changed(folder, "ends", "2027-05-01T00:00:00Z")
    with opened(folder) as (_, database), database.read() as session:
        assert phases.times_of(session, "final").ends.year == 2027
        assert chain.head(session).seq == before + 1


def test_init_refuses_before_it_writes(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()
    for arguments in (
        {"folder": full},
        {"folder": tmp_path / "new", "high": full},
        {"folder": tmp_path / "new", "high": full, "low": full},
        {"folder": tmp_path / "new", "title": "two\nlines"},
        {"folder": tmp_path / "new", "database_url": "mysql://x/y"},
        {"folder": tmp_path / "new", "database_url": f"sqlite:///{tmp_path}/none/none.sqlite"},
    ):
        with pytest.raises(FaceSRError):
            make_competition(**arguments)  # type: ignore[arg-type]
        assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_names_in_unicode_form_d_are_written_in_form_c(tmp_path: Path) -> None:
    """As in a ZIP file of macOS; ids are in form C everywhere else."""
    for name, side in (("low", (24, 28)), ("high", (96, 112))):
        (tmp_path / name).mkdir()
        picture = np.zeros((side[1], side[0], 3), np.uint8)
        write_png(tmp_path / name / unicodedata.normalize("NFD", "J\u00fcrgen.png"), picture)
    make_competition(tmp_path / "c", high=tmp_path / "high", low=tmp_path / "low", title="Names")
    found = [path.name for path in (tmp_path / "c" / "references").rglob("*.png")]
    assert found == ["J\u00fcrgen.png"] * 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_faces_file_is_found_in_either_unicode_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / unicodedata.normalize(form, "J\u00fcrgen.png")
    path.write_bytes(b"x")
    assert scores.file_of(tmp_path, "J\u00fcrgen") == path


def test_init_makes_a_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facesr.leaderboard import founding, teams
    from facesr.web.tokens import is_token

    monkeypatch.setattr(founding, "DEMO_FACES", 2)
    token = make_competition(tmp_path / "demo", title='"Quotes": and # more')
    assert is_token(token)
    assert (tmp_path / "demo" / KEY).stat().st_mode & 0o077 == 0
    with opened(tmp_path / "demo") as (place, database), database.read() as session:
        assert place.competition.title == '"Quotes": and # more'
        phase = place.competition.phases[0]
        assert len(list(place.high(phase).iterdir())) == len(list(place.low(phase).iterdir())) == 2
        assert teams.holder_of(session, token, [teams.ORGANISER]).scope == teams.ORGANISER


@pytest.mark.slow
def test_baselines_of_the_preliminary_round_pass_the_verifier(tmp_path: Path) -> None:
    """Their archives have folders, with the program that made them."""
    from sqlalchemy import select

    from facesr.leaderboard.founding import add_baselines
    from facesr.leaderboard.sandbox import verify_apart
    from facesr.leaderboard.scoring import protocol_named
    from facesr.leaderboard.tables import Submission

    make_competition(tmp_path / "demo", protocol="asc19_preliminary")
    with opened(tmp_path / "demo") as (place, database):
        assert add_baselines(place, database, ["bicubic"]) == ["bicubic"]
        with database.read() as session:
            row = session.scalars(select(Submission)).one()
        phase = place.competition.phases[0]
        out = tmp_path / "out"
        out.mkdir()
        archive = place.store().path(row.archive_sha256)
        found = verify_apart(archive, place.low(phase), protocol_named(phase.protocol), out)
        assert found.facts["team"] == "bicubic" and len(found.ids) == len(list(out.iterdir())) == 8


@pytest.mark.parametrize("name", ["q?1", "r?x=1", "a%3Fb", "a#b"])
def test_the_database_lies_in_the_folder_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    place = Place(changed(tmp_path / name, "title", "F"))
    with contextlib.closing(Database(place.url)) as database:
        database.check()
    assert (place.folder / SQLITE).is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_init_with_a_database_in_use_leaves_no_folder(tmp_path: Path) -> None:
    used = tmp_path / "used.sqlite"
    with contextlib.closing(Database(sqlite_url(used))) as database:
        upgrade(database)
        with database.write() as session:
            chain.append(database, session, "organiser", "competition made", {})
    with pytest.raises(DataError, match="already"):
        make_competition(tmp_path / "new", database_url=f"sqlite:///{used}")
    assert not (tmp_path / "new").exists()


def test_a_handout_is_made_anew_when_a_picture_was_changed(tmp_path: Path) -> None:
    place = Place(changed(tmp_path, "title", "F"))
    phase = place.competition.phases[0]
    place.low(phase).mkdir(parents=True)
    write_png(place.low(phase) / "a.png", np.zeros((4, 4, 3), np.uint8))
    handouts = Handouts(place)
    first = handouts.of(phase)
    assert handouts.of(phase) is first
    write_png(place.low(phase) / "a.png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    assert handouts.of(phase).sha256 != first.sha256


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_moments_that_utc_does_not_know(tmp_path: Path, moment: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = changed(tmp_path, "title", "F")
    assert main(["phase", str(folder), "final", "--ends", moment]) == 2
    assert "--ends" in capsys.readouterr().err
    text = (folder / SETTINGS).read_text(encoding="utf-8").replace("2026-01-01T00:00:00Z", moment)
    with pytest.raises(ConfigError, match=r"phases\.0\.starts has to be a moment"):
        read_competition(written(folder, text))
