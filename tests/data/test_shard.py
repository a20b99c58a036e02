"""Shards: as many as one likes, merged they are the set that one machine makes, to the byte, or one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from facesr.data.packed import shard as shards
from facesr.data.packed.dataset_format import SHARD
from facesr.data.packed.reader import PackedDataset
from facesr.data.packed.shard import Shard, shard_of
from facesr.data.packed.writer import JOURNAL, PARTIAL
from facesr.data.prepare import merge, patches, prepare
from facesr.errors import DataError
from tests.data.test_prepare import SIZE, contents, folder_of, picture, save


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten pictures in pieces of three: a damaged one, copies within a shard and of another shard's."""
    monkeypatch.setattr(prepare, "PIECE", 3)
    folder = folder_of(tmp_path / "source", 10)
    (folder / "0001.png").write_bytes(b"damaged")
    for copy, of in (("0002", "0000"), ("0007", "0003"), ("0008", "0003"), ("0009", "0001")):
        (folder / f"{copy}.png").write_bytes((folder / f"{of}.png").read_bytes())
    return folder


def made(source: Path, out: Path, *more: str, count: int = 4) -> list[str]:
    """Makes all shards of a set and returns their folders, the last one first."""
    parts = [out / f"{number}" for number in range(count, 0, -1)]
    for part in parts:
        assert prepare.main([str(source), str(part), *SIZE, *more, "--shard", f"{part.name}/{count}"]) == 0
    return [str(part) for part in parts]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("more", [(), ("--duplicates", "keep", "--limit", "9")])
def test_merged_shards_are_the_set_of_one_machine(source: Path, tmp_path: Path, count: int, more: tuple[str]) -> None:
    assert prepare.main([str(source), str(tmp_path / "whole"), *SIZE, *more]) == 0
    parts = made(source, tmp_path / "parts", *more, count=count)
    assert prepare.main(["merge", str(tmp_path / "merged"), *parts]) == 0
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")
    assert len(PackedDataset.open(tmp_path / "merged")) == (8 if more else 5)
    if not more:
        told = (tmp_path / "merged" / "rejected.csv").read_text()
        assert "0002.png,duplicate: same file as 0000.png" in told and "0008.png,duplicate: same file as 0003" in told


