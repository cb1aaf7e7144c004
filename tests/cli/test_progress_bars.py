"""What the commands share: how far work is, shown on a terminal and kept in a log."""

import io
import time

import pytest
from rich.console import Console

from unmask.cli import options
from unmask.cli.options import progress_bars


def shown(terminal: bool, width: int = 100) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=width, color_system=None), stream


def test_a_bar_ends_with_all_of_it_and_notes_stand_above() -> None:
    console, stream = shown(terminal=True)
    with progress_bars(console) as progress:
        progress.update("making pairs", 0, 18)
        progress.note("made from the real faces: [swap]")
        progress.update("making pairs", 18, 18, "loss 0.312")
    text = stream.getvalue()
    assert "note: made from the real faces: [swap]" in text
    assert "making pairs (loss 0.312)" in text and "18/18" in text


def test_a_long_description_leaves_room_for_the_bar() -> None:
    console, stream = shown(terminal=True, width=80)
    with progress_bars(console) as progress:
        progress.update("scoring the cal split", 3, 3, ", ".join(["selfblend"] * 20))
    assert "3/3" in stream.getvalue() and "…)" in stream.getvalue()


def test_a_log_gets_notes_and_now_and_then_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    console, stream = shown(terminal=False)
    moment = time.monotonic()
    monkeypatch.setattr(options.time, "monotonic", lambda: moment)
    with progress_bars(console) as progress:
        progress.update("training", 20, 2600)
        progress.note("one line")
        moment += 31
        progress.update("training", 40, 2600, "loss 0.5")
        progress.update("training", 60, 2600, "loss 0.4")
    assert stream.getvalue() == "note: one line\ntraining (loss 0.5): 40 of 2600\n"
