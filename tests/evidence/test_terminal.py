import dataclasses
import io

import pytest
from evidence_samples import (
    CALIBRATION,
    STILL_LIMIT,
    make_face,
    make_opinions,
    make_report,
    make_sequence,
    make_track,
    no_edits,
    refused_face,
    refused_report,
)
from rich.cells import cell_len
from rich.console import Console

from unmask.errors import RefusalCode
from unmask.evidence.likelihood import decision_for, lr_text
from unmask.evidence.report import FileFinding, Remark, StretchFinding
from unmask.evidence.terminal import CAVEAT, TerminalReport, safe_text

SEVERAL = make_report(
    "a/very/long/path/to/the/holiday/pictures/of/2024/group.jpg",
    [make_face(0, 5.0), make_face(1, 0.0), make_face(2, -5.0), refused_face(3)],
)


def show(*reports, width=80, terminal=False, encoding="utf-8", **how):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    with TerminalReport(Console(file=stream, width=width, force_terminal=terminal), **how) as terminal_report:
        for report in reports:
            terminal_report.add(report)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_one_row_per_face_with_what_the_report_says():
    lines = show(SEVERAL, width=120).splitlines()
    rows = [line for line in lines if "/4 " in line]
    assert len(rows) == 4
    assert [
        word for row, word in zip(rows, ("forged", "inconclusive", "authentic", "refused"), strict=True) if word in row
    ]
    assert "250" in rows[0].split() and "1/120" in rows[2].split()
    assert "not judged: size" in rows[3]
    assert "moderately strong H1" in rows[0]
    assert "neither" in rows[1]
    assert "moderately strong H2" in rows[2]
    assert "80" in rows[0].split()
    assert "100 px" in rows[0]
    (whole,) = (line for line in lines if "group.jpg" in line)
    assert lines.index(whole) < lines.index(rows[0])
    assert {"file", "forged", lr_text(SEVERAL.log10_lr)} <= set(whole.split())
    assert SEVERAL.log10_lr < SEVERAL.faces[0].log10_lr
    assert "too_small: Too small." in lines[lines.index(rows[3]) + 1]


def test_second_opinions_stand_under_their_face():
    face = make_face(0, 5.0)
    first = make_face(0, 5.0, opinions=make_opinions(face, **{"other\x1b": 0.42, "third": -1.3, "fourth": None}))
    lines = show(make_report("two.jpg", [first, make_face(1, 0.0)]), width=120).splitlines()
    (row,) = (number for number, line in enumerate(lines) if "1/2" in line)
    assert lines[row + 1 : row + 4] == [
        "  second opinion, other\\x1b: weak H1, LR 2.6, inconclusive".ljust(120),
        "  second opinion, third: moderate H2, LR 1/19, authentic".ljust(120),
        "  second opinion, fourth: refused".ljust(120),
    ]
    assert "2/2" in lines[row + 4]
    assert "second opinion" not in "".join(lines[row + 4 :])


WHOLE = "exactly this 62 %, any edit 97 %; a hypothesis, not evidence"


@pytest.mark.parametrize(
    ("sequence", "line"),
    [
        (make_sequence(), f"edits: nose (93 %), then eye (83 %); {WHOLE}"),
        (make_sequence("hair"), f"edits: hair (93 %); {WHOLE}"),
        (no_edits("no_local_edit"), "edits: no local edit found"),
        (no_edits("cannot_tell", 0.5), "edits: cannot tell. The reader is undecided."),
        (no_edits("cannot_tell", None, reason="It is turned."), "edits: cannot tell. It is turned."),
    ],
    ids=["edits", "one edit", "no local edit", "undecided", "unreadable"],
)
def test_edits_stand_under_their_face(sequence, line):
    faces = [make_face(0, sequence=sequence), make_face(1, 0.0)]
    lines = show(make_report("two.jpg", faces), width=120).splitlines()
    (row,) = (number for number, text in enumerate(lines) if "1/2" in text)
    assert lines[row + 1] == f"  {line}".ljust(120)
    assert "2/2" in lines[row + 2]
    assert sum("edits:" in text for text in lines) == 1


