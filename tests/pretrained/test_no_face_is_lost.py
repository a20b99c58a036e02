"""Every shipped snapshot on the competition's 300 validation faces: the worst face, not the mean."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.image import to_float
from facesr.methods.open import open_method
from facesr.methods.restore import restore_batch, restore_pictures
from facesr.metrics.consistency import consistency
from facesr.metrics.psnr import psnr_rgb
from facesr.models.features import recorded
from facesr.png import list_png, stack_pictures
from facesr.snapshots.shipped import PREFIX, shipped_names

CPU = torch.device("cpu")
# Bicubic interpolation has a mean of 36 dB; a face below this was not restored from its input.
LOWEST_CONSISTENCY_DB = 43.0
# What a GAN and recognisers may cost a single face that is not restored well anyway.
MOST_LOST_DB, GOOD_DB = 1.0, 30.0
# Of 300 flat colours the one that made the largest feature before the limit on hidden features: 20.9 times a face's.
WORST_FLAT = (0.3, 0.7, 0.0)
FACES = ("asc19_final", "asc19_psnr")


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("self_ensemble", [False, True])
def test_no_official_face_is_lost(shared: Path, self_ensemble: bool) -> None:
    low_files, high_files = list_png(shared / "asc19" / "val_LR"), list_png(shared / "asc19" / "val_HR")
    low, high = stack_pictures(low_files.values()), to_float(stack_pictures(high_files.values()))
    names = np.array(list(low_files))
    restored = {
        # Without the guard, which would restore such a face by another method: it is the networks that are tested.
        name: to_float(
            restore_pictures(open_method(PREFIX + name, CPU, guard=False), low, device=CPU, self_ensemble=self_ensemble)
        )
        for name in FACES
    }
    reference = psnr_rgb(restored["asc19_psnr"], high)
    for name, pictures in restored.items():
        inconsistent = consistency(pictures, to_float(low)) < LOWEST_CONSISTENCY_DB
        assert not inconsistent.any(), (name, names[inconsistent])
        found = psnr_rgb(pictures, high)
        lost = (found < reference - MOST_LOST_DB) & ~((found > GOOD_DB) & (reference > GOOD_DB))
        assert not lost.any(), (name, names[lost], found[lost], reference[lost])


# By construction: every convolution has an input within a limit.
@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_names())
def test_no_input_makes_features_run_away(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    network = open_method(PREFIX + name, CPU).generator
    noise = torch.rand(32, 3, 28, 24, generator=generator)
    flat = torch.rand(32, 3, 1, 1, generator=generator).round(decimals=1).expand(32, 3, 28, 24)
    flat = torch.cat([flat[1:], torch.tensor(WORST_FLAT).view(1, 3, 1, 1).expand(1, 3, 28, 24)])
    dots = (torch.rand(32, 1, 28, 24, generator=generator) < 0.05).float().expand(32, 3, 28, 24)
    smooth = torch.nn.functional.interpolate(torch.rand(32, 3, 4, 3, generator=generator), (28, 24), mode="bicubic")
    with recorded(network) as found:
        for low in (smooth.clamp(0, 1), noise, flat, flat.round(), dots):
            restore_batch(network, low)
    largest = found.per_picture().view(5, 32)
    assert largest.max() < 5.0 * largest[0].median()
