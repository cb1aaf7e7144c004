"""What a card says of attacks: the lines for people, and that a card keeps it."""

from dataclasses import replace
from pathlib import Path

import pytest
from strength_sample import CURVE

from unmask.errors import PackError
from unmask.packs import Card
from unmask.packs.strength import NOT_MEASURED, in_words


def test_a_line_for_each_access():
    black, white = in_words(CURVE)
    assert black == (
        "fooled at 4/255 by 300 questions (black box): 40% [20%, 70%] of detected forgeries pass (12); 40% [20%, 70%] "
        "of authentic faces are called forged (12); AUC 0.61 instead of 0.93"
    )
    assert white == (
        "fooled at 4/255 with its gradients, 10 steps (white box): 100% [50%, 100%] of detected forgeries pass (12); "
        "AUC 0.04 instead of 0.93"
    )
    assert in_words(None) == (NOT_MEASURED,)


def test_the_strength_nearest_to_four_levels_is_put_into_words():
    some = tuple(p for p in CURVE.points if p.access == "black box" and round(p.epsilon * 255) != 4)
    (line,) = in_words(replace(CURVE, points=some))
    assert "at 2/255" in line and "20% [10%, 60%]" in line and "AUC" not in line


def test_a_card_keeps_it(tiny_pack: Path, tmp_path: Path):
    card = Card.read(tiny_pack / "card.json")
    assert card.strength is None
    replace(card, strength=CURVE).write(tmp_path / "card.json")
    assert Card.read(tmp_path / "card.json").strength == CURVE


def test_a_card_with_an_unknown_access_is_refused(tiny_pack: Path, tmp_path: Path):
    card = replace(Card.read(tiny_pack / "card.json"), strength=CURVE)
    card.write(tmp_path / "card.json")
    text = (tmp_path / "card.json").read_text(encoding="utf-8").replace('"white box"', '"glass box"')
    (tmp_path / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(PackError, match=r"strength\.points\.0\.access"):
        Card.read(tmp_path / "card.json")
