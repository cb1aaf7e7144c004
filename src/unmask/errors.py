"""What can go wrong, by type.

A *refusal* is an answer about one media file or one face ("no face", "unreadable"): it is reported, the rest goes on.
An `UnmaskError` is a mistake in how the tool was called or installed: it ends the command with one line and a remedy.
"""

from enum import StrEnum


class RefusalCode(StrEnum):
    """Why a file or a face got no score. Part of the Report schema; codes are never renamed, only added."""

    NOT_FOUND = "not_found"  # missing, broken symbolic link, vanished while the folder was read
    UNREADABLE = "unreadable"  # permissions, I/O error, not a regular file
    EMPTY = "empty"  # zero bytes
    UNSUPPORTED = "unsupported"  # not a picture or video type we read
    CORRUPT = "corrupt"  # right type, but truncated or undecodable
    TOO_LARGE = "too_large"  # the size guard: more pixels or bytes than we are willing to decode
    NO_VIDEO = "no_video"  # a container without a picture stream
    NO_FACE = "no_face"
    TOO_SMALL = "too_small"  # a face, but with too few pixels for the detector
    POOR_QUALITY = "poor_quality"  # a face, but too blurred, dark, or turned for the score to mean anything
    CONDITION = "condition"  # a face published in a way for which the detector's error rates are too high
    OUT_OF_SCOPE = "out_of_scope"  # no photograph of a face, such as a drawing


class UnmaskError(Exception):
    """Base of every error this package raises on purpose. The message says what was wrong and what to do."""


class Refused(UnmaskError):
    """One file or face cannot be judged.

    `code` is machine-readable; the message is one plain sentence for a person.
    """

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class PackError(UnmaskError):
    """A model pack is missing, incomplete, altered or not of the kind asked for."""


class MissingExtraError(UnmaskError):
    """A command needs an extra that is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        from unmask.installation import install_line  # only here: nothing else of this module needs it

        super().__init__(f'{needed_for} needs the "{extra}" extra: {install_line(extra)}')


class BundleError(UnmaskError):
    """A case bundle is damaged, was altered, or is none."""


class DataError(UnmaskError):
    """A data set, manifest or run folder is not as it must be; names the row or file and the remedy."""
