"""Only pictures whose manifest allows it are attacked, and only those with a face."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.errors import DataError
from unmask.redteam.sources import find_faces, pair_for_dodging, pair_for_impersonation, read_sources

pytestmark = pytest.mark.lab
Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, portrait: Path) -> Writer:
    """A manifest over variants of one photograph; a row is (name, subject, consent, label, target)."""

    def make(*rows: tuple[str, ...], header: str = "path,subject,consent,label,target") -> Path:
        picture = cv2.imread(str(portrait))
        assert picture is not None
        for number, row in enumerate(rows):
            if not row[0].startswith("absent"):
                shown = np.zeros_like(picture) if row[0].startswith("empty") else picture
                cv2.imwrite(str(tmp_path / row[0]), cv2.convertScaleAbs(shown, alpha=1 - 0.02 * number))
        lines = [header, *(",".join(row) for row in rows)]
        (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
        return tmp_path

    return make


def test_rows_are_read(write: Writer) -> None:
    folder = write(("a.png", "ann", "yes", "0", ""), ("b.png", "bob", "synthetic", "1", "a.png"))
    first, second = read_sources(folder, labels=True)
    assert (first.name, first.subject, first.label, first.target) == ("a.png", "ann", "0", "")
    assert (second.consent, second.label, second.target) == ("synthetic", "1", "a.png")


@pytest.mark.parametrize("consent", ["", "no", "unknown", "ja"])
def test_without_consent_nothing_is_attacked(consent: str, write: Writer) -> None:
    folder = write(("a.png", "ann", "yes", "0", ""), ("b.png", "bob", consent, "1", ""))
    with pytest.raises(DataError, match=r"row 3: b\.png: consent"):
        read_sources(folder)
    assert len(read_sources(folder, consent=False)) == 2


def test_a_manifest_without_the_column(write: Writer) -> None:
    with pytest.raises(DataError, match="no column consent"):
        read_sources(write(("a.png", "ann"), header="path,subject"))


@pytest.mark.parametrize("place", ["https://example.org/m.csv", "http://example.org", "s3://bucket/m.csv"])
def test_nothing_remote(place: str) -> None:
    with pytest.raises(DataError, match="on this machine"):
        read_sources(Path(place))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("absent.png", "ann", "yes", "0", ""), "no file"),
        (("a.png", "", "yes", "0", ""), "no subject"),
        (("a.png", "ann", "yes", "2", ""), "write 0 for real"),
    ],
)
def test_faulty_rows(row: tuple[str, ...], why: str, write: Writer) -> None:
    with pytest.raises(DataError, match=why):
        read_sources(write(row), labels=True)


def test_no_manifest_and_no_rows(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(DataError, match="no manifest"):
        read_sources(tmp_path / "nothing")
    with pytest.raises(DataError, match="no rows"):
        read_sources(write())


def test_a_picture_without_a_face_is_passed_over_and_said(write: Writer) -> None:
    rows = read_sources(write(("a.png", "ann", "yes", "0", ""), ("empty.png", "bob", "yes", "1", "")))
    faces, skipped = find_faces(rows, 96, 1.4)
    assert [face.name for face in faces] == ["a.png"] and skipped == [("empty.png", "no face was found")]
    assert faces[0].picture.shape == (3, 96, 96) and faces[0].label == 0
    # The landmarks are in pixels of the crop: the eyes above the mouth, all inside.
    assert (faces[0].landmarks > 0).all() and (faces[0].landmarks < 96).all()
    assert faces[0].landmarks[:2, 1].max() < faces[0].landmarks[3:, 1].min()
    with pytest.raises(DataError, match="no face was found in any"):
        find_faces(rows[1:], 96, 1.4)


def test_pairs(write: Writer) -> None:
    names = [("a1.png", "ann"), ("a2.png", "ann"), ("b.png", "bob"), ("c.png", "cyn")]
    faces, _ = find_faces(read_sources(write(*((*name, "yes", "0", "") for name in names))), 64, 1.4)
    assert pair_for_impersonation(faces) == [(0, 2), (2, 3), (3, 0)]
    assert pair_for_dodging(faces) == [(0, 1)]
    with pytest.raises(DataError, match="nobody has them"):
        pair_for_dodging(faces[1:])
    with pytest.raises(DataError, match="needs two people"):
        pair_for_impersonation(faces[:2])


@pytest.mark.parametrize(
    ("target", "why"), [("b.png", "the same person"), ("a.png", "the same person"), ("z.png", "no row with a face")]
)
def test_targets_that_cannot_be(target: str, why: str, write: Writer) -> None:
    rows = [("a.png", "ann", "yes", "0", target), ("b.png", "ann", "yes", "0", ""), ("c.png", "cyn", "yes", "0", "")]
    faces, _ = find_faces(read_sources(write(*rows)), 64, 1.4)
    with pytest.raises(DataError, match=why):
        pair_for_impersonation(faces)


def test_a_target_that_the_manifest_names(write: Writer) -> None:
    rows = [("a.png", "ann", "yes", "0", "c.png"), ("b.png", "bob", "yes", "0", ""), ("c.png", "cyn", "yes", "0", "")]
    faces, _ = find_faces(read_sources(write(*rows)), 64, 1.4)
    assert pair_for_impersonation(faces) == [(0, 2)]
