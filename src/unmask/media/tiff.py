"""The directories of a TIFF file: which of its images is the picture, and of what kind its samples are."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from PIL.TiffImagePlugin import COMPRESSION_INFO

from unmask.errors import RefusalCode, Refused
from unmask.media.remarks import REMEDY, SEVERAL
from unmask.media.unread import CAMERA_RAW
from unmask.media.upright import is_orientation

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _PLANES, _TILES, _SUBDIRECTORIES, _PROFILE = 273, 274, 277, 284, 324, 330, 34675
_COLOUR_MAP, _INKS, _SAMPLE_FORMAT, _SUBSAMPLING, _DNG_VERSION = 320, 332, 339, 530, 50706
# What the pixels depend on: sizes, layout, compression, colours. Everything else can be left out.
_ESSENTIAL = frozenset({_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _ORIENTATION, _SAMPLES, _PLANES})
_ESSENTIAL |= {266, 278, 279, 292, 293, 317, _COLOUR_MAP, 322, 323, _TILES, 325, _INKS, 338, _SAMPLE_FORMAT, 347}
_ESSENTIAL |= {512, 513, 514, 515, 517, 518, 519, 520, 521, 529, _SUBSAMPLING, 531, 532}
_RAW_MARKS = (b"CR", b"IIII", b"MMMM")  # Canon and Phase One, behind the header
_CFA, _LINEAR_RAW = 32803, 34892
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_PHOTOMETRICS = frozenset({_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB})
_UNSIGNED, _SIGNED = 1, 2
_FAX = frozenset({2, 3, 4})
# Compressions that libtiff does not have in every build, or no longer.
_RARE_COMPRESSIONS = frozenset({6, 32809, 34676, 34677, 34925, 50000, 50001})
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # whole numbers of a directory, by their type
_MAX_DIRECTORIES, _MAX_BELOW, _MAX_ENTRIES, _MAX_VALUES = 200, 50, 512, 1000


class Entry(NamedTuple):
    """One entry of a directory: its tag, the type and number of its values, and its bytes as they stand."""

    tag: int
    kind: int
    length: int
    raw: bytes


@dataclass(frozen=True)
class Directory:
    """One directory, that is, one image. `is_whole` tells whether all its entries lie within the file."""

    offset: int
    entries: dict[int, Entry]
    following: int
    is_whole: bool
    read: Callable[[Entry], tuple[int, ...]] = field(repr=False)

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The first values of an entry of whole numbers; `default` if there is none, nothing if it cannot be read."""
        entry = self.entries.get(tag)
        return default if entry is None else self.read(entry)

    def number(self, tag: int, default: int = 0) -> int:
        """The first of them."""
        return next(iter(self.numbers(tag)), default)

    @property
    def pixels(self) -> int:
        """Width times height; 0 if there is no image."""
        return self.number(_WIDTH) * self.number(_HEIGHT)

    @property
    def is_reduced(self) -> bool:
        """Whether it says to be a smaller copy of another image."""
        return bool(self.number(_SUBFILE) & 1) or self.number(_OLD_SUBFILE) == 2

    @property
    def is_mask(self) -> bool:
        """Whether it says to be the transparency of another image."""
        return bool(self.number(_SUBFILE) & 4)


