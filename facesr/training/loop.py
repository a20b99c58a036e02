"""The training run from first to last: set-up, the loop, and what it reports and saves.

The clock counts images. The loop reads as paragraphs: take a batch, step, average, and, when due, report,
validate and save. Start it with train.py; the same command resumes.
"""

import math
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facesr import dist
from facesr.build import build, load_group
from facesr.checkpoint import (
    Snapshot,
    digest_of,
    newest_state,
    read_snapshot,
    remove_oldest_snapshots,
    write_snapshot,
    write_state,
)
from facesr.config import TrainSettings
from facesr.data.feed import Feed
from facesr.errors import EXIT_REQUEUE, ConfigError, TrainingError
from facesr.image import to_float, to_uint8
from facesr.log import Console, Progress, Stats
from facesr.losses.adversarial import Adversarial
from facesr.losses.term import LossTerm
from facesr.power import PowerMeter
from facesr.resample import upscale
from facesr.restoration import restore_batch
from facesr.training.board import Board, as_columns
from facesr.training.rundir import identity_of, open_run_folder, plain_config
from facesr.training.schedule import learning_rate_factor
from facesr.training.state import Clock, pack_state, unpack_state
from facesr.training.step import Players, train_step, update_average
from facesr.training.validation import Scores, Validator
from facesr.weights import load_into

NUM_GRID_FACES = 12
# Share of a new loss in the smoothed one; about the last 50 reports.
SMOOTHING = 0.02
# With several ranks a request to stop is agreed on every so many steps.
STOP_CHECK_STEPS = 10


@dataclass
class Run:
    """One run's parts, so that the paragraphs of the loop can be functions."""

    settings: TrainSettings
    config: dict[str, Any]
    config_sha256: str
    folder: Path
    device: torch.device
    players: Players
    feed: Feed
    validator: Validator
    clock: Clock
    console: Console
    board: Board
    stats: Stats
    bicubic: Scores
    loss_judges: tuple[str, ...]


def train(settings: TrainSettings) -> int:
    """Trains until `duration_kimg`, or until asked to stop, and returns the exit code (0, or 75 for requeue).

    Raises:
        FaceSRError: a setting, the data, a weights file or the run folder is not as it has to be, or the loss
            is no longer finite.
    """
    device = dist.choose_device(settings.device)
    dist.initialise(device)
    stop = StopRequest()
    run = set_up(settings, device)
    clock, players = run.clock, run.players
    total_images = int(settings.duration_kimg * 1000)
    progress = Progress(total_images, clock.num_images)
    ticker = Ticker(clock.num_images)
    batches = run.feed.batches(clock.num_images)
    try:
        while clock.num_images < total_images:
            # Wait for a batch of augmented faces, and cut it into the parts that fit the memory.
            start = time.perf_counter()
            high = next(batches)
            parts = high.chunk(settings.accumulation_steps)
            ticker.data_seconds += time.perf_counter() - start

            # One step of both networks at the scheduled learning rate; then the average follows.
            set_learning_rates(run)
            figures = train_step(players, parts, clock.kimg)
            before, clock.num_images = clock.num_images, clock.num_images + settings.batch_size
            update_average(players, settings.batch_size, clock.num_images, settings.ema_halflife_kimg)
            ticker.add(figures)
            finished = clock.num_images >= total_images

            # Say how it goes; a loss that is not finite or explodes ends the run or takes it back once.
            if finished or due(before, clock.num_images, settings.log_every_kimg):
                healthy = report(run, ticker, progress, before_first=before == 0)
                if not healthy:
                    roll_back(run)
                    batches = run.feed.batches(clock.num_images)
                    continue
            elif progress.shown:
                progress.advance(clock.num_images - before)

            # Validate the averaged generator; keep its weights, and the best ones by IS.
            if finished or due(before, clock.num_images, settings.validation_every_kimg):
                validate(run)
                ticker.restart_clock()

            # Save the state, so that the same command can go on from here.
            asked = stop.agreed(players.num_steps, device)
            if finished or asked or due(before, clock.num_images, settings.state_every_kimg):
                save_state(run)
                ticker.restart_clock()
            if asked and not finished:
                run.console.say(f"asked to stop: saved at {clock.kimg:.1f} kimg; the same command resumes.")
                return EXIT_REQUEUE
        finish(run)
        return 0
    finally:
        progress.close()
        run.board.close()
        run.stats.close()
        run.console.close()
        stop.restore()


