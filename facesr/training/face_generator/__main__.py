"""``python -m facesr.training.face_generator``, the same as ``facesr face-generator``."""

from facesr.signals import requests

if __name__ == "__main__":
    # Before the import below, which takes seconds: a scheduler may ask to stop at any moment.
    requests.listen()

from facesr.training.face_generator.program import main

if __name__ == "__main__":
    main()
