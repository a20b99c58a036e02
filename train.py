"""Trains a 4x face super-resolution network. The same command resumes a run that was stopped.

    uv run train.py                                       synthetic faces, a few minutes on a laptop
    uv run train.py experiment=asc19_flagship                the flagship, on the prepared dataset in data/ffhq
    uv run torchrun --nproc-per-node 2 train.py           two ranks on this machine

`uv run facesr face-generator` trains a generator of faces for method=pulse. Every key can be changed on the command
line (``uv run train.py --help`` lists them).
"""

from facesr.signals import requests

if __name__ == "__main__":
    # Before the import below, which takes seconds: a scheduler may ask to stop at any moment.
    requests.listen()

from facesr.training.command import main

if __name__ == "__main__":
    main()
