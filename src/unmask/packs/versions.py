"""Which versions of the libraries a pack was checked with, and what is said of others."""

import re
from collections.abc import Iterable, Mapping

from unmask.packs.card import Card

CHECKED = ("numpy", "opencv-python-headless", "onnxruntime", "av", "pillow")
"""The libraries that decode media, prepare pixels and run models."""


def checked_versions(card: Card) -> dict[str, tuple[str, str]]:
    """The lowest and the highest version of each library that a pack was checked with.

    Those on its card; else, of a pack that was exported or calibrated here, the versions that this was done with.
    """
    if card.checked_versions is not None:
        return dict(card.checked_versions)
    made = card.protocol.get("versions", {})
    return {name: (made[name], made[name]) for name in CHECKED if isinstance(made, Mapping) and name in made}


def unchecked(cards: Iterable[Card], libraries: Mapping[str, str]) -> list[str]:
    """A sentence for every library of a version outside those that some packs were checked with.

    Args:
        cards: of the packs; one that says nothing of versions is passed over.
        libraries: the versions at hand. Their last number, of corrections, does not count.
    """
    packs: dict[tuple[str, str, str], list[str]] = {}
    for card in cards:
        for name, (low, high) in checked_versions(card).items():
            if name in libraries and not _number(low) <= _number(libraries[name]) <= _number(high):
                packs.setdefault((name, low, high), []).append(card.name)
    return [
        f"{name} {libraries[name]}: not a version that {' and '.join(dict.fromkeys(names))} "
        f"{'was' if len(set(names)) == 1 else 'were'} checked with ({low if low == high else f'{low} to {high}'})"
        for (name, low, high), names in packs.items()
    ]


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
