import json
import math
import re
import shlex
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from PIL import Image
from tiny_edit_model import GAIN, other_scores
from tiny_pack import make_card, write_pack

import unmask
from unmask.edits.labels import place_of
from unmask.errors import PackError, RefusalCode
from unmask.evidence.likelihood import PROPOSITIONS
from unmask.evidence.report import FaceFinding, Report, SequenceFinding, Verdict
from unmask.evidence.schema import report_schema
from unmask.faces.alignment import context_crop
from unmask.forgery.scoring import probability
from unmask.inspection import EDIT_PACK, Inspector, options, video_tracks
from unmask.media.sources import Source
from unmask.media.synthetic_mark import mark
from unmask.packs import Pack, load_pack
from unmask.provenance import shell_line

MakePack = Callable[..., Path]


@pytest.fixture(scope="module")
def inspector(tiny_pack: Path) -> Inspector:
    return Inspector(tiny_pack, edit_pack=None)


@pytest.fixture(scope="module")
def pixels(portrait: Path) -> np.ndarray:
    with Image.open(portrait) as picture:
        return np.asarray(picture.convert("RGB"))


def warm(pixels: np.ndarray, amount: float) -> np.ndarray:
    """More red and less blue, or the other way round: what the tiny pack takes for a sign of forgery."""
    return np.clip(pixels + amount * np.array([1.0, 0.0, -1.0]), 0, 255).astype(np.uint8)


def logit_of(crop: np.ndarray) -> float:
    red, green, blue = crop.reshape(-1, 3).mean(axis=0) / 255
    return 4 * (red + 2 * green - 3 * blue)


def test_a_portrait_gets_one_complete_finding(inspector: Inspector, portrait: Path) -> None:
    inspection = inspector.examine(portrait, pictures=True)
    report = inspection.report
    assert report.kind == "image" and report.media is not None
    assert (report.media.width, report.media.height, report.media.format) == (384, 384, "jpeg")
    assert report.media.bytes == portrait.stat().st_size
    (face,) = report.faces
    x, y, width, height = face.box
    assert 100 < x < 130 and 50 < y < 80 and 80 < width < 110 and 95 < height < 130
    right_eye, left_eye = face.landmarks[:2]
    assert right_eye[0] < left_eye[0]  # the subject's right is on the picture's left
    assert face.score is not None and face.log10_lr is not None and face.map is not None
    logit = math.log(face.score / (1 - face.score))
    assert face.log10_lr == pytest.approx(min(max(logit, -1), 1), abs=1e-4)
    assert (report.score, report.log10_lr, report.verdict) == (face.score, face.log10_lr, face.verdict)
    assert report.propositions == PROPOSITIONS
    assert np.shape(face.map.values) == (16, 16)
    left, top, side, _ = face.map.region
    assert left <= x and top <= y and left + side >= x + width and top + side >= y + height
    assert face.time is None and face.track is None and face.sequence is None
    (picture,) = inspection.pictures
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)


def test_the_report_says_what_made_it(inspector: Inspector, portrait: Path, tiny_pack: Path) -> None:
    report = inspector.inspect(portrait)
    assert [(pack.name, len(pack.sha256)) for pack in report.packs] == [("yunet", 64), ("tiny", 64)]
    assert report.tool.version == unmask.__version__
    assert shlex.split(report.tool.command) == [
        *("unmask", "inspect", "--pack", str(tiny_pack), "--fps", "5", "--edits", "none"),
        str(portrait),
    ]
    assert {"numpy", "onnxruntime", "python"} <= set(report.tool.libraries)
    assert set(report.timings) == {"read", "find", "quality", "score", "total"}
    assert sum(report.timings.values()) <= 2 * report.timings["total"]
    assert Report.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_synthetic_mark_is_reported_and_changes_no_verdict(
    inspector: Inspector, pixels: np.ndarray, tmp_path: Path, kind: str
) -> None:
    plain = tmp_path / "plain"
    Image.fromarray(pixels).save(plain, kind)
    marked, printed = tmp_path / "marked", tmp_path / "printed"
    marked.write_bytes(mark(plain.read_bytes(), "trainedAlgorithmicMedia"))
    printed.write_bytes(mark(plain.read_bytes(), "print"))  # type: ignore[arg-type]
    reports = [inspector.inspect(path) for path in (plain, marked, printed)]
    assert [report.media and report.media.synthetic_mark for report in reports] == [
        None,
        "trainedAlgorithmicMedia",
        None,
    ]
    assert reports[0].faces == reports[1].faces and reports[0].verdict == reports[1].verdict
    assert reports[0].log10_lr == reports[1].log10_lr
    assert_fits_the_schema(reports[1])


