"""What an interpolation of two snapshots is made of, and the digests that follow from it; nothing here needs torch.

The verifier of archives computes an interpolation's digest again from what its manifest states, so the rule stands in
one place for whoever interpolates (`facesr.snapshots.interpolation`) and whoever checks.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class InterpolationParts:
    """The two snapshots of an interpolation.

    Attributes:
        weights_sha256: of the first and of the second file.
        config_sha256: digests of the two runs' configurations, as the snapshots state them.
        weight: the second one's share of the weights, 0 to 1.
    """

    weights_sha256: tuple[str, str]
    config_sha256: tuple[str, str]
    weight: float

    @property
    def interpolated_weights_sha256(self) -> str:
        """The interpolation's own `weights_sha256`."""
        return interpolation_sha256(*self.weights_sha256, self.weight)

    @property
    def interpolated_config_sha256(self) -> str:
        """The interpolation's own `config_sha256`."""
        return interpolation_sha256(*self.config_sha256, self.weight)


def interpolation_sha256(first: str, second: str, weight: float) -> str:
    """Returns the digest of an interpolation: the sha256 of four lines of text, ``blend``, the two digests and the
    share.

    Each ends with a line feed; the share is the shortest decimal that reads back as the same double, such as 0.25.
    """
    return hashlib.sha256(f"blend\n{first}\n{second}\n{float(weight)!r}\n".encode()).hexdigest()
