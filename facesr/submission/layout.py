"""Where the files of a submission lie inside its archive: all at the top, or in the folders that a notice asks for.

    flat                 folders (protocol.pictures_dir: HR_images)
    <id>.png ...         HR_images/<id>.png ...
    manifest.json        model/...            what restored
                         script/...           the team's programs
                         manifest.json

Names are judged here for both sides: what `submit.py` attaches obeys the very rules that the verifier has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facesr.config import EvaluationProtocol
from facesr.errors import ConfigError, SubmissionError
from facesr.names import duplicates, is_unsafe, shown
from facesr.submission.attachment_rules import MODEL_DIR, SCRIPT_DIR, check_attachment_names
from facesr.submission.names import MANIFEST_NAME, is_archive, is_junk, with_folders


@dataclass(frozen=True)
class Contents:
    """The members of an archive by what they are.

    Attributes:
        pictures: name of a picture, <id>.png -> name of its member, sorted.
        attachments: members in model/ and script/, sorted.
        folders: entries that stand for a folder itself; tools write them, and they have to be empty.
    """

    pictures: Mapping[str, str]
    attachments: tuple[str, ...]
    folders: frozenset[str]


@dataclass(frozen=True)
class Layout:
    """The places that a protocol gives to the files of an archive.

    Attributes:
        protocol: name of the protocol.
        pictures_dir: folder of the pictures, "" for the top of the archive.
    """

    protocol: str
    pictures_dir: str

    @classmethod
    def of(cls, protocol: EvaluationProtocol) -> "Layout":
        """Returns the layout of a protocol's archives.

        Raises:
            ConfigError: `pictures_dir` is no name for a folder beside model/ and script/.
        """
        name = protocol.pictures_dir
        if name and (is_unsafe(name) or "/" in name or name.lower() in (MODEL_DIR, SCRIPT_DIR, MANIFEST_NAME)):
            raise ConfigError(
                f"protocol.pictures_dir={name} cannot hold the pictures of an archive; give one folder name beside "
                f"{MODEL_DIR} and {SCRIPT_DIR}, such as HR_images."
            )
        return cls(protocol.name, name)

    @property
    def has_folders(self) -> bool:
        """Whether pictures, model and programs have folders of their own."""
        return bool(self.pictures_dir)

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders at the top, sorted."""
        return tuple(sorted((self.pictures_dir, MODEL_DIR, SCRIPT_DIR))) if self.has_folders else ()

    def member(self, picture: str) -> str:
        """Returns the member's name of a picture <id>.png."""
        return f"{self.pictures_dir}/{picture}" if self.has_folders else picture

    def contents(self, names: Sequence[str], label: str) -> Contents:
        """Returns the members sorted by what they are, after everything that needs no list of ids.

        Raises:
            SubmissionError: unsafe, foreign, nested, misplaced or repeated names, or no manifest.
        """
        self._check_safe(names, label)
        self._check_top_folder(names, label)
        if self.has_folders:
            self._check_folders(names, label)
        else:
            _check_flat(names, label, self.protocol)
        archives = [name for name in names if is_archive(name)]
        if archives:
            raise SubmissionError(f"{label} holds archives inside ({shown(archives)}); put in the files themselves.")
        repeated = duplicates(with_folders(names))
        if repeated:
            raise SubmissionError(
                f"{label} holds names more than once, letter case aside ({shown(repeated)}); keep one file for each id."
            )
        if MANIFEST_NAME not in names:
            raise SubmissionError(f"{label} holds no {MANIFEST_NAME} at its top; pack with submit.py.")
        return self._sorted(names, label)

    def _sorted(self, names: Sequence[str], label: str) -> Contents:
        files = sorted(name for name in names if name != MANIFEST_NAME and not name.endswith("/"))
        if not self.has_folders:
            return Contents({name: name for name in files}, (), frozenset())
        empty = [f"{folder}/" for folder in self.folders if not any(name.startswith(f"{folder}/") for name in files)]
        if empty:
            raise SubmissionError(
                f"{label} holds no file in {shown(empty)}, where protocol {self.protocol} asks for some in "
                f"{_listed(self.folders)}; pack with submit.py."
            )
        prefix = f"{self.pictures_dir}/"
        pictures = {name.removeprefix(prefix): name for name in files if name.startswith(prefix)}
        attachments = tuple(name for name in files if not name.startswith(prefix))
        return Contents(pictures, attachments, frozenset(name for name in names if name.endswith("/")))

    def _check_safe(self, names: Sequence[str], label: str) -> None:
        prefix = f"{self.pictures_dir}/" if self.has_folders else ""
        # A picture's own name is judged, so that an id that is allowed at the top is allowed in a folder.
        unsafe = [name for name in names if is_unsafe(name.removeprefix(prefix) or name)]
        if unsafe:
            without = "odd characters" if self.has_folders else "folders or odd characters"
            raise SubmissionError(
                f"{label} holds unsafe names ({shown(unsafe)}); name every picture {self.member('<id>.png')}, "
                f"without {without}."
            )
        junk = [name for name in names if is_junk(name)]
        if junk:
            wanted = _listed(self.folders) if self.has_folders else "the PNG files"
            raise SubmissionError(
                f"{label} holds what a file manager left behind ({shown(junk)}); pack only {wanted} and "
                f"{MANIFEST_NAME}."
            )

    def _check_top_folder(self, names: Sequence[str], label: str) -> None:
        top = names[0].split("/")[0]
        if all(name.startswith(f"{top}/") for name in names) and top not in self.folders:
            wanted = f"{_listed(self.folders)} and {MANIFEST_NAME}" if self.has_folders else "the files"
            raise SubmissionError(
                f"{label} has the extra top folder {shown([f'{top}/'])}; zip {wanted} themselves, not their folder."
            )

    def _check_folders(self, names: Sequence[str], label: str) -> None:
        wanted = _listed(self.folders)
        if not any("/" in name for name in names):
            raise SubmissionError(
                f"{label} holds every file at its top, where protocol {self.protocol} asks for the folders {wanted}; "
                f"pack it again with protocol={self.protocol}."
            )
        unknown = sorted({name.split("/")[0] for name in names if "/" in name} - set(self.folders))
        misspelt = [(name, folder) for name in unknown for folder in self.folders if _alike(name) == _alike(folder)]
        if misspelt:
            name, folder = misspelt[0]
            raise SubmissionError(
                f"{label} spells a folder {shown([f'{name}/'])} where protocol {self.protocol} asks for "
                f"{shown([f'{folder}/'])}; rename it."
            )
        if unknown:
            found = shown(f"{name}/" for name in unknown)
            raise SubmissionError(
                f"{label} holds the folder {found}, where only {wanted} belong; leave it out or rename it."
            )
        stray = [name for name in names if "/" not in name and name != MANIFEST_NAME]
        if stray:
            raise SubmissionError(
                f"{label} holds {shown(stray)} at its top, where only {MANIFEST_NAME} lies; put it into {wanted}."
            )
        prefix = f"{self.pictures_dir}/"
        nested = [name for name in names if name.startswith(prefix) and "/" in name.removeprefix(prefix)]
        if nested:
            raise SubmissionError(
                f"{label} holds folders inside {prefix} ({shown(nested)}); put every picture directly into it."
            )
        check_attachment_names([name for name in names if name.startswith((f"{MODEL_DIR}/", f"{SCRIPT_DIR}/"))], label)


def _check_flat(names: Sequence[str], label: str, protocol: str) -> None:
    folders = [name for name in names if "/" in name]
    tops = {name.split("/")[0] for name in folders}
    if {MODEL_DIR, SCRIPT_DIR} <= tops:
        raise SubmissionError(
            f"{label} is laid out in folders ({shown(f'{top}/' for top in sorted(tops))}), where protocol {protocol} "
            f"asks for every file at the top; pack it again with protocol={protocol}."
        )
    if folders:
        raise SubmissionError(f"{label} holds folders ({shown(folders)}); put every file at the top of the archive.")


def _alike(folder: str) -> str:
    """Returns what is left of a folder's name when letter case, plural and punctuation are taken away."""
    return "".join(letter for letter in folder.casefold() if letter.isalnum()).rstrip("s")


def _listed(folders: Sequence[str]) -> str:
    slashed = [f"{folder}/" for folder in folders]
    return f"{', '.join(slashed[:-1])} and {slashed[-1]}"
