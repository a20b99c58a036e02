"""``import facesr``: what it exports, the examples of docs/python.md, and what it refuses."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import facesr
from facesr import api
from facesr.errors import ConfigError, DataError, FaceSRError, ImageError
from facesr.methods.restore import restore_pictures
from facesr.png import write_png

ROOT = Path(__file__).resolve().parent.parent


def test_exported_names() -> None:
    assert facesr.__all__ == ["OpenMethod", "__version__", "degrade", "list_methods", "open_method", "score"]
    assert all(hasattr(facesr, name) for name in facesr.__all__) and set(facesr.__all__) <= set(dir(facesr))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        facesr.nothing  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, facesr; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False"]


def test_examples_of_the_document_and_the_docstrings() -> None:
    flags = doctest.IGNORE_EXCEPTION_DETAIL
    found = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False, optionflags=flags)
    assert (found.failed, found.attempted > 15) == (0, True)
    found = doctest.testmod(api, optionflags=flags)
    assert (found.failed, found.attempted > 8) == (0, True)


def test_answers_are_shaped_as_the_pictures_were_given(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    stack = random.integers(0, 256, (3, 28, 24, 3), np.uint8)
    wide = random.integers(0, 256, (7, 9, 3), np.uint8)
    method = facesr.open_method("bicubic", device="cpu")
    whole = method.restore(stack)
    assert np.array_equal(whole, restore_pictures(method._method, stack, device=method.device))
    assert np.array_equal(method.restore(stack[1]), whole[1])
    write_png(tmp_path / "b.png", stack[2])
    write_png(tmp_path / "a.png", wide)
    mixed = method.restore([stack[0], wide, str(tmp_path / "b.png")])
    assert [picture.shape for picture in mixed] == [(112, 96, 3), (28, 36, 3), (112, 96, 3)]
    assert np.array_equal(mixed[0], whole[0]) and np.array_equal(mixed[2], whole[2])
    by_name = method.restore(tmp_path)
    assert np.array_equal(by_name[0], mixed[1]) and np.array_equal(by_name[1], whole[2])


def test_scores_are_one_a_picture_whatever_their_sizes() -> None:
    high = [np.full((16, 12, 3), 100, np.uint8), np.full((20, 12, 3), 100, np.uint8)]
    restored = [high[0] + np.uint8(10), high[1] + np.uint8(20)]
    scores = facesr.score(restored, high, judges=[], device="cpu")
    assert scores["rmse"].tolist() == pytest.approx([10.0, 20.0])
    assert scores["psnr_rgb"].tolist() == pytest.approx([10 * np.log10(255**2 / 100), 10 * np.log10(255**2 / 400)])


FACE = np.zeros((28, 24, 3), np.uint8)
EMPTY = FACE[None][:0]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: api.open_method("nothing"), FaceSRError, "nothing is neither bicubic"),
        (lambda: api.open_method("bicubic", device="tpu"), ConfigError, "device=tpu is unknown"),
        (lambda: api.open_method("bicubic", device="cpu").restore(FACE / 255.0), ImageError, r"float64 \(28, 24, 3\)"),
        (lambda: api.open_method("bicubic", device="cpu").restore(FACE[..., 0]), ImageError, r"uint8 \(28, 24\)"),
        (lambda: api.open_method("bicubic", device="cpu").restore("no.png"), DataError, "no.png is not a file"),
        (lambda: api.degrade(FACE[:27]), ImageError, "24x27 cannot be downscaled by 4"),
        (lambda: api.score(FACE, [FACE, FACE], judges=[]), ImageError, "restored holds 1 pictures and high 2"),
        (lambda: api.score(FACE[:24], FACE, judges=[]), ImageError, "24x24 where 24x28 is needed"),
        (lambda: api.score(EMPTY, EMPTY, judges=[]), ImageError, "no picture was given"),
        (lambda: api.score([], [], judges=[]), ImageError, "no picture was given"),
        (lambda: api.degrade(EMPTY), ImageError, "no picture was given"),
        (lambda: api.degrade(FACE[:0]), ImageError, "a picture of 24x0 has no pixels"),
        (lambda: api.open_method("bicubic", device="cpu").restore(EMPTY), ImageError, "no picture was given"),
        (
            lambda: api.open_method("bicubic", device="cpu").restore(FACE[:, :0]),
            ImageError,
            "a picture of 0x28 has no pixels",
        ),
        (lambda: api.open_method("bicubic", device="cpu").restore(FACE, batch_size=-1), ConfigError, "batch_size"),
        (lambda: api.score(FACE, FACE, judges=[], batch_size=0), ConfigError, "batch_size has to be 1 or more, not 0"),
        (lambda: api.score(FACE[:13], FACE[:13], low=FACE[:3], judges=[]), ImageError, "no multiples of 4"),
        (lambda: api.score(FACE, FACE, low=FACE, judges=[]), ImageError, "low, picture 0: 24x28 where 6x7 is needed"),
        (lambda: api.score(FACE, FACE, judges=["nobody"]), ConfigError, "nobody is unknown"),
        (lambda: api.score(FACE, FACE, judges=["none"]), ConfigError, "none is no judge"),
    ],
)
def test_mistakes_are_one_sentence(call, error, words) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