def set_up(settings: TrainSettings, device: torch.device) -> Run:
    """Returns a run that is ready for its next step: everything built, the newest state loaded."""
    check(settings)
    folder = open_run_folder(settings)
    config = plain_config(settings)
    config_sha256 = digest_of(identity_of(config))
    console = Console(folder / "log.txt")
    torch.manual_seed(settings.seed)
    np.random.seed(settings.seed % 2**32)
    settings = replace(settings, precision=choose_precision(settings.precision, device))

    # Rank 0 first: data that is rendered or fetched into a cache is then there for the others.
    faces = in_turn(lambda: build(settings.data.train))
    pairs = in_turn(lambda: build(settings.data.validation))
    judges = in_turn(lambda: [build(settings.embedder), *[build(load_group("embedder", j)) for j in settings.judges]])
    feed = Feed(
        faces,
        settings.data,
        seed=settings.seed,
        batch_size=settings.batch_size,
        rank=dist.rank(),
        world_size=dist.world_size(),
        device=device,
    )
    players = build_players(settings, device)
    for judge in judges:
        if isinstance(judge, nn.Module):
            judge.to(device)
    validator = Validator(pairs, judges, device)

    found = newest_state(folder / "state")
    clock = unpack_state(found[1], players, config_sha256) if found else Clock()
    run = Run(
        settings, config, config_sha256, folder, device, players, feed, validator, clock, console,
        board=Board(folder / "tensorboard", clock.num_images),
        stats=Stats(folder / "stats.jsonl", clock.num_images),
        bicubic=validator.score(upscale),
        loss_judges=judges_in_losses(players.terms),
    )  # fmt: skip
    num_parameters = sum(parameter.numel() for parameter in players.generator.parameters())
    console.say(
        f"run {settings.name}: {type(players.generator).__name__} with {num_parameters / 1e6:.2f} M parameters, "
        f"{len(faces)} faces, {len(pairs.names)} validation faces, {dist.world_size()} x {device.type} "
        f"{settings.precision}, folder {folder}"
    )
    if clock.num_images:
        console.say(f"resuming at {clock.kimg:.1f} kimg from {found[0] if found else ''}")
    return run


def check(settings: TrainSettings) -> None:
    """Raises ConfigError for a setting that is out of range."""
    positive = ("duration_kimg", "batch_size", "accumulation_steps", "log_every_kimg", "validation_every_kimg",
                "state_every_kimg", "num_snapshots_kept")  # fmt: skip
    for key in positive:
        if not getattr(settings, key) > 0:
            raise ConfigError(f"{key}={getattr(settings, key)} must be above 0.")
    share = settings.batch_size // dist.world_size()
    if share % settings.accumulation_steps:
        raise ConfigError(
            f"accumulation_steps={settings.accumulation_steps} does not divide the {share} faces of a rank; "
            "choose a divisor."
        )
    if not settings.losses:
        raise ConfigError("losses is empty; give at least one term, for example losses.pixel.")


