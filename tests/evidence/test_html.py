import base64
import dataclasses
import re
import resource
from collections import Counter
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from evidence_samples import (
    CALIBRATION,
    CARD,
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
from strength_sample import CURVE

from unmask.errors import DataError, RefusalCode
from unmask.evidence import html
from unmask.evidence.charts import histogram, histogram_bin, lr_scale, timeline
from unmask.evidence.html import HtmlReport
from unmask.evidence.likelihood import REFUSAL_REMEDIES, decision_for
from unmask.evidence.pictures import legend_colours, overlay
from unmask.evidence.report import (
    Case,
    ExaminerNote,
    FileFinding,
    ForgeryMap,
    PackUse,
    Quality,
    Remark,
    Run,
    StretchFinding,
)
from unmask.evidence.whole_picture import whole_picture
from unmask.packs import load_pack
from unmask.packs.strength import in_words

_VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Parses a page, checks that its tags nest, and collects what it holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def crop():
    return np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)


def write(tmp_path, *items, **options):
    path = tmp_path / "report.html"
    with HtmlReport(path, [CARD], **options) as page:
        for item in items:
            page.add(*item)
    text = path.read_text(encoding="utf-8")
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    return text, page


def everything(crop):
    _, jpeg = cv2.imencode(".jpg", crop)
    video = make_face(0, 4.0, time=0.4, track=make_track([1.0, None, 2.0, -3.0]), sequence=make_sequence())
    return [
        (make_report("one.jpg"), [crop]),
        (make_report("group.jpg", [make_face(0, -4.0), make_face(1, 0.0), refused_face(2)]), [jpeg.tobytes(), None]),
        (make_report("clip.mp4", [video], kind="video"), [crop]),
        (refused_report(), []),
    ]


def test_page_is_well_formed_and_says_what_the_reports_say(tmp_path, crop):
    _, page = write(tmp_path, *everything(crop))
    for part in (
        "4 files, 5 faces found, 4 judged",
        "0f" * 32,
        "about 50 times more probable if the face was forged",
        "Moderate support for a forged face, LR 50",
        "Why there is no verdict. Face 2: The findings do not reach LR 3.1",
        "H1. The face was forged",
        "cd" * 32,
        "Generators newer than the training data may be missed.",
        "onnxruntime 1.20",
        "unmask inspect photo.jpg",
        "3 frames judged",
        "nose → eye",
        "H1. One of the 2 judged faces was forged",
        "no proof of authenticity",
        "Sharpness",
        "trusted photographs",
    ):
        assert part in page.text, part
    # Two pictures, crop and overlay, for each of three faces with a picture.
    assert page.tags.count("img") == 6


def test_the_whole_picture_has_a_numbered_box_for_every_face(tmp_path):
    faces = [make_face(0, 4.0, box=(300.0, 100.0, 100.0, 100.0)), make_face(1, -4.0), refused_face(2)]
    boxes = {face.index: face.box for face in faces}
    whole = whole_picture(np.zeros((500, 2000, 3), np.uint8), boxes)
    assert max(cv2.imdecode(np.frombuffer(whole.jpeg, np.uint8), 1).shape) == 1024
    _, page = write(tmp_path, (make_report(faces=faces), (), (), whole))
    assert "The whole picture with 3 numbered faces: 1 forged, 1 authentic, 1 refused." in [
        value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")
    ]
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "aria-label")]
    assert [link.partition(",")[0] for link in links if link.startswith("Face ")] == [
        "Face 1: Forged",
        "Face 2: Authentic",
        "Face 3: Refused",
    ]
    places = [value for tag, name, value in page.attributes if tag == "a" and name == "style"]
    assert places[0] == "left:15.0%;top:20.0%;width:5.0%;height:20.0%"
    targets = {value for _, name, value in page.attributes if name == "id"}
    assert {f"face-1-{index}" for index in range(3)} <= targets


