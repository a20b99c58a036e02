"""A dask cluster makes the set of one machine, to the byte, whatever becomes of its workers."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from facesr.data.prepare import cluster, prepare
from tests.data.test_prepare import SIZE, contents, folder_of, wait_until


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_same_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr(cluster, "SHARD_PIECES", 1)
    source, out = folder_of(tmp_path / "source", 64 * 5 + 7), tmp_path / "out"
    (source / "0300.png").write_bytes((source / "0001.png").read_bytes())
    assert prepare.main([str(source), str(tmp_path / "whole"), *SIZE, "--workers", "1"]) == 0
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as local,
        Client(local) as client,
    ):
        killed: list[int] = []

        def kill() -> None:
            pids = list(client.run(os.getpid).values())
            if wait_until(lambda: any(cluster.shards_folder(out).glob("*/journal.jsonl")), 30):
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

        thread = threading.Thread(target=kill)
        thread.start()
        assert prepare.main([str(source), str(out), *SIZE, "--dask", local.scheduler_address]) == 0
        thread.join()
    assert len(killed) == 1 and contents(out) == contents(tmp_path / "whole")
    assert not cluster.shards_folder(out).exists()
    capsys.readouterr()
    assert prepare.main([str(source), str(out), *SIZE, "--dask", "local:1"]) == 0  # starts no cluster
    assert "was complete already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--dask", "tcp:/x"], "--dask 'tcp:/x' is no cluster; give local:N for N processes on this machine"),
        (["--dask", "local:0"], "--dask 'local:0' is no cluster"),
        (["--dask", "local:2", "--shard", "1/2"], "leave out --shard and --workers."),
        (["--dask", "local:2", "--workers", "3"], "leave out --shard and --workers."),
        (["--dask", "tcp://127.0.0.1:9"], "no dask scheduler answers at tcp://127.0.0.1:9; start one with: dask"),
    ],
)
def test_what_is_no_cluster_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str], sentence: str
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    source = folder_of(tmp_path / "source", 1)
    assert prepare.main([str(source), str(tmp_path / "out"), *SIZE, *more]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(told) == 1 and sentence in told[0]


def test_without_dask_the_sentence_names_the_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    source = folder_of(tmp_path / "source", 1)
    assert prepare.main([str(source), str(tmp_path / "out"), *SIZE, "--dask", "local:2"]) == 2
    assert "uv run --extra dask" in capsys.readouterr().err and not (tmp_path / "out").exists()
