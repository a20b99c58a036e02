"""Several seeds: their mean and deviation, however they are batched, and the files that show it."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from facesr.errors import ConfigError
from facesr.methods.pulse.kept import Kept
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.pulse import check_pulse
from facesr.methods.pulse.search import search
from facesr.methods.pulse.spread import Moments
from facesr.methods.pulse.status import tell
from facesr.png import read_png, write_png


def test_mean_and_deviation_are_those_of_all_pictures_at_once():
    pictures = np.random.default_rng(2).integers(0, 256, (5, 6, 4, 3), np.uint8)
    moments = Moments()
    for number, picture in enumerate(pictures):
        assert (moments.mean is None) == (moments.deviation is None) == (number < 2)
        moments.add(picture)
    np.testing.assert_array_equal(moments.mean, np.rint(pictures.mean(0)))
    wanted = np.sqrt(pictures.astype(float).var(0, ddof=1).mean(-1))
    np.testing.assert_allclose(moments.deviation, wanted, atol=0.501)


def test_the_largest_deviation_has_a_grey_level():
    moments = Moments()
    for value in (0, 255):
        moments.add(np.full((1, 1, 3), value, np.uint8))
    # 255 / sqrt(2)
    assert moments.deviation.item() == 180 and set(moments.mean.flat) == {128}


def test_the_spread_is_that_of_the_seeds_searched_alone_whatever_the_batch(toy, low, pulse_settings):
    operator = operator_for("auto", toy.size, (4, 4))
    single = [search(toy, operator, low[:2], replace(pulse_settings, seed=seed)) for seed in (3, 4, 5)]
    for batch_size in (1, 2, 16):
        settings = replace(pulse_settings, seed=3, num_seeds=3, spread=True, batch_size=batch_size)
        searched = []
        watch = lambda step, variables, lowest: searched.append(len(variables.latents))  # noqa: B023, E731
        for number, found in enumerate(search(toy, operator, low[:2], settings, watch)):
            alike = np.stack([one[number].picture for one in single if one[number].converged]).astype(float)
            assert found.num_alike == len(alike) >= 2
            np.testing.assert_allclose(found.mean, alike.mean(0), atol=1.01)
            np.testing.assert_allclose(found.deviation, np.sqrt(alike.var(0, ddof=1).mean(-1)), atol=1.51)
            assert found.seed == min((3, 4, 5), key=lambda seed: single[seed - 3][number].best_l2)
        assert max(searched) == min(batch_size, 6)


def test_seeds_that_do_not_fit_are_no_answers(toy, low, pulse_settings):
    settings = replace(pulse_settings, num_seeds=3, spread=True, eps=1e-12, steps=2)
    (found,) = search(toy, operator_for("auto", toy.size, (4, 4)), low[:1], settings)
    assert (found.num_alike, found.mean, found.deviation) == (0, None, None)


def test_what_is_kept_and_written(toy, low, pulse_settings, tmp_path):
    operator = operator_for("auto", toy.size, (4, 4))
    with_spread = search(toy, operator, low[:1], replace(pulse_settings, num_seeds=3, spread=True))[0]
    plain = search(toy, operator, low[1:2], pulse_settings)[0]
    kept = Kept(tmp_path / "kept")
    for key, found in (("a", with_spread), ("b", plain)):
        kept.put(key * 64, found)
        write_png(tmp_path / f"{key}.png", found.downscaled)
    again = {key: kept.get(key * 64) for key in "ab"}
    assert again["b"].mean is None and again["a"].num_alike == with_spread.num_alike
    np.testing.assert_array_equal(again["a"].deviation, with_spread.deviation)
    results = {read_png(tmp_path / f"{key}.png").tobytes(): found for key, found in again.items()}
    out = tmp_path / "out"
    (out / "spread").mkdir(parents=True)
    (out / "spread" / "old_std.png").touch()
    tell(lambda picture: results[picture.tobytes()], "", {key: tmp_path / f"{key}.png" for key in "ab"}, out)
    assert sorted(path.name for path in (out / "spread").iterdir()) == ["a_mean.png", "a_std.png"]
    np.testing.assert_array_equal(read_png(out / "spread" / "a_std.png")[..., 0], with_spread.deviation)
    with (out / "pulse_status.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["seeds_found"], second["seeds_found"], second["mean_std"]) == (str(with_spread.num_alike), "", "")
    assert float(first["mean_std"]) == pytest.approx(with_spread.deviation.mean(), abs=0.006)


def test_the_spread_of_one_seed_is_refused(pulse_settings):
    with pytest.raises(ConfigError, match=r"pulse\.num_seeds=2 or more"):
        check_pulse(replace(pulse_settings, spread=True))