def choose_precision(name: str, device: torch.device) -> str:
    """Returns fp32, bf16 or fp16; auto takes bf16 where the device has matrix units for it.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in ("auto", "fp32", "bf16", "fp16"):
        raise ConfigError(f"precision={name} is unknown; choose auto, fp32, bf16 or fp16.")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # Without AMX tiles bf16 is slower than fp32 on a CPU.
    return "bf16" if torch.cpu._is_amx_tile_supported() else "fp32"


def in_turn(make: Any) -> Any:
    """Returns `make()`, called on rank 0 first and on the other ranks once that is done."""
    if not dist.is_main():
        dist.barrier()
        return make()
    made = make()
    dist.barrier()
    return made


def build_players(settings: TrainSettings, device: torch.device) -> Players:
    """Returns networks, optimisers and loss terms on the device, the same weights on every rank.

    Raises:
        ConfigError: an adversarial loss without a discriminator, or the reverse.
    """
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    generator: nn.Module = build(settings.generator).to(device, memory_format=layout)
    if not any(parameter.requires_grad for parameter in generator.parameters()):
        raise ConfigError(f"generator {settings.generator['_target_']} has nothing to train; choose another one.")
    if settings.start_from is not None:
        snapshot = read_snapshot(Path(settings.start_from).expanduser())
        load_into(generator, snapshot.state, Path(settings.start_from))
    dist.copy_from_main(generator)
    terms: dict[str, LossTerm] = {}
    adversarial: Adversarial | None = None
    for name, node in settings.losses.items():
        term = build(node).to(device)
        if isinstance(term, Adversarial):
            adversarial = term
        else:
            terms[name] = term
    players = Players(
        generator=generator,
        generator_optimizer=build(settings.generator_optimizer, params=list(generator.parameters())),
        terms=terms,
        precision=settings.precision,
        gradient_clip_norm=settings.gradient_clip_norm,
        adversarial=adversarial,
    )
    if adversarial is not None:
        if not settings.discriminator:
            raise ConfigError(
                "losses has an adversarial term but there is no discriminator; give discriminator=unet or vgg."
            )
        players.discriminator = build(settings.discriminator).to(device, memory_format=layout)
        assert players.discriminator is not None
        dist.copy_from_main(players.discriminator)
        players.discriminator_optimizer = build(
            settings.discriminator_optimizer, params=list(players.discriminator.parameters())
        )
    if settings.compile:
        players.generator.compile()
        if players.discriminator is not None:
            players.discriminator.compile()
    return players


def judges_in_losses(terms: dict[str, LossTerm]) -> tuple[str, ...]:
    """Returns the names of the recognisers that take part in the loss, which makes them white-box judges."""
    networks = [getattr(term, key, None) for term in terms.values() for key in ("embedder", "network")]
    return tuple(sorted({network.name for network in networks if network is not None}))


def due(before: int, now: int, every_kimg: float) -> bool:
    """Returns whether a multiple of `every_kimg` was reached between two clocks."""
    every = every_kimg * 1000
    return math.floor(now / every) > math.floor(before / every)


def set_learning_rates(run: Run) -> None:
    """Sets both optimisers to the scheduled rate."""
    factor = run.clock.rate_factor * learning_rate_factor(
        run.settings.schedule, run.clock.kimg, run.settings.duration_kimg
    )
    for optimizer in (run.players.generator_optimizer, run.players.discriminator_optimizer):
        for group in optimizer.param_groups if optimizer is not None else []:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor


class StopRequest:
    """Remembers that SIGTERM or SIGUSR1 came; the loop saves and leaves when every rank knows."""

    signals = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.came = False
        self._earlier = [signal.signal(number, self._note) for number in self.signals]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True

    def agreed(self, num_steps: int, device: torch.device) -> bool:
        """Returns whether a rank was asked to stop; asked of the others only every few steps."""
        if dist.world_size() > 1 and num_steps % STOP_CHECK_STEPS:
            return False
        return dist.any_rank(self.came, device)

    def restore(self) -> None:
        """Puts the earlier handlers back."""
        for number, handler in zip(self.signals, self._earlier, strict=True):
            signal.signal(number, handler)


class Ticker:
    """Sums figures and time between two reports."""

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        self.reset(num_images)

    def reset(self, num_images: int) -> None:
        """Begins anew at `num_images`."""
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.num_images, self.data_seconds, self.paused_seconds = num_images, 0.0, 0.0
        self.start = self.mark = time.perf_counter()

    def add(self, figures: dict[str, Tensor]) -> None:
        """Adds one step's figures, without waiting for the device."""
        for name, value in figures.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.mark = time.perf_counter()

    def restart_clock(self) -> None:
        """Leaves the time since the last step (validation, saving) out of the speed."""
        now = time.perf_counter()
        self.paused_seconds += now - self.mark
        self.mark = now

    def means(self) -> dict[str, float]:
        """Returns each figure's mean over steps and ranks; this waits for the device."""
        names = sorted(self.sums)
        values = torch.stack([self.sums[name].double() / self.counts[name] for name in names])
        return dict(zip(names, dist.average_scalars(values).tolist(), strict=True))


