"""Trains a 4x face super-resolution network. The same command resumes a run that was stopped.

    uv run train.py                                       built-in faces, a few minutes on a laptop
    uv run train.py experiment=asc19_final                the flagship, on the prepared set in data/ffhq
    uv run torchrun --nproc-per-node 2 train.py           two ranks on this machine

Every key can be changed on the command line (``uv run train.py --help`` lists them).
"""

from facesr.build import run_script
from facesr.config import TrainSettings
from facesr.training.loop import train

if __name__ == "__main__":
    run_script(train, "train", TrainSettings)
