"""What a file is, judged by its first bytes. A name or an extension is only a claim."""

from typing import Literal, NamedTuple

from unmask.media import unread

HEAD_BYTES = 1024
"""How many leading bytes `sniff` wants to see."""

IMAGE_EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".jps", ".png", ".apng", ".webp", ".tif", ".tiff"),
        *(".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".heics", ".heifs", ".avif", ".avifs", ".jxl"),
    }
)
# (".ts" and ".ogg" are left out: the first is far more often TypeScript than a transport stream, the second music. The
# first bytes tell.)
VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg"}
    | {".mpe", ".vob", ".mxf", ".flv", ".f4v", ".wmv", ".asf", ".ogv", ".ogm"}
)
# Media that we cannot read. In a folder they are reported as unsupported: passing them over in silence would look like
# an answer about them.
UNREAD_EXTENSIONS = unread.EXTENSIONS
MEDIA_EXTENSIONS = IMAGE_EXTENSIONS | VIDEO_EXTENSIONS | UNREAD_EXTENSIONS

READABLE = (
    "JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC, AVIF, MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG-PS, MXF, FLV, WMV or Ogg"
)

# Brands of ISO base media files that hold stills, and what brands of films begin with. A file names one major brand and
# any number of others that it also conforms to.
_HEIF_BRANDS = frozenset(
    {*(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), *(b"mif1", b"mif2", b"msf1", b"miaf")}
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_FILM_BRANDS = (b"iso", b"mp4", b"avc1", b"M4", b"3g", b"qt", b"f4v", b"dash", b"MSNV", b"mmp4")
# The key of MXF's header partition (SMPTE ST 377-1), the identifiers of ASF, what Ogg's first pages say of pictures.
_MXF_HEADER = bytes.fromhex("060e2b34020501010d0102010102")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_VIDEO, _ASF_AUDIO = bytes.fromhex("c0ef19bc4d5bcf11"), bytes.fromhex("409e69f84d5bcf11")
_OGG_PICTURES = (b"\x80theora", b"\x01video\0", b"OVP80", b"BBCD", b"\x81daala")
# Lengths of a packet of an MPEG transport stream: plain, with a time code before it (Blu-ray, AVCHD), with check bytes.
_TS_PACKETS = (188, 192, 204)
_TS_FEWEST_PACKETS = 3
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


class FileType(NamedTuple):
    """A file type that we read: `kind` says which decoder takes it, `format` which container or codec it is."""

    kind: Literal["image", "video"]
    format: str


def sniff(head: bytes) -> FileType | None:
    """The type of a file by its first `HEAD_BYTES` bytes (fewer if it is shorter), or None if we read no such type.

    `format` is one of jpeg, png, webp, tiff, bmp, gif, heif, avif, jxl, mp4, mov, matroska, webm, avi, mpegts, mpegps,
    mxf, flv, asf, ogg.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return FileType("image", "jpeg")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return FileType("image", "png")
    if head.startswith((b"GIF87a", b"GIF89a")):
        return FileType("image", "gif")
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return FileType("image", "tiff")
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return FileType("image", "bmp")
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return FileType("image", "jxl")
    if head.startswith(b"RIFF"):
        return {b"WEBP": FileType("image", "webp"), b"AVI ": FileType("video", "avi")}.get(head[8:12])
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return FileType("video", "webm" if b"webm" in head[:64] else "matroska")
    return _sniff_iso_media(head) or _sniff_stream(head)


def _sniff_iso_media(head: bytes) -> FileType | None:
    box = head[4:8]
    if box == b"ftyp":
        return _by_brands(head)
    # QuickTime from before `ftyp`. The leading zero is the high byte of the box's length; without that test a text that
    # begins "Get free" would be a film.
    if box in (b"moov", b"mdat") or (box in (b"wide", b"free", b"skip", b"pnot") and head[0] == 0):
        return FileType("video", "mov")
    return None


def _by_brands(head: bytes) -> FileType | None:
    major = head[8:12]
    others = head[16 : int.from_bytes(head[:4], "big")]
    brands = {major}
    if not major.startswith(_FILM_BRANDS):
        brands |= {others[at : at + 4] for at in range(0, len(others), 4)}
    if brands & _AVIF_BRANDS:
        return FileType("image", "avif")
    if brands & _HEIF_BRANDS:
        return FileType("image", "heif")
    if unread.is_unread(head):
        return None
    return FileType("video", "mov" if major == b"qt  " else "mp4")


def _sniff_stream(head: bytes) -> FileType | None:
    """Containers of broadcast, disc and the web of old."""
    if head.startswith(b"\0\0\1\xba"):
        return FileType("video", "mpegps")
    if head.startswith(b"FLV\1"):
        return FileType("video", "flv")
    if head.startswith(_MXF_HEADER):
        return FileType("video", "mxf")
    if head.startswith(_ASF_HEADER):
        # Where the head ends before the streams are named, opening the file will tell.
        return FileType("video", "asf") if _ASF_VIDEO in head or _ASF_AUDIO not in head else None
    if head.startswith(b"OggS"):
        return FileType("video", "ogg") if any(mark in head for mark in _OGG_PICTURES) else None
    return FileType("video", "mpegts") if _is_transport_stream(head) else None


def _is_transport_stream(head: bytes) -> bool:
    """Whether packets of a transport stream follow each other. A recording may begin in the middle of one."""
    if b"\0" not in head and b"\xff" not in head:
        return False  # text, in which a "G" may well recur: the position logs of receivers do so
    for length in _TS_PACKETS:
        for start in range(min(length, len(head) - (_TS_FEWEST_PACKETS - 1) * length)):
            if head[start] == 0x47 and all(
                # The sync byte, and a payload, an adaptation field or both.
                head[at] == 0x47 and (at + 3 >= len(head) or head[at + 3] & 0x30)
                for at in range(start, len(head), length)
            ):
                return True
    return False
