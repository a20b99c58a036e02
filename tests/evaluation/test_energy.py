"""Runs' energy in facesr compare and in a report: by counters, by meters, against a limit, or not measured."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from facesr.energy import EnergyLog, Reading, energy_bytes
from facesr.errors import DataError
from facesr.evaluation.compare import main
from facesr.evaluation.energy import energy_table, limit_check, measured_facts
from facesr.evaluation.meter import metered, read_meter
from tests.evaluation.test_compare import write_run

START = 1_790_000_000.0


def log_of(*readings: Reading, num_images: int = 1000, **changes: object) -> EnergyLog:
    log = EnergyLog(sessions=[[START, START + 10.0]])
    log.add(readings, num_images)
    log.sessions = [[START, START + 10.0]]
    return log


def two_nodes(cpu: float | None = 2000.0) -> EnergyLog:
    """Returns the log of two nodes with two boards each, 10 s, a known and a perhaps unknown CPU."""
    return log_of(
        Reading(0, "a", "A", "H100", 10.0, True, 5000.0, 1000.0),
        Reading(1, "a", "A", "H100", 10.0, True, 6000.0, None),
        Reading(2, "b", "B", "H100", 10.0, True, 7000.0, cpu),
    )


def run_with(folder: Path, log: EnergyLog | None) -> str:
    write_run(folder, 0.1, [0.5])
    if log is not None:
        (folder / "energy.json").write_bytes(energy_bytes(log))
    return str(folder)


def test_compare_tells_every_node_and_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run_with(tmp_path / "a", two_nodes()), run_with(tmp_path / "none", None)]
    assert main([*runs, "--out", str(tmp_path / "out"), "--power-limit", "2099"]) == 0
    told = capsys.readouterr().out
    assert "a on 2 nodes took 2,100 W, above the limit of 2099 W." in told
    assert "none was not checked against the limit of 2099 W: no power was measured." in told
    rows = {row["run"]: row for row in csv.DictReader((tmp_path / "out" / "compare.csv").read_text().splitlines())}
    assert [rows["a"][head] for head in ("kJ", "mean W", "highest W", "images/J", "measured by")] == [
        "21.000", "2,100.0", "2,100.0", "0.04762", "NVML and RAPL",
    ]  # fmt: skip
    assert rows["none"]["kJ"] == rows["none"]["images/J"] == "not measured"
    lines = list(csv.reader((tmp_path / "out" / "energy.csv").read_text().splitlines()))
    assert [line[:4] + line[5:] for line in lines[1:]] == [
        ["a", "a", "all", "2 ranks", "12,000.0", "1,200.0", "NVML and RAPL"],
        ["a", "a", "-", "CPU", "1,000.0", "100.0", "RAPL"],
        ["a", "a", "0", "H100", "5,000.0", "500.0", "NVML"],
        ["a", "a", "1", "H100", "6,000.0", "600.0", "NVML"],
        ["a", "b", "all", "1 rank", "9,000.0", "900.0", "NVML and RAPL"],
        ["a", "b", "-", "CPU", "2,000.0", "200.0", "RAPL"],
        ["a", "b", "2", "H100", "7,000.0", "700.0", "NVML"],
    ]
    assert "above the limit of 2099 W" in (tmp_path / "out" / "compare.html").read_text()


def test_a_power_that_lacks_something_is_not_within(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([run_with(tmp_path / "a", two_nodes(cpu=None))]) == 0
    told = capsys.readouterr().out
    assert "1,900 W without what was not measured (CPU of b), so the limit of 3000 W was not checked." in told
    assert "NVML and RAPL, not all of it" in told
    assert limit_check(3001.0, 3000.0, "It", ["CPU of b"])[0] is False  # what is missing would only add to it
    assert [limit_check(watts, 3000.0, "It", [])[0] for watts in (None, 3000.0)] == [None, True]


def test_nothing_measured_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = log_of(Reading(0, "a", "A", "CPU", 10.0, False, None, None))
    assert main([run_with(tmp_path / "a", nothing), run_with(tmp_path / "b", None)]) == 0
    told = capsys.readouterr().out
    assert "energy: not measured; neither NVML nor RAPL" in told and "kJ" not in told
    assert [row[5] for row in energy_table(nothing)[1:3]] == ["not measured", "not measured"]


def test_meters_are_added_at_the_same_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 1000 W and, half a second out of step, from 1000 to 3000 W: together at most 4000 W, at the end.
    (tmp_path / "a.csv").write_text("time,watts\n" + "".join(f"{START - 1 + second},1000\n" for second in range(13)))
    zone = [datetime.fromtimestamp(START + second, UTC).isoformat() for second in (-0.5, 0.0, 5.5, 10.0, 11.0)]
    watts = (1000, 1000, 2100, 3000, 3000)
    (tmp_path / "b.csv").write_text(
        "\ufeff" + "".join(f"{at},{power}\n" for at, power in zip(zone, watts, strict=True))
    )
    found = metered([read_meter(tmp_path / f"{name}.csv") for name in "ab"], [[START, START + 10.0]])
    assert found is not None and found.joules == pytest.approx(10_000 + 20_000) and found.peak_watts == 4000.0
    arguments = [run_with(tmp_path / "r", two_nodes()), "--meter", str(tmp_path / "a.csv"), "--meter"]
    assert main([*arguments, str(tmp_path / "b.csv")]) == 0
    told = capsys.readouterr().out
    assert "r, by its meter, took 4,000 W, above the limit of 3000 W." in told and "30.000" in told
    late = (tmp_path / "b.csv").read_text().splitlines(keepends=True)[1:]
    (tmp_path / "late.csv").write_text("".join(late).replace(zone[1], zone[1].replace(":20", ":21")))
    assert main([*arguments, str(tmp_path / "late.csv")]) == 0
    told = capsys.readouterr().out
    assert "r was not measured by the meters all of its time" in told and "2,100 W, within the limit" in told


def test_a_hole_in_a_meters_log_is_not_bridged(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"{START},100\n{START + 30},100\n{START + 95},100\n{START + 100},100\n")
    meter = read_meter(tmp_path / "m.csv")
    assert metered([meter], [[START, START + 30]]) is not None and metered([meter], [[START, START + 40]]) is None
    assert metered([meter], [[START + 96, START + 99], [START, START + 1]]) is not None
    assert metered([meter], []) is None and metered([], [[START, START + 30]]) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "holds fewer than two readings"),
        (b"time,watts\n1,2\n", "holds fewer than two readings"),
        (b"1,100\n2,100,7\n", "line 2 has 3 columns; give two, time and watts."),
        (b"1,100\n2,many\n", "line 2: 'many' is no power; give watts from 0 to 1e+07."),
        (b"1,100\n2,-1\n", "line 2: '-1' is no power"),
        (b"1,100\n2,nan\n", "line 2: 'nan' is no power"),
        (b"1,100\n2,inf\n", "line 2: 'inf' is no power"),
        (b"1,100\nnan,100\n", "line 2: 'nan' is no time; give seconds since 1970 or ISO 8601 with its zone"),
        (b"1790000000000,100\n1790000000001,100\n", "line 1: '1790000000000' is no time"),
        (b"2026-11-27T20:00:00,100\n2026-11-27T20:00:01,100\n", "does not say its time zone"),
        (b"2,100\n2,100\n", "line 2: its time is not later than that of the line before; sort the log."),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is no CSV table in UTF-8"),
        (b"1,1\x00\n2,2\n", "line 1: '1\\x00' is no power"),
        (b'"' + b"1" * 200_000, "is no CSV table in UTF-8"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_broken_log_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes | None, sentence: str
) -> None:
    if text is not None:
        (tmp_path / "m.csv").write_bytes(text)
    arguments = ["--meter", str(tmp_path / "m.csv"), "--out", str(tmp_path / "out")]
    assert main([run_with(tmp_path / "a", None), *arguments]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_huge_log_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "m.csv").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="is larger than 256 MiB"):
        read_meter(tmp_path / "m.csv")


def test_what_restoring_took_is_compared_with_a_limit() -> None:
    assert measured_facts(two_nodes(), 3000.0) == {
        "energy_joules": 21000.0,
        "mean_watts": 2100.0,
        "power_limit_watts": 3000.0,
        "within_power_limit": True,
        "power_check": "Restoring took 2,100 W, within the limit of 3000 W.",
    }
    assert measured_facts(None, None) == {} and measured_facts(None, 3000.0)["within_power_limit"] is None