def test_a_stretch_and_a_remark_are_said_on_the_page(tmp_path, crop):
    stretch = StretchFinding(
        start=4.0, end=7.2, log10_lr=0.5, log10_lr_outside=-0.2, statistic=6.0, limit=5.0, false_alarms=0.04
    )
    remark = Remark(code="covered_eyes", message="The eyes seem to be covered.")
    face = make_face(track=make_track([0.0] * 50), time=4.2, stretch=stretch, remarks=[remark])
    _, page = write(tmp_path, (make_report(faces=[face]), [crop]))
    assert "From 4 s to 7.2 s the evidence for forgery is higher" in page.text
    assert "LR 3.1 there, 1/1.5 elsewhere" in page.text and "4.0 % had a stretch named" in page.text
    assert "Remark. The eyes seem to be covered." in page.text


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(tmp_path, crop):
    text, page = write(tmp_path, *everything(crop))
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name == "src":
            assert value.startswith("data:image/jpeg;base64,")
        if name in ("href", "xlink:href", "action"):
            assert value.startswith("#"), (tag, value)
    assert "@import" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_second_opinions_are_shown_beside_the_first_and_not_combined(tmp_path, crop):
    face = make_face(opinions=make_opinions(make_face(), other=-1.3, third=None))
    tool = make_report().tool.model_copy(update={"options": {"pack": ["plain", "other"], "fps": 5.0}})
    _, page = write(tmp_path, (make_report(faces=[face], tool=tool), [crop]))
    assert (
        "Pack In words LR Verdict "
        "plain moderate support for a forged face 50 Forged "
        "other moderate support for an unaltered photograph 1/19 Authentic "
        "third too small or too poor for this pack Refused" in page.text
    )
    assert "not independent" in page.text
    assert "pack = plain, other, fps = 5.0" in page.text
    _, page = write(tmp_path, (make_report(), [crop]))
    assert "Opinions" not in page.text


@pytest.fixture
def way():
    """A way back from two edits: what was read, with one edit less, and recovered, in three shades of grey."""
    return [cv2.imencode(".jpg", np.full((64, 64, 3), shade, np.uint8))[1].tobytes() for shade in (40, 120, 200)]


class Figures(HTMLParser):
    """The figures of a page that show a way back: class, picture and caption of each."""

    def __init__(self, text):
        super().__init__()
        self.inside = False
        self.figures = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "div":
            self.inside = attributes.get("class") == "strip"
        if self.inside and tag == "figure":
            self.figures.append([attributes.get("class"), "", "", ""])
        if self.inside and tag == "img":
            self.figures[-1][1:3] = attributes["src"], attributes["alt"]

    def handle_endtag(self, tag):
        if tag == "div":
            self.inside = False

    def handle_data(self, data):
        if self.inside and self.figures:
            self.figures[-1][3] += data


def pixels_of(url):
    data = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def test_edits_are_shown_step_by_step_with_their_alternatives(tmp_path, crop, way):
    _, page = write(tmp_path, (make_report(faces=[make_face(sequence=make_sequence())]), [crop], [way]))
    assert "Edits of single parts nose → eye , in this order, with a posterior of 62 %; 97 % for any edit." in page.text
    assert "Step Edit at this step at any 1 nose 81 % 93 % 2 eye 71 % 83 %" in page.text
    assert "Next: eye → nose 21 %; lip 5 %; no edit 3 %. Reader: mmnet." in page.text
    assert "They identify nobody." in page.text
    assert "No local edit found" not in page.text and "Cannot tell." not in page.text


def test_every_recovered_picture_is_called_a_hypothesis_and_what_was_read_is_not(tmp_path, crop, way):
    faces = [make_face(sequence=make_sequence()), make_face(1, sequence=make_sequence("hair"))]
    text, page = write(tmp_path, (make_report(faces=faces), [crop, crop], [way, [way[0], way[2]]]))
    figures = Figures(text).figures
    captions = [caption for _, _, _, caption in figures]
    assert captions == [
        *("1. nose", "2. eye"),
        *("as read", "eye undonehypothesis, not evidence", "recoveredhypothesis, not evidence"),
        "1. hair",
        *("as read", "recoveredhypothesis, not evidence"),
    ]
    assert page.text.count("hypothesis, not evidence") == 3
    assert [alt for _, _, alt, _ in figures] == [
        *("Where: 1. nose", "Where: 2. eye", "as read", "eye undone", "recovered"),
        *("Where: 1. hair", "as read", "recovered"),
    ]
    shades = [pixels_of(url).mean() for _, url, _, _ in figures]
    assert [shades[place] for place in (2, 3, 4, 6, 7)] == pytest.approx([40, 120, 200, 40, 200], abs=2)


