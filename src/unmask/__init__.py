"""Unmask: visual-identity forensics.

>>> from unmask import inspect
>>> report = inspect("photo.jpg")
>>> report.verdict, report.log10_lr
"""

from typing import TYPE_CHECKING, Any

from unmask._version import __version__
from unmask.offline import contact_nobody

if TYPE_CHECKING:
    from unmask.inspection import Inspector, inspect

__all__ = ["Inspector", "__version__", "inspect"]

contact_nobody()


def __getattr__(name: str) -> Any:
    # Imported on first use: `import unmask` and `unmask --help` must not pay for OpenCV and ONNX Runtime.
    if name in ("Inspector", "inspect"):
        from unmask import inspection

        return getattr(inspection, name)
    raise AttributeError(f"module 'unmask' has no attribute {name!r}")