def test_metadata_that_are_bad_or_huge_leave_the_report_as_it_is(
    inspector: Inspector, pixels: np.ndarray, tmp_path: Path
) -> None:
    address = b"http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
    term = b'DigitalSourceType="' + address + b'"'
    plain = tmp_path / "plain.png"
    Image.fromarray(pixels).save(plain)
    expected = inspector.inspect(plain)
    packets = {
        "huge": b"\x00\x00\x00\x00" + b"<" * 30_000_000 + term,
        "bomb": b"\x01\x00\x00\x00" + zlib.compress(bytes(100_000_000) + term, 9),
        "packed wrong": b"\x01\x00\x00\x00" + bytes(range(256)),
        "endless": b"\x00\x00\x00\x00" + b"DigitalSourceType http://cv.iptc.org/" * 20_000,
        "empty": b"",
        "binary": b"\x00\x00\x00\x00" + bytes(range(256)) * 100,
        "unknown term": b"\x00\x00\x00\x00" + term.replace(b"compositeSynthetic", b"x" * 5000),
    }
    for name, packet in packets.items():
        body = b"iTXtXML:com.adobe.xmp\x00" + packet
        chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
        path = tmp_path / f"{name}.png"
        path.write_bytes(plain.read_bytes()[:33] + chunk + plain.read_bytes()[33:])
        report = inspector.inspect(path)
        assert report.media is not None and report.media.synthetic_mark is None, name
        assert report.faces == expected.faces and report.verdict == expected.verdict, name


def test_every_face_of_a_group_is_judged_by_itself(inspector: Inspector, pixels: np.ndarray, tmp_path: Path) -> None:
    group = np.hstack([warm(pixels, -60), warm(pixels, -35), warm(pixels, -10)])
    Image.fromarray(group).save(tmp_path / "group.png")
    report = inspector.inspect(tmp_path / "group.png")
    assert [face.index for face in report.faces] == [0, 1, 2]
    scores = [face.score for face in sorted(report.faces, key=lambda face: face.box[0])]
    assert scores == sorted(scores) and len(set(scores)) == 3
    # The file has the mean of its faces' likelihood ratios; the speaker is the most suspect of them.
    assert 10**report.log10_lr == pytest.approx(np.mean([10**face.log10_lr for face in report.faces]))
    assert report.faces[report.speaker].score == report.score == scores[-1]
    assert report.propositions[0].startswith("One of the 3 judged faces was forged")
    whole = inspector.examine(tmp_path / "group.png", pictures=True).whole
    assert whole is not None and set(whole.places) == {0, 1, 2}


def test_more_faces_than_a_batch_get_the_scores_they_would_get_alone(
    inspector: Inspector, pixels: np.ndarray, tmp_path: Path
) -> None:
    tile = pixels[32:224, 65:257]
    sheet = np.vstack([np.hstack([warm(tile, 4 * (4 * row + column) - 60) for column in range(4)]) for row in range(3)])
    Image.fromarray(sheet).save(tmp_path / "sheet.png")
    report = inspector.inspect(tmp_path / "sheet.png")
    judged = [face for face in report.faces if face.score is not None]
    assert len(judged) > 8
    for face in judged:
        left, top, side, _ = (round(value) for value in face.map.region)
        crop = cv2.resize(sheet[top : top + side, left : left + side], (64, 64), interpolation=cv2.INTER_AREA)
        assert math.log(face.score / (1 - face.score)) == pytest.approx(logit_of(crop), abs=0.05)


def test_a_small_face_is_refused_and_has_no_score(make_pack: MakePack, portrait: Path) -> None:
    inspection = Inspector(make_pack(min_face_px=200.0)).examine(portrait, pictures=True)
    report = inspection.report
    assert report.verdict is Verdict.REFUSED and report.refusal.code is RefusalCode.TOO_SMALL
    assert report.score is None and report.log10_lr is None and report.propositions is None
    (face,) = report.faces
    assert face.refusal.code is RefusalCode.TOO_SMALL and "200" in face.refusal.message
    assert face.score is None and face.map is None
    assert len(inspection.pictures) == 1  # what was refused can still be looked at


def test_a_poor_face_is_refused_by_its_quality(make_pack: MakePack, portrait: Path) -> None:
    report = Inspector(make_pack(min_quality=99.9)).inspect(portrait)
    assert report.refusal.code is RefusalCode.POOR_QUALITY
    assert report.faces[0].quality.unified < 99.9


def test_some_refused_faces_are_told_in_a_warning(make_pack: MakePack, tmp_path: Path, pixels: np.ndarray) -> None:
    small = cv2.resize(pixels, (192, 192), interpolation=cv2.INTER_AREA)
    Image.fromarray(np.hstack([pixels, np.pad(small, ((0, 192), (0, 0), (0, 0)))])).save(tmp_path / "two.png")
    report = Inspector(make_pack(min_face_px=60.0)).inspect(tmp_path / "two.png")
    assert [face.verdict is Verdict.REFUSED for face in report.faces] == [False, True]
    assert report.verdict is not Verdict.REFUSED
    assert any("1 of 2 faces" in warning for warning in report.media.warnings)


def test_no_face(inspector: Inspector, tmp_path: Path) -> None:
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(tmp_path / "wall.png")
    report = inspector.inspect(tmp_path / "wall.png")
    assert report.refusal.code is RefusalCode.NO_FACE
    assert report.faces == [] and report.score is None and report.media.width == 160 and len(report.sha256) == 64


