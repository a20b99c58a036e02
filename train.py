"""Trains a 4x face super-resolution network. The same command resumes a run that was stopped.

    uv run train.py                                       built-in faces, a few minutes on a laptop
    uv run train.py experiment=asc19_final                the flagship, on the prepared set in data/ffhq
    uv run torchrun --nproc-per-node 2 train.py           two ranks on this machine
    uv run train.py experiment=face_generator             a generator of faces, for method=pulse generator=faces

Every key can be changed on the command line (``uv run train.py --help`` lists them).
"""

import sys

from facesr.signals import requests

if __name__ == "__main__":
    # Before the imports below, which take seconds: a scheduler may ask to stop at any moment.
    requests.listen()

from facesr.build import run_script
from facesr.config import FaceGeneratorSettings, TrainSettings
from facesr.training.face_generator import train_face_generator
from facesr.training.loop import train

# A program of its own, with keys of its own: it has no pairs to restore, to validate on or to ship for.
FACE_GENERATOR = "experiment=face_generator"

if __name__ == "__main__":
    if FACE_GENERATOR in sys.argv:
        sys.argv.remove(FACE_GENERATOR)
        run_script(train_face_generator, "face_generator", FaceGeneratorSettings)
    run_script(train, "train", TrainSettings)
