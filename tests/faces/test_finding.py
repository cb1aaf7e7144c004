"""Finding faces: real sets, collages, turned faces, face-free pictures, odd shapes; OpenCV's own YuNet as reference."""

import random
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.faces import finding
from unmask.faces.finding import FaceFinder
from unmask.packs import load_pack


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def sample(folder: Path, count: int) -> list[np.ndarray]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".jpg", ".pgm"})
    assert len(files) >= count
    return [read(path) for path in random.Random(7).sample(files, count)]


@pytest.fixture(scope="module")
def portrait(data_dir: Path) -> np.ndarray:
    """256 px, one upright face."""
    return sample(data_dir / "faces" / "celebamask_256", 1)[0]


@pytest.mark.data
@pytest.mark.parametrize(
    "folder",
    [
        "faces/celeba64_ids/images",
        "forensics/gan2018/pggan",
        "faces/utkface_200",
        "forensics/ffhq_stylegan_256",
        "forensics/ciplab_256",
        "faces/orl_att",
    ],
)
def test_finds_the_face_of_tight_pictures(finder: FaceFinder, data_dir: Path, folder: str) -> None:
    faces = [finder.find(pixels) for pixels in sample(data_dir / folder, 40)]
    assert sum(map(bool, faces)) >= 39
    assert sum(max(0, len(several) - 1) for several in faces) <= 3


