"""What a card says of groups of people: the lines for people, and that a card keeps it."""

from dataclasses import replace
from pathlib import Path

import pytest

from unmask.errors import PackError
from unmask.packs import Card, load_pack
from unmask.packs.groups import NOT_MEASURED, GroupRates, GroupTable, Share, in_words


def rates(attribute: str, group: str, alarms: float, auc: float) -> GroupRates:
    part = Share(value=alarms, low=0.0, high=0.1, faces=50)
    return GroupRates(
        attribute=attribute,
        group=group,
        false_alarms=part,
        called_authentic=part,
        hits=part,
        auc=auc,
        auc_low=0.5,
        auc_high=1.0,
    )


TABLE = GroupTable(
    dataset="faces, test split",
    forgeries="forgeries: one of each",
    groups=(
        rates("everybody", "everybody", 0.02, 0.8),
        rates("sex", "male", 0.01, 0.75),
        rates("sex", "female", 0.03, 0.85),
    ),
    data_sha256="0" * 64,
    command="python groups.py",
    versions={"unmask": "0.1.0"},
)


def test_a_line_for_each_attribute() -> None:
    assert in_words(TABLE) == (
        "everybody: false alarms 2.0% [0.0%, 10.0%] of 50 faces, AUC 0.80",
        "by sex: false alarms at most 3.0% [0.0%, 10.0%] (female, 50 faces), AUC 0.75 (male) to 0.85 (female)",
    )
    assert in_words(None) == (NOT_MEASURED,)


def test_a_card_keeps_it(tiny_pack: Path, tmp_path: Path) -> None:
    card = Card.read(tiny_pack / "card.json")
    assert card.groups is None
    replace(card, groups=TABLE).write(tmp_path / "card.json")
    assert Card.read(tmp_path / "card.json").groups == TABLE


def test_rates_without_an_interval_are_refused(tiny_pack: Path, tmp_path: Path) -> None:
    replace(Card.read(tiny_pack / "card.json"), groups=TABLE).write(tmp_path / "card.json")
    text = (tmp_path / "card.json").read_text(encoding="utf-8").replace('"auc_low": 0.5,', "", 1)
    (tmp_path / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(PackError, match=r"groups\.groups\.0\.auc_low"):
        Card.read(tmp_path / "card.json")


def test_the_embedded_detector_names_age_sex_and_skin() -> None:
    table = load_pack("plain").card.groups
    assert table is not None and table.attributes() == ("everybody", "age", "sex", "skin")
    for attribute in table.attributes():
        groups = table.of(attribute)
        assert sum(one.false_alarms.faces for one in groups) == table.groups[0].false_alarms.faces
        for one in groups:
            for part in (one.false_alarms, one.called_authentic, one.hits):
                assert 0.0 <= part.low <= part.value <= part.high <= 1.0
            assert one.auc_low <= one.auc <= one.auc_high
