import os

import pytest

from unmask.media.quiet import decoder_messages


def test_only_the_decoders_lines_are_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with decoder_messages() as messages:
        os.write(2, b"Corrupt JPEG data: premature end of data segment\n[ WARN:0@0.1] global loadsave.cpp\nmine\n")
        assert messages == []
    assert messages == ["Corrupt JPEG data: premature end of data segment"]
    assert capfd.readouterr().err == "mine\n"


def test_standard_error_comes_back_after_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), decoder_messages():
        raise ZeroDivisionError
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"
