"""Writes a prepared dataset piece by piece, so that a run killed at any moment goes on where it was.

While a set is being written its folder holds ``images.npy.partial`` (pictures, appended) and ``journal.jsonl``:
a first line with the settings, then one line a finished piece, appended only after its pictures are on disk.
On going on, whatever lies behind the last whole line is cut off. ``set.json`` is written last: with it the set
is complete, without it there is none.
"""

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from facesr.data.packed.dataset_format import (
    ABOUT,
    HEADER_BYTES,
    IMAGES,
    INDEX,
    REJECTED,
    SHARD,
    Row,
    SetPlan,
    about,
    npy_header,
    table,
    write_tables,
)
from facesr.errors import DataError
from facesr.files import leftovers_in, lock_folder, whole_file

SYNC_SECONDS = 1.0  # at most so much work is lost with a killed process
JOURNAL, PARTIAL = "journal.jsonl", "images.npy.partial"
FINAL_NAMES = (IMAGES, INDEX, REJECTED, ABOUT, SHARD)


class DatasetWriter:
    """The folder of a prepared dataset under construction; use it as a context manager."""

    def __init__(self, folder: Path, plan: SetPlan, *, overwrite: bool = False) -> None:
        """Opens the folder, goes on with what an earlier run left, or finds the set complete.

        Raises:
            DataError: the folder cannot be written, holds a set made under other settings, or is in use.
        """
        self.folder, self.plan = folder, plan
        self.num_done = 0
        self.num_kept = 0
        self.num_rejected = 0
        self.digests: dict[str, str] = {}
        self._images: BinaryIO | None = None
        self._journal: TextIO | None = None
        self._lock: int | None = None
        self._pending: list[str] = []
        self._last_sync = time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            if overwrite:
                self._clear()
            self.is_complete = self._find_complete()
            if not self.is_complete:
                self._go_on()
        except OSError as error:
            self.close()
            raise self._cannot_write(error) from error
        except BaseException:
            self.close()
            raise

    def append(self, pictures: NDArray[np.uint8], rows: Sequence[Row]) -> None:
        """Adds one piece: a row for each of the next sources, and the pictures of those without a reason.

        Raises:
            DataError: the disk is full or fails; what was added before stays.
        """
        if self._images is None or self._journal is None:
            raise ValueError("the set is complete or closed")
        if pictures.shape != (sum(row.num_pictures for row in rows), *self.plan.picture_shape):
            raise ValueError(f"pictures of shape {pictures.shape} do not fit the rows")
        try:
            self._images.write(np.ascontiguousarray(pictures).data)
            self._pending.append(json.dumps([row.journal_values() for row in rows]) + "\n")
            self._count(rows)
            if time.monotonic() - self._last_sync > SYNC_SECONDS:
                self._sync()
        except OSError as error:
            raise self._cannot_write(error) from error

    def without_duplicates(
        self, pictures: NDArray[np.uint8], rows: Sequence[Row]
    ) -> tuple[NDArray[np.uint8], list[Row]]:
        """Returns what to append of a piece: a source that equals an earlier kept one has become a reason."""
        seen: dict[str, str] = {}
        kept: list[int] = []
        cleaned: list[Row] = []
        position = 0
        for offset, row in enumerate(rows):
            first = self.digests.get(row.sha256) or seen.get(row.sha256)
            if row.reason or first is None:
                kept += range(position, position + row.num_pictures)
                cleaned.append(row)
            else:
                cleaned.append(Row(row.sha256, f"duplicate: same file as {first}"))
            if not row.reason:
                seen.setdefault(row.sha256, self.plan.sources[self.num_done + offset])
            position += row.num_pictures
        return (pictures if len(kept) == len(pictures) else pictures[kept]), cleaned

    def _sync(self) -> None:
        if self._images is None or self._journal is None:
            return
        self._images.flush()
        os.fsync(self._images.fileno())  # before the journal, which vouches for the pictures
        self._journal.write("".join(self._pending))
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._pending.clear()
        self._last_sync = time.monotonic()

    def finish(self) -> None:
        """Writes the header, index.csv, rejected.csv and, last, set.json; the set is then complete.

        Raises:
            DataError: no picture was usable, or the disk is full or fails.
        """
        try:
            self._end_writing()
            self._write_tables()
            if not self.num_kept:
                self._forget()
                raise DataError(f"none of the {self.num_done} pictures is usable; {self.folder / REJECTED} says why.")
            (self.folder / PARTIAL).replace(self.folder / IMAGES)
            self._write_about()
        except OSError as error:
            raise self._cannot_write(error) from error
        self.close()
        (self.folder / JOURNAL).unlink(missing_ok=True)
        self.is_complete = True

    def _forget(self) -> None:
        """Ends a set without a picture: nothing is left to go on with, and rejected.csv stays."""
        self.close()
        # The journal first: without it the partial file counts for nothing.
        for name in (JOURNAL, PARTIAL, INDEX):
            (self.folder / name).unlink(missing_ok=True)

    def _end_writing(self) -> None:
        if self._images is None or self.num_done != len(self.plan.sources):
            raise ValueError("not every source has been added")
        self._sync()
        self._images.seek(0)
        self._images.write(npy_header((self.num_kept, *self.plan.picture_shape)))
        self._images.flush()
        os.fsync(self._images.fileno())
        self._images.close()  # Windows renames no open file
        self._images = None

    def close(self) -> None:
        """Closes the files; an incomplete set can be gone on with."""
        with contextlib.suppress(OSError):
            self._sync()  # after Ctrl-C the work of the last moment counts as well
        for file in (self._images, self._journal):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk was reported when it was met
                    file.close()
        if self._lock is not None:
            os.close(self._lock)
        self._images = self._journal = self._lock = None

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_lock(self) -> None:
        # Where there are no locks (Windows, some network drives), two runs at once are not noticed.
        try:
            self._lock = lock_folder(self.folder)
        except BlockingIOError as error:
            raise DataError(f"{self.folder} is being written by another run; wait for it to end.") from error

    def _clear(self) -> None:
        """Removes an earlier set, but not what a killed run of the same plan has left to go on with."""
        lines = whole_lines(self.folder / JOURNAL)
        finished = any((self.folder / name).exists() for name in (ABOUT, SHARD))
        if not finished and _same(next(lines, b""), self.plan.identity_card()):
            return
        for name in (*reversed(FINAL_NAMES), JOURNAL, PARTIAL):
            (self.folder / name).unlink(missing_ok=True)

    def _find_complete(self) -> bool:
        path = self.folder / ABOUT
        if not path.exists():
            return False
        try:
            facts = json.loads(path.read_text(encoding="utf-8-sig"))
            card = {key: facts[key] for key in ("width", "height", "margin")}
            card |= {**facts["settings"], "version": facts["version"]}
            self.num_kept, self.num_rejected = int(facts["count"]), int(facts.get("rejected", 0))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged; give --overwrite to prepare the set anew.") from error
        self._compare(card)
        self.num_done = len(self.plan.sources)
        (self.folder / JOURNAL).unlink(missing_ok=True)  # killed in the last moment
        return True

    def _go_on(self) -> None:
        for path in leftovers_in(self.folder):
            path.unlink(missing_ok=True)
        journal, partial = self.folder / JOURNAL, self.folder / PARTIAL
        final = self.folder / IMAGES
        lines = list(whole_lines(journal))
        if lines:
            self._compare(_parse(lines[0], journal))
            if final.exists() and not partial.exists():  # killed while it was finishing
                final.replace(partial)
        elif final.exists():
            raise DataError(f"{final} is there without its set.json; give --overwrite to replace it.")
        kept_bytes = len(lines[0]) if lines else 0
        picture_bytes = int(np.prod(self.plan.picture_shape))
        have_bytes = partial.stat().st_size if partial.exists() else 0
        for line in lines[1:]:
            rows = [Row(*values) for values in _parse(line, journal)]
            num_kept = self.num_kept + sum(row.num_pictures for row in rows)
            if HEADER_BYTES + num_kept * picture_bytes > have_bytes:
                break  # the machine lost power and the pictures with it: do this piece again
            self._count(rows)
            kept_bytes += len(line)
        if lines and self.num_done == len(self.plan.sources) and not self.num_kept:
            # There is nothing to finish; the files may have been mended since.
            kept_bytes, self.num_done, self.num_rejected = len(lines[0]), 0, 0
        self._images = partial.open("r+b" if partial.exists() else "w+b")
        self._images.truncate(HEADER_BYTES + self.num_kept * picture_bytes)
        self._images.seek(0, os.SEEK_END)
        if journal.exists():
            os.truncate(journal, kept_bytes)
        self._journal = journal.open("a", encoding="ascii")
        if not lines:
            self._journal.write(json.dumps(self.plan.identity_card()) + "\n")
            self._journal.flush()

    def _compare(self, earlier: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(self.plan.identity_card()))
        differing = sorted(key for key in now.keys() | earlier.keys() if now.get(key) != earlier.get(key))
        if differing:
            told = ", ".join(f"{key} ({_told(earlier.get(key))} there, {_told(now.get(key))} now)" for key in differing)
            raise DataError(
                f"{self.folder} holds a set made with other settings: {told}; "
                "give another folder, or --overwrite to replace it."
            )

    def _count(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.reason:
                self.num_rejected += 1
            else:
                self.digests.setdefault(row.sha256, self.plan.sources[self.num_done])
                self.num_kept += row.num_pictures
            self.num_done += 1

    def _write_tables(self) -> None:
        with (
            whole_file(self.folder / INDEX, durably=True) as kept_path,
            whole_file(self.folder / REJECTED, durably=True) as rejected_path,
            table(kept_path) as kept,
            table(rejected_path) as rejected,
        ):
            write_tables(self.plan, self._rows(), kept, rejected)

    def _rows(self) -> Iterator[Row]:
        journal = self.folder / JOURNAL
        for line in itertools.islice(whole_lines(journal), 1, None):
            yield from (Row(*values) for values in _parse(line, journal))

    def _write_about(self) -> None:
        with whole_file(self.folder / ABOUT, durably=True) as temporary:
            temporary.write_text(about(self.plan, self.num_kept, self.num_rejected), encoding="utf-8")

    def _cannot_write(self, error: OSError) -> DataError:
        try:
            free = f" ({shutil.disk_usage(self.folder).free / 1e9:.1f} GB free)"
        except OSError:
            free = ""
        return DataError(
            f"{self.folder} cannot be written: {error.strerror}{free}; mend that and run the same command again, "
            "it goes on where it stopped."
        )


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a journal that were written to their end."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _parse(line: bytes, path: Path) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"{path} is damaged; give --overwrite to prepare the set anew.") from error


def _same(line: bytes, card: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(line) == json.loads(json.dumps(card)))
    except ValueError:
        return False


def _told(value: Any) -> str:
    return "not set" if value is None else str(value)[:60]