def test_a_missing_file_is_a_refusal(inspector: Inspector, tmp_path: Path) -> None:
    report = inspector.inspect(tmp_path / "nothing.jpg")
    assert report.refusal.code is RefusalCode.NOT_FOUND
    assert report.sha256 is None and report.kind is None


def test_a_truncated_file_keeps_its_hash(inspector: Inspector, portrait: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60))
    report = inspector.inspect(tmp_path / "cut.png")
    assert report.refusal.code is RefusalCode.CORRUPT
    assert report.sha256 is not None and report.kind == "image"


def test_standard_input_data(inspector: Inspector, portrait: Path) -> None:
    report = inspector.inspect(Source("-", None, portrait.read_bytes()))
    assert report.path == "-" and len(report.faces) == 1
    assert report.tool.command.endswith(" -")


def test_a_video_has_one_finding_per_person(
    inspector: Inspector, pixels: np.ndarray, make_video: Callable[..., Path]
) -> None:
    """Two people side by side, one turning warmer: two tracks, the mean logit each, the warmest frame shown."""
    cold = warm(pixels, -60)

    def frame(moment: float) -> np.ndarray:
        return np.hstack([cold, warm(pixels, 10 * moment)])

    path = make_video(frame, seconds=2.0)
    done: list[float] = []
    inspection = inspector.examine(path, pictures=True, progress=done.append)
    report = inspection.report
    assert report.kind == "video" and report.media.frames_sampled == 10
    assert report.media.duration == pytest.approx(2.0, abs=0.2)
    assert len(report.faces) == len(inspection.pictures) == 2
    assert done == sorted(done) and 0.7 < done[-2] <= 1.0 and done[-1] == 1.0
    left, right = sorted(report.faces, key=lambda face: face.box[0])
    for face in (left, right):
        assert [point.time for point in face.track] == pytest.approx([0.2 * step for step in range(10)], abs=0.02)
        logits = [math.log(point.score / (1 - point.score)) for point in face.track]
        assert math.log(face.score / (1 - face.score)) == pytest.approx(np.mean(logits), abs=1e-3)
        # One observation: never beyond what a single frame's calibration allows.
        assert -1.0 <= face.log10_lr <= 1.0
        assert face.time in [point.time for point in face.track]
    assert right.log10_lr > 0
    assert right.time == max(right.track, key=lambda point: point.score).time
    assert left.log10_lr < 0
    assert left.quality.unified == max(point.quality for point in left.track)


def test_somebody_seen_briefly_does_not_decide_over_a_video(
    inspector: Inspector, pixels: np.ndarray, make_video: Callable[..., Path]
) -> None:
    cold, hot, nobody = warm(pixels, -60), warm(pixels, 20), np.full_like(pixels, 90)
    path = make_video(lambda moment: np.hstack([cold, hot if 0.9 < moment < 1.3 else nobody]), seconds=2.0)
    report = inspector.inspect(path)
    long, brief = sorted(report.faces, key=lambda face: face.box[0])
    assert len(long.track) == 10 and 1 <= len(brief.track) <= 2
    assert brief.log10_lr > long.log10_lr == report.log10_lr
    assert "1 of 2 faces were seen too briefly to speak for the video" in report.media.warnings


