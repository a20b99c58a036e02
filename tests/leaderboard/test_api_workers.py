"""The addresses for workers: who is let in, how a job is held, and what of a report is believed."""

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from facesr.leaderboard import api_workers, chain, checking, queue, worker_tokens
from facesr.leaderboard.app import create_app
from facesr.leaderboard.reports import REPORT_BYTES
from facesr.leaderboard.tables import Evaluation, Event, Submission, Token
from facesr.png import read_png
from facesr.web.store import Stored
from tests.leaderboard.site import COLUMNS, IDS, Client, Site, make_site

API = "/api/v1/worker"
FACTS = {
    "team": "First",
    "model": "m",
    "loss_judges": [],
    "weights_sha256": "",
    "config_sha256": "",
    "kimg": 0,
    "device": "cpu",
    "seconds": 2.0,
    "energy_joules": 10.0,
    "self_ensemble": False,
    "synthetic": False,
    "commit": None,
    "num_parameters": None,
    "interpolation_weight": None,
    "guard_on": None,
    "guard_bound_db": None,
    "guard_replaced": 0,
}


class Elsewhere:
    """A worker elsewhere, as it talks to a board."""

    def __init__(self, site: Site, app: FastAPI, name: str = "box") -> None:
        self.client = Client(app, scheme="https")
        with site.database.write() as session:
            self.token = worker_tokens.issue(site.database, session, name)
        self.nonce = 0

    def ask(self, method: str, path: str, lease: str = "", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Facesr-Lease": lease}
        return self.client.request(method, f"{API}{path}", headers=headers, **more)

    def claim(self, nonce: int | None = None, round_id: int = 1) -> httpx.Response:
        self.nonce += 1
        number = self.nonce if nonce is None else nonce
        return self.ask("POST", "/claims", json={"nonce": f"{number:032x}", "rounds": {"final": round_id}})

    def job(self) -> dict[str, Any]:
        found = self.claim().json()["job"]
        assert isinstance(found, dict)
        return found

    def report(self, job: dict[str, Any], **report: Any) -> httpx.Response:
        return self.ask("POST", f"/jobs/{job['code']}/report", job["lease"], json=report)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = make_site(tmp_path / "board", "public_share: 0.5\n    limits: {waiting: 10, scored_per_day: 99}")
    found.team("First")
    with found.database.write() as session:
        found._round(session)
    yield found
    found.database.close()


@pytest.fixture
def app(site: Site) -> FastAPI:
    return create_app(site.place, site.database)


@pytest.fixture
def box(site: Site, app: FastAPI) -> Elsewhere:
    return Elsewhere(site, app)


def picture(seed: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (28, 24, 3), dtype=np.uint8)


def scored(job: dict[str, Any], **other: Any) -> dict[str, Any]:
    """Returns a report of scores that a board takes, but for what is given."""
    return {
        "answer": "scored",
        "round": 1,
        "ids": IDS,
        "columns": {name: [0.5 + number / 100 for number in range(len(IDS))] for name in COLUMNS},
        "facts": FACTS,
        "is_isolated": True,
        "pixels_sha256": "a" * 64,
        "seconds": 1.5,
        "pictures": {face: base64.b64encode(picture().tobytes()).decode() for face in job["examples"]},
        **other,
    }


def expire(site: Site, code: str) -> None:
    """Has the lease of a job run out."""
    with site.database.write() as session:
        row = session.scalars(select(Submission).where(Submission.code == code)).one()
        row.lease_until = site.database.now(session) - timedelta(seconds=1)


def kinds(site: Site) -> list[str]:
    with site.database.read() as session:
        return [event.kind for event in session.scalars(select(Event).order_by(Event.seq))]


# Who is let in


def test_a_token_of_a_worker_alone_opens_them_and_nothing_else(site: Site, app: FastAPI, box: Elsewhere) -> None:
    code = site.queued(1, 1)
    asked = [
        ("GET", "/phases"),
        ("POST", "/claims"),
        ("GET", "/references/final"),
        ("POST", f"/jobs/{code}/lease"),
        ("GET", f"/jobs/{code}/archive"),
        ("POST", f"/jobs/{code}/report"),
    ]
    for token in ("", site.organiser, site.tokens["First"], "x" * 43):
        for method, path in asked:
            client = Client(app, scheme="https")
            headers = {"Authorization": f"Bearer {token}", "Facesr-Lease": "0" * 64} if token else {}
            assert client.request(method, f"{API}{path}", headers=headers, json={}).status_code == 401, (path, token)
    assert box.ask("GET", "/phases").json()["worker"] == "box"
    mine = {"Authorization": f"Bearer {box.token}"}
    for method, path in (("GET", "/phases/final/allowance"), ("POST", "/phases/final/submissions"), ("GET", "/phases")):
        assert box.client.request(method, f"/api/v1{path}", headers=mine).status_code in (401, 415)
    assert box.client.request("DELETE", f"/api/v1/submissions/{code}", headers=mine).status_code == 401
    box.client.form("/signin", "/signin", token=box.token)
    assert "Sign in" in box.client.get("/").text and box.client.get("/organiser").status_code in (303, 401, 404)


def test_a_revoked_token_is_shut_out_at_once(site: Site, box: Elsewhere) -> None:
    site.queued(1, 1)
    job = box.job()
    with site.database.write() as session:
        worker_tokens.revoke(site.database, session, "box")
        assert all(box.token not in (row.sha256, row.label) for row in session.scalars(select(Token)))
    assert box.report(job, **scored(job)).status_code == 401
    assert box.claim().status_code == 401
    assert site.row(job["code"]).state == "queued"
    assert kinds(site)[-1] == "tokens revoked"


def test_the_line_has_to_be_encrypted_unless_it_stays_on_the_machine(site: Site, app: FastAPI, box: Elsewhere) -> None:
    headers = {"Authorization": f"Bearer {box.token}"}
    wanted = {("192.0.2.1", "http"): 403, ("192.0.2.1", "https"): 200, ("127.0.0.1", "http"): 200, ("::1", "http"): 200}
    for (address, scheme), status in wanted.items():
        answer = Client(app, address, scheme).get(f"{API}/phases", headers=headers)
        assert answer.status_code == status, (address, scheme)
    assert "https" in Client(app).get(f"{API}/phases", headers=headers).json()["error"]


# Holding a job


def test_a_lost_answer_to_a_claim_costs_no_attempt(site: Site, box: Elsewhere) -> None:
    codes = {site.queued(1, 1), site.queued(1, 2)}
    first, again = box.claim(7).json()["job"], box.claim(7).json()["job"]
    assert first == again and first["attempt"] == 1 and first["team"] == "First"
    second = box.claim(8).json()["job"]
    assert {first["code"], second["code"]} == codes and box.claim(9).json()["job"] is None


def test_the_job_of_a_killed_worker_goes_back_once(site: Site, app: FastAPI, box: Elsewhere) -> None:
    code = site.queued(1, 1)
    job, other = box.job(), Elsewhere(site, app, "other")
    assert other.claim().json()["job"] is None
    expire(site, code)
    taken = other.job()
    assert (taken["code"], taken["attempt"]) == (code, 2) and taken["lease"] != job["lease"]
    # The first one was not dead, but slow: it has no say any more, whatever it asks for.
    for answer in (
        box.report(job, **scored(job)),
        box.report(job, answer="failed", reason="x"),
        box.ask("POST", f"/jobs/{code}/lease", job["lease"]),
        box.ask("GET", f"/jobs/{code}/archive", job["lease"]),
    ):
        assert (answer.status_code, answer.json()["kind"]) == (409, "lease_lost")
    assert box.claim().json()["job"] is None and site.row(code).attempts == 2
    assert other.report(taken, **scored(taken)).status_code == 200
    assert site.row(code).state == "scored" and kinds(site).count("submission scored") == 1


def test_the_lease_of_a_job_is_for_that_job(site: Site, box: Elsewhere) -> None:
    site.queued(1, 1)
    site.queued(1, 2)
    first, second = box.job(), box.job()
    crossed = {**first, "code": second["code"]}
    assert box.report(crossed, **scored(first)).status_code == 409
    assert box.ask("POST", f"/jobs/{second['code']}/lease", first["lease"]).status_code == 409
    assert box.ask("GET", f"/jobs/{second['code']}/archive", first["lease"]).status_code == 409
    assert {site.row(job["code"]).state for job in (first, second)} == {"queued"}


def test_a_report_whose_answer_was_lost_is_answered_again(site: Site, app: FastAPI, box: Elsewhere) -> None:
    site.queued(1, 1)
    job = box.job()
    report = scored(job)
    for _ in range(3):
        assert box.report(job, **report).status_code == 200
    assert kinds(site).count("submission scored") == 1
    # Another report, or the same one of another worker, is none that was kept.
    changed = {**report, "columns": {name: [0.9] * len(IDS) for name in COLUMNS}}
    assert box.report(job, **changed).status_code == 409
    assert Elsewhere(site, app, "other").report(job, **report).status_code == 409
    with site.database.read() as session:
        (kept,) = session.scalars(select(Evaluation))
        assert kept.worker == "box" and checking.chain.first_fault(list(session.scalars(select(Event)))) is None


def test_a_worker_holds_a_bounded_number_of_jobs(site: Site, box: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_workers, "MAX_HELD", 2)
    for number in range(3):
        site.queued(1, number)
    assert box.claim(1).json()["job"] and box.claim(2).json()["job"]
    assert (box.claim(3).status_code, box.claim(1).status_code) == (429, 200)
    assert sum(row.attempts for row in map(site.row, codes(site))) == 2


def codes(site: Site) -> list[str]:
    with site.database.read() as session:
        return list(session.scalars(select(Submission.code)))


def test_a_round_that_is_not_the_newest_gets_no_job(site: Site, box: Elsewhere) -> None:
    code = site.queued(1, 1)
    assert box.claim(round_id=2).json()["job"] is None and site.row(code).attempts == 0
    nonce = {"nonce": "1" * 32}
    for body in ({}, [], nonce, {"nonce": "x", "rounds": {"final": 1}}, {**nonce, "rounds": {}}):
        assert box.ask("POST", "/claims", json=body).status_code == 400, body


def test_archive_and_references_come_to_whoever_may_have_them(site: Site, box: Elsewhere) -> None:
    data = b"an archive"
    code = site.queued(1, 1)
    stored = site.place.store().put([data], 100)
    with site.database.write() as session:
        row = session.scalars(select(Submission).where(Submission.code == code)).one()
        row.archive_sha256, row.num_bytes = stored.sha256, stored.num_bytes
    assert box.ask("GET", f"/jobs/{code}/archive", "0" * 64).status_code == 409
    job = box.job()
    assert box.ask("GET", f"/jobs/{code}/archive", job["lease"]).content == data
    part = box.client.get(
        f"{API}/jobs/{code}/archive",
        headers={"Authorization": f"Bearer {box.token}", "Facesr-Lease": job["lease"], "Range": "bytes=3-"},
    )
    assert (part.status_code, part.content) == (206, data[3:])
    (wanted,) = box.ask("GET", "/phases").json()["phases"]
    for _ in range(2):
        packed = box.ask("GET", "/references/final").content
        assert hashlib.sha256(packed).hexdigest() == wanted["references_sha256"]
        assert len(packed) == wanted["references_bytes"]
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        assert sorted(file.namelist()) == sorted(f"{kind}/{key}.png" for kind in ("high", "low") for key in IDS)
    assert kinds(site).count(api_workers.HANDED_OUT) == 1
    assert (site.place.folder / "cache" / "references-final.zip").stat().st_mode & 0o077 == 0


# What of a report is believed


def test_scores_are_kept_as_those_of_a_worker_beside_the_board(site: Site, box: Elsewhere) -> None:
    site.queued(1, 1)
    job = box.job()
    assert job["examples"] == site.examples != []
    assert box.report(job, **scored(job)).status_code == 200
    row = site.row(job["code"])
    assert row.facts == {**FACTS, "mean_watts": 5.0, "is_isolated": True} and row.pixels_sha256 == "a" * 64
    with site.database.read() as session:
        (kept,) = session.scalars(select(Evaluation))
        this = queue.current_round(session, "final")
        assert this is not None
        values = queue.unpacked(this, kept.values)
        event = session.scalars(select(Event).order_by(Event.seq.desc())).first()
    assert values["psnr_rgb"].tolist() == scored(job)["columns"]["psnr_rgb"]
    assert event is not None and (event.actor, event.kind) == ("worker box", "submission scored")
    assert set(kept.examples) == set(site.examples)
    for sha256 in kept.examples.values():
        assert np.array_equal(read_png(site.place.store().path(sha256)), picture())


HUGE = "1" + "0" * 400
HOSTILE: dict[str, dict[str, Any]] = {
    "another face": {"ids": [*IDS[:-1], "another"]},
    "faces in another order": {"ids": IDS[::-1]},
    "a face less": {"ids": IDS[1:]},
    "a value less": {"columns": {name: [0.5] * (len(IDS) - 1) for name in COLUMNS}},
    "a metric less": {"columns": {name: [0.5] * len(IDS) for name in list(COLUMNS)[1:]}},
    "a metric more": {"columns": {name: [0.5] * len(IDS) for name in [*COLUMNS, "mine"]}},
    "not finite": {"columns": {name: [float("nan")] * len(IDS) for name in COLUMNS}},
    "infinite": {"columns": {name: [float("inf")] * len(IDS) for name in COLUMNS}},
    "too large to take means of": {"columns": {name: [1e308] * len(IDS) for name in COLUMNS}},
    "text for a number": {"columns": {name: ["0.5"] * len(IDS) for name in COLUMNS}},
    "true for a number": {"columns": {name: [True] * len(IDS) for name in COLUMNS}},
    "another round": {"round": 2},
    "a round that is none": {"round": -1},
    "facts of no manifest": {"facts": {**FACTS, "model": "<script>"}},
    "facts with more": {"facts": {**FACTS, "more": 1}},
    "facts of another team": {"facts": {**FACTS, "team": "Second"}},
    "a digest that is none": {"pixels_sha256": "a" * 64 + "\n"},
    "time that is none": {"seconds": -1},
    "more keys": {"more": 1},
    "another answer": {"answer": "published"},
    "a picture of another face": {"pictures": {"face000": "", "nobody": ""}},
    "a picture of a face that is not shown": {"pictures": {"OTHER": base64.b64encode(bytes(28 * 24 * 3)).decode()}},
    "a picture of another size": {"pictures": {"EXAMPLE": base64.b64encode(b"123").decode()}},
    "a picture in no base64": {"pictures": {"EXAMPLE": "<svg>"}},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_report_is_a_failed_attempt_and_nothing_of_it_is_kept(site: Site, box: Elsewhere, case: str) -> None:
    code = site.queued(1, 1)
    before = sorted(path.name for path in site.place.store().folder.rglob("*"))
    job = box.job()
    hidden = next(face for face in IDS if face not in job["examples"])
    text = json.dumps(HOSTILE[case]).replace("EXAMPLE", job["examples"][0]).replace("OTHER", hidden)
    other = json.loads(text)
    body = json.dumps(scored(job, **other))
    answer = box.ask("POST", f"/jobs/{code}/report", job["lease"], content=body.encode())
    assert (answer.status_code, answer.json()["kind"]) == (400, "bad_report"), answer.text
    row = site.row(code)
    assert (row.state, row.lease, row.attempts) == ("queued", None, 1) and "worker box: the report" in row.note
    assert row.facts == {} and "submission scored" not in kinds(site)
    assert sorted(path.name for path in site.place.store().folder.rglob("*")) == before
    # It is free at once, and another report for it comes too late.
    assert box.report(job, **scored(job)).status_code == 409
    assert box.job()["attempt"] == 2


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"answer": {}}', b"\xff\xfe"])
def test_what_is_no_report_is_a_failed_attempt(site: Site, box: Elsewhere, body: bytes) -> None:
    code = site.queued(1, 1)
    job = box.job()
    assert box.ask("POST", f"/jobs/{code}/report", job["lease"], content=body).status_code == 400
    assert (site.row(code).state, site.row(code).lease) == ("queued", None)


def test_a_number_with_four_hundred_digits_is_no_score(site: Site, box: Elsewhere) -> None:
    code = site.queued(1, 1)
    job = box.job()
    body = json.dumps(scored(job)).replace("0.51", HUGE).encode()
    assert box.ask("POST", f"/jobs/{code}/report", job["lease"], content=body).status_code == 400


def test_a_report_is_bounded_and_read_from_workers_alone(site: Site, app: FastAPI, box: Elsewhere) -> None:
    code = site.queued(1, 1)
    job = box.job()
    large = b" " * (REPORT_BYTES + 1)
    assert box.ask("POST", f"/jobs/{code}/report", job["lease"], content=large).status_code == 413
    assert site.row(code).lease == job["lease"]
    path = f"{API}/jobs/{code}/report"
    assert Client(app, scheme="https").request("POST", path, content=large[:-1]).status_code == 401


def test_scores_in_a_round_are_not_given_twice(site: Site, box: Elsewhere) -> None:
    code = site.queued(1, 1)
    job = box.job()
    assert box.report(job, **scored(job)).status_code == 200
    with site.database.write() as session:
        row = session.scalars(select(Submission).where(Submission.code == code)).one()
        row.wanted_round = 1
    again = box.job()
    better = {name: [0.99] * len(IDS) for name in COLUMNS}
    assert "already" in box.report(again, **scored(again, columns=better)).json()["error"]
    with site.database.read() as session:
        assert len(list(session.scalars(select(Evaluation)))) == 1


def test_refusals_and_failures_are_short_lines(site: Site, box: Elsewhere) -> None:
    refused, failed = site.queued(1, 1), site.queued(1, 2)
    job = box.job()
    assert box.report(job, answer="refused", sentence="x" * 501).status_code == 400
    job = box.job()
    assert box.report(job, answer="refused", sentence="no ZIP\x1b[2J\n.").status_code == 200
    assert box.report(job, answer="refused", sentence="no ZIP\x1b[2J\n.").status_code == 200
    assert (site.row(refused).state, site.row(refused).problem) == ("refused", "no ZIP\\x1b[2J\\n.")
    assert kinds(site).count("archive refused") == 1
    for number in range(queue.MAX_ATTEMPTS):
        job = box.job()
        assert (job["code"], job["attempt"]) == (failed, number + 1)
        assert box.report(job, answer="failed", reason="no GPU").status_code == 200
    assert site.row(failed).state == "failed" and "no GPU" in site.row(failed).note
    assert "no GPU" not in site.row(failed).problem and kinds(site)[-1] == "scoring failed"


def test_no_answer_to_a_worker_tells_which_faces_are_private(site: Site, box: Elsewhere) -> None:
    site.scored(1, 9, (0.123456789, 0.987654321))
    site.queued(1, 1)
    job = box.claim()
    told = box.ask("GET", "/phases").text + job.text + box.report(job.json()["job"], **scored(job.json()["job"])).text
    # The agreed examples are public ones, which everybody sees; scores of others are in none.
    assert {face for face in IDS if face in told} == set(site.examples) <= set(np.array(IDS)[site.public()])
    assert "0.98" not in told and "0.12" not in told


# Tokens


def test_a_token_has_a_name_of_its_own_and_stands_in_the_log(site: Site, box: Elsewhere) -> None:
    from facesr.errors import ConfigError

    with site.database.write() as session:
        for bad in ("box", "", "-a", "a b", "x" * 41, "a\n", "<b>"):
            with pytest.raises(ConfigError):
                worker_tokens.issue(site.database, session, bad)
        with pytest.raises(ConfigError, match="no worker"):
            worker_tokens.revoke(site.database, session, "nobody")
        worker_tokens.revoke(site.database, session, "box")
        assert worker_tokens.issue(site.database, session, "box") != box.token
        events = [event for event in session.scalars(select(Event)) if "box" in event.data]
        assert [event.kind for event in events] == ["token issued", "tokens revoked", "token issued"]
        assert all(box.token not in event.data for event in events) and chain.head(session).seq > 0


def test_references_that_were_changed_are_packed_anew(site: Site, app: FastAPI) -> None:
    references = app.state.board.references
    first = references.of(site.phase)
    assert references.of(site.phase) is first
    path = next((site.place.folder / "references" / "final" / "high").glob("*.png"))
    path.write_bytes(path.read_bytes() + b"\0")
    assert references.of(site.phase).sha256 != first.sha256
    assert Stored(first.sha256, 0).sha256 not in codes(site)
