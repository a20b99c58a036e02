"""Rates, rollbacks, states and checks of a run, against what was worked out by hand."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facesr import dist
from facesr.config import ScheduleSettings, TrainSettings
from facesr.energy import EnergyLog
from facesr.errors import CheckpointError, ConfigError, DataError, TrainingError
from facesr.training import check as check_module
from facesr.training import health, loop
from facesr.training import run as run_module
from facesr.training.check import check, check_parts
from facesr.training.health import roll_back
from facesr.training.loop import due, save_state, set_learning_rates
from facesr.training.run import check_landmarks, judges_in_losses, open_judges
from facesr.training.state import Clock, pack_state, unpack_state
from facesr.training.step import GanState

COSINE = ScheduleSettings(kind="cosine", warmup_kimg=0.0, final_factor=0.2, step_kimg=[], step_factor=1.0)


def optimizer_of(*rates: float) -> torch.optim.Optimizer:
    groups: Any = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups)


def rates_of(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("playing", [True, False])
def test_every_group_follows_the_schedule_from_its_own_first_rate(playing: bool) -> None:
    generator, discriminator = optimizer_of(0.5, 0.25), optimizer_of(8.0) if playing else None
    gan = SimpleNamespace(generator_optimizer=generator, discriminator_optimizer=discriminator)
    run: Any = SimpleNamespace(
        settings=SimpleNamespace(schedule=COSINE, duration_kimg=4.0), clock=Clock(num_images=2000), gan=gan
    )
    # Half the way down from 1 to 0.2, and half of that after a rollback; set twice, it is the same.
    for factor in (1.0, 0.5, 0.5):
        run.clock.rate_factor = factor
        set_learning_rates(run)
        assert rates_of(generator) == pytest.approx([0.5 * 0.6 * factor, 0.25 * 0.6 * factor])
        assert discriminator is None or rates_of(discriminator) == pytest.approx([8.0 * 0.6 * factor])


@pytest.mark.parametrize(
    ("before", "now", "every", "reached"),
    [(0, 999, 1.0, False), (0, 1000, 1.0, True), (1000, 1001, 1.0, False), (999, 2001, 1.0, True), (4, 8, 0.008, True)],
)
def test_a_multiple_is_reached_once(before: int, now: int, every: float, reached: bool) -> None:
    assert due(before, now, every) is reached


def run_with(clock: Clock, told: list[Any], **settings: Any) -> Any:
    return SimpleNamespace(
        settings=SimpleNamespace(**{"rollback": True, "name": "mine", **settings}), clock=clock, gan="gan",
        state_digests=("c" * 64,), folder=Path("folder"), console=SimpleNamespace(say=told.append),
        open_records=lambda: told.append(("opened", clock.num_images)), check_folder=lambda: None,
    )  # fmt: skip


def test_a_rollback_takes_the_state_but_not_what_was_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    told: list[Any] = []
    earlier = Clock(num_images=3000, seconds=5.0, best_score=0.5, lowest_loss=2.0, joules=7.0, rate_factor=0.5)
    monkeypatch.setattr(health, "newest_state", lambda folder: asked.append(folder) or ("file", "state"))
    monkeypatch.setattr(health, "unpack_state", lambda *given: asked.append(given) or earlier)
    clock = Clock(num_images=4500, seconds=9.0, best_score=0.75, joules=11.0)
    roll_back(run_with(clock, told))
    assert asked == [Path("folder/state"), ("state", "gan", "c" * 64)]
    assert clock == Clock(
        num_images=3000, seconds=9.0, best_score=0.5, lowest_loss=2.0, joules=11.0, rate_factor=0.25, num_rollbacks=1,
        smoothed_loss=clock.smoothed_loss,
    )  # fmt: skip
    assert told == [
        ("opened", 3000),
        "the loss is not finite or exploded at 4.5 kimg: back to 3.0 kimg at half the learning rate (once); if it "
        "happens again, lower generator_optimizer.lr, or set gradient_clip_norm.",
    ]


@pytest.mark.parametrize(("rollback", "num_rollbacks", "found"), [(False, 0, True), (True, 1, True), (True, 0, False)])
def test_a_rollback_that_cannot_be_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, rollback: bool, num_rollbacks: int, found: bool
) -> None:
    monkeypatch.setattr(health, "newest_state", lambda folder: ("file", "state") if found else None)
    told: list[Any] = []
    with pytest.raises(
        TrainingError, match=r"^run mine: the loss is not finite or exploded at 4\.5 kimg; lower .*name"
    ):
        roll_back(run_with(Clock(num_images=4500, num_rollbacks=num_rollbacks), told, rollback=rollback))
    assert told == []


def test_a_state_holds_what_was_summed_and_its_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    monkeypatch.setattr(loop, "count_energy", lambda run: 3.0)
    monkeypatch.setattr(loop, "pack_state", lambda *given: {"packed": given})
    monkeypatch.setattr(loop, "write_state", lambda *given: written.append(given))
    ticker: Any = SimpleNamespace(joules=4.0)
    ticker.packed = lambda: f"{ticker.joules} J"
    clock = Clock(num_images=5)
    run = run_with(clock, [])
    run.energy = EnergyLog()
    save_state(run, ticker)
    state = {"packed": ("gan", clock, "c" * 64), "unreported": "7.0 J", "energy": EnergyLog().as_dict()}
    assert written == [(Path("folder/state"), 5, state)]


# The training state


def gan_of(seed: int, playing: bool = True) -> GanState:
    torch.manual_seed(seed)
    generator, discriminator = nn.Linear(2, 2), nn.Linear(2, 1)
    gan = GanState(
        generator=generator, generator_optimizer=torch.optim.Adam(generator.parameters(), lr=0.1), terms={},
        precision="fp32", gradient_clip_norm=0.0, num_steps=10 * seed,
    )  # fmt: skip
    nn.init.constant_(gan.average.weight, float(seed))  # type: ignore[arg-type]
    if playing:
        gan.discriminator = discriminator
        gan.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.1)
        gan.discriminator_optimizer.param_groups[0]["lr"] = float(seed)
    gan.generator_optimizer.param_groups[0]["lr"] = 2.0 * seed
    return gan


def draws() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002 - what a state holds


@pytest.mark.parametrize("playing", [True, False])
def test_a_state_brings_back_networks_optimisers_and_draws(playing: bool, tmp_path: Path) -> None:
    first = gan_of(1, playing)
    torch.manual_seed(5)
    np.random.seed(6)  # noqa: NPY002
    random.seed(7)
    random.gauss(0, 1)  # leaves a second draw in the state
    np.random.randn()  # noqa: NPY002
    clock = Clock(3, 4.0, 0.5, 0.25, 0.75, 9.0, 0.5, 1)
    torch.save(pack_state(first, clock, "a"), tmp_path / "state.pt")
    expected = (*draws(), float(np.random.randn()), random.gauss(0, 1))  # noqa: NPY002
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert ("discriminator" in state) is playing and state["format"] == 1

    second = gan_of(2, playing)
    assert unpack_state(state, second, "b", "a") == clock
    assert (*draws(), float(np.random.randn()), random.gauss(0, 1)) == expected  # noqa: NPY002
    assert second.num_steps == 10 and rates_of(second.generator_optimizer) == [2.0]
    pairs = [(first.generator, second.generator), (first.average, second.average)]
    if playing:
        assert first.discriminator is not None and second.discriminator is not None
        assert second.discriminator_optimizer is not None and rates_of(second.discriminator_optimizer) == [1.0]
        pairs.append((first.discriminator, second.discriminator))
    for one, other in pairs:
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(second.generator.weight, second.average.weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"format": 2}, {"config_sha256": "c"}, {"format": None}])
def test_a_state_of_another_run_or_version_is_refused(change: dict[str, Any]) -> None:
    state = {**pack_state(gan_of(1), Clock(), "a"), **change}
    gan = gan_of(2)
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        unpack_state(state, gan, "a", "b")
    assert gan.num_steps == 20


@pytest.mark.parametrize("network", ["generator", "average", "discriminator"])
@pytest.mark.parametrize("change", ["more", "fewer", "shape"])
def test_a_state_of_a_network_of_another_version_is_refused(network: str, change: str) -> None:
    state = pack_state(gan_of(1, True), Clock(), "a")
    if change == "more":
        state[network]["other"] = torch.zeros(1)
    elif change == "fewer":
        del state[network]["weight"]
    else:
        state[network]["weight"] = torch.zeros(7, 7)
    with pytest.raises(CheckpointError, match="holds another Linear than this version of facesr builds; choose"):
        unpack_state(state, gan_of(2, True), "a")


# Before a run


def settings_of(**changes: Any) -> Any:
    settings = {
        "batch_size": 8, "accumulation_steps": 2, "schedule": COSINE, "duration_kimg": 1.0, "losses": {"pixel": {}},
        "data": SimpleNamespace(residency="auto", pose_shares=[]),
        "start_from": None,
        "gradient_sync": "flat", "gradient_precision": "fp32",
    }  # fmt: skip
    return SimpleNamespace(**{**settings, **changes})


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(check_module, "check_parts", lambda settings: None)


@pytest.mark.usefixtures("two_ranks")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 7}, "batch_size=7 does not divide by 2 ranks"),
        ({"accumulation_steps": 8}, "accumulation_steps=8 does not divide the 4 faces of a rank"),
        ({"accumulation_steps": 3}, "accumulation_steps=3 does not divide the 4 faces"),
        ({"losses": {}}, "losses is empty"),
        ({"losses": {"a": {"start_kimg": 1}, "b": {"start_kimg": 0.5}}}, "no term of losses takes part from the first"),
        ({"start_from": []}, "start_from=.* has to be a snapshot, or a list"),
        ({"gradient_sync": "ring"}, "gradient_sync=ring is unknown; choose flat or overlap"),
        ({"gradient_precision": "fp8"}, "gradient_precision=fp8 is unknown; choose fp32 or bf16"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], words: str) -> None:
    check(settings_of())
    check(settings_of(accumulation_steps=4))
    with pytest.raises(ConfigError, match=words):
        check(settings_of(**changes))


def test_every_part_is_checked_at_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(check_module, "check_node", lambda node, place, *more: asked.append((node, place.name, *more)))
    names = (
        "degradation", "generator", "generator_optimizer", "discriminator", "discriminator_optimizer", "embedder",
    )  # fmt: skip
    data = SimpleNamespace(train="t", validation="v")
    check_parts(settings_of(data=data, losses={"pixel": "p", "none": {}}, **{name: name for name in names}))
    assert asked == [
        ("t", "DATA", "data.train", ()), ("v", "DATA", "data.validation", ()),
        ("degradation", "DEGRADATION", "degradation", ()), ("generator", "GENERATOR", "generator", ()),
        ("generator_optimizer", "OPTIMIZER", "generator_optimizer", ("params",)),
        ("discriminator", "DISCRIMINATOR", "discriminator", ()),
        ("discriminator_optimizer", "OPTIMIZER", "discriminator_optimizer", ("params",)),
        ("embedder", "EMBEDDER", "embedder", ()), ("p", "LOSS", "losses.pixel", ()),
    ]  # fmt: skip


def test_the_ranking_judge_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "build", lambda node, place: SimpleNamespace(name=node, place=place.name))
    monkeypatch.setattr(run_module, "load_group", lambda group, name: {} if name == "none" else name)
    # One that is asked for twice is asked once: its scores would be counted twice.
    settings: Any = SimpleNamespace(embedder="first", judges=["b", "a", "first", "b"])
    assert [(one.name, one.place) for one in open_judges(settings)] == [  # type: ignore[attr-defined]
        ("first", "EMBEDDER"), ("b", "EMBEDDER"), ("a", "EMBEDDER"),
    ]  # fmt: skip
    settings = SimpleNamespace(embedder={}, judges=["none"])
    with pytest.raises(ConfigError, match="judges names none, which is no judge"):
        open_judges(settings)


def test_landmarks_are_wanted_of_one_face_at_least() -> None:
    terms: Any = {"pixel": SimpleNamespace(needs_landmarks=False), "marks": SimpleNamespace(needs_landmarks=True)}
    nothing, faces = np.full((2, 5, 2), np.nan), np.full((2, 5, 2), np.nan)
    faces[1] = 1.0
    check_landmarks(terms, SimpleNamespace(landmarks=faces))  # type: ignore[arg-type]
    check_landmarks({"pixel": terms["pixel"]}, SimpleNamespace(landmarks=nothing))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^losses\.marks needs landmarks"):
        check_landmarks(terms, SimpleNamespace(landmarks=nothing))  # type: ignore[arg-type]


def test_judges_in_the_loss_are_named_once_and_sorted() -> None:
    b, a = SimpleNamespace(name="b"), SimpleNamespace(name="a")
    terms: Any = {
        "one": SimpleNamespace(embedder=b), "two": SimpleNamespace(network=a), "three": SimpleNamespace(embedder=b),
        "pixel": SimpleNamespace(), "unset": SimpleNamespace(embedder=None),
    }  # fmt: skip
    assert judges_in_losses(terms) == ("a", "b")
    # What a run starts from was taught by others.
    assert judges_in_losses(terms, ["pretrained:asc19_psnr", "pretrained:asc19_final"]) == (
        "a", "b", "builtin", "facenet_vggface2"
    )  # fmt: skip


def test_data_is_named_by_its_key_and_built_after_the_networks(
    monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., TrainSettings]
) -> None:
    asked: list[Any] = []

    def building(node: Any, place: Any, key: str) -> str:
        asked.append((node, place.name, key))
        if key == "data.validation":
            raise DataError("enough")
        return "faces"

    settings = tiny()
    monkeypatch.setattr(run_module, "build", building)
    monkeypatch.setattr(run_module, "open_judges", lambda given: asked.append("judges"))
    monkeypatch.setattr(run_module, "build_players", lambda given, device: asked.append((given.precision, device)))
    with pytest.raises(DataError, match="enough"):
        run_module.set_up(settings, torch.device("cpu"))
    assert asked == [
        "judges", ("fp32", torch.device("cpu")), (settings.data.train, "DATA", "data.train"),
        (settings.data.validation, "DATA", "data.validation"),
    ]  # fmt: skip
    assert not Path(settings.runs_dir).exists()