def test_the_last_edit_is_the_first_to_be_undone(tmp_path, crop, way):
    face = make_face(sequence=make_sequence("nose", "eye", "lip"))
    text, _ = write(tmp_path, (make_report(faces=[face]), [crop], [[way[0], *way]]))
    texts = [alt for _, _, alt, _ in Figures(text).figures]
    areas = ["Where: 1. nose", "Where: 2. eye", "Where: 3. lip"]
    assert texts == [*areas, "as read", "lip undone", "eye undone", "recovered"]


def test_every_recovered_picture_is_outlined_and_what_was_read_is_not(tmp_path, crop, way):
    text, _ = write(tmp_path, (make_report(faces=[make_face(sequence=make_sequence())]), [crop], [way]))
    assert [kind for kind, _, _, _ in Figures(text).figures] == [None, None, None, "guess", "guess"]


def test_the_area_of_each_edit_is_laid_over_what_was_read(tmp_path, crop, way):
    text, _ = write(tmp_path, (make_report(faces=[make_face(sequence=make_sequence())]), [crop], [way]))
    grey = np.full((64, 64, 3), 40, np.uint8)
    for (_, url, _, _), step in zip(Figures(text).figures[:2], make_sequence().steps, strict=True):
        assert np.abs(pixels_of(url).astype(int) - overlay(grey, step.area)).mean() < 6


def test_edits_without_pictures_are_told_in_words_alone(tmp_path, crop):
    text, page = write(tmp_path, (make_report(faces=[make_face(sequence=make_sequence())]), [crop]))
    assert "nose → eye" in page.text and "1 nose 81 % 93 %" in page.text
    assert Figures(text).figures == [] and "hypothesis, not evidence" not in page.text


def test_that_no_local_edit_was_found_is_said_and_that_it_is_no_proof(tmp_path, crop, way):
    report = make_report(faces=[make_face(sequence=no_edits("no_local_edit"))])
    text, page = write(tmp_path, (report, [crop], [()]))
    assert "No local edit found: the reader gives 4 % to any, which the limit on its card counts as none." in page.text
    assert "Likeliest: no edit 96 %; hair 2 %. Reader: mmnet." in page.text
    assert Figures(text).figures == []
    # A strip has no place where no edits are named.
    text, _ = write(tmp_path, (report, [crop], [way]))
    assert Figures(text).figures == []


def test_that_nothing_can_be_told_is_said_with_the_reason(tmp_path, crop):
    undecided = make_face(sequence=no_edits("cannot_tell", 0.5))
    turned = make_face(1, sequence=no_edits("cannot_tell", None, reason="The face is turned."))
    _, page = write(tmp_path, (make_report(faces=[undecided, turned]), [crop, crop], [(), ()]))
    assert "Cannot tell. The reader is undecided. Detector" in page.text
    assert "Cannot tell. The face is turned. Detector" in page.text
    assert "to any edit" not in page.text and "Likeliest" not in page.text


def test_faces_without_a_reading_say_nothing_of_edits(tmp_path, crop):
    _, page = write(tmp_path, (make_report(), [crop], [()]))
    assert "Edits" not in page.text and "Reader" not in page.text


def test_names_of_edits_and_reasons_are_escaped_also_under_pictures(tmp_path, crop, way):
    named = make_sequence(HOSTILE, "eye", pack=HOSTILE)
    silent = no_edits("cannot_tell", reason=HOSTILE, pack=HOSTILE)
    report = make_report(faces=[make_face(sequence=named), make_face(1, sequence=silent)])
    text, page = write(tmp_path, (report, [crop, crop], [way, ()]))
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    # Of both faces the crop and its overlay, of one two areas and the way back.
    assert page.tags.count("img") == 4 + 2 + 3
    assert any(
        "<script>alert(1)</script>" in value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")
    )
    assert page.text.count("<script>alert(1)</script>") >= 5 and "{{ 7*7 }}" in page.text
    assert not {"\u202e", "\x00"} & set(text)


