"""facesr: the harness of a face super-resolution competition.

For Python programs (docs/python.md): `open_method`, `list_methods`, `score`, `degrade`. They are loaded at first use,
so that ``import facesr`` takes no time.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facesr.api import OpenMethod, degrade, list_methods, open_method, score

__version__ = "0.1.0"
__all__ = ["OpenMethod", "__version__", "degrade", "list_methods", "open_method", "score"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from facesr import api

        return getattr(api, name)
    raise AttributeError(f"module 'facesr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