class Tiff:
    """The structure of a TIFF file, or of the TIFF structure inside EXIF data, however damaged."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = ">" if data[:2] == b"MM" else "<"
        self.is_valid = data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
        self._is_big = self.is_valid and b"+" in data[2:4]

    def first(self) -> Directory | None:
        """The first directory; None if there is none within the data."""
        return self._directory(self._offset_at(8 if self._is_big else 4)) if self.is_valid else None

    def images(self) -> list[Directory]:
        """Every directory: those of the main chain, each followed by its sub-directories."""
        seen: set[int] = set()
        images = []
        directory = self.first()
        while directory is not None and directory.offset not in seen and len(seen) < _MAX_DIRECTORIES:
            seen.add(directory.offset)
            images.append(directory)
            for offset in directory.numbers(_SUBDIRECTORIES)[:_MAX_BELOW]:
                below = self._directory(offset)
                if below is not None and offset not in seen:
                    seen.add(offset)
                    images.append(below)
            directory = self._directory(directory.following)
        return images

    def beginning_at(self, directory: Directory, photometric: int, *, bare: bool = False) -> bytes:
        """The file with `directory` as its first and only one.

        Args:
            directory: which one.
            photometric: how its samples are to be understood, whatever it says of that itself.
            bare: leave out all entries that the pixels do not depend on.
        """
        entries = {tag: entry.raw for tag, entry in directory.entries.items() if not bare or tag in _ESSENTIAL}
        word, size = ("Q", "Q") if self._is_big else ("I", "H")
        value = self._pack("H", photometric).ljust(8 if self._is_big else 4, b"\0")
        entries[_PHOTOMETRIC] = self._pack("HH" + word, _PHOTOMETRIC, 3, 1) + value
        body = self._pack(size, len(entries)) + b"".join(raw for _, raw in sorted(entries.items()))
        padding = bytes(-len(self._data) % 8)
        head = self._data[: 8 if self._is_big else 4] + self._pack(word, len(self._data) + len(padding))
        return head + self._data[len(head) :] + padding + body + self._pack(word, 0)

    def _pack(self, kinds: str, *numbers: int) -> bytes:
        return struct.pack(self._order + kinds, *numbers)

    def _unpack(self, kinds: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + kinds, self._data, at)

    def _offset_at(self, at: int) -> int:
        try:
            return self._unpack("Q" if self._is_big else "I", at)[0]
        except struct.error:
            return 0

    def _directory(self, offset: int) -> Directory | None:
        head, size = (8, 20) if self._is_big else (2, 12)
        if not 8 <= offset <= len(self._data) - head:
            return None
        (count,) = self._unpack("Q" if self._is_big else "H", offset)
        at = offset + head
        fits = min(count, _MAX_ENTRIES, max(0, len(self._data) - at) // size)
        entries: dict[int, Entry] = {}
        for start in range(at, at + fits * size, size):
            tag, kind, number = self._unpack("HHQ" if self._is_big else "HHI", start)
            entries.setdefault(tag, Entry(tag, kind, number, self._data[start : start + size]))
        following = self._offset_at(at + count * size) if fits == count else 0
        return Directory(offset, entries, following, fits == count, self._numbers)

    def _numbers(self, entry: Entry) -> tuple[int, ...]:
        kind = _NUMBERS.get(entry.kind)
        if kind is None:
            return ()
        inline = entry.raw[12:] if self._is_big else entry.raw[8:]
        size = struct.calcsize("<" + kind) * entry.length
        values, at = inline, 0
        if size > len(inline):
            values = self._data
            (at,) = struct.unpack(self._order + ("Q" if self._is_big else "I"), inline)
        if at + size > len(values):
            return ()
        return struct.unpack_from(f"{self._order}{min(entry.length, _MAX_VALUES)}{kind}", values, at)


@dataclass(frozen=True)
class Choice:
    """The image of a TIFF file that is its picture."""

    directory: Directory
    data: bytes
    """The file as the decoder is to see it: with that image as the first one."""
    zero_is_white: bool
    """Whether samples of more than 8 bits are still to be inverted."""
    warnings: tuple[str, ...]

    @property
    def deep_bits(self) -> int:
        """Bits in a sample."""
        return self.directory.number(_BITS, 16)

    @property
    def is_orientation_known(self) -> bool:
        """Whether the file tells in a readable way which side is up, or does not speak of it."""
        return _ORIENTATION not in self.directory.entries or is_orientation(self.directory.number(_ORIENTATION, -1))


def choose(data: bytes, *, bare: bool = False) -> Choice | None:
    """Pick the picture among the images of a TIFF file: the first one that is neither a reduced copy nor a mask.

    With `bare`, entries that the pixels do not depend on are left out of it. None if the file has no directory.

    Raises `Refused`, UNSUPPORTED: a camera raw file, one with reduced copies only, or samples that the decoder would
    take for what they are not.
    """
    tiff = Tiff(data)
    images = tiff.images()
    pictures = [image for image in images if image.pixels]
    if data[8:12].startswith(_RAW_MARKS) or any(_is_raw(image) for image in images):
        raise Refused(RefusalCode.UNSUPPORTED, CAMERA_RAW)
    if not pictures:
        return None
    full = [image for image in pictures if not (image.is_reduced or image.is_mask)]
    if not full:
        raise Refused(RefusalCode.UNSUPPORTED, "The file holds a reduced copy only, and not the picture itself.")
    # What lies below an image and is larger is what that image is a copy of, even where nothing says so.
    below = full[0].numbers(_SUBDIRECTORIES)
    candidates = [full[0], *(image for image in full if image.offset in below)]
    chosen = max(candidates, key=lambda image: image.pixels)
    picture = _with_what_holds_for_all(chosen, images)
    reason = _misread(picture)
    if reason:
        raise Refused(RefusalCode.UNSUPPORTED, f"{reason} {REMEDY}")
    data = _with_deep_colours(data, picture)
    photometric = _photometric(picture)
    invert = photometric == _WHITE_IS_ZERO and picture.number(_BITS, 1) > 8  # which Pillow does for up to 8 bits
    to_be_read_as = _BLACK_IS_ZERO if invert else photometric
    if chosen is not images[0] or to_be_read_as != picture.number(_PHOTOMETRIC, -1) or bare:
        data = Tiff(data).beginning_at(picture, to_be_read_as, bare=bare)
    return Choice(picture, data, invert, tuple(_unseen(chosen, images, pictures, full)))


def _with_what_holds_for_all(picture: Directory, images: list[Directory]) -> Directory:
    """The directory with the orientation and the colour profile of the image that it stands below, if it has none."""
    above = next((image for image in images if picture.offset in image.numbers(_SUBDIRECTORIES)), picture)
    shared = {tag: above.entries[tag] for tag in (_ORIENTATION, _PROFILE) if tag in above.entries}
    return replace(picture, entries=shared | picture.entries)


def _photometric(picture: Directory) -> int:
    """How the samples are to be understood; where the file does not say it, as libtiff takes them."""
    if picture.number(_SAMPLES, 1) >= 3:
        return picture.number(_PHOTOMETRIC, _RGB)
    usual = _WHITE_IS_ZERO if picture.number(_COMPRESSION, 1) in _FAX else _BLACK_IS_ZERO
    return picture.number(_PHOTOMETRIC, usual)


def beyond_the_decoder(picture: Directory, data: bytes, *, opens: bool) -> str | None:
    """Why a picture could not be decoded in a sentence, if that is for its kind and not for damage.

    `opens` tells whether the decoder took its directory, so that only the pixels failed.
    """
    compression = picture.number(_COMPRESSION, 1)
    if opens:
        return _compressed(compression) if compression in _RARE_COMPRESSIONS else None
    samples = picture.number(_SAMPLES, 1)
    bits = picture.numbers(_BITS, (1,))
    places = picture.numbers(_STRIPS) or picture.numbers(_TILES)
    is_consistent = len(bits) in (1, samples) and samples <= 32 and max(bits, default=99) <= 64
    if not picture.is_whole or not is_consistent or not places or max(places) >= len(data):
        return None
    formats = picture.number(_SAMPLE_FORMAT, _UNSIGNED)
    return (
        f"It is a TIFF of a rare kind (photometric {picture.number(_PHOTOMETRIC, -1)}, {samples} samples "
        f"of {bits[0]} bits, sample format {formats}, compression {compression}), which is not decoded."
    )


def orientation(exif: bytes) -> tuple[object, bool]:
    """The orientation in EXIF data: its value or None, and whether it may be missing for damage."""
    tiff = Tiff(exif)
    directory = tiff.first()
    if directory is None:
        return None, bool(exif)
    entry = directory.entries.get(_ORIENTATION)
    if entry is None:
        return None, not directory.is_whole
    return directory.number(_ORIENTATION, -1), False


def _is_raw(image: Directory) -> bool:
    return image.number(_PHOTOMETRIC) in (_CFA, _LINEAR_RAW) or _DNG_VERSION in image.entries


def _misread(picture: Directory) -> str | None:
    """A sentence if the decoder would open the picture and take its samples for something else."""
    compression, photometric = picture.number(_COMPRESSION, 1), _photometric(picture)
    is_planar = picture.number(_PLANES, 1) == 2
    formats = set(picture.numbers(_SAMPLE_FORMAT, (_UNSIGNED,)))
    if compression not in COMPRESSION_INFO:
        return _compressed(compression)
    if photometric not in _PHOTOMETRICS:
        return f"Its colours are stored in a way that is not decoded (photometric {photometric})."
    if _SIGNED in formats:
        return "Its samples are signed numbers, and the file does not say which of them is white."
    if len(formats) > 1:
        return "Its samples are numbers of different kinds, which is not decoded."
    if photometric == _CMYK and picture.number(_INKS, 1) != 1:
        return "Its colours are other inks than cyan, magenta, yellow and black."
    if is_planar and photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and picture.number(_SAMPLES, 1) > 1:
        return "Its grey and its transparency are stored one after another, which is not decoded."
    if compression != 1:
        return None
    if photometric == _YCBCR and picture.numbers(_SUBSAMPLING, (2, 2)) != (1, 1):
        return "Its colours are stored coarser than its brightness and uncompressed, which is not decoded."
    if is_planar and picture.number(_BITS, 1) > 8:
        return "Its colours are stored one after another with more than 8 bits and uncompressed, which is not decoded."
    return None


def _with_deep_colours(data: bytes, picture: Directory) -> bytes:
    """The file with a colour map of 16 bits, where a program has written one of 8 into the same places."""
    colours = picture.numbers(_COLOUR_MAP)
    if picture.number(_PHOTOMETRIC) != _PALETTE or not 0 < max(colours, default=0) < 256:
        return data
    order = ">" if data[:2] == b"MM" else "<"
    shallow = struct.pack(f"{order}{len(colours)}H", *colours)
    deep = struct.pack(f"{order}{len(colours)}H", *(colour * 257 for colour in colours))
    return data.replace(shallow, deep, 1)


def _compressed(compression: int) -> str:
    return f"It is compressed in a way that is not decoded (TIFF compression {compression})."


def _unseen(
    picture: Directory, images: list[Directory], pictures: list[Directory], full: list[Directory]
) -> Iterator[str]:
    if picture is not images[0]:
        yield "The first image in the file is a reduced copy or a mask; the first full one was looked at."
    if len(full) > 1:
        yield SEVERAL
        largest = max(full, key=lambda image: image.pixels)
        if largest.pixels > 2 * picture.pixels:
            yield f"Another page is larger ({largest.number(_WIDTH)} x {largest.number(_HEIGHT)} pixels)."
    if any(image.is_mask for image in pictures):
        yield "A mask in the file, which tells what is transparent, was not applied."
