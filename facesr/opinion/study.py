"""The folder of a study: study.yaml with its settings, read strictly, plan.json, the pictures, secret and database."""

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from sqlalchemy import URL

from facesr.config import OpinionRules, OpinionSettings
from facesr.errors import ConfigError, DataError
from facesr.names import shown_path
from facesr.opinion.plan import read_plan
from facesr.opinion.ratings import Rules
from facesr.png import read_png
from facesr.web.database import sqlite_url
from facesr.web.secret import read_secret
from facesr.web.strict import Strict, read_settings

SETTINGS = "study.yaml"
PLAN = "plan.json"
SQLITE = "study.sqlite"
KEY = "secret.key"
LANGUAGES = "languages"
# Below it a folder for each method, `original` and the anchors among them; the first holds what is rated.
PICTURES, TRAINING, PERSONS = "pictures", "training", "persons"
PERSON = "person"

Text = Annotated[str, Field(max_length=20_000)]


class Design(Strict):
    """What the plan was made with; as `OpinionSettings`."""

    seed: int
    kinds: list[Literal["acr", "pair", "same"]]
    raters: int
    reserve: int
    training: int
    repeats: int
    traps: int
    with_reference: bool
    enlarge: int


class ExclusionRules(Strict):
    """Who is left out; as `facesr.opinion.ratings.Rules`."""

    max_failed_traps: int
    min_seconds: float
    max_share_too_fast: float
    max_repeat_difference: float
    min_answers_sd: float
    min_completed_share: float


class Settings(Strict):
    """study.yaml.

    Attributes:
        title: for raters.
        about: a few sentences for the first page, by language.
        consent: what a rater agrees to, by language; a language without one shows the text of its language file.
        contact: whom raters may write to.
        break_every: after so many questions the page offers a break.
        abandoned_after_hours: a session that nobody has gone on with for so long may be given to somebody else.
        database: address of a PostgreSQL database; None: study.sqlite in the study's folder.
        design: fixed, part of the plan.
        rules: fixed, part of the plan.
    """

    title: Annotated[str, Field(min_length=1, max_length=100)]
    about: dict[str, Text] = Field(default_factory=dict)
    consent: dict[str, Text] = Field(default_factory=dict)
    contact: Annotated[str, Field(max_length=200)] = ""
    break_every: Annotated[int, Field(ge=5, le=1000)] = 40
    abandoned_after_hours: Annotated[float, Field(gt=0, le=10_000)] = 48.0
    database: str | None = None
    design: Design
    rules: ExclusionRules

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if not self.title.isprintable() or not self.contact.isprintable():
            raise ValueError("title and contact have to be one line of printable characters")
        return self


class Study:
    """The folder of a study.

    Attributes:
        folder: made by ``facesr opinion init``.
        settings: of study.yaml.
        plan: of plan.json.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a study.

        Raises:
            FaceSRError: it is no such folder, its settings are wrong, or what the plan was made with was changed.
        """
        self.folder = folder
        name = shown_path(folder)
        missing = f"{name} holds no {SETTINGS}; make a study by facesr opinion init {name} folders=[A,B] high=DIR."
        self.settings = read_settings(folder / SETTINGS, Settings, missing)
        try:
            data = (folder / PLAN).read_bytes()
        except OSError as error:
            raise DataError(f"{name}/{PLAN} cannot be read ({error.strerror}); bring it back.") from error
        self.plan = read_plan(data, f"{name}/{PLAN}")
        changed = [key for key, value in self.settings.design if self.plan.design.get(key) != value]
        changed += [key for key, value in self.settings.rules if getattr(self.plan.rules, key) != value]
        if changed:
            raise ConfigError(
                f"{name}/{SETTINGS}: {changed[0]} is not what the plan was made with, and a plan is fixed before the "
                "first rater; change it back, or make a new study."
            )

    @property
    def url(self) -> str | URL:
        """Address of the database."""
        return self.settings.database or sqlite_url(self.folder / SQLITE)

    @property
    def key(self) -> bytes:
        """The study's secret.

        Raises:
            DataError: it is missing or damaged.
        """
        return read_secret(self.folder / KEY)

    @property
    def rules(self) -> Rules:
        """Who is left out."""
        return self.plan.rules

    def picture(self, key: str) -> Path:
        """Returns the file of a picture that the plan names."""
        return self.folder / picture_place(key, self.plan.faces)

    def check_pictures(self) -> None:
        """Checks that all pictures are there, and are those of the plan.

        Raises:
            FaceSRError: one is missing, cannot be read, or has other pixels.
        """
        for key, shown in self.plan.pictures.items():
            path = self.picture(key)
            if pixels_sha256(read_png(path)) != shown.sha256:
                raise DataError(f"{shown_path(path)} has other pixels than plan.json says; bring it back.")


def picture_place(key: str, faces: tuple[str, ...]) -> Path:
    """Returns where a picture lies inside a study's folder.

    Args:
        key: as in `Trial.shows`.
        faces: those that are rated.
    """
    method, _, face = key.partition("/")
    if method == PERSON:
        return Path(PERSONS, f"{face}.png")
    return Path(PICTURES if face in faces else TRAINING, method, f"{face}.png")


def pixels_sha256(picture: NDArray[np.uint8]) -> str:
    """Returns the digest of a picture's pixels."""
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()


def design_of(settings: OpinionSettings) -> Design:
    """Returns the part of init's settings that is fixed."""
    return Design.model_validate({name: getattr(settings, name) for name in Design.model_fields})


def rules_of(rules: OpinionRules) -> Rules:
    """Returns the rules of init's settings."""
    return Rules(**{name: getattr(rules, name) for name in ExclusionRules.model_fields})


def make_private(folder: Path) -> None:
    """Lets nobody but the owner and the group into a folder, where the system knows of that."""
    if os.name != "nt":
        folder.chmod(0o750)
