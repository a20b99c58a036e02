"""What a run says between two reports: figures to console, TensorBoard and stats.jsonl, and whether it is healthy."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from facesr import dist
from facesr.energy import Reading, total_joules
from facesr.log import Progress, shown_kimg
from facesr.processes import peak_memory_mib
from facesr.training.health import is_healthy
from facesr.training.run import Run


class Ticker:
    """Sums figures and time between two reports."""

    def __init__(self, num_images: int, unreported: Mapping[str, Any], device: torch.device) -> None:
        """Begins at `num_images`, or with what a state had `packed`, on as many ranks or on another number of them."""
        self.reset(num_images)
        if unreported:
            self._unpack(unreported, device)

    def reset(self, num_images: int) -> None:
        """Begins anew at `num_images`."""
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.num_images, self.data_seconds, self.paused_seconds, self.joules = num_images, 0.0, 0.0, 0.0
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

    def packed(self) -> dict[str, Any] | None:
        """Returns on rank 0 what every rank has summed, as plain values, None elsewhere; all ranks have to ask.

        A state that is saved between two reports holds it: a resumed run then reports what the uninterrupted one
        would have reported.
        """
        of_ranks = dist.gather_objects(
            {"sums": {name: float(value) for name, value in self.sums.items()}, "counts": dict(self.counts)}
        )
        if of_ranks is None:
            return None
        times = {"num_images": self.num_images, "seconds": time.perf_counter() - self.start, "joules": self.joules}
        paused = {"data_seconds": self.data_seconds, "paused_seconds": self.paused_seconds}
        return {**times, **paused, "ranks": of_ranks}

    def _unpack(self, packed: Mapping[str, Any], device: torch.device) -> None:
        ranks = packed["ranks"]
        # Where the ranks are other ones, all go on from the mean: what is reported is a mean over ranks.
        mine = [ranks[dist.rank()]] if len(ranks) == dist.world_size() else ranks
        for name in mine[0]["sums"]:
            mean = sum(one["sums"][name] for one in mine) / len(mine)
            self.sums[name] = torch.tensor(mean, dtype=torch.float32, device=device)
        self.counts = dict(mine[0]["counts"])
        self.num_images, self.joules = packed["num_images"], packed["joules"]
        self.data_seconds, self.paused_seconds = packed["data_seconds"], packed["paused_seconds"]
        self.start = self.mark - packed["seconds"]

    def means(self) -> dict[str, float]:
        """Returns each figure's mean over steps and ranks; this waits for the device, and all ranks have to ask."""
        if not self.sums:
            return {}
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
    figures["learning_rate/generator"] = run.gan.generator_optimizer.param_groups[0]["lr"]
    if run.gan.discriminator_optimizer is not None:
        figures["learning_rate/discriminator"] = run.gan.discriminator_optimizer.param_groups[0]["lr"]
    figures["speed/images_per_second"] = speed
    figures["speed/data_share"] = ticker.data_seconds / seconds
    memory = memory_mib(run.device)
    if memory is not None:
        figures["machine/memory_mib"] = memory
    ticker.joules += count_energy(run)
    if not math.isnan(ticker.joules):
        figures["machine/power_watts"] = ticker.joules / max(time.perf_counter() - ticker.start, 1e-9)
    run.board.scalars(clock.num_images, figures)
    run.stats.write(clock.num_images, {"seconds": clock.seconds, **figures})
    left = max(settings.duration_kimg * 1000 - clock.num_images, 0.0) / speed
    # With what comes after this run, where it is part of a plan.
    whole = "" if run.part is None else eta(left + run.part.images_after / speed)
    if progress.shown:
        told = {"loss": f"{loss:.4f}", "speed": f"{speed:.0f}/s", **({"whole": whole} if whole else {})}
        progress.advance(num_images if before_first else settings.batch_size, **told)
    else:
        terms = "  ".join(f"{n.split('/')[1]} {v:.4f}" for n, v in figures.items() if n.startswith("loss/"))
        remaining = f"{eta(left)} left  {f'{whole} in all  ' if whole else ''}"
        run.console.say(f"{shown_kimg(clock.kimg):>9} kimg  {speed:6.0f} img/s  {remaining}{terms}")
    before = ticker.num_images
    ticker.reset(clock.num_images)
    return is_healthy(run, figures, before)


def eta(seconds: float) -> str:
    """Returns a duration as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def memory_mib(device: torch.device) -> float | None:
    """Returns the peak memory in MiB, of the device or, on a CPU, of the process, None where that is not known."""
    if device.type != "cuda":
        return peak_memory_mib()
    return torch.cuda.max_memory_allocated(device) / 2**20


def count_energy(run: Run) -> float:
    """Adds the energy of all ranks since the last count to the clock and to the run's log, and returns it, in joules.

    It is NaN where a rank's energy cannot be measured; the clock's is then not known either.
    """
    run.meter.stop()
    readings = dist.gather_objects(vars(run.meter.reading(dist.rank())))

    def add() -> float | None:
        of_ranks = [Reading(**facts) for facts in readings or ()]
        run.energy.add(of_ranks, run.clock.num_images)
        return total_joules(of_ranks)

    joules = dist.once(add)
    total = float("nan") if joules is None else joules
    run.clock.joules += total
    run.meter.start()
    return total
