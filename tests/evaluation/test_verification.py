"""study=verification: who is known, which pairs are compared, and what is written."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import EvaluateSettings
from facesr.data.export import main as pairs_main
from facesr.errors import ConfigError, DataError, FaceSRError
from facesr.evaluation import run as evaluate
from facesr.evaluation.identities import read_identities
from facesr.evaluation.studies import verification
from facesr.evaluation.studies.verification import (
    Known,
    embedded,
    notes_of,
    read_known,
    similarities,
    table_of,
)
from facesr.image import to_float, to_uint8
from facesr.png import read_png, write_png
from facesr.resample import resize

CPU = torch.device("cpu")


@pytest.fixture
def identities(tmp_path: Path) -> Callable[..., Path]:
    def written(*lines: str, head: str = "id,identity") -> Path:
        path = tmp_path / "identities.csv"
        path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
        return path

    return written


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic faces of 12 persons, with the file that says who they are."""
    out = tmp_path_factory.mktemp("synthetic")
    assert pairs_main(["synthetic", str(out), "--num", "48"]) == 0
    return out


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    def ran(**keys: object) -> Path:
        out = tmp_path / "out"
        words = [f"{key}={value}" for key, value in keys.items()]
        words += [f"out={out}", "study=verification", "device=cpu", "num_resamples=20"]
        words += [f"restored_dir={tmp_path / 'restored'}", "reuse_embeddings=false"]
        evaluate.run(load_settings("evaluate", EvaluateSettings, words))
        return out

    return ran


def test_pairs_says_who_is_in_the_pictures(synthetic: Path) -> None:
    ids = [path.stem for path in sorted((synthetic / "high").iterdir())]
    persons = read_identities(synthetic / "identities.csv", ids)
    assert persons == [f"person_{25_000 + number // 4}" for number in range(48)]


def test_a_file_is_read_whatever_its_order(identities: Callable[..., Path]) -> None:
    path = identities("b.png,Ann", "a,", "further,Bob", "c, Ann ", "'=d,Bob")
    assert read_identities(path, ["a", "b", "c", "=d"]) == ["", "Ann", "Ann", "Bob"]