def report(run: Run, ticker: Ticker, progress: Progress, before_first: bool) -> bool:
    """Writes figures everywhere and returns whether the loss is finite and has not exploded."""
    settings, clock = run.settings, run.clock
    figures = ticker.means()
    seconds = max(time.perf_counter() - ticker.start - ticker.paused_seconds, 1e-9)
    num_images = clock.num_images - ticker.num_images
    speed = num_images / seconds
    clock.seconds += seconds
    loss = figures["loss/total"]
    figures["learning_rate/generator"] = run.players.generator_optimizer.param_groups[0]["lr"]
    if run.players.discriminator_optimizer is not None:
        figures["learning_rate/discriminator"] = run.players.discriminator_optimizer.param_groups[0]["lr"]
    figures["speed/images_per_second"] = speed
    figures["speed/data_share"] = ticker.data_seconds / seconds
    figures.update(machine_figures(run.device))
    run.board.scalars(clock.num_images, figures)
    run.stats.write(clock.num_images, {"seconds": clock.seconds, **figures})
    left = (settings.duration_kimg * 1000 - clock.num_images) / speed
    if progress.shown:
        progress.advance(
            num_images if before_first else settings.batch_size, loss=f"{loss:.4f}", speed=f"{speed:.0f}/s"
        )
    else:
        terms = "  ".join(f"{n.split('/')[1]} {v:.4f}" for n, v in figures.items() if n.startswith("loss/"))
        run.console.say(f"{clock.kimg:9.1f} kimg  {speed:6.0f} img/s  {eta(left)} left  {terms}")
    ticker.reset(clock.num_images)
    return is_healthy(run, figures)


