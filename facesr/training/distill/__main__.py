"""``python -m facesr.training.distill``, the same as ``facesr distill``."""

import sys

from facesr.training.distill.distill import main

if __name__ == "__main__":
    sys.exit(main())
