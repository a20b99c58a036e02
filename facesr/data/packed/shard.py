"""Shards: what one task of many makes of its share of the sources, and how all of them become one prepared dataset.

The folder of a shard holds what an unfinished dataset holds, pictures in ``images.npy.partial`` and a line a piece in
``journal.jsonl``, and ``shard.json``, written last: which share it is, and of what. It is no prepared dataset. Copies
of equal bytes are dropped when shards are merged, because only then the first of them is known.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facesr.data.packed.dataset_format import ABOUT, FORMAT, HEADER_BYTES, SHARD, Row, SetPlan
from facesr.data.packed.writer import JOURNAL, PARTIAL, DatasetWriter, whole_lines
from facesr.errors import DataError
from facesr.files import whole_file

MOST_SHARDS = 100_000
_SIZE = ("width", "height", "margin")


@dataclass(frozen=True)
class Shard:
    """One of the parts that sources are shared out into.

    Attributes:
        number: of this part, from 1.
        count: number of parts.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def share(self, num_sources: int, piece: int) -> slice:
        """Returns which sources belong to this part: whole pieces in order, as many in each part to within one.

        Whole pieces, so that a worker is given the same pictures at once however many parts there are.
        """
        num_pieces = -(-num_sources // piece)
        first, last = ((number * num_pieces // self.count) * piece for number in (self.number - 1, self.number))
        return slice(first, last)


def shard_of(text: str) -> Shard:
    """Returns the part that a text K/N names.

    Raises:
        DataError: it is not K/N with K from 1 to N.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count <= MOST_SHARDS:
        raise DataError(f"{text[:40]!a} is no shard; give K/N with K from 1 to N, for example 3/8.")
    return Shard(number, count)


class ShardWriter(DatasetWriter):
    """The folder of a shard under construction; use it as a context manager."""

    def __init__(self, folder: Path, plan: SetPlan, shard: Shard, piece: int, *, overwrite: bool = False) -> None:
        """Opens the folder for the part `shard` of a set's plan; see `DatasetWriter`.

        Args:
            folder: of the shard.
            plan: of the whole set.
            shard: which part.
            piece: sources that a worker takes at once.
            overwrite: replace what another run has left there.
        """
        share = shard.share(len(plan.sources), piece)
        settings = {**plan.settings, "shard": str(shard)}
        mine = replace(plan, sources=plan.sources[share], identities=plan.identities[share], settings=settings)
        super().__init__(folder, mine, overwrite=overwrite)

    def finish(self) -> None:
        """Brings everything to the disk and writes shard.json; the shard is then complete. It may hold no picture."""
        try:
            self._end_writing()
            facts = {
                "format": FORMAT,
                "count": self.num_kept,
                "rejected": self.num_rejected,
                "card": self.plan.identity_card(),
                "sources": list(self.plan.sources),
                "identities": list(self.plan.identities),
            }
            with whole_file(self.folder / SHARD, durably=True) as temporary:
                temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="ascii")
        except OSError as error:
            raise self._cannot_write(error) from error
        self.close()
        self.is_complete = True

    def _find_complete(self) -> bool:
        if super()._find_complete():
            return True
        if not (self.folder / SHARD).exists():
            return False
        facts = _read(self.folder)
        self._compare(facts["card"])
        self.num_kept, self.num_rejected = facts["count"], facts["rejected"]
        self.num_done = len(self.plan.sources)
        return True


@dataclass(frozen=True)
class FinishedShard:
    """A shard that is complete.

    Attributes:
        path: its folder.
        shard: which part it is.
        plan: of its sources; the settings are those of the whole set.
        num_kept: its pictures.
    """

    path: Path
    shard: Shard
    plan: SetPlan
    num_kept: int

    @classmethod
    def open(cls, path: Path) -> "FinishedShard":
        """Returns the shard of a folder.

        Raises:
            DataError: the folder holds none, an unfinished one or a damaged one.
        """
        if not (path / SHARD).is_file():
            raise DataError(_why_no_shard(path))
        facts = _read(path)
        settings = {key: value for key, value in facts["card"].items() if key not in (*_SIZE, "version", "shard")}
        width, height, margin = (int(facts["card"][key]) for key in _SIZE)
        version = int(facts["card"]["version"])
        plan = SetPlan(width, height, margin, facts["sources"], facts["identities"], settings, version)
        found = cls(path, shard_of(str(facts["card"]["shard"])), plan, int(facts["count"]))
        rows = list(found.rows())
        need = HEADER_BYTES + found.num_kept * int(np.prod(plan.picture_shape))
        have = (path / PARTIAL).stat().st_size if (path / PARTIAL).is_file() else 0
        if len(rows) != len(plan.sources) or sum(row.num_pictures for row in rows) != found.num_kept or have != need:
            raise DataError(_damaged(path))
        return found

    def pieces(self) -> Iterator[tuple[NDArray[np.uint8], list[Row]]]:
        """Yields the pictures of each piece, uint8 (n, H, W, 3), and a row for each of its sources."""
        shape = self.plan.picture_shape
        with (self.path / PARTIAL).open("rb") as images:
            images.seek(HEADER_BYTES)
            for rows in self._lines():
                count = sum(row.num_pictures for row in rows)
                pictures = np.empty((count, *shape), np.uint8)
                if images.readinto(pictures.data) != pictures.size:
                    raise DataError(_damaged(self.path))
                yield pictures, rows

    def rows(self) -> Iterator[Row]:
        """Yields what became of each source."""
        return chain.from_iterable(self._lines())

    def _lines(self) -> Iterator[list[Row]]:
        try:
            for line in islice(whole_lines(self.path / JOURNAL), 1, None):
                yield [_row(*values) for values in json.loads(line)]
        except (ValueError, TypeError) as error:
            raise DataError(_damaged(self.path)) from error


def _row(sha256: str, reason: str, landmarks: str, parts: Sequence[str] = ()) -> Row:
    if not all(isinstance(text, str) for text in (sha256, reason, landmarks, *parts)):
        raise ValueError("a row is made of texts")
    return Row(sha256, reason, landmarks, parts)


def _why_no_shard(path: Path) -> str:
    if (path / ABOUT).exists():
        return f"{path} is a whole prepared dataset, no shard of one; give the folders that --shard K/N made."
    if (path / JOURNAL).exists():
        return f"{path} is unfinished; run the command that makes it once more, it goes on where it stopped."
    state = "is no shard" if path.is_dir() else "does not exist"
    return f"{path} {state}; make one with: facesr prepare SOURCE {path} --shard K/N"


def _damaged(path: Path) -> str:
    return f"{path} is a damaged shard; make it again with --overwrite."


def _read(path: Path) -> dict[str, Any]:
    """Returns what shard.json says."""
    try:
        facts: dict[str, Any] = json.loads((path / SHARD).read_text(encoding="ascii"))
        texts = [*facts["sources"], *facts["identities"]]
        whole = [facts["count"], facts["rejected"], *(facts["card"][key] for key in (*_SIZE, "version"))]
        sound = all(isinstance(text, str) for text in texts) and all(type(value) is int for value in whole)
        shard_of(facts["card"]["shard"])
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise DataError(_damaged(path)) from error
    if not sound or facts.get("format") != FORMAT or len(facts["sources"]) != len(facts["identities"]):
        raise DataError(_damaged(path))
    return facts


def in_order(shards: Sequence[FinishedShard]) -> list[FinishedShard]:
    """Returns the shards of one set from the first to the last.

    Raises:
        DataError: they are of several sets, one is missing, or one is there twice.
    """
    first, by_number = shards[0], dict[int, FinishedShard]()
    for one in shards:
        here, there = (each.plan.identity_card() | {"shards": each.shard.count} for each in (one, first))
        differing = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
        if differing:
            told = ", ".join(f"{key} ({here.get(key)}, not {there.get(key)})" for key in differing)
            raise DataError(f"{one.path} is a shard of another set than {first.path}: {told}.")
        earlier = by_number.setdefault(one.shard.number, one)
        if earlier is not one:
            raise DataError(f"{earlier.path} and {one.path} are both shard {one.shard}; give each shard once.")
    missing = [str(number) for number in range(1, first.shard.count + 1) if number not in by_number]
    if missing:
        told = ", ".join(missing[:10]) + (" and others" if missing[10:] else "")
        raise DataError(
            f"{len(missing)} of the {first.shard.count} shards {'is' if len(missing) == 1 else 'are'} missing, "
            f"number {told}; give the folders of all."
        )
    return [by_number[number] for number in sorted(by_number)]


def joined_plan(shards: Sequence[FinishedShard]) -> SetPlan:
    """Returns the plan of the set that shards in order make."""
    sources = [source for one in shards for source in one.plan.sources]
    identities = [name for one in shards for name in one.plan.identities]
    return replace(shards[0].plan, sources=sources, identities=identities)