def eta(seconds: float) -> str:
    """Returns a duration as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def machine_figures(device: torch.device) -> dict[str, float]:
    """Returns memory in MiB and, where NVML offers it, power in watts."""
    if device.type != "cuda":
        import resource

        return {"machine/memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    figures = {"machine/memory_mib": torch.cuda.max_memory_allocated(device) / 2**20}
    watts = PowerMeter(device).watts()
    if watts is not None:
        figures["machine/power_watts"] = watts
    return figures


def is_healthy(run: Run, figures: dict[str, float]) -> bool:
    """Returns whether every figure is finite and the smoothed loss has not exploded; updates the smoothed loss."""
    clock, factor = run.clock, run.settings.explosion_factor
    watched = {name: value for name, value in figures.items() if name.startswith(("loss/", "gradient_norm/"))}
    # GradScaler meets infinite gradients by design and lowers its scale; then only the losses count.
    if run.players.scaler.is_enabled():
        watched = {name: value for name, value in watched.items() if name.startswith("loss/")}
    if not all(math.isfinite(value) for value in watched.values()):
        return False
    loss = figures["loss/total"]
    clock.smoothed_loss = loss if math.isnan(clock.smoothed_loss) else clock.smoothed_loss + SMOOTHING * (
        loss - clock.smoothed_loss
    )  # fmt: skip
    clock.lowest_loss = min(clock.lowest_loss, abs(clock.smoothed_loss))
    return not (factor > 0 and abs(loss) > factor * max(clock.lowest_loss, 1e-6))


def roll_back(run: Run) -> None:
    """Returns to the last saved state at half the learning rate, once; raises TrainingError where it cannot."""
    bad_kimg = run.clock.kimg
    advice = "lower generator_optimizer.lr, or set gradient_clip_norm"
    found = newest_state(run.folder / "state")
    if not run.settings.rollback or run.clock.num_rollbacks > 0 or found is None:
        raise TrainingError(
            f"run {run.settings.name}: the loss is not finite or exploded at {bad_kimg:.1f} kimg; {advice}, "
            "and start under another name."
        )
    earlier = unpack_state(found[1], run.players, run.config_sha256)
    earlier.rate_factor, earlier.num_rollbacks = earlier.rate_factor * 0.5, earlier.num_rollbacks + 1
    vars(run.clock).update(vars(earlier))
    run.console.say(
        f"the loss is not finite or exploded at {bad_kimg:.1f} kimg: back to {run.clock.kimg:.1f} kimg at half the "
        f"learning rate (once); if it happens again, {advice}."
    )


def validate(run: Run) -> None:
    """Scores the averaged generator, writes pictures and a snapshot, and keeps the best one by IS."""
    average, clock = run.players.average, run.clock
    scores = run.validator.score(lambda low: restore_batch(average, low))
    if not dist.is_main():
        return
    means, ranking = scores.means, run.validator.ranking_metric
    figures = {f"validation/{name}": value for name, value in means.items()}
    run.board.scalars(clock.num_images, figures)
    run.board.histogram(clock.num_images, "validation/is_per_face", scores.per_face[ranking])
    run.stats.write(clock.num_images, figures)
    shown = slice(0, NUM_GRID_FACES)
    low = run.validator.pairs.low[shown]
    restored = to_uint8(restore_batch(average, to_float(low).to(run.device)))
    run.board.pictures(clock.num_images, as_columns(low, restored, run.validator.pairs.high[shown]))
    snapshot = Snapshot(
        state=dict(average.state_dict()),
        generator=dict(run.settings.generator),
        run=run.settings.name,
        kimg=clock.kimg,
        config_sha256=run.config_sha256,
        loss_judges=run.loss_judges,
        scores=means,
        sha256="",
    )
    folder = run.folder / "snapshots"
    write_snapshot(folder / f"{clock.num_images:09d}.safetensors", snapshot)
    better = means[ranking] > clock.best_score
    if better:
        clock.best_score = means[ranking]
        write_snapshot(folder / "best.safetensors", snapshot)
    remove_oldest_snapshots(folder, run.settings.num_snapshots_kept)
    run.console.say(f"{clock.kimg:9.1f} kimg  validation  {score_line(means)}{'  (best)' if better else ''}")


def score_line(means: dict[str, float]) -> str:
    """Returns scores in one line."""
    units = {"psnr_rgb": " dB", "psnr_y": " dB", "consistency": " dB"}
    return "  ".join(
        f"{name} {value:.{2 if name in units else 4}f}{units.get(name, '')}" for name, value in means.items()
    )


def save_state(run: Run) -> None:
    """Writes the training state on rank 0; the others wait, so that none runs ahead of a failure."""
    if dist.is_main():
        state = pack_state(run.players, run.clock, run.config_sha256)
        write_state(run.folder / "state", run.clock.num_images, state)
    dist.barrier()


def finish(run: Run) -> None:
    """Prints the table bicubic against trained, and writes hparams with the final scores."""
    average = run.players.average
    scores = run.validator.score(lambda low: restore_batch(average, low))
    if not dist.is_main():
        return
    run.board.final(run.config, scores.means)
    ranking = run.validator.ranking_metric
    rows = [("bicubic", run.bicubic), (run.settings.name, scores)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}  {'IS':>6}  {'PSNR':>8}  {'SSIM':>6}  {'ms/face':>8}   (IS by {ranking.split('/')[1]})"]
    for name, row in rows:
        means = row.means
        lines.append(
            f"{name:{width}}  {means[ranking]:6.4f}  {means['psnr_rgb']:5.2f} dB  {means['ssim']:6.4f}  "
            f"{1000 * row.restore_seconds:8.2f}"
        )
    run.console.say("\n" + "\n".join(lines))
    minutes = run.clock.seconds / 60
    run.console.say(
        f"\n{run.clock.kimg:.1f} kimg in {minutes:.1f} minutes; best snapshot: {run.folder}/snapshots/best.safetensors"
    )
