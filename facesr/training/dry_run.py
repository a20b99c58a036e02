"""What a run or a recipe would take, told before it is trained; nothing is written to a run's folder.

What stands in the cache (synthetic faces, fetched weights) may be filled, as by any command.
"""

import math
from dataclasses import dataclass, replace

import torch
import yaml
from torch import nn

from facesr import dist
from facesr.config import TrainSettings
from facesr.log import Console, shown_kimg
from facesr.models.counting import count_macs_of, count_parameters
from facesr.snapshots.snapshot import newest_clock
from facesr.training.check import check
from facesr.training.measure import (
    MEASURED_STEPS,
    VALIDATED,
    Kept,
    Phase,
    bytes_of,
    measured_phase,
    one_step,
    optimizer_bytes,
    phase_bounds,
    trained_weights,
    validation_seconds,
)
from facesr.training.precision import choose_precision
from facesr.training.recipe import Recipe
from facesr.training.recipe_check import check_stages
from facesr.training.report import eta
from facesr.training.run import Parts, build_parts
from facesr.training.rundir import find_run_folder, plain_config
from facesr.training.stages import standings

_MIB = 2**20


@dataclass(frozen=True)
class Length:
    """How much work a run is.

    Attributes:
        num_steps: steps of training.
        num_images: faces that they show.
        num_validations: times that it is validated.
        num_states: times that it is saved.
    """

    num_steps: int
    num_images: int
    num_validations: int
    num_states: int


def length_of(settings: TrainSettings) -> Length:
    """Returns how much work a run is, from its beginning."""
    steps = math.ceil(int(settings.duration_kimg * 1000) / settings.batch_size)
    return Length(
        steps,
        steps * settings.batch_size,
        _num_times(steps, settings.batch_size, settings.validation_every_kimg),
        _num_times(steps, settings.batch_size, settings.state_every_kimg),
    )


def _num_times(steps: int, batch_size: int, every_kimg: float) -> int:
    """Returns in how many steps a multiple of `every_kimg` is reached, the last step counted in any case."""
    every = every_kimg * 1000
    reached = sum(
        math.floor(n * batch_size / every) > math.floor((n - 1) * batch_size / every) for n in range(1, steps)
    )
    return reached + 1


def dry_run(settings: TrainSettings) -> int:
    """Tells what a run would take, and returns the exit code 0.

    Raises:
        FaceSRError: it could not be trained either.
    """
    device = dist.choose_device(settings.device)
    dist.initialise(device)
    folder, _ = find_run_folder(settings)
    done = dist.once(lambda: newest_clock(folder / "state"))
    look_at(f"run {settings.name}", settings, done, device)
    Console().say("\ndry run: nothing was trained, and nothing was written to its folder")
    return 0


def dry_run_recipe(recipe: Recipe) -> int:
    """Tells what each stage of a recipe would take, and the whole, and returns the exit code 0.

    Raises:
        FaceSRError: it could not be trained either.
    """
    device = dist.choose_device(recipe.stages[0].settings.device)
    dist.initialise(device)
    found = standings(recipe)
    check_stages(recipe, found, device)
    console, seconds, steps = Console(), 0.0, 0
    for stage, standing in zip(recipe.stages, found, strict=True):
        if standing.finished:
            minutes = "" if standing.seconds is None else f" in {standing.seconds / 60:.1f} minutes of training"
            console.say(f"== {stage.label}\n{_yaml(stage.settings)}")
            console.say(f"finished: {shown_kimg(standing.num_images / 1000)} kimg{minutes}\n")
            continue
        # Where the stage before is still to be trained, weights of the same shapes take as long.
        unstarted = stage.settings if stage.number == 1 else replace(stage.settings, start_from=None)
        seconds += look_at(stage.label, stage.settings, standing.num_images, device, unstarted)
        steps += length_of(stage.settings).num_steps - standing.num_images // stage.settings.batch_size
        console.say()
    console.say(f"recipe {recipe.name}: {steps:,} steps are left, about {eta(seconds)} by what was measured here")
    console.say("dry run: nothing was trained, and nothing was written to its folders")
    return 0


def look_at(
    label: str, settings: TrainSettings, done: int, device: torch.device, built: TrainSettings | None = None
) -> float:
    """Tells what a run would take, and returns how many seconds are left of it.

    Args:
        label: what it is called.
        settings: of the run.
        done: images that it has seen so far.
        device: where it would be trained.
        built: what is built to measure, where that is not the run itself.
    """
    check(settings)
    chosen = choose_precision(settings.precision, device)
    built = replace(built or settings, precision=chosen)
    parts = build_parts(built, device)
    console = Console()
    console.say(f"== {label}\n{_yaml(settings)}")
    console.say("\n".join(_networks(parts, device)) + "\n")
    phases = [measured_phase(parts, built, bounds, device) for bounds in phase_bounds(built)]
    console.say("\n".join(_memory(parts, built, device)) + "\n")
    length, validation = length_of(settings), validation_seconds(parts, device)
    shares = f"{dist.world_size()} x {device.type} {chosen}"
    console.say(
        f"{shown_kimg(settings.duration_kimg)} kimg: {length.num_steps:,} steps of {settings.batch_size} faces, "
        f"{length.num_images:,} images; {length.num_validations} validations of {len(parts.pairs.names)} pictures, "
        f"{length.num_states} states"
    )
    for phase in phases:
        speed, waiting = settings.batch_size / phase.step_seconds, phase.data_seconds / phase.step_seconds
        console.say(
            f"from {shown_kimg(phase.first_kimg)} kimg: {1000 * phase.step_seconds:.1f} ms a step, {speed:.1f} img/s, "
            f"{waiting:.0%} of it waiting for faces (measured on {MEASURED_STEPS} steps, {shares})"
        )
    console.say(f"a validation: {validation:.1f} s (measured on {min(VALIDATED, len(parts.pairs.names))} pictures)")
    whole, left = (seconds_from(images, settings, phases, validation) for images in (0, done))
    begun = f"; {eta(left)} of it are left from {shown_kimg(done / 1000)} kimg on" if done else ""
    console.say(f"estimated time: {eta(whole)}{begun}; imports, set-up and saving left out")
    return left


