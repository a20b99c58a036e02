"""competition.yaml: what a competition is, read strictly; `facesr board init` writes one with comments."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator
from sqlalchemy import URL

from facesr.errors import ConfigError
from facesr.web.database import sqlite_url
from facesr.web.secret import read_secret
from facesr.web.store import Store
from facesr.web.strict import Strict, read_settings

SETTINGS = "competition.yaml"
SQLITE = "board.sqlite"
STORE = "store"
KEY = "secret.key"

RankRule = Literal["best", "last", "chosen"]
Day = Annotated[int, Field(ge=1, le=10_000)]


class Limits(Strict):
    """How much a team may send to a phase; what failed by the organiser's fault counts for nothing.

    Attributes:
        scored_per_day: submissions that are scored, or wait for it, in a day of UTC.
        refused_per_day: submissions that the verifier refused, in a day of UTC.
        scored_in_all: submissions that are scored, in the whole phase.
        waiting: submissions that wait at once.
    """

    scored_per_day: Day = 5
    refused_per_day: Day = 20
    scored_in_all: Day = 100
    waiting: Day = 2


class Phase(Strict):
    """A phase of a competition.

    Attributes:
        name: in addresses and commands.
        title: for people.
        protocol: rules of the archives, a name of configs/protocol/.
        starts: first moment at which archives are taken; competition.yaml gives it in UTC.
        ends: first moment at which they are not.
        references: folder with high/ and low/, relative to the competition's.
        ranking_judge: recogniser that ranks, a name of configs/embedder/; not asked where the perceptual index ranks.
        held_out_judges: recognisers that are shown beside it.
        public_share: share of the faces whose scores are shown before the end; 1: all of them.
        rank_rule: which submission of a team counts: its best one by public score, its last one, or those it chose.
        num_chosen: how many it may choose.
        ladder_step: a new public score is shown only where it beats the team's last shown one by more than this.
        power_limit_watts: mean power of the restoration that manifests are compared with.
        num_examples: faces that are shown to everybody; they are public ones.
        limits: how much a team may send.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")]
    title: Annotated[str, Field(min_length=1, max_length=100)]
    protocol: Literal["asc19_final", "asc19_preliminary", "open"]
    starts: AwareDatetime
    ends: AwareDatetime
    references: Annotated[str, Field(min_length=1, max_length=200)]
    ranking_judge: str = "builtin"
    held_out_judges: list[str] = Field(default_factory=list)
    public_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    rank_rule: RankRule = "best"
    num_chosen: Annotated[int, Field(ge=1, le=10)] = 2
    ladder_step: Annotated[float, Field(gt=0, lt=1)] | None = None
    power_limit_watts: Annotated[float, Field(gt=0)] | None = None
    num_examples: Annotated[int, Field(ge=0, le=12)] = 3
    limits: Limits = Limits()

    @property
    def unit(self) -> str:
        """What scores are means over, for people: ``faces`` or ``pictures``."""
        return "pictures" if self.protocol == "asc19_preliminary" else "faces"

    @model_validator(mode="after")
    def _check(self) -> "Phase":
        if self.starts >= self.ends:
            raise ValueError("starts has to be before ends")
        if self.ranking_judge in self.held_out_judges:
            raise ValueError(f"ranking_judge {self.ranking_judge} cannot be a held-out judge, too")
        path = Path(self.references)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("references has to be a folder inside the competition's")
        return self


class Competition(Strict):
    """A competition: its settings.

    Attributes:
        title: for people.
        description: a few sentences for the front page.
        contact: whom teams may write to, as text.
        max_archive_mib: largest archive that is taken.
        team_storage_mib: archives of a team that are kept, of all phases together, with what it has announced.
        uploads_mib_per_second: how fast archives are received, all together, by each server process.
        keep_days: after which ``facesr board tidy`` deletes archives of withdrawn and refused submissions; None: never.
        database: address of a PostgreSQL database; None: board.sqlite in the competition's folder.
        phases: in the order of display.
    """

    title: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=4000)] = ""
    contact: Annotated[str, Field(max_length=200)] = ""
    max_archive_mib: Annotated[int, Field(ge=1, le=4096)] = 256
    team_storage_mib: Annotated[int, Field(ge=1, le=1 << 24)] = 16_384
    uploads_mib_per_second: Annotated[int, Field(ge=1, le=100_000)] = 20
    keep_days: Day | None = None
    database: str | None = None
    phases: Annotated[list[Phase], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def _check(self) -> "Competition":
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError("phases: two of them have the same name")
        if self.team_storage_mib < self.max_archive_mib:
            raise ValueError("team_storage_mib has to be at least max_archive_mib")
        return self

    def phase(self, name: str) -> Phase:
        """Returns a phase.

        Raises:
            ConfigError: there is none of that name.
        """
        for phase in self.phases:
            if phase.name == name:
                return phase
        known = ", ".join(phase.name for phase in self.phases)
        raise ConfigError(f"there is no phase {name!r}; choose one of {known}.")


class Place:
    """The folder of a competition: where everything of it lies.

    Attributes:
        folder: of the competition.
        competition: its settings.
    """

    def __init__(self, folder: Path, database: str | None = None) -> None:
        """Opens a competition's folder.

        Args:
            folder: made by ``facesr board init``.
            database: another address than the one in competition.yaml.

        Raises:
            FaceSRError: it is no such folder, or its settings are wrong.
        """
        self.folder = folder
        self.competition = read_competition(folder)
        self._database = database

    @property
    def url(self) -> str | URL:
        """Address of the database."""
        return self._database or self.competition.database or sqlite_url(self.folder / SQLITE)

    @property
    def key(self) -> bytes:
        """The competition's secret: it says which faces are public.

        Raises:
            DataError: it is missing or damaged.
        """
        return read_secret(self.folder / KEY)

    def store(self) -> Store:
        """Returns the store of archives and pictures."""
        return Store(self.folder / STORE)

    def high(self, phase: Phase) -> Path:
        """Returns the folder of a phase's originals."""
        return self.folder / phase.references / "high"

    def low(self, phase: Phase) -> Path:
        """Returns the folder of a phase's low-resolution pictures."""
        return self.folder / phase.references / "low"


def read_competition(folder: Path) -> Competition:
    """Returns the settings in a competition's folder.

    Raises:
        DataError: there is no competition.yaml, or it cannot be read.
        ConfigError: a key is unknown, missing or wrong; the sentence names it.
    """
    missing = f"{folder} holds no {SETTINGS}; make a competition by facesr board init {folder}."
    return read_settings(folder / SETTINGS, Competition, missing)
