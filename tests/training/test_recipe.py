"""Recipes: what one command makes of many runs, how it goes on, and what it refuses by name."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from facesr.build import known_names, load_settings
from facesr.config import TrainSettings
from facesr.errors import EXIT_REQUEUE, CheckpointError, ConfigError, DataError, FaceSRError
from facesr.snapshots.snapshot import Snapshot, write_snapshot, write_state
from facesr.training import loop, recipe_check, recipe_run
from facesr.training.loop import train
from facesr.training.outcome import FINAL_SCORES
from facesr.training.recipe import Recipe, Stage, compose
from facesr.training.recipe_run import images_after, plan_of, train_recipe
from facesr.training.request import read_request
from facesr.training.rundir import claim_run_folder, plain_config, recorded_start, run_folder
from facesr.training.stages import Standing, standings
from tests.training.conftest import asked_to_stop_at, final_state
from tests.training.test_resume import differences, without_the_moment

Make = Callable[..., TrainSettings]
NODE = {"_target_": "facesr.models.facesr.FaceSR", "channels": 32, "num_groups": 1, "num_blocks": 1, "channels_up": 32}
UNTOUCHED = Standing(0, False, True, None)


def chain(first: TrainSettings, *names: str) -> Recipe:
    """A recipe of runs that differ in their names and starts alone."""
    stages: list[Stage] = []
    for number, name in enumerate(names, 1):
        start = f"{first.runs_dir}/{names[number - 2]}/snapshots/best.safetensors" if stages else None
        stages.append(Stage(number, len(names), replace(first, name=name, start_from=start)))
    return Recipe("made", tuple(stages))


def pretend(stage: Stage, kimg: float | None = None, seed: int = 0) -> Path:
    """Writes what a run leaves behind that has come so far, by default to its end, and returns its folder."""
    folder, settings = run_folder(stage.settings), stage.settings
    num_images = round(1000 * (settings.duration_kimg if kimg is None else kimg))
    claim_run_folder(folder, plain_config(settings), begins=True)
    write_state(folder / "state", num_images, {"clock": num_images})
    about = Snapshot(
        {"a": torch.full((2,), float(seed))}, NODE, settings.name, num_images / 1000, "c" * 64, (),
        {"is/builtin": 0.5, "psnr_rgb": 25.0, "ssim": 0.75}, "",
    )  # fmt: skip
    for name in (f"{num_images:09d}", "best"):
        write_snapshot(folder / "snapshots" / f"{name}.safetensors", about)
    if num_images >= 1000 * settings.duration_kimg:
        (folder / FINAL_SCORES).write_text(f"picture,kimg,is/builtin\n301,{num_images / 1000:g},0.5\n")
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """Settings of a run of 32 images; each test has a folder of its own for it."""
    return load_settings("train", TrainSettings, ["name=a", "device=cpu", "duration_kimg=0.032", "batch_size=4"])


@pytest.fixture
def three(first: TrainSettings, tmp_path: Path) -> Recipe:
    return chain(replace(first, runs_dir=f"{tmp_path}/runs"), "a", "b", "c")


# What a command line makes of a recipe


def test_a_stage_is_the_experiment_alone_and_starts_from_the_one_before() -> None:
    recipe = compose("asc19_psnr")
    alone = [load_settings("train", TrainSettings, [f"experiment={n}"]) for n in ("asc19_pixel", "asc19_pixel_long")]
    # So whoever has trained them one by one has trained the recipe.
    assert [stage.settings for stage in recipe.stages] == alone
    assert alone[1].start_from == "runs/asc19_pixel/snapshots/best.safetensors"
    assert [stage.label for stage in recipe.stages] == ["stage 1 of 2: asc19_pixel", "stage 2 of 2: asc19_pixel_long"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in known_names("recipe") if name != "asc19_psnr"])
def test_every_recipe_is_a_chain(name: str) -> None:
    stages = compose(name, ["runs_dir=elsewhere"]).stages
    starts = [f"elsewhere/{stage.settings.name}/snapshots/best.safetensors" for stage in stages]
    assert [stage.settings.start_from for stage in stages] == [None, *starts[:-1]]
    names = [stage.settings.name for stage in stages]
    if name == "asc19_final":
        assert names == [
            "asc19_pixel", "asc19_pixel_long", "asc19_pixel_grown", "asc19_pixel_grown_long", "asc19_flagship",
        ]  # fmt: skip
        assert sum(stage.settings.duration_kimg for stage in stages) == 352
    if name == "asc19_gpu":
        # Nothing of the other recipes is overwritten, and the plan is that of the figures in its file.
        assert all(name.startswith("asc19_gpu_") for name in names)
        assert [stage.settings.duration_kimg for stage in stages] == [320, 204.8, 153.6]
        assert {(stage.settings.batch_size, stage.settings.precision) for stage in stages} == {(64, "bf16")}
        seconds = [1000 * kimg / speed for kimg, speed in ((320, 757), (204.8, 555), (153.6, 336))]
        assert sum(seconds) + 90 < 25 * 60


def test_users_keys_are_above_the_recipes_and_those_of_one_stage_above_all() -> None:
    given = ["batch_size=48", "generator_optimizer.lr=0.5", "stages.2.batch_size=24", "stages.2.data.pose_shares=[]"]
    given += ["+stages.1.loss@losses.more=l1", "stages.1.optimizer@generator_optimizer=adam"]
    one, two = (stage.settings for stage in compose("asc19_psnr", given).stages)
    assert (one.batch_size, two.batch_size) == (48, 24)
    assert one.generator_optimizer["lr"] == two.generator_optimizer["lr"] == 0.5
    assert one.generator_optimizer["_target_"] == "torch.optim.Adam" != two.generator_optimizer["_target_"]
    assert set(one.losses) == {"pixel", "more"} and set(two.losses) == {"pixel"}
    assert two.data.pose_shares == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("recipe=nothing", r"recipe=nothing is unknown; choose one of .*asc19_final"),
        ("recipe=", r"recipe= is unknown"),
        ("recipe=asc19_psnr recipe=asc19_final", r"recipe= is given twice"),
        ("recipe=asc19_psnr name=x", r"name= would make all stages of the recipe one run"),
        ("recipe=asc19_psnr start_from=x", r"start_from= is of the first stage"),
        ("recipe=asc19_psnr experiment=asc19", r"experiment= cannot stand beside recipe="),
        ("recipe=asc19_psnr stages.3.seed=1", r"stages\.3\.seed names no stage.*N from 1 to 2"),
        ("recipe=asc19_psnr stages.0.seed=1", r"stages\.0\.seed names no stage"),
        ("recipe=asc19_psnr stages.2=1", r"stages\.2 names no stage"),
        ("recipe=asc19_psnr stages.2.device=cpu", r"stages\.2\.device cannot be of one stage; give device=VALUE"),
        ("recipe=asc19_psnr stages.1.experiment=x", r"stages\.1\.experiment cannot be of one stage"),
        ("recipe=asc19_psnr stages.2.start_from=x", r"stages\.2\.start_from: a stage starts from the one before"),
        ("recipe=asc19_psnr batch_sise=1", r"stage 1 of 2 \(asc19_pixel\): batch_sise is no key"),
        ("recipe=asc19_psnr --multirun", r"--multirun cannot be used with recipe="),
        ("recipe=asc19_psnr --cfg job", r"--cfg cannot be used with recipe="),
        ("recipe=asc19_psnr rehearsal=perhaps", r"rehearsal=perhaps has to be true or false"),
        ("rehearsal=true", r"rehearsal=true is of a recipe"),
        ("~stages.1.losses.pixel", r"stages\.1\.losses\.pixel is a key of a recipe"),
        ("dry_run=2", r"dry_run=2 has to be true or false"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(words: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_request(words.split())
    assert "\n" not in str(caught.value)


def test_a_second_stages_mistake_is_told_before_anything_is_done_and_two_names_are_two() -> None:
    with pytest.raises(ConfigError, match=r"^stage 2 of 2 \(asc19_pixel_long\): batch_size=many is no whole number"):
        compose("asc19_psnr", ["stages.2.batch_size=many"])
    with pytest.raises(ConfigError, match=r"^stages 1 and 2 are both called x, .* give stages\.2\.name=NAME"):
        compose("asc19_psnr", ["stages.1.name=x", "stages.2.name=x"])


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"stages": []}, "has to hold `stages:` and nothing else"),
        ({"stages": [{"experiment": "asc19"}], "more": 1}, "nothing else"),
        ({"stages": [{"experiment": "asc19"}, {"overrides": ["a=1"]}]}, "stage 2 has to be `experiment: NAME`"),
        ({"stages": [{"experiment": "asc19", "override": ["a=1"]}]}, "stage 1 has to be"),
        ({"stages": [{"experiment": "asc19", "overrides": [1]}]}, "stage 1 has to be"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(node: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesr.training.recipe.load_group", lambda *_: node)
    with pytest.raises(ConfigError, match=rf"^configs/recipe/asc19_psnr\.yaml.*{said}"):
        compose("asc19_psnr")


# Where its stages stand


def test_what_is_left_is_counted_in_images_of_the_stage_that_runs(three: Recipe) -> None:
    found = [UNTOUCHED, replace(UNTOUCHED, num_images=8), UNTOUCHED]
    costs = {1: 2.0, 2: 3.0, 3: 5.0}
    # 32 images each, of which the second has seen 8: 24 * 3/2 + 32 * 5/2.
    assert [images_after(three, found, costs, stage) for stage in three.stages] == [116.0, 32 * 5 / 3, 0.0]


def test_stages_are_finished_begun_or_new(three: Recipe) -> None:
    assert [(s.num_images, s.finished, s.seconds) for s in standings(three)] == [(0, False, None)] * 3
    pretend(three.stages[0])
    pretend(three.stages[1], kimg=0.016)
    assert [(s.num_images, s.finished, s.start_known) for s in standings(three)] == [
        (32, True, True), (16, False, True), (0, False, False),
    ]  # fmt: skip
    assert plan_of(three, standings(three)) == [
        "recipe made: 3 stages, 0.096 kimg",
        "  1  a    0.032 kimg  finished  is/builtin 0.5000  psnr_rgb 25.00 dB",
        "  2  b    0.032 kimg  goes on at 0.016 kimg",
        "  3  c    0.032 kimg  to do",
    ]


def test_a_run_that_did_not_get_to_its_final_scores_is_not_finished(three: Recipe) -> None:
    folder = pretend(three.stages[0])
    (folder / FINAL_SCORES).write_text("picture,kimg,is/builtin\n301,0.016,0.5\n")  # of a shorter run
    assert not standings(three)[0].finished
    (folder / FINAL_SCORES).unlink()
    assert not standings(three)[0].finished


def test_another_configuration_is_refused_by_stage_and_key(three: Recipe) -> None:
    folder = pretend(three.stages[0])
    stages = (replace(three.stages[0], settings=replace(three.stages[0].settings, seed=7)), *three.stages[1:])
    said = rf"^stage 1 of 3: a: {folder} was trained with .* differs in seed \(1 there, 7 here\); .*stages\.1\.KEY"
    with pytest.raises(ConfigError, match=said):
        standings(replace(three, stages=stages))


def test_another_start_is_refused_by_stage_and_file(three: Recipe) -> None:
    for stage in three.stages[:2]:
        pretend(stage)
    standings(three)
    folder = pretend(three.stages[0], seed=1)
    said = rf"^stage 2 of 3: b: it started from another {folder}/snapshots/best\.safetensors .* and those of the stages"
    with pytest.raises(CheckpointError, match=said):
        standings(three)


def test_a_stage_that_begins_before_the_one_before_ends_is_refused(three: Recipe) -> None:
    for stage in three.stages[:2]:
        pretend(stage)
    shutil.rmtree(run_folder(three.stages[0].settings))
    with pytest.raises(ConfigError, match=r"^stage 2 of 3: b: .* has begun, but stage 1 of 3: a, .* is not finished"):
        standings(three)
    pretend(three.stages[0])
    longer = replace(three.stages[0], settings=replace(three.stages[0].settings, duration_kimg=0.064))
    with pytest.raises(ConfigError, match=r"with the same duration_kimg, or remove .*/b and"):
        standings(replace(three, stages=(longer, *three.stages[1:])))


def test_a_damaged_or_missing_snapshot_of_a_finished_stage_is_named_with_its_twin(three: Recipe) -> None:
    best = pretend(three.stages[0]) / "snapshots" / "best.safetensors"
    best.write_bytes(best.read_bytes()[:-1] + b"x")
    with pytest.raises(
        CheckpointError, match=r"^stage 1 of 3: a: .*best\.safetensors is damaged.* copy .*000000032\.s"
    ):
        standings(three)
    best.unlink()
    with pytest.raises(CheckpointError, match=r"best\.safetensors is missing; copy .*000000032\.safetensors over it"):
        standings(three)
    best.with_name("000000032.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"best\.safetensors is missing; put a copy of it back"):
        standings(three)


def test_a_stage_whose_start_nobody_recorded_is_trusted_and_recorded(
    three: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in three.stages:
        pretend(stage)
    (run_folder(three.stages[1].settings) / "started_from.yaml").unlink()
    monkeypatch.setattr(recipe_run, "train", lambda *_: pytest.fail("everything is finished"))
    assert train_recipe(three) == 0
    assert recorded_start(run_folder(three.stages[1].settings)) is not None
    told = capsys.readouterr().out.splitlines()
    assert told[2].endswith("(its folder does not say which snapshot it started from: trusted)")
    assert told[-1].startswith("recipe made is complete: ") and "trusted" not in told[1] + told[3]


# Running


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces training by its traces, and gives what was trained, in order."""
    trained: list[str] = []

    def trace(settings: TrainSettings, part: Any) -> int:
        trained.append(f"{part.label}, then {part.images_after:g}")
        number = int(part.label.split()[1])
        pretend(Stage(number, 3, settings))
        return 0

    monkeypatch.setattr(recipe_run, "check_stages", lambda *_: {1: 1.0, 2: 1.0, 3: 2.0})
    monkeypatch.setattr(recipe_run, "train", trace)
    return trained


