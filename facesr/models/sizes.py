"""The check that the networks' counts come through: a user sets them on the command line."""

from facesr.errors import ConfigError


def check_counts(**counts: int) -> None:
    """Checks that each named count is at least 1.

    Raises:
        ConfigError: one is smaller.
    """
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name}={count} is too small for a network; give 1 or more.")