def test_edits_come_before_second_opinions_and_are_left_out_of_the_compact_table():
    face = make_face(sequence=make_sequence(), opinions=make_opinions(make_face(), other=0.42))
    lines = show(make_report("one.jpg", [face]), width=120).splitlines()
    (row,) = (number for number, text in enumerate(lines) if " 1/1 " in text)
    assert lines[row + 1].startswith("  edits: nose (93 %), then eye") and lines[row + 2].startswith(
        "  second opinion, other"
    )
    assert "edits:" not in show(make_report("one.jpg", [face]), compact=True)


def test_names_of_edits_are_neither_markup_nor_commands_to_the_terminal():
    name = "[red]x[/red]\x1b[31m\r\n\u202egpj.exe\x07"
    for sequence in (make_sequence(name), no_edits("cannot_tell", reason=name)):
        text = show(make_report("one.jpg", [make_face(sequence=sequence)]), width=200)
        assert r"[red]x[/red]\x1b[31m\r\n\u202egpj.exe\x07" in text
        assert not set("\x1b\r\x07\u202e") & set(text)


def test_compact_is_one_row_per_file():
    text = show(SEVERAL, make_report("other.jpg"), compact=True)
    assert text.count("group.jpg") == 1
    assert "1/4" not in text
    assert "2 files: 2 forged" in text


def test_refused_files_show_code_and_sentence_and_no_number():
    text = show(refused_report("broken.jpg", RefusalCode.CORRUPT, "The picture is cut off."))
    row = next(line for line in text.splitlines() if "broken.jpg" in line)
    assert row.split() == ["broken.jpg", "not", "judged:", "file", "○", "refused"]
    assert "corrupt: The picture is cut off." in text
    assert "1 file: 1 refused" in text


def test_footer_states_propositions_packs_and_caveat():
    text = " ".join(show(make_report()).split())
    assert "H1: the face was forged" in text
    assert "plain 1.0.0" in text
    assert CAVEAT in text


def test_nothing_is_printed_for_no_reports():
    assert show() == ""


def test_video_rows_show_the_time():
    face = make_face(time=0.4, track=make_track([1.0, 2.0, 3.0]))
    assert "0.4 s" in show(make_report("clip.mp4", [face], kind="video"), width=100)


@pytest.mark.parametrize("width", [30, 50, 80, 100, 200])
@pytest.mark.parametrize("compact", [False, True])
def test_no_line_is_wider_than_the_terminal(width, compact):
    text = show(SEVERAL, refused_report("日本語の写真" * 12 + ".jpg"), width=width, compact=compact)
    assert max(cell_len(line) for line in text.splitlines()) <= max(width, 12)


def test_names_are_neither_markup_nor_commands_to_the_terminal():
    name = "[red]x[/red]\x1b[31m\r\n\u202egpj.exe\x07.jpg"
    text = show(refused_report(name, message=f"no such file: {name}"), width=200)
    assert r"[red]x[/red]\x1b[31m\r\n\u202egpj.exe\x07.jpg" in text
    assert not set("\x1b\r\x07\u202e") & set(text)


def test_names_that_are_not_utf8():
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert "caf\\udce9.jpg" in show(make_report(name))
    assert safe_text(name) == "caf\\udce9.jpg"


def test_an_ascii_terminal_gets_ascii():
    text = show(make_report("ü" * 60 + ".jpg"), refused_report(), encoding="ascii")
    assert "! forged" in text
    assert "- refused" in text


