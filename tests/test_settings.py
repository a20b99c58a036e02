"""Composed settings: keys that exist, whole parts, numbers in ranges, and one sentence for everything else."""

import dataclasses
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from facesr.build import CONFIG_DIR, known_names, load_group, load_settings
from facesr.config import EvaluateSettings, FaceGeneratorSettings, SubmitSettings, TrainSettings
from facesr.errors import ConfigError
from facesr.ranges import Range, check_number, range_in
from facesr.script import run_script
from facesr.settings import check_numbers, dataclass_in

SCHEMAS: dict[str, type[Any]] = {
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
    "submit": SubmitSettings,
    "face_generator": FaceGeneratorSettings,
}


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def refusal(script: str, *overrides: str) -> str:
    """Returns the sentence with which overrides are refused."""
    with pytest.raises(ConfigError) as caught:
        load_settings(script, SCHEMAS[script], overrides)
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", "?")) and "Hydra" not in text and "override '" not in text
    return text


# Keys


@pytest.mark.parametrize(
    ("script", "override", "words"),
    [
        ("train", "embedder=null", "embedder=null is unknown; choose one of builtin,"),
        ("train", "discriminator=null", "discriminator=null is unknown"),
        ("train", "generator=3", "generator=3 is unknown; choose one of facesr,"),
        ("train", "generator=bicubic", "generator=bicubic is unknown"),
        ("train", "experiment=1", "experiment=1 is unknown"),
        ("train", "experiment=unknown", "quickstart."),
        ("train", "experiment=[asc19,1]", "experiment=1 is unknown"),
        ("train", "loss@losses.pixel=null", "loss@losses.pixel=null is unknown; choose one of"),
        ("train", "losses.pixel=null", "losses.pixel is no term"),
        ("train", "loss=l1", "loss does not say which one; give loss@losses."),
        ("train", "=", "= has no key"),
        ("train", "==3", "has no key"),
        ("train", "", "an empty word is no KEY=VALUE"),
        ("train", "batch_size", "batch_size is no KEY=VALUE"),
        ("train", "\x1b[2J=3", "cannot be read"),
        ("train", "batch_size=\x1b[2J", "is no whole number"),
        ("train", "batch_size=null", "batch_size=null leaves it without a value"),
        ("train", "~seed", "seed has no value; give seed=VALUE."),
        ("train", "~generator", "generator has no"),
        ("train", "name=a,b", "holds a comma"),
        ("train", "+experiment=asc19", "experiment is chosen already"),
        ("train", "hydra.run.dir=/tmp", "hydra.run.dir is no key"),
        ("train", "++hydra.run.dir=/tmp", "hydra.run.dir is no key"),
        ("train", "hydra=null", "hydra is no key"),
        ("train", "loss@losses.checkerboard=checkerboard", "+loss@losses.checkerboard=NAME adds it"),
        ("train", f"batch_size={'9' * 5000}", "batch_size"),
        ("evaluate", "protocol=null", "protocol=null is unknown; choose one of asc19_final,"),
        ("evaluate", "generator=facesr", "generator=facesr is unknown; choose one of eigenfaces,"),
        ("evaluate", "+generator=null", "generator=null is unknown; choose one of eigenfaces,"),
        ("evaluate", "protocol.perceptual.border=3", "protocol.perceptual.border=3 does not fit"),
        ("evaluate", "experiment=asc19", "experiment is no key"),
        ("submit", "protocol=null", "protocol=null is unknown"),
        ("submit", "generator=null", "generator=null is unknown; choose one of eigenfaces,"),
        ("submit", "embedder=null", "embedder is no key"),
        ("face_generator", "experiment=null", "experiment is no key"),
        ("face_generator", "=", "= has no key"),
    ],
)
def test_what_no_key_takes_is_one_sentence(script: str, override: str, words: str) -> None:
    assert words in refusal(script, override)