def test_a_page_of_many_files_leaves_out_the_strips_with_the_pictures(tmp_path, crop, way, monkeypatch):
    monkeypatch.setattr(html, "PICTURES_FOR_ALL", 1)
    faces = [make_face(0, logit, sequence=make_sequence()) for logit in (0.0, 0.0, 4.0)]
    reports = [make_report(f"{number}.jpg", [face]) for number, face in enumerate(faces)]
    assert [report.verdict.value for report in reports] == ["inconclusive", "inconclusive", "forged"]
    text, page = write(tmp_path, *((report, [crop], [way]) for report in reports))
    files = text.split('<section class="card file ')[1:]
    assert [len(Figures(section).figures) for section in files] == [5, 5, 0]  # forged first
    assert page.text.count("nose → eye") == 3


def test_packs_of_one_model_are_told_apart_by_version(tmp_path):
    """Say, the same network calibrated anew."""
    cards = [CARD, dataclasses.replace(CARD, version="2.0.0", limits=("Calibrated anew.",))]
    uses = [PackUse(name=card.name, version=card.version, sha256=card.sha256) for card in cards]
    path = tmp_path / "report.html"
    with HtmlReport(path, cards) as page:
        page.add(make_report(packs=uses))
    text = Page(path.read_text(encoding="utf-8")).text
    assert text.count("Not for drawings or masks.") == text.count("Calibrated anew.") == 1


def test_limits_say_how_easily_a_detector_is_fooled(tmp_path):
    path = tmp_path / "report.html"
    cards = [
        CARD,
        dataclasses.replace(CARD, version="2.0.0", strength=CURVE),
        dataclasses.replace(CARD, version="3.0.0", task="edit_reading"),
    ]
    with HtmlReport(path, cards) as page:
        page.add(
            make_report(packs=[PackUse(name=card.name, version=card.version, sha256=card.sha256) for card in cards])
        )
    _, first, second, third = path.read_text(encoding="utf-8").split('<div class="pack">')
    assert Page(f"<div>{first}").text.count("Under attack: not measured") == 1
    assert all(f"Under attack: {line}" in second for line in in_words(CURVE)) and "Under attack" not in third


def test_the_limits_of_the_verdict_are_stated_with_their_false_alarms(tmp_path, crop):
    limits = decision_for(dataclasses.replace(CALIBRATION, conditions=(STILL_LIMIT,)), "still")
    report = make_report(faces=[make_face(decision=limits, condition="still")])
    _, page = write(tmp_path, (report, [crop]))
    assert "from LR 3.1" in page.text and "2.1 % of the worst source (a press archive)" in page.text
    assert page.text.index("Moderate support for a forged face, LR 50") < page.text.index("2.1 %")


def test_findings_beside_the_pixels_are_stated_with_their_meaning(tmp_path, crop):
    seen = FileFinding(
        check="exif",
        outcome="notable",
        statement="It <b>names</b> X.",
        meaning="It may be.",
        details={"software": HOSTILE},
    )
    text, page = write(tmp_path, (make_report(findings=[seen]), [crop]))
    assert "Beside the pixels Check Seen Meaning EXIF It <b>names</b> X. software:" in page.text
    assert "It may be." in page.text and "take no part in the likelihood ratio" in page.text
    assert "<b>names</b>" not in text and "script" not in page.tags
    _, page = write(tmp_path, (make_report(), [crop]))
    assert "Beside the pixels" not in page.text


def test_evaluative_wording_leaves_the_verdict_out(tmp_path, crop):
    _, page = write(tmp_path, *everything(crop), wording="evaluative")
    for word in ("Forged", "Authentic", "Inconclusive", "Refused"):
        assert word not in [text.strip() for text in page.words], word
    assert "Moderate support for a forged face, LR 50" in page.text
    assert "Support for H1" in page.text and "Not judged" in page.text


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}\u202egpj.exe\x00.jpg"


