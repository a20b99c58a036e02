"""A Slurm of two nodes for the tests of this folder."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yields a running Slurm, which ends with the tests however they end."""
    # Not below tmp_path: munge wants a path that everybody may follow to its socket.
    with tempfile.TemporaryDirectory(prefix="facesr-slurm-") as folder:
        Path(folder).chmod(0o711)
        made = Cluster(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()
