"""The tables that migrations make are those that the code describes; the command line around a study."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from facesr.errors import DataError
from facesr.opinion.command import main, with_dir
from facesr.opinion.opening import config, open_database
from facesr.opinion.tables import Base
from tests.opinion.made import Hall, a_study, answer, folders


def test_migrations_make_the_tables_and_a_newer_database_is_refused(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    database = open_database(study)
    with database.write() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        command.downgrade(config(session.connection()), "base")
        command.upgrade(config(session.connection()), "head")
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(DataError, match="newer version"):
        open_database(study)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = folders(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["init", str(tmp_path / "it's"), *keys, "faces=8", "raters=2", "repeats=1", "traps=1"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert (
        "plan: sha256 " in told
        and "2 methods (ours, theirs), the anchors bicubic, nearest, the hidden original" in told
    )
    assert main(["invite", str(tmp_path / "it's"), "--count", "2", "--url", "https://study.example.org/"]) == 0
    links = capsys.readouterr().out.split()
    assert len(set(links)) == 2 and all(link.startswith("https://study.example.org/r/") for link in links)
    assert main(["invite", str(tmp_path / "it's"), "--open"]) == 0
    assert "/join/" in capsys.readouterr().out
    assert main(["invite", str(tmp_path / "it's"), "--url", "javascript:alert(1)"]) == 2
    assert "--url has to be an address" in capsys.readouterr().err
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "holds no study.yaml; make a study by facesr opinion init" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["init", str(tmp_path / "it's"), *keys])
    assert ended.value.code == 2 and "exists and is not empty" in capsys.readouterr().err


def test_status_tells_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hall = Hall(a_study(tmp_path))
    client = hall.joined()
    for _ in range(3):
        answer(client, 5)
    hall.database.close()
    assert main(["status", str(hall.study.folder)]) == 0
    told = capsys.readouterr().out
    assert "joined      1" in told and "answers     3" in told and hall.study.plan.sha256 in told
    assert not any(word in told for word in ("ours", "theirs", "mean", "5.0"))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["DIR", "seed=1"], ["dir='DIR'", "seed=1"]),
        (["a b's", "seed=1"], ["dir='a b\\'s'", "seed=1"]),
        (["seed=1"], ["seed=1"]),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_the_folder_before_the_keys(arguments: list[str], wanted: list[str]) -> None:
    assert with_dir(arguments) == wanted