def test_no_color_is_heeded(monkeypatch):
    assert "\x1b[1;35m" in show(make_report(), terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "35m" not in show(make_report(), terminal=True)


@pytest.mark.parametrize("compact", [False, True])
def test_a_synthetic_mark_stands_under_its_file(compact):
    media = make_report().media.model_copy(update={"synthetic_mark": "compositeSynthetic"})
    lines = show(make_report("marked.png", media=media), make_report("plain.png"), width=120, compact=compact)
    marked, plain = lines.split("plain.png")
    assert "marked as synthetic" in marked and "compositeSynthetic" in marked
    assert "synthetic" not in plain.split("2 files")[0]


def test_why_there_is_no_verdict_is_said_once_in_full():
    text = show(make_report("one.jpg", [make_face(0, 0.0), make_face(1, 0.1), make_face(2, 5.0)]), width=200)
    assert text.count("no verdict (1): ") == 1 and text.count("no verdict: as in (1)") == 1
    assert text.count("from which on a verdict is given") == 1
    compact = show(make_report("one.jpg", [make_face(0, 0.0)]), width=200, compact=True)
    assert "no verdict (1): " in compact


def test_the_limits_and_their_false_alarms_stand_below():
    limits = decision_for(dataclasses.replace(CALIBRATION, conditions=(STILL_LIMIT,)), "still")
    text = " ".join(show(make_report(faces=[make_face(decision=limits, condition="still")])).split())
    assert "2.1 % of the worst source (a press archive)" in text


def test_evaluative_wording_says_the_support_alone():
    shown = show(SEVERAL, width=120, wording="evaluative") + show(SEVERAL, width=40, wording="evaluative")
    for word in ("▲ forged", "● authentic", "inconclusive", "refused", "Verdict"):
        assert word not in shown, word
    assert "moderately strong H1" in shown and "1 support for H1" in shown
    opinions = make_opinions(make_face(0, 5.0), other=-1.3)
    text = show(make_report(faces=[make_face(0, 5.0, opinions=opinions)]), width=120, wording="evaluative")
    assert "second opinion, other: moderate H2, LR 1/19 " in text


def test_notable_findings_beside_the_pixels_are_told():
    def seen(check, outcome):
        return FileFinding(check=check, outcome=outcome, statement=f"Seen \x1b by {check}.", meaning="M.", details={})

    findings = [seen("exif", "present"), seen("thumbnail", "notable"), seen("generator", "absent")]
    text = show(make_report(findings=findings), width=120)
    assert "beside the pixels: Thumbnail: Seen \\x1b by thumbnail." in text and text.count("beside the pixels") == 1
    assert "beside" not in show(make_report(findings=findings), compact=True)


def test_a_stretch_and_a_remark_stand_under_their_face():
    stretch = StretchFinding(
        start=4.0, end=67.0, log10_lr=0.5, log10_lr_outside=-0.2, statistic=6.0, limit=5.0, false_alarms=0.013
    )
    remark = Remark(code="covered_mouth", message="The mouth seems to be covered.")
    text = " ".join(show(make_report(faces=[make_face(stretch=stretch, remarks=[remark])]), width=100).split())
    assert "remark: The mouth seems to be covered." in text
    assert "stretch: From 4 s to 1:07 the evidence for forgery is higher" in text
    assert "LR 3.1 there, 1/1.5 elsewhere" in text and "1.3 % had a stretch named" in text


def test_a_file_of_several_faces_says_why_one_of_them_is_not_enough():
    faces = [make_face(0, 1.0), *(make_face(index, 0.0) for index in range(1, 9))]
    lines = show(make_report("group.jpg", faces), width=120).splitlines()
    (row,) = (number for number, line in enumerate(lines) if "group.jpg" in line)
    assert "inconclusive" in lines[row] and "no verdict (1): Face 1 alone passes the limit" in lines[row + 1]
    assert any("1/9" in line and "forged" in line for line in lines)
    compact = show(make_report("group.jpg", faces), width=120, compact=True)
    assert "Face 1 alone passes the limit" in compact and "1/9" not in compact