def test_names_and_messages_are_escaped_everywhere(tmp_path, crop):
    report = make_report(
        HOSTILE, [make_face(sequence=make_sequence(HOSTILE, pack=HOSTILE)), refused_face(1, message=HOSTILE)]
    )
    media = report.media.model_copy(update={"warnings": [HOSTILE], "format": HOSTILE})
    tool = report.tool.model_copy(update={"command": HOSTILE, "options": {HOSTILE: HOSTILE}})
    report = report.model_copy(update={"media": media, "tool": tool})
    text, page = write(tmp_path, (report, [crop, None]), (refused_report(HOSTILE, message=HOSTILE), []), title=HOSTILE)
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("img") == 2
    assert page.text.count("<script>alert(1)</script>") >= 9
    assert "{{ 7*7 }}" in page.text
    assert not {"\u202e", "\x00"} & set(text)


def test_names_that_are_not_utf8(tmp_path):
    _, page = write(tmp_path, (make_report(b"caf\xe9.jpg".decode("utf-8", "surrogateescape")), []))
    assert "caf\\udce9.jpg" in page.text


def test_a_refusal_shows_no_number_and_no_scale(tmp_path):
    text, page = write(tmp_path, (refused_report("broken.jpg", message="Cut off."), []))
    remedy = f"What would help. {REFUSAL_REMEDIES[RefusalCode.CORRUPT]}"
    assert f"Cannot be judged (file) corrupt. Cut off. {remedy} No judgement was made." in page.text
    assert 'class="chart' not in text
    text, page = write(tmp_path, (make_report("small.jpg", [refused_face()]), []))
    assert "Not judged: too_small." in page.text
    assert 'class="chart' not in text
    assert "Score" not in page.text


def test_what_was_finished_is_readable_after_an_interrupt(tmp_path):
    path = tmp_path / "report.html"
    with pytest.raises(KeyboardInterrupt), HtmlReport(path, [CARD]) as page:
        page.add(make_report("first.jpg"))
        # A kill would leave this much.
        part = (tmp_path / "report.html.part").read_text(encoding="utf-8")
        raise KeyboardInterrupt
    assert part.startswith("<!doctype html>")
    assert "first.jpg" in part
    parsed = Page(path.read_text(encoding="utf-8"))
    assert parsed.open == []
    assert "This report is incomplete." in parsed.text
    assert "first.jpg" in parsed.text


def test_no_files_is_a_page_too(tmp_path):
    _, page = write(tmp_path)
    assert "0 files" in page.text


def test_an_unknown_pack_is_named_without_card_or_calibration(tmp_path, crop):
    path = tmp_path / "report.html"
    with HtmlReport(path) as page:
        page.add(make_report(faces=[make_face(decision=None)]), [crop])  # as before schema 1.5
    parsed = Page(path.read_text(encoding="utf-8"))
    assert "plain 1.0.0" in parsed.text
    assert "Hatched: no verdict" not in parsed.text


def test_components_are_named_in_words(tmp_path, crop):
    quality = Quality(unified=50.0, components={"UnderExposurePrevention": 40.0, "Sharpness": 60.0})
    face = make_face().model_copy(update={"quality": quality})
    _, page = write(tmp_path, (make_report(faces=[face]), [crop]))
    assert "Under exposure prevention 40" in page.text and "Sharpness 60" in page.text


def test_a_page_of_many_files_keeps_the_pictures_that_matter(tmp_path, crop, monkeypatch):
    monkeypatch.setattr(html, "PICTURES_FOR_ALL", 2)
    verdicts = [make_face(0, -4.0), make_face(0, 0.0), make_face(0, -4.0), make_face(0, 0.0), make_face(0, 4.0)]
    reports = [make_report(f"{number}.jpg", [face]) for number, face in enumerate(verdicts)]
    reports.append(make_report("refused.jpg", [refused_face(0)]))
    assert [report.verdict.value for report in reports[2:]] == ["authentic", "inconclusive", "forged", "refused"]
    text, page = write(tmp_path, *((report, [crop]) for report in reports))
    files = text.split('<section class="card file ')[1:]
    assert [section.count("data:image") > 0 for section in files] == [True, True, False, True, False, True]
    assert page.text.count("Inspect this file alone to see them") == 2


