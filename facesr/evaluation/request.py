"""What evaluate.py was asked: settings that fit together, and the question that its folder is claimed for."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from facesr.config import EvaluateSettings
from facesr.errors import ConfigError
from facesr.protocols import Embedder

SUBJECTS = ("restored", "method", "submission")


def checked(settings: EvaluateSettings) -> EvaluateSettings:
    """Returns the settings with paths expanded and `method` and `out` filled in.

    Raises:
        ConfigError: keys contradict each other or one is missing or out of range.
    """
    for key in ("batch_size", "num_resamples"):
        if getattr(settings, key) < 1:
            raise ConfigError(f"{key}={getattr(settings, key)} has to be at least 1.")
    if settings.num_examples < 0 or settings.seed < 0:
        raise ConfigError("num_examples and seed have to be at least 0.")
    settings = replace(settings)
    for key in ("restored", "submission", "high", "low", "attributes", "out"):
        if (value := getattr(settings, key)) is not None:
            setattr(settings, key, str(Path(value).expanduser()))
    given = [key for key in SUBJECTS if getattr(settings, key) is not None]
    if settings.study is not None:
        if settings.study != "resolution":
            raise ConfigError(f"study={settings.study} is unknown; the only one is study=resolution.")
        if given or settings.high is None:
            raise ConfigError("study=resolution looks at high=DIR alone; give it, and leave the other folders out.")
        return replace(settings, out=settings.out or default_out("resolution"))
    if not given and settings.high is None and settings.low is None:
        settings, given = replace(settings, method="bicubic"), ["method"]
    if len(given) != 1:
        listed = " and ".join(given) or "none"
        raise ConfigError(f"give one of restored=DIR, method=NAME and submission=FILE.zip; {listed} was given.")
    if settings.method is None and settings.high is None:
        raise ConfigError("high has no value; give high=DIR, the folder of the originals.")
    if settings.method is not None and (settings.high is None) != (settings.low is None):
        raise ConfigError("method restores low=DIR and compares with high=DIR; give both, or none for built-in faces.")
    if settings.flip_ensemble and settings.method is None:
        raise ConfigError("flip_ensemble=true needs method=; the other pictures are restored already.")
    return replace(settings, out=settings.out or default_out(Path(getattr(settings, given[0])).name))


def default_out(name: str) -> str:
    """Returns where an evaluation goes that was given no folder."""
    return str(Path("runs") / "evaluations" / name)


def question_of(settings: EvaluateSettings, judges: Sequence[Embedder]) -> dict[str, Any]:
    """Returns what is asked, for question.json: not how fast it is answered."""
    paths = {key: getattr(settings, key) for key in ("restored", "submission", "high", "low", "attributes")}
    return {
        **{key: None if value is None else str(Path(value).resolve()) for key, value in paths.items()},
        "method": settings.method,
        "flip_ensemble": settings.flip_ensemble,
        "study": settings.study,
        "protocol": asdict(settings.protocol),
        "judges": [judge.name for judge in judges],
        "num_resamples": settings.num_resamples,
        "seed": settings.seed,
    }
