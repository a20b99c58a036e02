"""Small studies to test on: pictures of noise, a study's folder made by `make_study`, and raters who talk to it."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

from facesr.build import load_settings
from facesr.config import OpinionSettings
from facesr.opinion import raters
from facesr.opinion.app import create_app
from facesr.opinion.making import make_study
from facesr.opinion.opening import open_database
from facesr.opinion.sessions import Trial
from facesr.opinion.study import Study
from facesr.png import write_png
from facesr.web.database import Database
from facesr.web.tokens import digest
from tests.leaderboard.site import Client

METHODS = ("ours", "theirs")


def noise(path: Path, seed: int, height: int = 16, width: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def folders(root: Path, count: int = 12, methods: tuple[str, ...] = METHODS) -> list[str]:
    """Writes pictures of faces f00, f01, ... and returns the keys that name their folders."""
    for place, name in enumerate(("high", *methods)):
        for number in range(count):
            noise(root / name / f"f{number:02d}.png", 1000 * place + number)
    return [f"folders=[{','.join(str(root / name) for name in methods)}]", f"high={root / 'high'}"]


def settings_of(folder: Path, *keys: str) -> OpinionSettings:
    return load_settings("opinion", OpinionSettings, [f"dir={folder}", *keys])


def a_study(root: Path, *keys: str, count: int = 12) -> Study:
    """Returns a new study in root/study."""
    wanted = [*folders(root, count), "faces=8", "raters=4", "reserve=1", "repeats=1", "traps=1", "training=2", *keys]
    return make_study(settings_of(root / "study", *wanted))


class Hall:
    """A study that is served without a socket."""

    def __init__(self, study: Study, **more: Any) -> None:
        self.study = study
        self.database: Database = open_database(study)
        self.app: FastAPI = create_app(study, self.database, **more)
        logging.getLogger("facesr.web.requests").setLevel(logging.WARNING)
        self._number = 0

    def link(self) -> str:
        """Returns the path of a new personal link."""
        with self.database.write() as session:
            return f"/r/{raters.invite(self.database, session)}"

    def visitor(self) -> Client:
        """Returns a browser at an address of its own."""
        self._number += 1
        return Client(self.app, f"192.0.2.{self._number}")

    def joined(self, link: str = "") -> Client:
        """Returns a browser whose rater has consented."""
        client = self.visitor()
        assert client.get(link or self.link()).status_code == 303
        assert client.form("/", "/consent", language="en").status_code == 303
        return client

    def slot(self, link: str) -> int | None:
        with self.database.read() as session:
            found = raters.rater_of(session, digest(link.removeprefix("/r/")))
            assert found is not None
            return found.slot

    def trials(self, link: str) -> tuple[Trial, ...]:
        slot = self.slot(link)
        assert slot is not None
        return self.study.plan.sessions[slot]

    def num_answers(self) -> int:
        with self.database.read() as session:
            return raters.progress(self.database, session, self.study).answers


def fields_of(page: str) -> dict[str, str]:
    """Returns the hidden fields of a question that have values."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))


def answer(client: Client, value: int, **more: str) -> httpx.Response:
    """Loads the next question, answers it, and returns what comes back."""
    page = client.get("/question")
    assert page.status_code == 200, page.headers
    return client.request("POST", "/question", data={**fields_of(page.text), "answer": str(value), **more})


def whole_session(client: Client, choose: Callable[[str], int], **more: str) -> int:
    """Answers everything, and returns how many questions there were."""
    count = 0
    while True:
        page = client.get("/question")
        if page.status_code == 303:
            return count
        data = {**fields_of(page.text), "answer": str(choose(page.text)), **more}
        assert client.request("POST", "/question", data=data).status_code == 303
        count += 1
