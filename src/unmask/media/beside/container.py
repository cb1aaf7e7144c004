"""What a video's container says of how it was written."""

import io
import re

from unmask.media.beside import Beside, shortened
from unmask.media.intake import MediaFile

_FFMPEG = re.compile(r"^Lav[fc]\d|HandBrake|x264|libx26", re.IGNORECASE)
_KEYS = {
    "encoder": "encoder",
    "com.apple.quicktime.software": "software",
    "com.apple.quicktime.make": "camera maker",
    "com.apple.quicktime.model": "camera model",
    "com.android.version": "Android version",
    "creation_time": "made",
    "major_brand": "brand",
    "comment": "comment",
    "description": "description",
}


def container_finding(media: MediaFile) -> Beside:
    """The container's own words on camera, encoder and time."""
    import av  # loads FFmpeg, which pictures can do without

    with av.open(io.BytesIO(media.data) if media.data is not None else str(media.file), "r") as container:
        said = {key.lower(): value for key, value in container.metadata.items()}
        codecs = ", ".join(
            f"{stream.type} {stream.codec_context.name}" for stream in container.streams if stream.codec_context
        )
        for stream in container.streams:
            if "encoder" in stream.metadata:
                said.setdefault("encoder", stream.metadata["encoder"])
    details = {name: shortened(said[key]) for key, name in _KEYS.items() if said.get(key)}
    details["streams"] = shortened(codecs)
    camera = " ".join(details[name] for name in ("camera maker", "camera model") if name in details)
    writer = details.get("software") or details.get("encoder", "")
    statement = f"It names the camera {camera}" if camera else "It names no camera"
    statement += f", and the program {writer}." if writer else ", and no program."
    if _FFMPEG.search(writer):
        meaning = (
            "Written by FFmpeg, which websites, messengers and editing programs use: not as a camera wrote it. That "
            "weakens traces of forgery, and is none."
        )
    else:
        meaning = "Consistent with a file as it was taken, and with many a copy. Anybody can write such words."
    return Beside("container", "present", statement, meaning, details)