@pytest.mark.data
def test_rarely_takes_an_animal_or_a_house_for_a_face(finder: FaceFinder, data_dir: Path) -> None:
    photos = data_dir / "sketch" / "pacs_small" / "photo"
    pictures = [pixels for kind in ("giraffe", "horse", "house") for pixels in sample(photos / kind, 30)]
    assert sum(bool(finder.find(pixels)) for pixels in pictures) <= 8


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 5), (31, 33), (480, 640)])
@pytest.mark.parametrize("fill", [0, 255, None])
def test_nothing_in_flat_or_noisy_pictures(finder: FaceFinder, shape: tuple[int, int], fill: int | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert finder.find(noise if fill is None else np.full_like(noise, fill)) == []


@pytest.mark.data
def test_finds_forty_small_faces_in_a_large_picture(finder: FaceFinder, data_dir: Path) -> None:
    rng = np.random.default_rng(3)
    picture = cv2.resize(rng.integers(90, 150, (375, 500, 3)).astype(np.uint8), (4000, 3000))
    centres = []
    for index, pixels in enumerate(sample(data_dir / "faces" / "utkface_200", 40)):
        (x, y, w, h), *_ = (face.box for face in finder.find(pixels))
        scale = rng.uniform(44, 60) / w
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        left, top = index % 8 * 500 + int(rng.integers(380)), index // 8 * 600 + int(rng.integers(480))
        picture[top : top + small.shape[0], left : left + small.shape[1]] = small
        centres.append((left + (x + w / 2) * scale, top + (y + h / 2) * scale))
    positions = [(face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2) for face in finder.find(picture)]
    missed = [c for c in centres if min(np.hypot(c[0] - x, c[1] - y) for x, y in positions) > 20]
    assert len(missed) <= 1
    assert len(positions) <= 41


@pytest.mark.data
@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_turned_faces_have_turned_landmarks(finder: FaceFinder, data_dir: Path, quarter_turns: int) -> None:
    count = 0
    for pixels in sample(data_dir / "faces" / "celebamask_256", 12):
        upright = finder.find(pixels)[0].landmarks
        turned = finder.find(np.ascontiguousarray(np.rot90(pixels, quarter_turns)))
        if not turned:
            continue
        count += 1
        expected = upright.copy()
        for _ in range(quarter_turns):
            expected = np.stack([expected[:, 1], 256 - expected[:, 0]], axis=1)
        assert np.abs(turned[0].landmarks - expected).mean() < 0.12 * turned[0].box[2]
    assert count >= 8


@pytest.mark.data
def test_agrees_with_opencvs_own_yunet(data_dir: Path) -> None:
    """Same model, same scale: our decoding and merging against FaceDetectorYN."""
    pixels = cv2.resize(sample(data_dir / "forensics" / "ffhq_stylegan_256", 1)[0], (320, 320))
    try:
        reference = cv2.FaceDetectorYN.create(str(load_pack("yunet").model_path), "", (320, 320), 0.7, 0.3)
        _, rows = reference.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        pytest.skip(f"this OpenCV cannot run the model: {error}")
    (face,) = FaceFinder().find(pixels)
    np.testing.assert_allclose(face.box, rows[0, :4], atol=0.05)
    np.testing.assert_allclose(face.landmarks.reshape(-1), rows[0, 4:14], atol=0.05)
    assert face.confidence == pytest.approx(rows[0, 14], abs=1e-4)


@pytest.mark.data
def test_is_deterministic_whatever_came_before(portrait: np.ndarray) -> None:
    once, reused = FaceFinder(), FaceFinder()
    reused.find(np.full((900, 1200, 3), 200, np.uint8))
    first, second = once.find(portrait), reused.find(portrait)
    assert first[0].box == second[0].box
    assert np.array_equal(first[0].landmarks, second[0].landmarks)


@pytest.mark.data
@pytest.mark.parametrize("place", [(0, 0), (3050, 0), (0, 2150), (3070, 2170), (1400, 1000)])
def test_maps_back_to_the_picture_from_anywhere(
    finder: FaceFinder, portrait: np.ndarray, place: tuple[int, int]
) -> None:
    expected = finder.find(portrait)[0]
    left, top = place
    picture = np.full((2430, 3330, 3), 128, np.uint8)
    picture[top : top + 256, left : left + 256] = portrait
    (face,) = finder.find(picture)
    shift = np.array([left, top])
    assert np.abs(face.landmarks - expected.landmarks - shift).max() < 0.1 * expected.box[2]
    assert np.abs(np.array(face.box) - expected.box - (left, top, 0, 0)).max() < 0.2 * expected.box[2]


@pytest.mark.data
def test_largest_first_and_inside_the_picture(finder: FaceFinder, portrait: np.ndarray) -> None:
    picture = np.full((300, 620, 3), 128, np.uint8)
    picture[150:250, 20:120] = cv2.resize(portrait, (100, 100), interpolation=cv2.INTER_AREA)
    picture[20 : 20 + portrait.shape[0], 300 : 300 + portrait.shape[1]] = portrait
    large, small = finder.find(picture)
    assert large.box[2] > 1.5 * small.box[2]
    for face in (large, small, *finder.find(portrait[40:150, 40:150].copy())):
        x, y, w, h = face.box
        assert x >= 0 and y >= 0 and w > 0 and h > 0


@pytest.mark.parametrize("shape", [(100, 100), (1080, 1920), (3000, 4000), (30000, 30000), (100, 30000), (20000, 3)])
@pytest.mark.parametrize("smallest", [10.0, 40.0, 200.0])
def test_looks_cover_the_picture_at_bounded_cost(shape: tuple[int, int], smallest: float) -> None:
    height, width = shape
    looks = finding._looks(height, width, smallest)
    assert looks[0].part == (0, 0, width, height)
    assert len(looks) <= 1 + finding.MAX_TILES
    for scale in {look.scale for look in looks}:
        for axis, side in ((0, width), (1, height)):
            spans = sorted({(look.part[axis], look.part[axis + 2]) for look in looks if look.scale == scale})
            assert spans[0][0] == 0 and sum(spans[-1]) == side
            for (start, length), (following, _) in pairwise(spans):
                assert start + length - following >= finding.OVERLAP / scale - 2
            assert max(length for _, length in spans) * scale <= finding.TILE + 2


def test_small_faces_are_looked_for_on_a_finer_copy_and_faint_ones_count_there() -> None:
    whole, *finer = finding._looks(1080, 1920, 40.0)
    assert whole.confidence == finding.CANDIDATE
    assert [look.part for look in finer] == [(0, 0, 1920, 1080)]  # one more look at what most cameras take
    assert finer[0].scale * 40 == finding.SEEN
    assert finer[0].confidence == finding.FAINT < finding.CANDIDATE


@pytest.mark.data
def test_finds_nearly_all_small_faces_of_a_video_frame(finder: FaceFinder, data_dir: Path) -> None:
    portraits = sample(data_dir / "faces" / "celebamask_256", 18)
    picture = np.full((1080, 1920, 3), 120, np.uint8)
    for index, pixels in enumerate(portraits):
        scale = 48 / finder.find(pixels)[0].box[2]
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = 40 + index // 6 * 330, 40 + index % 6 * 310
        picture[top : top + small.shape[0], left : left + small.shape[1]] = small
    faces = finder.find(picture)
    assert len(faces) >= 16
    assert all(36 <= face.box[2] <= 62 for face in faces)


def test_refuses_what_is_not_a_picture(finder: FaceFinder) -> None:
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            finder.find(wrong)
