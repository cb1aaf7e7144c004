"""The weights of the FLUX.2 tiny autoencoder (TAEF2; madebyollin/taesd, MIT): which files, and whether they are there.

Apart from the network itself (`unmask.forging.autoencoders`), for which torch is loaded.
"""

import hashlib
from pathlib import Path

from unmask.errors import DataError

ENCODER, DECODER = "taef2_encoder.pth", "taef2_decoder.pth"


def taef2_sha256(folder: Path | None, needed_for: str, otherwise: str) -> str:
    """SHA-256 of the weights, encoder before decoder.

    Args:
        folder: that should hold them.
        needed_for: what cannot be done without them, and
        otherwise: what to do then; for the message.

    Raises:
        DataError: they are not there.
    """
    paths = [(folder or Path()) / name for name in (ENCODER, DECODER)]
    if folder is None or not all(path.is_file() for path in paths):
        raise DataError(
            f"{needed_for} needs the TAEF2 weights {ENCODER} and {DECODER} (madebyollin/taesd, MIT), which are not in "
            f"{folder or 'any folder named'}; name the folder that has them, or {otherwise}"
        )
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
