import numpy as np
import pytest
from fake_faces import make_picture

from unmask.errors import DataError
from unmask.forging import looks
from unmask.forging.looks import LOOKS, check_encoders, draw_look, enlarged, greyscale, has_encoder, video_frame

PICTURE = make_picture(192, 1)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_keeps_the_shape_and_repeats(name: str) -> None:
    for seed in range(4):
        look = draw_look(np.random.default_rng(seed), name)
        once, again = look(PICTURE), look(PICTURE)
        assert once.shape == PICTURE.shape and once.dtype == np.uint8
        np.testing.assert_array_equal(once, again)
        np.testing.assert_array_equal(once, draw_look(np.random.default_rng(seed), name)(PICTURE))


@pytest.mark.parametrize("name", [name for name in LOOKS if name != "greyscale"])
def test_a_look_changes_a_picture_and_leaves_it_recognisable(name: str) -> None:
    look = draw_look(np.random.default_rng(5), name)
    assert 0.3 < apart(look(PICTURE), PICTURE) < 40


def test_sides_need_not_be_even_or_equal() -> None:
    odd = PICTURE[:71, :93]
    for name in LOOKS:
        assert draw_look(np.random.default_rng(0), name)(odd).shape == odd.shape


@pytest.mark.parametrize("side", [8, 17, 33])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_tiny_pictures_can_be_frames(codec: str, side: int) -> None:
    tiny = PICTURE[60 : 60 + side, 60 : 60 + side]
    assert apart(video_frame(tiny, codec, 20), tiny) < 12


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_higher_rate_factor_loses_more(codec: str) -> None:
    fine, coarse = (apart(video_frame(PICTURE, codec, crf), PICTURE) for crf in (12, 40))
    assert fine < coarse
    assert fine < 6


def test_enlarging_takes_fine_detail_away() -> None:
    def detail(pixels: np.ndarray) -> float:
        return float(np.abs(np.diff(pixels.astype(float), axis=1)).mean())

    assert detail(enlarged(PICTURE, 24)) < detail(enlarged(PICTURE, 48)) < detail(PICTURE)
    np.testing.assert_array_equal(enlarged(PICTURE, 200), PICTURE)


def test_greyscale_has_three_equal_channels() -> None:
    grey = greyscale(PICTURE)
    assert (grey[..., :1] == grey).all()
    assert abs(float(grey.mean()) - float((PICTURE @ np.array([0.299, 0.587, 0.114])).mean())) < 1


def test_an_unknown_look_and_a_missing_encoder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no look 'sepia'; looks are h264"):
        draw_look(np.random.default_rng(0), "sepia")
    check_encoders()
    monkeypatch.setitem(looks.CODECS, "h265", "libnone")
    has_encoder.cache_clear()
    try:
        with pytest.raises(DataError, match="no encoder libnone"):
            check_encoders()
        with pytest.raises(DataError, match="no encoder libnone"):
            video_frame(PICTURE, "h265", 30)
    finally:
        has_encoder.cache_clear()