@pytest.mark.parametrize(
    ("lines", "head", "reason"),
    [
        (["a,x"], "name,person", "needs the first line id,identity"),
        (["a,x,y"], "id,identity", "line 2 has 3 cells instead of 2"),
        (["a,x", "a.png,x"], "id,identity", "names id 'a' twice"),
        (["a,x"], "id,identity", "has no line for id 'b'"),
    ],
)
def test_a_wrong_file_is_refused(identities: Callable[..., Path], lines: list[str], head: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_identities(identities(*lines, head=head), ["a", "b"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv cannot be read"):
        read_identities(tmp_path / "nowhere.csv", ["a"])


def test_faces_of_nobody_are_left_out(identities: Callable[..., Path]) -> None:
    ids = [f"{number:02d}" for number in range(41)]
    path = identities(*(f"{key},{'' if key == '07' else f'p{int(key) // 2:02d}'}" for key in ids))
    known = read_known(path, ids)
    assert len(known.ids) == 40 and "07" not in known.ids and known.num_unknown == 1
    # Twenty persons with two pictures, less the one whose second picture is not known, and the last one.
    assert known.num_several == 19 and known.persons.tolist()[:7] == [0, 0, 1, 1, 2, 2, 3]


def test_what_cannot_be_measured_is_refused(identities: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nobody has two pictures"):
        read_known(identities("a,x", "b,y"), ["a", "b"])
    with pytest.raises(DataError, match="nobody has two pictures"):
        read_known(identities("a,", "b,"), ["a", "b"])
    with pytest.raises(DataError, match=r"4 pictures of 2 persons are too few for a false acceptance rate of 0\.01"):
        read_known(identities("a,x", "b,y", "c,x", "d,y"), ["a", "b", "c", "d"])
    monkeypatch.setattr(verification, "MOST_PICTURES", 39)
    ids = [str(number) for number in range(40)]
    with pytest.raises(DataError, match="40 pictures of known persons are more than the 39"):
        read_known(identities(*(f"{key},p{int(key) // 2}" for key in ids)), ids)


def test_similarities_are_cosines_of_every_pair() -> None:
    probes = np.array([[1, 0], [3, 4], [0, 0]], np.float32)
    originals = np.array([[2, 0], [0, 5], [1, 1]], np.float32)
    wanted = [[1, 0, 0.5**0.5], [0.6, 0.8, 1.4 * 0.5**0.5], [0, 0, 0]]
    assert similarities(probes, originals) == pytest.approx(np.array(wanted))


def test_embeddings_keep_the_order_whatever_the_batch(synthetic: Path) -> None:
    class Mean:
        name = "mean"

        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.mean((2, 3))

    ids = [f"{number:06d}" for number in (5, 3, 9, 1, 0)]
    counts: list[int] = []
    found = embedded(synthetic / "high", ids, [Mean()], CPU, 2, counts.append)  # type: ignore[list-item]
    assert found is not None and counts == [2, 2, 1]
    wanted = [read_png(synthetic / "high" / f"{key}.png").mean((0, 1)) / 255 for key in ids]
    assert np.allclose(found["mean"], wanted, atol=1e-5)


def test_a_better_restoration_is_recognised_more_often(
    run: Callable[..., Path], synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Originals whose fine detail is almost gone: better than bicubic interpolation, worse than the originals."""
    better = tmp_path / "better"
    better.mkdir()
    for path in (synthetic / "high").iterdir():
        picture = to_float(read_png(path)[None])
        write_png(better / path.name, to_uint8(resize(resize(picture, 56, 48), 112, 96))[0])
    out = run(
        entries=f"[{better}]", high=synthetic / "high", low=synthetic / "low", identities=synthetic / "identities.csv"
    )
    assert {path.name for path in out.iterdir()} >= {"verification.csv", "verification.png", "report.html"}
    with (out / "verification.csv").open() as file:
        rows = {row["probe"]: row for row in csv.DictReader(file)}
    tars = [float(rows[name]["tar"]) for name in ("bicubic", "better", "original")]
    assert tars == sorted(tars) and tars[0] < tars[1]
    assert float(rows["bicubic"]["gain"]) == 0 and float(rows["better"]["gain"]) == pytest.approx(
        tars[1] - tars[0], abs=2e-6
    )
    assert float(rows["original"]["far_as_set"]) <= 0.01 and {row["far"] for row in rows.values()} == {"0.01"}
    told = json.loads((out / "summary.json").read_text())
    assert (told["num_pictures"], told["num_persons"], told["num_persons_with_several"]) == (48, 12, 12)
    printed = capsys.readouterr().out
    assert "TAR at a FAR of 0.001 is left out: too few pairs" in printed and "minus bicubic" in printed
    assert "<script" not in (out / "report.html").read_text()


def test_a_judge_of_the_training_loss_is_marked() -> None:
    persons = np.repeat(np.arange(30), 2)
    known = Known(tuple(map(str, range(60))), persons, 0)
    random = np.random.default_rng(0)
    kinds = {name: {"judge": random.normal(size=(60, 8)).astype(np.float32)} for name in ("trained", "original")}
    found = verification.verification(known, kinds, {"trained": ("judge",)}, 10, 0)
    assert [row[2] for row in table_of(found)[1:]] == ["trained (white-box)", "original"]
    assert any(note.startswith("White-box") for note in notes_of(found))
    assert "judge,0.01,trained,true," in verification.csv_of(found)


def test_pictures_of_several_sizes_are_embedded_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    class Mean:
        name = "mean"

        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(batch.shape))
            return batch.mean((2, 3))

    sides = {"a": (8, 8), "b": (8, 8), "c": (8, 4), "d": (8, 8), "e": (8, 8), "f": (8, 8)}
    for number, (key, (height, width)) in enumerate(sides.items()):
        write_png(tmp_path / f"{key}.png", np.full((height, width, 3), 40 * number, np.uint8))
    # Two pictures of 64 pixels fit a batch, a third does not.
    monkeypatch.setattr(verification, "MOST_BATCH_PIXELS", 128)
    found = embedded(tmp_path, list(sides), [Mean()], CPU, 32, lambda count: None)  # type: ignore[list-item]
    assert shapes == [(2, 3, 8, 8), (1, 3, 8, 4), (2, 3, 8, 8), (1, 3, 8, 8)]
    assert found is not None
    assert np.allclose(found["mean"], np.arange(6)[:, None] * 40 / 255, atol=1e-6)


def test_nothing_to_show_is_told_by_the_studys_own_name(run: Callable[..., Path], synthetic: Path) -> None:
    with pytest.raises(ConfigError, match="study=verification has nothing to show"):
        run(high=synthetic / "high", identities=synthetic / "identities.csv")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"method": "bicubic"}, r"study=verification compares entries=\[NAME,DIR,...\]"),
        ({"high": "high"}, "give high=DIR and identities=FILE.csv together"),
        ({"identities": "a.csv"}, "give high=DIR and identities=FILE.csv together"),
        ({"low": "low"}, "give high=DIR and identities=FILE.csv together"),
        ({"attributes": "a.csv"}, "leave attributes= out"),
        ({"protocol": "asc19_preliminary"}, "leave protocol= out"),
        ({"protocol.strict": "false"}, "leave protocol.strict= out"),
    ],
)
def test_keys_that_do_not_go_together(run: Callable[..., Path], keys: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        run(**keys)


def test_the_file_is_checked_before_anything_is_restored(
    run: Callable[..., Path], synthetic: Path, identities: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "subject_of", lambda *given: pytest.fail("restored"))
    with pytest.raises(DataError, match="has no line for id"):
        run(high=synthetic / "high", low=synthetic / "low", identities=identities("000000,x"))


def test_other_evaluations_have_no_use_for_identities() -> None:
    words = ["method=bicubic", "identities=a.csv", "device=cpu"]
    with pytest.raises(FaceSRError, match="identities= is what study=verification reads"):
        evaluate.run(load_settings("evaluate", EvaluateSettings, words))
