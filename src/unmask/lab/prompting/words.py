"""Forgery families in words, for models that read class names. No torch."""

from unmask.forging.families import Kind, family

GENUINE = "genuine"
"""The class of pictures that nobody forged."""

_GENUINE = "a genuine photograph of a face"
_KINDS: dict[Kind, str] = {
    "synthesis": "a whole face drawn by a generator",
    "text-to-image": "a whole face painted from a text by a diffusion model",
    "swap": "a face swapped onto another head",
    "reenactment": "a face moved by another person's expression",
    "talking head": "a single photograph made to speak",
    "lip-sync": "a face whose mouth was changed to fit a voice",
    "attribute edit": "a face whose age, hair or expression was edited",
    "restoration": "a face repaired by a restoration network",
    "inpainting": "a face with a part painted anew",
    "composite": "a face put together from parts of others",
    "blend": "a face blended with a warped copy of itself",
    "re-synthesis": "a face that went through an autoencoder",
    "presentation": "a face photographed from a screen or a print",
    "unknown": "a forged face",
}


def words_of(name: str) -> str:
    """What a family's forgeries are, in a few words, its own name at the end: no two families have the same.

    Args:
        name: as in a manifest, or `GENUINE`.
    """
    if name == GENUINE:
        return _GENUINE
    return f"{_KINDS[family(name).kind]}, {' '.join(name.replace('_', ' ').replace('-', ' ').split())}"