def test_beyond_so_many_files_a_print_is_short_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "PRINTED_IN_FULL", 2)
    reports = [make_report(f"{number}.jpg", [make_face(0, 0.0)]) for number in range(4)]
    text, page = write(tmp_path, *((report, []) for report in reports))
    parts = text.split('<p class="printed-short">')
    assert [part.count('<section class="card file ') for part in parts] == [2, 2]
    assert "The first 2 files are printed in full" in page.text
    text, _ = write(tmp_path, *((report, []) for report in reports[:2]))
    assert '<p class="printed-short">' not in text


def test_forged_files_come_first_and_the_list_can_be_filtered_without_a_script(tmp_path, crop):
    reports = [
        make_report(f"{name}.jpg", [make_face(0, logit)])
        for name, logit in zip("abcd", (-4.0, 1.0, 0.0, 5.0), strict=True)
    ]
    text, page = write(tmp_path, *((report, [crop]) for report in [*reports, refused_report("e.jpg")]))
    sections = text.split('<section class="card file ')[1:]
    names = [re.search(r'aria-label="(\w).jpg"', section)[1] for section in sections]
    assert names == ["d", "b", "c", "a", "e"]
    rows = re.findall(r'<tr class="is-(\w+)"><td class="name"><a href="#file-(\d)"', text)
    assert rows == [*(("forged", "4"), ("forged", "2"), ("inconclusive", "3"), ("authentic", "1"), ("refused", "5"))]
    radios = [value for tag, name, value in page.attributes if (tag, name) == ("input", "id")]
    assert radios == ["show-all", "show-forged", "show-inconclusive", "show-authentic", "show-refused"]
    bars = re.findall(r'<rect class="bin (\w+)".*?<title>(.*?)</title>', text)
    assert [bar for bar, _ in bars] == ["authentic", "inconclusive", "forged", "forged"]
    assert "Histogram of 4 judged files" in text
    alone, _ = write(tmp_path, (reports[0], [crop]))
    assert 'class="bin' not in alone and 'id="show-all"' not in alone


def test_the_histogram_counts_every_file_and_no_more_than_its_axis():
    counts = {
        "forged": Counter(map(histogram_bin, (0.3, 0.31, 9.0))),
        "authentic": Counter(map(histogram_bin, (-7.0, -0.1))),
    }
    chart = histogram(counts)
    assert (histogram_bin(0.0), histogram_bin(-0.01), histogram_bin(9.0), histogram_bin(-9.0)) == (0, -1, 11, -12)
    assert chart.most == 2 and [bar.title.split()[0] for bar in chart.bars] == ["1", "1", "2", "1"]
    assert min(bar.left for bar in chart.bars) == 0 and max(bar.left + bar.width for bar in chart.bars) <= 100.01
    assert all(bar.top + bar.height == pytest.approx(100) for bar in chart.bars)