def test_stages_run_in_order_and_finished_ones_are_skipped(three: Recipe, unchecked: list[str]) -> None:
    assert train_recipe(three) == 0
    assert unchecked == ["stage 1 of 3: a, then 96", "stage 2 of 3: b, then 64", "stage 3 of 3: c, then 0"]
    shutil.rmtree(run_folder(three.stages[2].settings))
    assert train_recipe(three) == 0 and unchecked[3:] == ["stage 3 of 3: c, then 0"]
    assert train_recipe(three) == 0 and len(unchecked) == 4


def test_a_stage_that_was_asked_to_stop_ends_the_recipe(
    three: Recipe, unchecked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = recipe_run.train
    monkeypatch.setattr(recipe_run, "train", lambda *given: traced(*given) or EXIT_REQUEUE)
    assert train_recipe(three) == EXIT_REQUEUE and len(unchecked) == 1
    # The request came during the last step: the run is complete, and the next one does not begin.
    monkeypatch.setattr(
        recipe_run, "train", lambda *given: setattr(recipe_run.requests, "came", True) or traced(*given)
    )
    monkeypatch.setattr(recipe_run.requests, "came", False)
    assert train_recipe(three) == EXIT_REQUEUE and unchecked[1:] == ["stage 2 of 3: b, then 64"]


def test_missing_data_is_one_sentence_before_anything_is_written(tmp_path: Path) -> None:
    recipe = compose("asc19_psnr", ["device=cpu", f"runs_dir={tmp_path}/runs", f"data.train.path={tmp_path}/faces"])
    with pytest.raises(DataError, match=rf"^stage 1 of 2: asc19_pixel: {tmp_path}/faces .*facesr prepare"):
        train_recipe(recipe)
    assert list(tmp_path.iterdir()) == []


def test_a_later_stages_network_has_to_take_the_weights(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = bare()
    recipe = chain(settings, "a", "b")
    wider = replace(settings, name="b", start_from="a.safetensors", generator={**settings.generator, "channels": 64})
    monkeypatch.setattr(recipe_run, "train", lambda *_: pytest.fail("it was to be found before"))
    with pytest.raises(FaceSRError, match=r"^stage 2 of 2: b: "):
        train_recipe(replace(recipe, stages=(recipe.stages[0], replace(recipe.stages[1], settings=wider))))
    assert not Path(settings.runs_dir).exists()
    costs = recipe_check.check_stages(recipe, [UNTOUCHED] * 2, torch.device("cpu"))
    assert costs[1] == costs[2] > 1e6


@pytest.mark.slow
def test_a_recipe_stopped_at_every_stage_leaves_what_separate_commands_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["device=cpu", "precision=fp32", "validation_every_kimg=1", "~stages.3.losses.identity"]
    at_once = compose("asc19_gpu", [*given, f"runs_dir={tmp_path}/recipe"], rehearsal=True)
    # The same runs elsewhere, each by a command of its own.
    by_hand = [
        replace(
            stage.settings,
            runs_dir=f"{tmp_path}/hand",
            start_from=stage.settings.start_from and stage.settings.start_from.replace("/recipe/", "/hand/"),
        )
        for stage in at_once.stages
    ]
    for settings in by_hand:
        assert train(settings) == 0
    monkeypatch.setattr(recipe_run.requests, "came", False)
    for num_steps in (1, 4, 2):  # within a stage, in its last step, and within the next
        with monkeypatch.context() as patch:
            patch.setattr(loop, "train_step", asked_to_stop_at(num_steps))
            assert train_recipe(at_once) == EXIT_REQUEUE
        monkeypatch.setattr(recipe_run.requests, "came", False)
        # Once is enough: nothing of it is left in a run.
        monkeypatch.setattr(recipe_run, "check_stages", lambda *_: dict.fromkeys((1, 2, 3), 1.0))
    capsys.readouterr()
    assert train_recipe(at_once) == 0
    told = capsys.readouterr().out
    assert "finished  is/builtin" in told and "goes on at 0.008 kimg" in told and "to do" in told
    assert "stage 3 of 3: rehearsal_asc19_gpu_flagship" in told
    for one, other in zip(at_once.stages, by_hand, strict=True):
        states = [without_the_moment(final_state(settings)) for settings in (one.settings, other)]
        for state in states:
            del state["config_sha256"]  # runs_dir is part of where a stage starts from
        assert differences(*states) == []
        log = (run_folder(one.settings) / "log.txt").read_text()
        assert f" {one.label}\n" in log and " in all " in log
    assert train_recipe(at_once) == 0
    assert capsys.readouterr().out.count("finished") == 3
