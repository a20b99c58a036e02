"""The learning rate as a function of the images seen."""

import math

from facesr.config import ScheduleSettings
from facesr.errors import ConfigError


def learning_rate_factor(settings: ScheduleSettings, kimg: float, duration_kimg: float) -> float:
    """Returns the factor of the learning rate at `kimg` thousand images, 0..1.

    Raises:
        ConfigError: the kind of schedule is unknown.
    """
    warm = min(1.0, (kimg + 1e-9) / settings.warmup_kimg) if settings.warmup_kimg > 0 else 1.0
    if settings.kind == "constant":
        return warm
    if settings.kind == "cosine":
        share = min(kimg / duration_kimg, 1.0)
        return warm * (settings.final_factor + (1.0 - settings.final_factor) * 0.5 * (1.0 + math.cos(math.pi * share)))
    if settings.kind == "step":
        return warm * settings.step_factor ** sum(kimg >= boundary for boundary in settings.step_kimg)
    raise ConfigError(f"schedule.kind={settings.kind} is unknown; choose constant, cosine or step.")
