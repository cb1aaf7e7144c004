"""Switches off what dependencies send or leave behind by themselves. `unmask` runs it before it imports any of them.

Some libraries report their use to their makers: ONNX Runtime from 1.29 on looks up a telemetry host and writes a device
id below the home folder as soon as it is imported, OpenVINO sends events to Google Analytics at its import. Each has a
switch of its own, which is only read at its first import; worker processes inherit the environment.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, on which timm depends
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",  # Flower
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray, which runs Flower's simulations
    "DO_NOT_TRACK": "1",  # the convention of https://donottrack.sh, for those that follow it
}
"""Environment variables that switch reporting off. They are set whatever they were: nobody may be contacted unasked."""

REPORTERS = ("openvino_telemetry",)
"""Packages that do nothing but report. OpenVINO has no switch but goes without its package where that is missing."""

_MATPLOTLIB_FOLDERS = (".config/matplotlib", ".cache/matplotlib", ".matplotlib")


def contact_nobody() -> None:
    """Switch reporting off in this process and its children. What was imported before is not reached."""
    os.environ.update(SWITCHES)
    for name in REPORTERS:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None: an import of it fails


def onnx_runtime() -> Any:
    """The module onnxruntime, reporting nothing; also in a program that had imported it before `unmask`."""
    import onnxruntime  # not above: `import unmask` must stay cheap

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@contextmanager
def temporary_font_list() -> Iterator[None]:
    """For imports of libraries that import matplotlib, of which we use nothing that draws.

    On its first import matplotlib makes folders and a list of all fonts below the home folder. In here they go into a
    temporary folder, unless matplotlib is in use already: imported, or with folders of its own at home.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.home() fails where nobody has a home)
    used = any((home / folder).exists() for folder in _MATPLOTLIB_FOLDERS)
    if used or "matplotlib" in sys.modules or "MPLCONFIGDIR" in os.environ:
        yield
        return
    import tempfile  # not above: `import unmask` must stay cheap

    with tempfile.TemporaryDirectory() as folder:
        # The second is for fontconfig, which matplotlib asks.
        before = {name: os.environ.get(name) for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME")}
        os.environ.update(dict.fromkeys(before, folder))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