def test_a_long_track_is_scored_on_ever_fewer_frames(
    tiny_pack: Path, pixels: np.ndarray, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(lambda moment: warm(pixels, 10 * moment - 20), seconds=4.0)
    (every,) = Inspector(tiny_pack).inspect(path).faces
    monkeypatch.setattr(video_tracks, "EVERY_DOUBLING", 4)
    report = Inspector(tiny_pack).inspect(path)
    (fewer,) = report.faces
    assert report.media.frames_sampled == every.frames_seen == every.frames_scored == fewer.frames_seen == 20
    assert fewer.frames_scored == len(fewer.track) == 8 + 4 + 1
    assert [point.frames for point in fewer.track] == [1] * 8 + [2] * 4 + [4]
    scores = {point.time: point.score for point in every.track}
    assert [point.score for point in fewer.track] == pytest.approx([scores[point.time] for point in fewer.track])
    assert fewer.score == pytest.approx(every.score, abs=0.02)


def test_frames_per_second(tiny_pack: Path, pixels: np.ndarray, make_video: Callable[..., Path]) -> None:
    path = make_video(lambda _: pixels, seconds=6.0)
    for rate, frames in ((2.0, 12), (0.5, 3)):
        report = Inspector(tiny_pack, frames_per_second=rate).inspect(path)
        assert report.media.frames_sampled == frames
        assert [len(face.track) for face in report.faces] == [frames]


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_senseless_rate_is_an_error(tiny_pack: Path, rate: float) -> None:
    with pytest.raises(ValueError, match="frames_per_second"):
        Inspector(tiny_pack, frames_per_second=rate)


def test_a_missing_pack_says_what_to_give() -> None:
    with pytest.raises(PackError, match=r"no such|no model pack"):
        Inspector("no-such-pack")
    with pytest.raises(PackError, match="face_detection"):
        Inspector("yunet")


def test_the_module_function_is_the_public_one(tiny_pack: Path, portrait: Path) -> None:
    report = unmask.inspect(portrait, pack=tiny_pack)
    again = unmask.inspect(str(portrait), pack=tiny_pack)
    blank = {"timings": {}, "run": None}
    assert report.model_copy(update=blank) == again.model_copy(update=blank)


@pytest.fixture(scope="module")
def cool_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes cool colours for a sign of forgery where the tiny pack takes warm ones, and sees more around the face."""
    folder = tmp_path_factory.mktemp("packs") / "cool"
    return write_pack(folder, size=32, gain=-1.0, name="cool", crop_margin=2.5)


def second_pack(folder: Path, limits: dict[str, float], **changes: object) -> Path:
    calibration = make_card(32, "").calibration
    assert calibration is not None
    return write_pack(folder, size=32, gain=-1.0, calibration=replace(calibration, **limits), **changes)


def stripped(report: Report) -> Report:
    """What a second pack must not change."""
    faces = [face.model_copy(update={"opinions": None}) for face in report.faces]
    return report.model_copy(
        update={"faces": faces, "packs": report.packs[:2], "tool": None, "timings": {}, "run": None}
    )


def test_each_pack_has_its_opinion_and_the_first_decides(
    inspector: Inspector, tiny_pack: Path, cool_pack: Path, portrait: Path, pixels: np.ndarray
) -> None:
    alone = inspector.inspect(portrait)
    assert alone.faces[0].opinions is None and alone.tool.options["pack"] == str(tiny_pack)
    report = Inspector([tiny_pack, cool_pack], edit_pack=None).inspect(portrait)
    assert stripped(report) == stripped(alone)
    (face,) = report.faces
    first, second = face.opinions
    assert (first.pack, second.pack) == ("tiny", "cool")
    assert (first.verdict, first.score, first.log10_lr, first.support) == (
        face.verdict,
        face.score,
        face.log10_lr,
        face.support,
    )
    crop, _ = context_crop(pixels, face.box, 2.5, 32)
    assert second.score == pytest.approx(probability(-logit_of(crop)), abs=1e-4)
    assert second.log10_lr == pytest.approx(max(-logit_of(crop), -1.0), abs=1e-4)
    assert first.log10_lr * second.log10_lr < 0
    assert [pack.name for pack in report.packs] == ["yunet", "tiny", "cool"]
    assert report.tool.options["pack"] == [str(tiny_pack), str(cool_pack)]
    packs = ("--pack", str(tiny_pack), "--pack", str(cool_pack))
    options = (*packs, "--fps", "5", "--edits", "none")
    assert shlex.split(report.tool.command) == ["unmask", "inspect", *options, str(portrait)]
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(report.model_dump_json()))
    # In the other order the other one decides.
    turned = unmask.inspect(portrait, pack=[cool_pack, tiny_pack])
    assert turned.faces[0].opinions == [second, first] and turned.log10_lr == second.log10_lr
    assert turned.faces[0].map.region != face.map.region


def test_a_second_pack_judges_a_video_by_its_mean(
    inspector: Inspector, tiny_pack: Path, cool_pack: Path, pixels: np.ndarray, make_video: Callable[..., Path]
) -> None:
    path = make_video(lambda moment: warm(pixels, 20 * moment - 40), seconds=2.0)
    report = Inspector((tiny_pack, cool_pack), edit_pack=None).inspect(path)
    assert stripped(report) == stripped(inspector.inspect(path))
    (face,) = report.faces
    turned = Inspector((cool_pack, tiny_pack), edit_pack=None).inspect(path)
    # What it says as second it also says as first, and there its frames are known.
    assert face.opinions[::-1] == turned.faces[0].opinions
    logits = [math.log(point.score / (1 - point.score)) for point in turned.faces[0].track]
    assert len(logits) == 10 and max(logits) - min(logits) > 0.2
    assert face.opinions[1].score == pytest.approx(probability(np.mean(logits)), abs=1e-4)


@pytest.mark.parametrize("limits", [{"min_face_px": 200.0}, {"min_quality": 99.9}])
def test_a_second_pack_refuses_by_its_own_limits(
    limits: dict[str, float], inspector: Inspector, tiny_pack: Path, portrait: Path, tmp_path: Path
) -> None:
    strict = second_pack(tmp_path / "strict", limits, name="strict")
    report = Inspector([tiny_pack, strict], edit_pack=None).inspect(portrait)
    assert stripped(report) == stripped(inspector.inspect(portrait))
    second = report.faces[0].opinions[1]
    assert second.model_dump(mode="json") == {
        "pack": "strict",
        "verdict": "refused",
        "score": None,
        "log10_lr": None,
        "support": None,
    }
    # A face that the leading pack refuses is nobody's to judge.
    report = Inspector([strict, tiny_pack], edit_pack=None).inspect(portrait)
    assert report.verdict is Verdict.REFUSED and report.faces[0].opinions is None


def test_a_second_pack_leaves_out_the_frames_that_its_limits_forbid(
    tiny_pack: Path, pixels: np.ndarray, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """The face comes nearer: the second pack, which wants it large, judges the later frames only."""

    def frame(moment: float) -> np.ndarray:
        scale = 0.7 if moment < 1.0 else 1.0
        near = cv2.resize(warm(pixels, 20 * moment - 40), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        canvas = np.full_like(pixels, 90)
        canvas[: near.shape[0], : near.shape[1]] = near
        return canvas

    path = make_video(frame, seconds=2.0)
    strict = second_pack(tmp_path / "strict", {"min_face_px": 80.0})
    (face,) = Inspector([tiny_pack, strict], edit_pack=None).inspect(path).faces
    assert [point.score is None for point in face.track] == [False] * 10
    (alone,) = Inspector(strict).inspect(path).faces
    refused = [point.score is None for point in alone.track]
    assert any(refused) and not all(refused)
    assert face.opinions[1].score == alone.score and face.opinions[1].log10_lr == alone.log10_lr


def test_packs_that_share_a_name_are_told_apart(tiny_pack: Path, portrait: Path, tmp_path: Path) -> None:
    newer = second_pack(tmp_path / "newer", {}, version="2")
    other = second_pack(tmp_path / "other", {}, name="other")
    twin = write_pack(tmp_path / "twin", size=32, gain=0.5)

    def names(*packs: Path) -> list[str]:
        return [opinion.pack for opinion in Inspector(packs).inspect(portrait).faces[0].opinions]

    assert names(tiny_pack, newer, other) == ["tiny 1", "tiny 2", "other"]
    assert names(tiny_pack, newer, twin) == [str(tiny_pack), "tiny 2", str(twin)]


def test_no_pack_twice_and_not_none(tiny_pack: Path) -> None:
    with pytest.raises(PackError, match="is tiny 1, which is given twice: give each pack once"):
        Inspector([tiny_pack, str(tiny_pack)])
    with pytest.raises(ValueError, match="forgery_pack"):
        Inspector([])


def test_a_pack_for_another_spectrum_is_refused(tiny_pack: Path, tmp_path: Path) -> None:
    infrared = write_pack(tmp_path / "infrared", size=32, name="infrared", spectra=("nir",))
    for packs in (infrared, [tiny_pack, infrared]):
        with pytest.raises(PackError, match="pack 'infrared' was trained for nir; give one trained for visible light"):
            Inspector(packs)
    Inspector(write_pack(tmp_path / "both", size=32, spectra=("nir", "visible")))


# How warm the portrait is made, what the tiny pack then decides, and what the tiny reader says.
EDITED, UNDECIDED, WHOLE, AUTHENTIC = 5, -15, -25, -60


@pytest.fixture(scope="module")
def reading(tiny_pack: Path, tiny_edit_model: Path) -> Inspector:
    return Inspector(tiny_pack, edit_pack=tiny_edit_model)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packs whose networks are run, as they come."""
    packs: list[str] = []
    run = Pack.run

    def noted(pack: Pack, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        packs.append(pack.card.name)
        return run(pack, pixels)

    monkeypatch.setattr(Pack, "run", noted)
    return packs


@pytest.fixture
def opened_ahead(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packs whose sessions are opened in the background, as they come."""
    packs: list[str] = []
    open_ahead = Pack.open_ahead

    def noted(pack: Pack) -> None:
        packs.append(pack.card.name)
        open_ahead(pack)

    monkeypatch.setattr(Pack, "open_ahead", noted)
    return packs


def save(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def edited_share(crop: np.ndarray) -> float:
    """What the tiny reader gives to any edit: one less the share of the untouched face."""
    red, _, blue = crop.reshape(-1, 3).mean(axis=0) / 255
    scores = other_scores()
    scores[0], scores[place_of((1, 2))] = GAIN * (blue - red), GAIN * (red - blue)
    return float(1 - np.exp(scores[0]) / np.exp(scores).sum())


def read_of(face: FaceFinding) -> SequenceFinding:
    assert face.sequence is not None
    return face.sequence


def without_edits(report: Report) -> Report:
    """What a reader must not change."""
    faces = [face.model_copy(update={"sequence": None}) for face in report.faces]
    packs = [pack for pack in report.packs if pack.name != "tiny-reader"]
    return report.model_copy(update={"faces": faces, "packs": packs, "tool": None, "timings": {}, "run": None})


def assert_fits_the_schema(report: Report) -> None:
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(report.model_dump_json()))
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_forged_face_is_read_for_edits_and_shown_on_the_way_back(
    inspector: Inspector, reading: Inspector, pixels: np.ndarray, tmp_path: Path
) -> None:
    picture = warm(pixels, EDITED)
    path = save(picture, tmp_path / "warm.png")
    inspection = reading.examine(path, pictures=True)
    report = inspection.report
    (face,) = report.faces
    sequence = read_of(face)
    assert face.verdict is Verdict.FORGED and sequence.outcome == "edits" and sequence.pack == "tiny-reader"
    assert sequence.best is not None
    assert sequence.best.edits == [step.edit for step in sequence.steps] == ["nose", "eye"]
    crop, region = context_crop(picture, face.box, 2.0, 64)
    assert sequence.edited == pytest.approx(edited_share(crop), abs=1e-4)
    assert all(step.area.region == region and np.shape(step.area.values) == (16, 16) for step in sequence.steps)
    assert face.map is not None and region[2] > face.map.region[2]  # it sees more of the picture than the pack

    (strip,) = inspection.strips
    assert len(strip) == len(sequence.steps) + 1 == 3
    first, between, last = (decoded(jpeg).astype(int) for jpeg in strip)
    assert np.abs(first - crop).mean() < 5 and np.abs(last - (255 - crop.astype(int))).mean() < 5
    # The nose's rows are the crop's still, the eye's are the recovered face's already.
    assert np.abs(between[:8] - crop[:8]).mean() < 8 and np.abs(between[16:20] - last[16:20]).mean() < 8

    assert without_edits(report) == without_edits(inspector.inspect(path))
    assert [pack.name for pack in report.packs] == ["yunet", "tiny", "tiny-reader"]
    assert [card.name for card in reading.cards] == ["yunet", "tiny", "tiny-reader"]
    assert set(report.timings) == {"read", "find", "quality", "score", "edits", "total"}
    assert_fits_the_schema(report)


@pytest.mark.parametrize(
    ("amount", "verdict", "outcome"),
    [
        (UNDECIDED, Verdict.INCONCLUSIVE, "cannot_tell"),
        (WHOLE, Verdict.INCONCLUSIVE, "no_local_edit"),
    ],
)
def test_a_face_of_which_nothing_is_concluded_is_read_too(
    reading: Inspector, pixels: np.ndarray, tmp_path: Path, amount: int, verdict: Verdict, outcome: str
) -> None:
    picture = warm(pixels, amount)
    inspection = reading.examine(save(picture, tmp_path / "picture.png"), pictures=True)
    (face,) = inspection.report.faces
    sequence = read_of(face)
    assert face.verdict is verdict and sequence.outcome == outcome
    crop, _ = context_crop(picture, face.box, 2.0, 64)
    assert sequence.edited == pytest.approx(edited_share(crop), abs=1e-4)
    assert sequence.reason == (
        "The reader is undecided whether any part was edited." if outcome == "cannot_tell" else None
    )
    assert inspection.strips == ((),) and len(sequence.alternatives) == 4
    assert "edits" in inspection.report.timings
    assert_fits_the_schema(inspection.report)


def test_a_face_judged_authentic_is_not_read(
    reading: Inspector, pixels: np.ndarray, tmp_path: Path, runs: list[str]
) -> None:
    inspection = reading.examine(save(warm(pixels, AUTHENTIC), tmp_path / "cold.png"), pictures=True)
    (face,) = inspection.report.faces
    assert face.verdict is Verdict.AUTHENTIC and face.sequence is None and inspection.strips == ((),)
    assert "tiny" in runs and "tiny-reader" not in runs
    assert "edits" not in inspection.report.timings
    assert [pack.name for pack in inspection.report.packs] == ["yunet", "tiny", "tiny-reader"]


def test_networks_are_loaded_for_a_face_that_can_be_judged_alone(
    reading: Inspector,
    make_pack: MakePack,
    tiny_edit_model: Path,
    portrait: Path,
    tmp_path: Path,
    opened_ahead: list[str],
) -> None:
    reading.inspect(save(np.full((64, 64, 3), 180, np.uint8), tmp_path / "no face.png"))
    assert opened_ahead == []
    Inspector(make_pack(min_quality=99.9), edit_pack=tiny_edit_model).inspect(portrait)
    assert "tiny-reader" not in opened_ahead
    opened_ahead.clear()
    reading.inspect(portrait)
    assert opened_ahead == ["tiny", "tiny-reader"]


def test_a_closed_inspector_can_be_used_again(reading: Inspector, pixels: np.ndarray, tmp_path: Path) -> None:
    reading.inspect(save(warm(pixels, AUTHENTIC), tmp_path / "cold.png"))
    reading.close()
    reading.close()
    report = reading.inspect(save(warm(pixels, EDITED), tmp_path / "warm.png"))
    assert report.faces[0].sequence is not None


@pytest.mark.parametrize("limits", [{"min_face_px": 200.0}, {"min_quality": 99.9}])
def test_a_face_that_is_refused_is_not_read(
    make_pack: MakePack, tiny_edit_model: Path, portrait: Path, runs: list[str], limits: dict[str, float]
) -> None:
    inspection = Inspector(make_pack(**limits), edit_pack=tiny_edit_model).examine(portrait, pictures=True)
    (face,) = inspection.report.faces
    assert face.verdict is Verdict.REFUSED and face.sequence is None and inspection.strips == ((),)
    assert "tiny-reader" not in runs and "edits" not in inspection.report.timings


def test_without_a_reader_nothing_is_read(tiny_pack: Path, pixels: np.ndarray, tmp_path: Path, runs: list[str]) -> None:
    alone = Inspector(tiny_pack, edit_pack=None)
    inspection = alone.examine(save(warm(pixels, EDITED), tmp_path / "warm.png"), pictures=True)
    (face,) = inspection.report.faces
    assert face.verdict is Verdict.FORGED and face.sequence is None and inspection.strips == ((),)
    assert set(runs) <= {"yunet", "tiny"}
    assert [pack.name for pack in inspection.report.packs] == ["yunet", "tiny"]
    assert set(inspection.report.timings) == {"read", "find", "quality", "score", "total"}
    assert inspection.report.tool.options["edit_pack"] is None


def test_strips_are_made_with_the_pictures_alone(reading: Inspector, portrait: Path) -> None:
    inspection = reading.examine(portrait)
    assert inspection.pictures == () and inspection.strips == ()
    shown = reading.examine(portrait, pictures=True)
    assert len(shown.pictures) == 1 and [len(strip) for strip in shown.strips] == [3]
    blank = {"timings": {}, "run": None}
    assert inspection.report.model_copy(update=blank) == shown.report.model_copy(update=blank)


def test_each_face_of_a_group_is_read_by_itself(
    reading: Inspector, pixels: np.ndarray, tmp_path: Path, runs: list[str]
) -> None:
    amounts = (EDITED, AUTHENTIC, WHOLE, 20)
    group = np.hstack([warm(pixels, amount) for amount in amounts])
    inspection = reading.examine(save(group, tmp_path / "group.png"), pictures=True)
    order = sorted(range(4), key=lambda index: inspection.report.faces[index].box[0])
    faces, strips = [inspection.report.faces[index] for index in order], [inspection.strips[index] for index in order]
    assert [face.sequence and face.sequence.outcome for face in faces] == ["edits", None, "no_local_edit", "edits"]
    assert [len(strip) for strip in strips] == [3, 0, 0, 3]
    assert runs.count("tiny-reader") == 3
    for number in (0, 2, 3):
        sequence = read_of(faces[number])
        crop, region = context_crop(group, faces[number].box, 2.0, 64)
        assert sequence.edited == pytest.approx(edited_share(crop), abs=1e-4)
        assert all(step.area.region == region for step in sequence.steps)
        if strips[number]:
            assert np.abs(decoded(strips[number][0]).astype(int) - crop).mean() < 5
    assert read_of(faces[0]).edited != read_of(faces[3]).edited
    assert_fits_the_schema(inspection.report)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"min_face_px": 200.0}, r"The face is 90 pixels wide; 200 are needed to read edits\."),
        ({"min_quality": 99.0}, r"The quality of the face is 8\d of 100; 99 are needed\."),
        ({"max_turn": 1.0}, r"The face is turned by [2-5] degrees; edits are read up to 1\."),
        ({"min_margin": 2.1}, "Part of the face, or too much of what is about it, lies outside the picture\\."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_reader_keeps_to_its_own_limits_and_the_verdict_stays(
    inspector: Inspector,
    make_reader: Callable[..., Path],
    tiny_pack: Path,
    portrait: Path,
    runs: list[str],
    limits: dict[str, float],
    reason: str,
) -> None:
    strict = Inspector(tiny_pack, edit_pack=make_reader(**limits))
    report = strict.inspect(portrait)
    sequence = read_of(report.faces[0])
    assert sequence.outcome == "cannot_tell" and sequence.edited is None and sequence.reason is not None
    assert re.fullmatch(reason, sequence.reason)
    assert "tiny-reader" not in runs
    assert without_edits(report) == without_edits(inspector.inspect(portrait))
    assert_fits_the_schema(report)


def test_a_face_that_fills_its_picture_is_not_read(reading: Inspector, pixels: np.ndarray, tmp_path: Path) -> None:
    report = reading.inspect(save(warm(pixels, EDITED)[55:190, 106:218], tmp_path / "tight.png"))
    (face,) = report.faces
    assert face.verdict is Verdict.FORGED
    assert read_of(face).reason == "Part of the face, or too much of what is about it, lies outside the picture."


def test_a_track_is_read_in_its_telling_frame(
    inspector: Inspector, reading: Inspector, pixels: np.ndarray, make_video: Callable[..., Path], runs: list[str]
) -> None:
    """It grows warmer: in the first frames the reader would be undecided, in the last, the most suspect, it is not."""
    path = make_video(lambda moment: warm(pixels, 20 * moment - 15), seconds=2.0)
    inspection = reading.examine(path, pictures=True)
    (face,) = inspection.report.faces
    assert face.verdict is Verdict.FORGED and face.track is not None and len(face.track) == 10
    assert face.time == max(face.track, key=lambda point: point.score or 0.0).time
    sequence = read_of(face)
    assert sequence.outcome == "edits" and runs.count("tiny-reader") == 1
    frame = warm(pixels, 20 * face.time - 15)
    crop, region = context_crop(frame, face.box, 2.0, 64)
    assert all(step.area.region == region for step in sequence.steps)
    assert edited_share(context_crop(warm(pixels, -15), face.box, 2.0, 64)[0]) < 0.9
    assert sequence.edited == pytest.approx(edited_share(crop), abs=0.02)
    (strip,) = inspection.strips
    assert len(strip) == 3 and np.abs(decoded(strip[0]).astype(int) - crop).mean() < 6
    assert "edits" in inspection.report.timings
    assert without_edits(inspection.report) == without_edits(inspector.inspect(path))
    assert_fits_the_schema(inspection.report)


def test_of_two_people_in_a_video_the_one_judged_authentic_is_not_read(
    reading: Inspector, pixels: np.ndarray, make_video: Callable[..., Path], runs: list[str]
) -> None:
    still = np.hstack([warm(pixels, AUTHENTIC), warm(pixels, EDITED)])
    inspection = reading.examine(make_video(lambda _: still, seconds=1.0), pictures=True)
    order = sorted(range(2), key=lambda index: inspection.report.faces[index].box[0])
    left, right = (inspection.report.faces[index] for index in order)
    assert left.verdict is Verdict.AUTHENTIC and left.sequence is None
    assert right.verdict is Verdict.FORGED and read_of(right).outcome == "edits"
    assert [len(inspection.strips[index]) for index in order] == [0, 3]
    assert runs.count("tiny-reader") == 1


def test_the_first_pack_decides_whether_a_face_is_read(
    tiny_pack: Path, cool_pack: Path, tiny_edit_model: Path, portrait: Path
) -> None:
    for packs, read in (([tiny_pack, cool_pack], True), ([cool_pack, tiny_pack], False)):
        report = Inspector(packs, edit_pack=tiny_edit_model).inspect(portrait)
        (face,) = report.faces
        assert face.verdict is (Verdict.FORGED if read else Verdict.AUTHENTIC)
        assert (face.sequence is not None) == read
        assert [pack.name for pack in report.packs][-1] == "tiny-reader" and len(report.packs) == 4


def test_the_command_given_repeats_the_reading(
    reading: Inspector, tiny_pack: Path, tiny_edit_model: Path, portrait: Path
) -> None:
    report = reading.inspect(portrait)
    assert shlex.split(report.tool.command) == [
        *("unmask", "inspect", "--pack", str(tiny_pack), "--fps", "5", "--edits", str(tiny_edit_model)),
        str(portrait),
    ]
    assert report.tool.options["edit_pack"] == str(tiny_edit_model)


def test_the_command_given_says_that_there_was_no_reader_where_one_is_embedded(
    tiny_pack: Path, tiny_edit_model: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "EDIT_PACK", str(tiny_edit_model))
    none, embedded = (Inspector(tiny_pack, edit_pack=pack).inspect(portrait) for pack in (None, str(tiny_edit_model)))
    assert shlex.split(none.tool.command)[-3:-1] == ["--edits", "none"]
    assert "--edits" not in embedded.tool.command


def test_a_reader_is_embedded_and_reads_unless_it_is_turned_off(tiny_pack: Path, portrait: Path) -> None:
    report = unmask.inspect(portrait, pack=tiny_pack)
    assert report.packs[-1].name == EDIT_PACK == read_of(report.faces[0]).pack
    assert "--edits" not in report.tool.command
    assert load_pack(EDIT_PACK).card.task == "edit_reading"


def test_the_module_function_takes_a_reader(tiny_pack: Path, tiny_edit_model: Path, portrait: Path) -> None:
    report = unmask.inspect(portrait, pack=tiny_pack, edits=tiny_edit_model)
    assert read_of(report.faces[0]).outcome == "edits"
    assert unmask.inspect(portrait, pack=tiny_pack, edits=None).faces[0].sequence is None


def test_only_a_reader_of_edits_is_taken_for_one(
    tiny_pack: Path, tiny_edit_model: Path, make_reader: Callable[..., Path]
) -> None:
    with pytest.raises(PackError, match="pack 'tiny' is for forgery_detection, not edit_reading"):
        Inspector(tiny_pack, edit_pack=tiny_pack)
    with pytest.raises(PackError, match="pack 'yunet' is for face_detection, not edit_reading"):
        Inspector(tiny_pack, edit_pack="yunet")
    with pytest.raises(PackError, match="pack 'tiny-reader' is for edit_reading, not forgery_detection"):
        Inspector(tiny_edit_model)
    with pytest.raises(PackError, match="no model pack 'no-such-pack'"):
        Inspector(tiny_pack, edit_pack="no-such-pack")
    with pytest.raises(PackError, match="'tiny-reader' does not read edits"):
        Inspector(tiny_pack, edit_pack=make_reader(outputs=("areas", "scores", "recovered")))


def test_a_reader_for_another_spectrum_is_refused(tiny_pack: Path, make_reader: Callable[..., Path]) -> None:
    Inspector(tiny_pack, edit_pack=make_reader(spectra=("nir", "visible")))
    infrared = make_reader(spectra=("nir",))
    with pytest.raises(PackError, match="'tiny-reader' was trained for nir"):
        Inspector(tiny_pack, edit_pack=infrared)


def test_any_name_can_be_quoted_for_a_shell(tmp_path: Path) -> None:
    words = ["printf", "%s", "it's $HOME \\ \udcff`x`"]
    done = subprocess.run(["bash", "-c", shell_line(words)], capture_output=True, check=True)
    assert done.stdout == b"it's $HOME \\ \xff`x`"


@pytest.mark.data
def test_real_faces_are_found_and_judged(inspector: Inspector, data_dir: Path) -> None:
    files = sorted((data_dir / "forensics" / "ffhq_stylegan_256").rglob("*.jpg"))[:20]
    assert files
    reports = [inspector.inspect(path) for path in files]
    assert sum(report.verdict is not Verdict.REFUSED for report in reports) >= 19