def test_patches_of_many_machines(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    for number in range(3):
        save(folder / f"{number}.png", picture(number, 40, 24))
    (folder / "9.png").write_bytes((folder / "0.png").read_bytes())
    options = ["--size", "8", "--margin", "1"]
    assert patches.main([str(folder), str(tmp_path / "whole"), *options]) == 0
    parts = [str(tmp_path / name) for name in "ab"]
    for number, part in enumerate(parts, 1):
        assert patches.main([str(folder), part, *options, f"shard={number}/2"]) == 0
    assert merge.main([str(tmp_path / "merged"), *parts]) == 0
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


def test_a_merge_that_was_stopped_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main([str(source), str(tmp_path / "whole"), *SIZE]) == 0
    parts = made(source, tmp_path / "parts", count=2)
    command = ["merge", str(tmp_path / "merged"), *parts]
    plain = shards.FinishedShard.pieces

    def stopped(one: shards.FinishedShard) -> object:
        if one.shard.number == 2:
            raise KeyboardInterrupt
        return plain(one)

    with monkeypatch.context() as patch:
        patch.setattr(shards.FinishedShard, "pieces", stopped)
        assert prepare.main(command) == 130
    assert not (tmp_path / "merged" / "set.json").exists()
    monkeypatch.setattr(prepare, "PIECE", 4)  # even one that ends within a piece of a shard
    capsys.readouterr()
    assert prepare.main(command) == 0 and "went on after 6 pictures" in capsys.readouterr().out
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")
    assert prepare.main(command) == 0 and "was complete already" in capsys.readouterr().out


def test_a_set_that_prepare_began_is_gone_on_with_by_a_merge(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare.main([str(source), str(tmp_path / "whole"), *SIZE]) == 0
    parts, out = made(source, tmp_path / "parts", count=2), tmp_path / "merged"
    monkeypatch.setattr(prepare, "PIECE", 4)
    monkeypatch.setattr(prepare.DatasetWriter, "finish", lambda writer: writer.close() or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare.main([str(source), str(out), *SIZE, "--workers", "1"])
    monkeypatch.undo()
    lines = (out / JOURNAL).read_text().splitlines(keepends=True)
    (out / JOURNAL).write_text("".join(lines[:2]))  # four sources, and the second piece of the shard begins with three
    assert merge.main([str(out), *parts]) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_a_shard_is_gone_on_with_and_made_once(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(source), str(tmp_path / "out"), *SIZE, "--shard", "2/2"]
    assert prepare.main(command) == 0
    before = contents(tmp_path / "out")
    told = capsys.readouterr().out
    assert "shard 2/2, 3 pictures" in told and "merge" in told
    assert prepare.main(command) == 0 and "was complete already" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before
    assert prepare.main([*command[:-1], "1/2"]) == 2
    assert "shard (2/2 there, 1/2 now)" in capsys.readouterr().err
    assert prepare.main(command[:-2]) == 2 and "shard (2/2 there, not set now)" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"is one shard of a dataset; facesr prepare merge"):
        PackedDataset.open(tmp_path / "out")
    assert prepare.main([*command[:-1], "1/2", "--overwrite"]) == 0
    assert json.loads((tmp_path / "out" / SHARD).read_text())["card"]["shard"] == "1/2"


def spoilt(change: Callable[[Path], object]) -> Callable[[list[str]], list[str]]:
    def spoil(parts: list[str]) -> list[str]:
        change(Path(parts[0]))
        return parts

    return spoil


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda parts: parts[1:], "1 of the 4 shards is missing, number 4; give the folders of all."),
        (lambda parts: parts[2:], "2 of the 4 shards are missing, number 3, 4;"),
        (lambda parts: [*parts, parts[1]], "are both shard 3/4; give each shard once."),
        (lambda parts: [*parts, "nowhere"], "nowhere does not exist; make one with: facesr prepare SOURCE nowhere"),
        (spoilt(lambda part: (part / SHARD).unlink()), "is unfinished; run the command that makes it once more"),
        (spoilt(lambda part: cut_short(part / PARTIAL)), "is a damaged shard; make it again with --overwrite."),
        (spoilt(lambda part: cut_short(part / JOURNAL)), "is a damaged shard"),
        (spoilt(lambda part: (part / JOURNAL).write_text("{}\n[[7, 7, 7, 7]]\n")), "is a damaged shard"),
        (spoilt(lambda part: (part / SHARD).write_text("[]")), "is a damaged shard"),
        (spoilt(lambda part: (part / "set.json").write_text("{}") and (part / SHARD).unlink()), "is a whole prepared"),
    ],
)  # fmt: skip
def test_what_is_not_all_of_one_set_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[..., list[str]], sentence: str
) -> None:
    parts = change(made(source, tmp_path / "parts"))
    capsys.readouterr()
    assert merge.main([str(tmp_path / "merged"), *parts]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1 and not (tmp_path / "merged").exists()


def test_shards_of_several_sets_are_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts, out = made(source, tmp_path / "parts", count=2), tmp_path / "merged"
    wider, other = made(source, tmp_path / "wider", "--margin", "2", count=2), made(source, tmp_path / "3", count=3)
    save(source / "new.png", picture(99))
    grown = made(source, tmp_path / "grown", count=2)
    for strange, difference in ((wider, "margin (0, not 2)"), (other, "shards (2, not 3)"), (grown, "names_sha256 (")):
        capsys.readouterr()
        assert merge.main([str(out), strange[0], parts[1]]) == 2
        told = capsys.readouterr().err
        assert f"{parts[1]} is a shard of another set than {strange[0]}: " in told and difference in told
    assert merge.main([parts[0], *parts]) == 2 and "is one of the shards" in capsys.readouterr().err
    facts = json.loads((Path(parts[0]) / SHARD).read_text())
    facts["sources"][0] = "other.png"
    (Path(parts[0]) / SHARD).write_text(json.dumps(facts))
    assert merge.main([str(out), *parts]) == 2 and "are not those of one folder" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "3", "1/100001", "-1/2", "a/b", "1/2/3", "\u0663/8"])
def test_only_k_of_n_is_a_shard(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        prepare.main([str(tmp_path), str(tmp_path / "out"), f"--shard={text}"])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and "is no shard; give K/N with K from 1 to N, for example 3/8." in told


def test_every_source_is_in_one_shard() -> None:
    assert shard_of("3/8") == Shard(3, 8)
    for count in (1, 2, 5, 64, 1100):
        places = [range(70_000)[Shard(number, count).share(70_000, 64)] for number in range(1, count + 1)]
        assert [place for part in places for place in part] == list(range(70_000))
        assert max(map(len, places)) - min(map(len, places)) <= 64
