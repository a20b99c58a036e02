"""The tables of an opinion study. `facesr/opinion/migrations/` makes them; a test holds both together.

Nothing here says who a rater is: no name, no address, no link; of a link its digest is kept.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from facesr.web.database import UtcDateTime, named_metadata


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = named_metadata()
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime()}


class Fact(Base):
    """Something about the study: ``plan`` is the digest of its plan, ``code`` that of the code with which one joins."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class RaterRow(Base):
    """A rater, or somebody who was invited.

    Attributes:
        sha256: of the token in the personal link.
        slot: number of the session in the plan; None before consent and after withdrawal.
        joined: when consent was given.
        seen: when the session was last gone on with.
        finished: when the last question was answered.
        withdrawn: when all answers were deleted.
        language: of the pages.
    """

    __tablename__ = "raters"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime]
    slot: Mapped[int | None] = mapped_column(index=True)
    joined: Mapped[datetime | None]
    seen: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    withdrawn: Mapped[datetime | None]
    language: Mapped[str] = mapped_column(String(35), default="")

    @property
    def name(self) -> str:
        """What results call the rater."""
        return f"r{self.id:04d}"


class Answer(Base):
    """An answer, and how the picture was shown; what was asked stands in the plan.

    Attributes:
        place: in the session, from 0, without a gap.
        answer: as `facesr.opinion.ratings.Rating` has it.
        seconds: from the picture being shown to the answer.
        pixel_ratio: device pixels per CSS pixel; 0 where the browser runs no script.
        width: of the window, CSS pixels.
        height: of the window, CSS pixels.
        scale: device pixels per pixel of the picture.
        touch: whether the device has a touch screen.
    """

    __tablename__ = "answers"
    __table_args__ = (UniqueConstraint("rater_id", "place"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("raters.id"), index=True)
    place: Mapped[int]
    answer: Mapped[int]
    seconds: Mapped[float]
    at: Mapped[datetime]
    pixel_ratio: Mapped[float]
    width: Mapped[int]
    height: Mapped[int]
    scale: Mapped[int]
    touch: Mapped[bool]
