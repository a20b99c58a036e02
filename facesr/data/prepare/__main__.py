"""``python -m facesr.data.prepare``, the same as ``facesr prepare``."""

import sys

from facesr.data.prepare.prepare import main

if __name__ == "__main__":
    sys.exit(main())