def test_a_full_disk_is_one_line_with_the_remedy(tmp_path, crop):
    """A limit on file size stands for the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(DataError, match="File too large"), HtmlReport(tmp_path / "report.html") as page:
            page.add(make_report(), [crop])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(DataError, match="give a writable file"), HtmlReport(tmp_path / "missing" / "report.html"):
        pass
    with pytest.raises(DataError, match="it is a folder"), HtmlReport(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("picture", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), b"not a jpeg"])
def test_pictures_of_the_wrong_kind_are_an_error(tmp_path, picture):
    with pytest.raises(ValueError, match="picture"), HtmlReport(tmp_path / "report.html") as page:
        page.add(make_report(), [picture])


def test_overlay_is_strongest_where_the_map_is():
    crop = np.full((224, 224, 3), 128, np.uint8)
    values = np.zeros((14, 14))
    values[2:4, 10:12] = 1.0
    laid = overlay(crop, ForgeryMap(region=(0, 0, 224, 224), values=values.tolist())).astype(int)
    assert laid.shape == crop.shape
    change = np.abs(laid - 128).sum(axis=2)
    # The hot end of the ramp is bright yellow, the cold end dark.
    assert laid[48, 176].sum() > 3 * 128 > laid[176, 48].sum()
    assert change[48, 176] > change[176, 48]
    assert legend_colours(3)[0] == "#000004"


def test_scale_by_hand():
    scale = lr_scale(1.5, CALIBRATION, 80.0)
    assert scale.reach == 3
    assert scale.marker == pytest.approx(75.0)  # 50 + 50 * 1.5 / 3
    assert scale.zone == pytest.approx((41.667, 16.666), abs=0.01)  # +-0.5 of +-3
    assert scale.bounds == pytest.approx((15.0, 90.0))  # -2.1 and 2.4
    moderate = [band for band in scale.bands if band.word == "moderate"]
    assert [(band.side, round(band.left, 1)) for band in moderate] == [("forged", 66.7), ("authentic", 16.7)]
    assert sum(band.width for band in scale.bands) == pytest.approx(100.0, abs=0.01)
    assert lr_scale(7.2, None).reach == 8
    assert lr_scale(-7.2, None).anchor == "start"


def test_timeline_breaks_where_the_face_was_not_judged_or_not_seen():
    track = make_track([1.0, 1.0, None, 1.0, 1.0, 1.0])
    later = [point.model_copy(update={"time": point.time + 5.0}) for point in make_track([2.0, 2.0])]
    chart = timeline([*track, *later], 10.0, 5.0, CALIBRATION)
    assert len(chart.lines) == 3
    assert chart.gaps == (40,)
    assert chart.marker == pytest.approx(50.0)
    assert (chart.judged, chart.refused) == (7, 1)
    assert chart.reach == 1.5  # of 1.2, the log10 LR of the last two
    # log10 LR 0.7 = 0.2 + 0.5 * 1 on +-1.5: 50 - 50 * 0.7 / 1.5
    assert chart.lines[0] == "0.0,26.7 20.0,26.7"


def test_a_timeline_frames_the_stretch_that_stands_out():
    chart = timeline(make_track([0.0] * 50), 10.0, None, None, stretch=(4.0, 7.0))
    assert chart.stretch == (40.0, 30.0, "4 s to 7 s") and chart.part is None
    assert [words for _, words in chart.ticks] == ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]


def test_the_axis_fits_a_track_that_is_a_small_part_of_the_video():
    late = [point.model_copy(update={"time": 600.0 + point.time}) for point in make_track([1.0] * 101)]
    chart = timeline(late, 3600.0, 610.0, None, stretch=(605.0, 610.0))
    assert chart.part == pytest.approx((100 * 598 / 3600, 100 * 24 / 3600), abs=0.01)  # a tenth more at either side
    assert chart.ticks[0] == (pytest.approx(100 * 2 / 24, abs=0.01), "10:00")
    assert chart.stretch[:2] == pytest.approx((100 * 7 / 24, 100 * 5 / 24), abs=0.1)
    assert chart.marker == pytest.approx(50.0, abs=0.1)
    assert all(0 <= place <= 100 for place, _ in chart.ticks)


def test_timeline_goes_on_where_frames_between_were_not_scored():
    track = [
        point.model_copy(update={"time": 0.2 * frame, "frames": 4})
        for frame, point in zip(range(0, 80, 4), make_track([1.0] * 20), strict=True)
    ]
    chart = timeline(make_track([1.0] * 100), None, None, CALIBRATION)
    late = [point.model_copy(update={"time": 20.0 + point.time}) for point in track]
    mixed = timeline([*make_track([1.0] * 100), *late], None, None, CALIBRATION)
    assert len(chart.lines) == len(mixed.lines) == 1
    assert (chart.judged, chart.seen) == (100, 100) and (mixed.judged, mixed.seen) == (120, 180)
    torn = timeline([*make_track([1.0] * 100), *late[:8], *late[14:]], None, None, CALIBRATION)
    assert len(torn.lines) == 2


def test_long_timelines_stay_small_and_keep_their_peak():
    logits: list[float | None] = [0.0] * 20_000
    logits[12_345] = 4.0
    chart = timeline(make_track(logits), None, None, CALIBRATION)
    points = " ".join(chart.lines).split()
    assert len(points) <= 700
    # log10 LR 2.2 on +-2.5
    assert min(float(point.split(",")[1]) for point in points) == pytest.approx(50 - 50 * 2.2 / 2.5, abs=0.06)
    assert len(chart.lines) == 1


@pytest.mark.parametrize("logits", [[None], [None, None, None], [1.0]])
def test_short_timelines(logits):
    assert timeline(make_track(logits), 0.0, None, None).lines == ()


def test_the_part_stays_if_the_page_cannot_be_finished(tmp_path):
    path = tmp_path / "report.html"
    with pytest.raises(DataError, match=r"stays in .*report\.html\.part"), HtmlReport(path, [CARD]) as page:
        page.add(make_report("first.jpg"))
        path.mkdir()
    assert "first.jpg" in (tmp_path / "report.html.part").read_text(encoding="utf-8")


def test_a_synthetic_mark_and_the_head_pose_are_shown_where_they_are_known(tmp_path, crop):
    _, page = write(tmp_path, (make_report(), [crop]))
    assert "Marked as synthetic" not in page.text and "Head pose in degrees" not in page.text
    report = make_report(faces=[make_face(quality=80.0)])
    face = report.faces[0].model_copy(
        update={"quality": report.faces[0].quality.model_copy(update={"yaw": -31.4, "pitch": 2.6, "roll": 0.2})}
    )
    media = report.media.model_copy(update={"synthetic_mark": "<b>"})
    text, page = write(tmp_path, (make_report(faces=[face], media=media), [crop]))
    assert "Marked as synthetic" in page.text and "&lt;b&gt;" in text
    assert "yaw -31, pitch +3, roll +0" in page.text


def test_case_time_machine_and_notes_stand_on_the_page(tmp_path):
    run = Run(
        started="2026-11-30T18:00:00+00:00",
        finished="2026-11-30T18:00:02+00:00",
        processor="A processor",
        architecture="x86_64",
        system="A system 1.0",
    )
    notes = [
        ExaminerNote(time="2026-12-01T08:00:00+00:00", by=f"{name} & Co", conclusion=word, reason="a\n<b>")
        for name, word in (("A", "authentic"), ("B", "forged"))
    ]
    tool = make_report().tool.model_copy(update={"unchecked": ["onnxruntime 9: not a version that was checked"]})
    report = make_report(run=run, notes=notes, tool=tool, case=Case(case="7", exhibit="<A3>", notes="one\ntwo"))
    text = html.page_text(report, cards=[CARD])
    page = Page(text)
    assert not page.open
    words = " ".join(page.words)
    for part in ("Case 7, exhibit <A3>", "A processor", "A system 1.0", run.finished, "onnxruntime 9", "A & Co"):
        assert part in words
    assert text.index("authentic</b>") < text.index("B &amp; Co") and "one<br>two" in text and "a<br>&lt;b&gt;" in text
    assert "None of it was checked by the program." in text


@pytest.mark.parametrize("name", Case.model_fields)
def test_a_case_file_may_say_one_thing_alone(name):
    text = html.page_text(make_report(case=Case(**{name: "only this"})))
    assert "only this" in text and not Page(text).open


def test_plots_are_drawn_of_a_card_that_has_the_figures_alone():
    validation = load_pack("plain").card.validation
    assert 'class="plot"' not in html.page_text(make_report(), cards=[CARD])
    assert "no Tippett and ECE plots" in html.page_text(make_report(), cards=[CARD])
    text = html.page_text(make_report(), cards=[dataclasses.replace(CARD, validation=validation)])
    assert text.count("<polyline") == 5 and "this face" in text and f"Cllr {validation.cllr:.3f}" in text
    assert not Page(text).open


def test_paper_has_the_raw_figures_in_an_annex():
    screen, paper = (html.page_text(make_report(), cards=[CARD], paper=paper) for paper in (False, True))
    assert "Annex" not in screen and "0.930 [0.91, 0.95]" not in screen
    annex = paper[paper.index("Annex: raw figures") :]
    assert "0.930 [0.91, 0.95]" in annex and "(30.0, 50.0)" in annex and "sharpness 71" in annex
    assert "var(--" not in paper[paper.index("<svg") : paper.index("</svg>")]
    assert not Page(paper).open