def seconds_from(done: int, settings: TrainSettings, phases: list[Phase], validation: float) -> float:
    """Returns how long a run takes from a clock on: its steps by phase, and its validations.

    Args:
        done: images that it has seen.
        settings: of the run.
        phases: of it, in order.
        validation: seconds of one.
    """
    length = length_of(settings)
    if done >= length.num_images:
        return 0.0
    seconds = 0.0
    for phase in phases:
        last = length.num_images / 1000 if phase is phases[-1] else phase.last_kimg
        images = max(0.0, 1000 * (last - max(phase.first_kimg, done / 1000)))
        seconds += images / settings.batch_size * phase.step_seconds
    # Bicubic interpolation is scored once at the start.
    validations = length.num_validations - math.floor(done / (settings.validation_every_kimg * 1000)) + 1
    return seconds + validations * validation


def _yaml(settings: TrainSettings) -> str:
    text: str = yaml.safe_dump(plain_config(settings), sort_keys=False, allow_unicode=True)
    return text


def _networks(parts: Parts, device: torch.device) -> list[str]:
    """Returns a table of the networks: parameters, and multiply-accumulates for one face of the run's size."""
    height, width = parts.pairs.high.shape[1:3]
    sizes = {"generator": parts.pairs.low.shape[1:3], "discriminator": (height, width)}
    rows = [("network", "parameters", "MACs a face")]
    for name, (h, w) in sizes.items():
        network = getattr(parts.gan, name)
        if network is not None:
            rows.append(
                (f"{name} {type(network).__name__}", f"{count_parameters(network):,}", _macs(network, h, w, device))
            )
    for name, network in frozen_networks(parts).items():
        rows.append((f"{name} {type(network).__name__}, frozen", f"{count_parameters(network):,}", ""))
    wide = max(len(row[0]) for row in rows)
    return [f"{one:{wide}}  {two:>12}  {three:>12}".rstrip() for one, two, three in rows]


def _macs(network: nn.Module, height: int, width: int, device: torch.device) -> str:
    try:
        with torch.compiler.set_stance("force_eager"):
            return f"{count_macs_of(network, torch.zeros(1, 3, height, width, device=device)) / 1e9:.3f} G"
    except TypeError:
        return "not counted"  # a layer of somebody's own; facesr.models.counting names it


def frozen_networks(parts: Parts) -> dict[str, nn.Module]:
    """Returns the networks inside loss terms by the key of the term, the adversarial one's not among them."""
    found: dict[str, nn.Module] = {}
    for name, term in parts.gan.terms.items():
        for key in ("embedder", "network"):
            inner = getattr(term, key, None)
            if isinstance(inner, nn.Module):
                found[f"losses.{name}.{key}"] = inner
    return found


def _memory(parts: Parts, settings: TrainSettings, device: torch.device) -> list[str]:
    """Returns a table of what lies in the memory of a rank while it trains, after some steps were done."""
    gan = parts.gan
    trained = [network for network in (gan.generator, gan.discriminator) if network is not None]
    kept = Kept(gan.generator, gan.discriminator, *frozen_networks(parts).values())
    faces = next(parts.feed.batches(0))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with kept.counting():
        one_step(parts, settings, faces, 0, settings.duration_kimg)
    weights = sum(bytes_of([*network.parameters(), *network.buffers()]) for network in trained)
    optimizers = (gan.generator_optimizer, gan.discriminator_optimizer)
    gradients = sum(bytes_of(trained_weights(optimizer)) for optimizer in optimizers)
    frozen = {id(one): bytes_of([*one.parameters(), *one.buffers()]) for one in frozen_networks(parts).values()}
    states = sum(map(optimizer_bytes, optimizers))
    resident = parts.faces.images.nbytes if parts.feed.residency == "device" else 0
    rows = [
        ("weights of the networks", weights, "counted"),
        ("their averaged copy", bytes_of([*gan.average.parameters(), *gan.average.buffers()]), "counted"),
        ("gradients", gradients, "counted"),
        ("states of the optimisers", states, "counted after some steps"),
        ("frozen networks of the losses", sum(frozen.values()), "counted"),
        ("kept for the backward pass", kept.peak, f"measured on one step of {len(faces)} faces, every term in play"),
        ("training faces", resident, f"residency {parts.feed.residency}: {parts.faces.images.nbytes / _MIB:.1f} MiB"
         + ("" if resident else " in a memory map, not counted")),
    ]  # fmt: skip
    rows.append(("together", sum(row[1] for row in rows), "estimated: buffers of single operations are left out"))
    if device.type == "cuda":
        rows.append(("most at one time", torch.cuda.max_memory_allocated(device), "measured on that step"))
        rows.append(("the device has", torch.cuda.get_device_properties(device).total_memory, ""))
    return [f"{'memory of a rank':30}  {'MiB':>9}", *(f"{a:30}  {b / _MIB:9.1f}  {c}".rstrip() for a, b, c in rows)]
