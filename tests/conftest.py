import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unmask import cli

ROOT = Path(__file__).resolve().parent.parent

# A shell has its background jobs ignore Ctrl-C, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data sets. Their absence is a failure in CI and a visible skip elsewhere."""
    folder = Path(os.environ.get("UNMASK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"no data sets in {folder}: set UNMASK_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


PORTRAIT = ROOT / "src" / "unmask" / "demo" / "astronaut.jpg"


@pytest.fixture(scope="session")
def portrait() -> Path:
    """A real photograph with one face, 384 x 384 pixels."""
    return PORTRAIT


@pytest.fixture(scope="session")
def make_pack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a forgery pack that needs no training (`tiny_pack.py`), with other limits in its calibration if given."""

    def make(**limits: float) -> Path:
        from tiny_pack import write_pack

        from unmask.packs import Card

        folder = write_pack(tmp_path_factory.mktemp("packs") / "tiny", size=64)
        card = Card.read(folder / "card.json")
        assert card.calibration is not None
        replace(card, calibration=replace(card.calibration, **limits)).write(folder / "card.json")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_pack(make_pack: Callable[..., Path]) -> Path:
    """64 pixels; the logit is 4 * (R + 2 G - 3 B) of the mean colour in [0, 1]: positive for warm colours."""
    return make_pack()


@pytest.fixture(scope="session")
def make_reader(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a reader of edits that needs no training (`tiny_edit_model.py`), with changes to its card or its limits."""

    def make(**changes: Any) -> Path:
        from tiny_edit_model import write_reader

        return write_reader(tmp_path_factory.mktemp("packs") / "tiny-reader", **changes)

    return make


@pytest.fixture(scope="session")
def tiny_edit_model(make_reader: Callable[..., Path]) -> Path:
    """64 pixels; says nose, then eye of warm faces, that cold ones are untouched, and nothing of those in between."""
    return make_reader()


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an H.264 file in which the pictures given by `frame(time) -> uint8 (H, W, 3) RGB` follow each other."""

    def make(
        frame: Callable[[float], np.ndarray], seconds: float = 2.0, rate: int = 10, name: str = "clip.mp4"
    ) -> Path:
        import av

        path = tmp_path_factory.mktemp("video") / name
        with av.open(str(path), "w") as container:
            height, width = frame(0.0).shape[:2]
            stream = container.add_stream("libx264", rate=rate, width=width, height=height, pix_fmt="yuv420p")
            for number in range(round(seconds * rate)):
                for packet in stream.encode(av.VideoFrame.from_ndarray(frame(number / rate), "rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return path

    return make


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[Any, str]]:
    """Exit code and standard error of a command run in this process."""

    def run(args: list[str]) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["unmask", *args])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, capsys.readouterr().err

    return run


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A Spark session on this machine."""
    pytest.importorskip("pyspark", reason="the spark extra is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is no java on the path")
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    for name, value in {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
