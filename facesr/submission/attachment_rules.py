"""What may lie in model/ and script/ of an archive: the rules that packing and verifying share.

Attachments are for people to read and to run by themselves. The harness never opens one: it compares names, sizes
and digests, so nothing here depends on what a file holds.
"""

from collections.abc import Callable, Sequence

from facesr.errors import SubmissionError
from facesr.names import is_unsafe, shown
from facesr.submission.names import is_archive

MODEL_DIR = "model"
SCRIPT_DIR = "script"
MAX_ATTACHMENTS = 1000
MAX_ATTACHED_BYTES = 1 << 30
MAX_SCRIPT_BYTES = 1 << 26
# Folders on the way to a program, script/ itself included.
MAX_DEPTH = 8
# Formats that are data and nothing else; a pickle is a program.
MODEL_ENDINGS = (".json", ".onnx", ".safetensors", ".txt", ".yaml")
WEIGHTS_ENDING = ".safetensors"
# What the names of an interpolation's second snapshot and of its settings begin with.
BLEND_PREFIX = "blend_with-"  # part of the archive format
CACHE_DIR = "__pycache__"
# Programs are text. These endings are the weights and the compiled programs that people leave beside theirs.
_NO_SCRIPT_ENDINGS = (
    *(".bin", ".ckpt", ".h5", ".hdf5", ".joblib", ".mat", ".npy", ".npz", ".onnx", ".pb", ".pickle", ".pkl", ".pt"),
    *(".pth", ".safetensors", ".tflite", ".a", ".class", ".dll", ".dylib", ".exe", ".o", ".pyc", ".pyd", ".pyo", ".so"),
)


def is_attachment_name(name: str) -> bool:
    """Returns whether a manifest may name this attachment: a safe name below model/ or script/."""
    return name.startswith((f"{MODEL_DIR}/", f"{SCRIPT_DIR}/")) and not name.endswith("/") and not is_unsafe(name)


def is_hidden(part: str) -> bool:
    """Returns whether a file or folder is one that packing passes over: hidden, or Python's cache."""
    return part.startswith(".") or part == CACHE_DIR


def _is_foreign_program(name: str) -> bool:
    return name.startswith(f"{SCRIPT_DIR}/") and name.lower().endswith(_NO_SCRIPT_ENDINGS)


def _is_foreign_model(name: str) -> bool:
    return name.startswith(f"{MODEL_DIR}/") and not name.endswith(("/", *MODEL_ENDINGS))


_RULES: tuple[tuple[Callable[[str], object], str], ...] = (
    (
        lambda name: any(map(is_hidden, name.split("/"))),
        f"holds hidden files or {CACHE_DIR} ({{names}}); leave them out",
    ),
    (
        lambda name: name.startswith(f"{MODEL_DIR}/") and "/" in name.removeprefix(f"{MODEL_DIR}/"),
        f"holds folders inside {MODEL_DIR}/ ({{names}}); put its files directly into it",
    ),
    (
        lambda name: name.removesuffix("/").count("/") > MAX_DEPTH,
        f"holds {{names}}, below more than {MAX_DEPTH} folders; use fewer folders",
    ),
    (is_archive, "holds archives inside ({names}); put in the files themselves"),
    (
        _is_foreign_model,
        f"holds {{names}}, where {MODEL_DIR}/ takes only {', '.join(MODEL_ENDINGS)} files; leave it out or convert it",
    ),
    (
        _is_foreign_program,
        f"holds {{names}}, where {SCRIPT_DIR}/ takes programs as text, no weights and nothing compiled; leave it out",
    ),
)


def check_attachment_names(names: Sequence[str], label: str) -> None:
    """Checks the names of everything in model/ and script/, entries of folders (ending in a slash) included.

    Raises:
        SubmissionError: a name is hidden, too deep or of a kind that does not belong there.
    """
    for is_wrong, sentence in _RULES:
        wrong = [name for name in names if is_wrong(name)]
        if wrong:
            raise SubmissionError(f"{label} {sentence.format(names=shown(wrong))}.")


def check_attachment_sizes(sizes: dict[str, int], label: str) -> None:
    """Checks how many attachments there are and how large they claim to be.

    Args:
        sizes: name -> bytes.
        label: how the archive or folder is called in errors.

    Raises:
        SubmissionError: they are too many or too large.
    """
    if len(sizes) > MAX_ATTACHMENTS:
        raise SubmissionError(
            f"{label} holds {len(sizes)} files in {MODEL_DIR}/ and {SCRIPT_DIR}/ where at most {MAX_ATTACHMENTS} are "
            "read; leave some out."
        )
    scripts = sum(size for name, size in sizes.items() if name.startswith(f"{SCRIPT_DIR}/"))
    for what, total, most in (
        (f"{SCRIPT_DIR}/", scripts, MAX_SCRIPT_BYTES),
        (f"{MODEL_DIR}/ and {SCRIPT_DIR}/", sum(sizes.values()), MAX_ATTACHED_BYTES),
    ):
        if total > most:
            raise SubmissionError(
                f"{label} holds {total} bytes in {what} where at most {most} are read; leave some out."
            )
