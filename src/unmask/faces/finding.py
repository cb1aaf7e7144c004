"""Find faces: YuNet on the whole picture and, where faces may be small on that copy, on tiles of finer copies.

YuNet was trained on faces of about 10 to 300 pixels; measured here, from `SEEN` pixels up it misses almost none, though
it is unsure of the smallest. What it finds in a picture is therefore a question of the scales at which it looks:

1. *Whole*: the picture brought to `WHOLE` pixels on its long side, up or down. Finds what an ordinary photo shows, up
   to faces that fill it.
2. *Finer*: if a face of the smallest size asked for would be smaller than `SEEN` there, the picture is looked at again
   at the scale at which it is not, and in between, so that neighbouring scales are at most a factor of 4 apart. Each
   scale is cut into overlapping tiles; the overlap holds the largest face that the next coarser scale leaves to it.
   At most `MAX_TILES` tiles are taken of any picture: beyond that the finest scale is lowered, so the cost is bounded.
   A `FAINT` face is enough here to be looked at closely: as many small faces are found as at a scale for 24 pixels
   with `CANDIDATE`, at two thirds of its cost.
3. *Framed*: only if nothing was found, once more smaller and in a black frame, and only for faces that overfill the
   picture.
4. *Close*: every face it is less than `SURE` of is looked at again at a size that suits the network and in all four
   quarter turns, and that look decides: small faces gain, animals lose. YuNet also finds faces on their side and upside
   down, but sets their points as if they stood upright and is less sure of them: the quarter turn in which it is surest
   is taken. What is sure upright, or was faint, is not turned.

In the frames of a video, `find_again` looks only around the faces of the frame before, at the size of a close look.

Nothing is ever stretched; boxes and points are given in pixels of the picture that came in.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unmask.faces.alignment import Box
from unmask.packs import Pack, load_pack

WHOLE = 320  # pixels on the long side; faces that fill a 512-pixel input are missed more often
SEEN = 20  # pixels of face width on the network's input of the smallest faces looked for
TILE = 1152  # pixels a side at most; larger tiles spend less on overlap, smaller ones less memory
OVERLAP = 5 * SEEN  # the widest face that a coarser scale leaves to this one, and some room
MAX_TILES = 9
FRAMED = 160
SURE = 0.92  # 99 % of upright, sharp, frontal faces get more; 97 % of upside-down ones less
CANDIDATE = 0.5
FAINT = 0.2  # on finer copies, where the smallest faces lie
CLOSE = 64  # pixels of face on the network's input at which fewest animals pass for people
ROOM = 2.5  # how much wider than a face the part is in which it is looked for again
FOLLOWED = 4  # faces up to which looks around each cost less than a whole search
TURNED_BY = 0.02  # how much surer a quarter turn must be than the face as it lies
_STRIDES = (8, 16, 32)
_SMALLEST_INPUT = 160  # one shape for all close looks: each new shape costs ONNX Runtime some planning


@dataclass(frozen=True)
class FoundFace:
    """One face in a picture.

    `box` is (x, y, width, height) in pixels, inside the picture. `landmarks` is float32 (5, 2), x and y in pixels:
    right eye, left eye, nose tip, right and left mouth corner, as the subject would say (the right eye is on the
    picture's left); they may lie just outside the picture. `confidence` is in [0, 1].
    """

    box: Box
    landmarks: np.ndarray
    confidence: float


@dataclass(frozen=True)
class _Look:
    """One view: the part (x, y, w, h) of the picture, its scale, a black frame in scaled pixels, quarter turns.

    `confidence` is the least with which a face there counts as seen.
    """

    part: tuple[int, int, int, int]
    scale: float
    frame: int = 0
    turns: int = 0
    confidence: float = CANDIDATE


class FaceFinder:
    """Finds faces with an embedded YuNet. Deterministic; use one per thread or process."""

    def __init__(self, pack: Pack | None = None, *, confidence: float = 0.7, smallest: float = 40.0) -> None:
        """Take the embedded pack or another one with YuNet's outputs.

        Args:
            pack: the detector; None takes the embedded "yunet".
            confidence: faces below it are not reported, in [0.5, 1). At 0.7, one in 20 animal photos has a "face".
            smallest: width in pixels of the smallest face to look for. Pictures of up to 16 times this size on their
                long side need one look; above, the cost grows with the number of pixels over the square of
                `smallest`, up to `MAX_TILES` looks more.
        """
        self._pack = pack or load_pack("yunet", task="face_detection")
        self._confidence = confidence
        self._smallest = smallest
        self._buffer = np.empty(0, np.float32)

    def find(self, pixels: np.ndarray) -> list[FoundFace]:
        """All faces of a picture, largest first.

        Args:
            pixels: uint8 (H, W, 3) RGB, any size from 1 x 1 up.

        Returns:
            The faces, largest box first; an empty list where there is none. Most faces on their side or upside down are
            found too, with their landmarks where the eyes, nose and mouth are: the roll can be told from them.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(f"a picture is uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
        height, width = pixels.shape[:2]
        rows = _merge([self._look(pixels, look) for look in _looks(height, width, self._smallest)])
        if not (rows[:, 14] >= CANDIDATE).any():
            framed = _Look((0, 0, width, height), FRAMED / max(height, width), frame=FRAMED // 4)
            filling = _merge([self._look(pixels, framed)])
            rows = _merge([rows, filling[filling[:, 2:4].max(axis=1) > 0.6 * min(height, width)]])
        judged = [self._close(pixels, row) for row in rows]
        return _faces([row for row in judged if row[14] >= self._confidence], height, width)

    def find_again(self, pixels: np.ndarray, faces: Sequence[FoundFace]) -> list[FoundFace] | None:
        """The faces of a picture that comes shortly after another one of the same scene, at a fraction of the cost.

        Args:
            pixels: as in `find`.
            faces: those of the earlier picture, each looked for near its place only.

        Returns:
            As `find`, or None if not all of them are surely there again, or they are many: then search the picture.
        """
        if len(faces) > FOLLOWED:
            return None
        looks = []
        for face in faces:
            x, y, w, h = face.box
            longer = max(w, h)
            left, top, side = x + w / 2 - ROOM / 2 * longer, y + h / 2 - ROOM / 2 * longer, ROOM * longer
            start_x, start_y = max(0, int(left)), max(0, int(top))
            end_x, end_y = min(pixels.shape[1], math.ceil(left + side)), min(pixels.shape[0], math.ceil(top + side))
            if end_x <= start_x or end_y <= start_y:
                return None  # the picture has another size
            rows = self._look(pixels, _Look((start_x, start_y, end_x - start_x, end_y - start_y), CLOSE / longer))
            looks.append(rows[rows[:, 14] >= SURE])
        merged = _merge(looks)
        if len(merged) < len(faces) or not all(map(len, looks)):
            return None
        return _faces(list(merged), *pixels.shape[:2])

    def _close(self, pixels: np.ndarray, row: np.ndarray) -> np.ndarray:
        """A face not yet sure, looked at again at a good size and in the quarter turn in which it stands upright."""
        if row[14] >= SURE:
            return row
        x, y, w, h = row[:4]
        left, top = max(0, int(x - w / 2)), max(0, int(y - h / 2))
        right, bottom = min(pixels.shape[1], math.ceil(x + w * 1.5)), min(pixels.shape[0], math.ceil(y + h * 1.5))
        part = (left, top, right - left, bottom - top)
        views = []
        for turns in range(4):
            rows = self._look(pixels, _Look(part, CLOSE / max(w, h), frame=CLOSE // 8, turns=turns))
            rows = rows[_shared(rows, row) > 0.5 * w * h]
            views.append(max(rows, key=lambda other: other[14], default=np.zeros(15, np.float32)))
            if views[0][14] >= SURE or row[14] < CANDIDATE:
                return views[0]
        upright = max(views[1:], key=lambda view: view[14])
        return upright if upright[14] > views[0][14] + TURNED_BY else views[0]

    def _look(self, pixels: np.ndarray, look: _Look) -> np.ndarray:
        """Faces of one view as rows (x, y, w, h, 5 points, confidence) in pixels of the whole picture."""
        frame, (x, y, w, h) = look.frame, look.part
        view = pixels[y : y + h, x : x + w]
        size = (max(1, round(w * look.scale)), max(1, round(h * look.scale)))
        if size != (w, h):
            view = _shrink(view, size) if look.scale < 1 else cv2.resize(view, size, interpolation=cv2.INTER_LINEAR)
        if frame:
            view = cv2.copyMakeBorder(view, frame, frame, frame, frame, cv2.BORDER_CONSTANT)
        view = np.rot90(view, look.turns)
        rows = _turned_back(self._detect(view, look.confidence), look.turns, view.shape)
        steps = np.array([w / size[0], h / size[1]], np.float32)
        rows[:, :2] = (rows[:, :2] - frame) * steps + (x, y)
        rows[:, 2:4] *= steps
        rows[:, 4:14] = ((rows[:, 4:14].reshape(-1, 5, 2) - frame) * steps + (x, y)).reshape(-1, 10)
        return rows[~_cut_by_tile(rows, look.part, pixels.shape)]

    def _detect(self, view: np.ndarray, least: float) -> np.ndarray:
        """YuNet on uint8 (H, W, 3) RGB: rows (x, y, w, h, 5 points, confidence) in pixels of the view, unmerged.

        `least` is the confidence from which a face counts.
        """
        tensor = self._tensor(view)
        outputs = self._pack.run_normalised(tensor)
        cls, obj, bbox, kps = (outputs[head : head + 3] for head in (0, 3, 6, 9))
        return np.concatenate(
            [
                _decode(cls[level], obj[level], bbox[level], kps[level], stride, tensor.shape[3] // stride, least)
                for level, stride in enumerate(_STRIDES)
            ]
        )

    def _tensor(self, view: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB to the float32 (1, 3, H', W') that the card asks for, sides filled up to multiples of 32.

        Written into one buffer that all looks share: fresh memory of this size costs more than the conversion.
        """
        card = self._pack.card
        height, width = view.shape[:2]
        shape = (1, 3, *(max(_SMALLEST_INPUT, -side % 32 + side) for side in (height, width)))
        if self._buffer.size < math.prod(shape):
            self._buffer = np.empty(math.prod(shape), np.float32)
        tensor = self._buffer[: math.prod(shape)].reshape(shape)
        tensor[:, :, height:] = tensor[:, :, :, width:] = 0
        for channel, (mean, std) in enumerate(zip(card.mean, card.std, strict=True)):
            plane = tensor[0, channel, :height, :width]
            plane[...] = view[:, :, 2 - channel if card.colour_order == "BGR" else channel]
            if mean:
                plane -= mean * 255
            if std * 255 != 1:
                plane /= std * 255
        return tensor


def _shrink(view: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring down to (width, height): by halves, averaging, while they are whole and large enough; then bilinearly.

    Below a factor of 2 bilinear sampling misses no pixel, and OpenCV does both several times faster than area averaging
    by other factors, which would take a third of a search.
    """
    while view.shape[1] >= 2 * size[0] and view.shape[0] >= 2 * size[1]:
        height, width = view.shape[:2]
        if height % 2 or width % 2:
            return cv2.resize(view, size, interpolation=cv2.INTER_AREA)
        view = cv2.resize(view, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return view if view.shape[1::-1] == size else cv2.resize(view, size, interpolation=cv2.INTER_LINEAR)


def _decode(
    cls: np.ndarray, obj: np.ndarray, bbox: np.ndarray, kps: np.ndarray, stride: int, columns: int, least: float
) -> np.ndarray:
    """One level's outputs (1, N, 1 | 1 | 4 | 10) to rows in pixels, those of at least this confidence."""
    confidence = np.sqrt(np.clip(cls[0, :, 0], 0, 1) * np.clip(obj[0, :, 0], 0, 1))
    keep = np.flatnonzero(confidence >= least)
    cells = np.stack([keep % columns, keep // columns], axis=1).astype(np.float32)
    centres = (cells + bbox[0, keep, :2]) * stride
    sides = np.exp(bbox[0, keep, 2:]) * stride
    points = (cells[:, None] + kps[0, keep].reshape(-1, 5, 2)) * stride
    return np.concatenate(
        [centres - sides / 2, sides, points.reshape(-1, 10), confidence[keep, None]], axis=1, dtype=np.float32
    )


def _looks(height: int, width: int, smallest: float) -> list[_Look]:
    """The views to take of a picture: the whole first, then the tiles of finer scales."""
    whole = WHOLE / max(height, width)
    looks = [_Look((0, 0, width, height), whole)]
    finest = min(1.0, SEEN / smallest)
    if finest < 1.04 * whole:  # not worth a second look
        return looks
    while True:
        levels = math.ceil(math.log(finest / whole, 4))
        finer = [whole * (finest / whole) ** (level / levels) for level in range(1, levels + 1)]
        tiles = [tile for scale in finer for tile in _tiles(height, width, scale)]
        if len(tiles) <= MAX_TILES:
            return looks + tiles
        finest *= 0.9


def _tiles(height: int, width: int, scale: float) -> list[_Look]:
    """Cut a picture into parts of at most TILE scaled pixels a side that overlap by OVERLAP scaled pixels."""
    columns, rows = (_spans(side, TILE / scale, OVERLAP / scale) for side in (width, height))
    return [_Look((x, y, w, h), scale, confidence=FAINT) for y, h in rows for x, w in columns]


def _spans(side: int, longest: float, overlap: float) -> list[tuple[int, int]]:
    """Cut `side` into equal (start, length), no longer than `longest`, that overlap by at least `overlap`."""
    if side <= longest:
        return [(0, side)]
    count = math.ceil((side - overlap) / (longest - overlap))
    length = math.ceil((side + (count - 1) * overlap) / count)
    return [((side - length) * index // (count - 1), length) for index in range(count)]


def _turned_back(rows: np.ndarray, turns: int, shape: tuple[int, ...]) -> np.ndarray:
    """Rows found in a view of this shape, made by `turns` counter-clockwise quarter turns, as they were before them."""
    height, width = shape[:2]
    for _ in range(turns):
        rows = rows.copy()
        x, y, w, h = rows[:, :4].copy().T
        rows[:, :4] = np.stack([height - y - h, x, h, w], axis=1)
        points = rows[:, 4:14].reshape(-1, 5, 2)
        rows[:, 4:14] = np.stack([height - points[..., 1], points[..., 0]], axis=-1).reshape(-1, 10)
        height, width = width, height
    return rows


def _cut_by_tile(rows: np.ndarray, part: tuple[int, int, int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Which boxes reach an edge of the part but not of the picture: another tile or a coarser scale sees them whole."""
    room = 0.1 * rows[:, 2:4]
    start, end = rows[:, :2] - room, rows[:, :2] + rows[:, 2:4] + room
    first, last = np.array(part[:2]), np.array(part[:2]) + part[2:]
    inner_first, inner_last = first > 0, last < (shape[1], shape[0])
    return ((inner_first & (start < first)) | (inner_last & (end > last))).any(axis=1)


def _merge(looks: list[np.ndarray]) -> np.ndarray:
    """Keep the surest of the rows that show one face: boxes of IoU over 0.3, or one mostly inside the other."""
    rows = np.concatenate(looks)
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    kept: list[np.ndarray] = []
    while len(rows):
        best, rows = rows[0], rows[1:]
        kept.append(best)
        shared, areas = _shared(rows, best), rows[:, 2] * rows[:, 3]
        area = best[2] * best[3]
        same = (shared > 0.3 * (areas + area - shared)) | (shared > 0.7 * np.minimum(areas, area))
        rows = rows[~same]
    return np.array(kept, np.float32).reshape(-1, 15)


def _shared(rows: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Area that each of the boxes shares with one box, square pixels."""
    start = np.maximum(rows[:, :2], row[:2])
    end = np.minimum(rows[:, :2] + rows[:, 2:4], row[:2] + row[2:4])
    return np.clip(end - start, 0, None).prod(axis=1)


def _faces(rows: list[np.ndarray], height: int, width: int) -> list[FoundFace]:
    """Rows to faces, boxes cut to the picture, largest first."""
    faces = []
    for row in rows:
        x, y, w, h = (float(value) for value in row[:4])
        left, top = max(0.0, x), max(0.0, y)
        right, bottom = min(float(width), x + w), min(float(height), y + h)
        if right > left and bottom > top:
            points = row[4:14].reshape(5, 2).copy()
            faces.append(FoundFace((left, top, right - left, bottom - top), points, float(row[14])))
    return sorted(faces, key=lambda face: (-face.box[2] * face.box[3], face.box))