@pytest.mark.parametrize(
    ("script", "key", "nearest"),
    [
        ("submit", "self_ensembel", "self_ensemble"),
        ("submit", "++self_ensembel", "self_ensemble"),
        ("train", "++schedule.warmup", "schedule.warmup_kimg"),
        ("train", "+losses.pixle.weight", "losses.pixel"),
        ("train", "losses.pixle.weight", "losses.pixel"),
        ("train", "+data.augmentation.flipp", "data.augmentation.flip"),
        ("evaluate", "+protocol.num_picture", "protocol.num_pictures"),
        ("evaluate", "++pulse.step", "pulse.steps"),
        ("face_generator", "+widht", "width"),
        ("evaluate", "+niqe.foo", ""),
        ("train", "++foo", ""),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(script: str, key: str, nearest: str) -> None:
    text = refusal(script, f"{key}=2")
    assert key.lstrip("+").removesuffix(".weight") in text
    assert f"did you mean {nearest}?" in text if nearest else "did you mean" not in text


def test_a_whole_new_term_may_be_added() -> None:
    node = "{_target_: facesr.losses.pixel.L1, weight: 2, start_kimg: 0}"
    settings = load_settings("train", TrainSettings, ["+loss@losses.checkerboard=checkerboard", f"+losses.new={node}"])
    assert {"checkerboard", "new", "pixel"} <= set(settings.losses) and settings.losses["new"]["weight"] == 2


# Numbers


def numbers_of(schema: type[Any], prefix: str = "") -> Iterator[tuple[str, Any, type[Any]]]:
    """Yields the key, the type and the class of every number in a schema."""
    for name, hint in get_type_hints(schema, include_extras=True).items():
        inner = dataclass_in(hint)
        if inner is not None:
            yield from numbers_of(inner, f"{prefix}{name}.")
        elif {"int", "float"} & set(_leaves(hint)) and "ClassVar" not in str(hint):
            yield f"{prefix}{name}", hint, schema


def _leaves(hint: Any) -> Iterator[str]:
    if get_args(hint):
        for part in get_args(hint):
            yield from _leaves(part)
    elif isinstance(hint, type):
        yield hint.__name__


NUMBERS = [(script, *number) for script, schema in SCHEMAS.items() for number in numbers_of(schema)]


def test_the_walk_finds_the_numbers() -> None:
    keys = {f"{script}:{key}" for script, key, *_ in NUMBERS}
    assert {
        "train:seed",
        "train:schedule.step_kimg",
        "train:data.augmentation.flip",
        "evaluate:power_limit_watts",
    } <= keys
    assert {"evaluate:protocol.perceptual.rmse_window", "submit:pulse.eps", "face_generator:width"} <= keys
    assert len(keys) > 80


@pytest.mark.parametrize(
    ("script", "key", "hint", "schema"), NUMBERS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_number_has_a_range_that_holds(script: str, key: str, hint: Any, schema: type[Any]) -> None:
    limits = range_in(hint)
    assert limits is not None, f"{key} of {schema.__name__} has no range in facesr/config.py"
    outside = [
        -1.5 if limits.or_zero else limits.low - 1,
        limits.high * 2 + 1,
        float("nan"),
        float("inf"),
        -float("inf"),
        10**30,
    ]
    if limits.above and not limits.or_zero:
        outside.append(limits.low)
    for value in outside:
        given = [value] if "list" in str(hint) else value
        with pytest.raises(ConfigError, match=rf"^{re.escape(key)}.* give "):
            check_number(key, given, hint)
    check_number(key, [limits.high] if "list" in str(hint) else limits.high, hint)


def test_numbers_are_checked_when_settings_are_loaded() -> None:
    for override, words in (
        ("duration_kimg=inf", "duration_kimg=inf is out of range; give a number above 0 and up to 1000000000."),
        (
            "seed=99999999999999999999",
            "seed=99999999999999999999 is out of range; give a whole number from 0 to 4294967295.",
        ),
        ("ema_halflife_kimg=nan", "ema_halflife_kimg=nan is no number; give one from 0 to 1000000000."),
        ("explosion_factor=0.5", "give a number above 1 and up to 1000000000, or 0 for never."),
        ("schedule.warmup_kimg=-1", "schedule.warmup_kimg=-1 is out of range"),
        ("data.augmentation.flip=1.5", "data.augmentation.flip=1.5 is out of range; give a number from 0 to 1."),
        ("data.pose_shares=[0.5,-1]", "data.pose_shares[1]=-1 is out of range"),
    ):
        assert words in refusal("train", override)
    assert "protocol.width=-1" in refusal("evaluate", "protocol.width=-1")
    assert "num_resamples=1000000000" in refusal("evaluate", "num_resamples=1000000000")
    assert "pulse.eps=nan" in refusal("submit", "pulse.eps=nan")
    assert load_settings("train", TrainSettings, ["explosion_factor=0"]).explosion_factor == 0


def test_a_number_deep_inside_is_found() -> None:
    settings = load_settings("evaluate", EvaluateSettings, ["protocol=asc19_preliminary"])
    assert settings.protocol.perceptual is not None
    settings.protocol.perceptual.region_rmse[1] = float("nan")
    with pytest.raises(ConfigError, match=r"protocol\.perceptual\.region_rmse\[1\]=nan"):
        check_numbers(settings)


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "words"),
    [
        (Range(0, 1), (0, 0.5, 1), (-0.1, 1.1, True, "0.5", None), "from 0 to 1"),
        (Range(0, 1, above=True), (0.1, 1), (0,), "above 0 and up to 1"),
        (Range(0, 1, below=True), (0, 0.9), (1,), "from 0 and below 1"),
        (Range(1, 9, above=True, or_zero="never"), (0, 2), (1, 0.5), "above 1 and up to 9, or 0 for never"),
    ],
)
def test_a_range_holds_and_says_its_ends(
    limits: Range, inside: tuple[float, ...], outside: tuple[Any, ...], words: str
) -> None:
    assert all(value in limits for value in inside) and not any(value in limits for value in outside)
    assert str(limits) == words


# Every option with every other


@pytest.mark.parametrize("path", sorted((CONFIG_DIR / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_chooses_networks_by_name(path: Path) -> None:
    """What an experiment changes inside a network would be given to the network that a user chooses instead."""
    assert not {"generator", "discriminator"} & set(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", known_names("generator"))
def test_every_generator_goes_with_the_default_experiment(name: str) -> None:
    settings = load_settings("train", TrainSettings, [f"generator={name}"])
    assert settings.generator == load_group("generator", name)


# The scripts


def run(monkeypatch: pytest.MonkeyPatch, script: str, *words: str) -> tuple[int, list[Any]]:
    """Returns the exit code of a script and the settings it ran on."""
    ran: list[Any] = []
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
    with pytest.raises(SystemExit) as left:
        run_script(lambda settings: ran.append(settings), script, SCHEMAS[script])
    assert isinstance(left.value.code, int)
    return left.value.code, ran


@pytest.mark.parametrize("script", SCHEMAS)
def test_scripts_leave_nothing_where_they_are_started(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    key = "batch_size"
    assert run(monkeypatch, script, f"{key}=4")[0] == 0
    both = [f"{key}=4,8", "seed=1,2"] if script == "evaluate" else [f"{key}=4,8"]
    code, ran = run(monkeypatch, script, "--multirun", *both)
    assert code == 0 and [settings.batch_size for settings in ran] == ([4, 4, 8, 8] if len(both) == 2 else [4, 8])
    assert run(monkeypatch, script, "--help") == (0, [])
    assert run(monkeypatch, script, "--cfg", "job") == (0, [])
    assert "batch_size" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_checked_before_its_first_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, ran = run(monkeypatch, "submit", "-m", "batch_size=4,-8")
    assert (code, ran) == (2, [])
    assert capsys.readouterr().err == "error: batch_size=-8 is out of range; give a whole number from 1 to 65536.\n"


@pytest.mark.parametrize("word", ["--foo", "-x", "--run"])
def test_an_unknown_option_is_one_sentence(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", word) == (2, [])
    assert (
        capsys.readouterr().err == f"error: {word} is no option; every setting is KEY=VALUE, and --help lists them.\n"
    )


def test_every_setting_with_a_comment_of_zero_takes_it() -> None:
    """What 0 switches off, as docs/training.md says."""
    off = ["ema_halflife_kimg=0", "gradient_clip_norm=0", "explosion_factor=0", "schedule.warmup_kimg=0"]
    settings = load_settings("train", TrainSettings, off)
    assert [getattr(settings, key.partition("=")[0]) for key in off[:3]] == [0, 0, 0]
    assert dataclasses.is_dataclass(settings.schedule)
