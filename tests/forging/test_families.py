"""The records of the forgery families, and what generic code asks of them."""

import typing
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from unmask import plugins
from unmask.datasets.manifest import Sample
from unmask.forging import families
from unmask.forging.families import (
    FAMILIES,
    OTHER_WEIGHT,
    SOURCES,
    Family,
    Kind,
    draw_weights,
    evaluation_order,
    family,
    kind_of,
    known_families,
    made_for_training,
    made_here,
    real_sources,
    source_weights,
    to_make,
)
from unmask.forging.makers import MAKERS

GLOW = Family(name="glow", kind="synthesis", wholly_synthetic=True, draw_weight=0.3)


@pytest.mark.parametrize("record", FAMILIES.values(), ids=FAMILIES)
def test_every_record_is_complete(record: Family) -> None:
    assert record.kind in typing.get_args(Kind) and record.kind != "unknown"
    assert record.source
    assert not (record.wholly_synthetic and record.localisable), "a map has nothing to leave out"
    assert record.native_size is None or record.native_size >= 64


def test_the_known_families_are_drawn_in_their_order_and_others_after_them() -> None:
    weights = draw_weights(["swap", "zoom", "filter", "stylegan", "selfblend", "pggan"])
    assert list(weights) == ["selfblend", "swap", "stylegan", "filter", "pggan", "zoom"]
    assert weights["stylegan"] == 0.14 and weights["pggan"] == weights["zoom"] == OTHER_WEIGHT
    assert all(0 < weight < 1 for weight in draw_weights(FAMILIES).values())


def test_sources_are_weighted_alike() -> None:
    assert source_weights(["mine", "utkface", "ffhq"]) == {"ffhq": 0.30, "utkface": 0.28, "mine": OTHER_WEIGHT}
    assert all(0 < source.draw_weight < 1 for source in SOURCES.values())


def test_tables_show_ranked_families_first() -> None:
    names = ["zoom", "pggan", "swap", "filter", "stylegan", "mobilestylegan", "ciplab", "selfblend", "resynthesis"]
    ranked = ["stylegan", "mobilestylegan", "ciplab", "selfblend", "swap", "resynthesis", "pggan"]
    assert evaluation_order([*names, "swap"]) == [*ranked, "filter", "zoom"]


def test_what_a_split_holds_is_not_made_again() -> None:
    assert made_here() == ("selfblend", "swap", "resynthesis")
    assert to_make(["selfblend", "swap", "stylegan"], held=["swap"]) == ("selfblend",)


def test_an_unknown_family_has_a_record_of_defaults() -> None:
    assert family("no-such") == Family(name="no-such", kind="unknown")
    assert family("pggan").native_size == 128


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> typing.Iterator[None]:
    points = [
        EntryPoint("glow", f"{__name__}:GLOW", "unmask.families"),
        EntryPoint("mine", f"{__name__}:SWAP", "unmask.families"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "unmask.families" else [])
    families.INSTALLED.__dict__.pop("installed", None)
    known_families.cache_clear()
    yield
    families.INSTALLED.__dict__.pop("installed", None)
    known_families.cache_clear()


SWAP = Family(name="swap", draw_weight=9)


@pytest.mark.usefixtures("installed")
def test_another_package_adds_a_family_and_replaces_none() -> None:
    assert family("glow") is GLOW
    assert draw_weights(["glow", "filter", "swap"]) == {"swap": 0.20, "glow": 0.3, "filter": OTHER_WEIGHT}


def test_a_kind_comes_from_the_record_or_the_picture() -> None:
    def kind(family: str, kind: str = "") -> str:
        return kind_of(Sample(path="a", label=1, family=family, source="s", subject="p", split="train", kind=kind))

    assert kind("stylegan3", "gan") == kind("stylegan", "swap") == "synthesis"
    assert kind("new", "faceswap_video") == kind("new", "Swap") == "swap"
    assert kind("new", "talkinghead") == "talking head" and kind("new", "attribute_edit") == "attribute edit"
    assert kind("new", "morphing") == "morphing" and kind("new") == "unknown"


def test_reals_of_the_own_source_come_before_partners() -> None:
    def beside(family: str, source: str, *present: str) -> tuple[str, ...]:
        sample = Sample(path="a", label=1, family=family, source=source, subject="p", split="train")
        return real_sources(sample, present)

    assert beside("sfhq_t2i", "sfhq_t2i", "real_300w", "ffhq") == ("real_300w",)
    assert beside("sfhq_t2i", "ffhq", "real_300w", "ffhq") == ("ffhq",)
    assert beside("new", "mine", "ffhq") == ()
    assert beside("new", "mine", "mine") == ("mine",)


def test_every_maker_has_the_record_of_its_families() -> None:
    made = {name for kind in MAKERS.own for name in MAKERS.load(kind).families}
    assert made <= FAMILIES.keys()
    assert all(FAMILIES[name].kind != "unknown" and FAMILIES[name].source for name in made)


def test_what_training_alone_makes_needs_its_weights(tmp_path: Path) -> None:
    alone = [record.name for record in FAMILIES.values() if record.made_for_training]
    assert alone and not set(alone) & set(made_here())
    assert made_for_training(None) == made_for_training(tmp_path) == ()
    for name in alone:
        file = tmp_path / FAMILIES[name].weights
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert list(made_for_training(tmp_path)) == alone
    assert set(to_make([*alone, "swap"], ["candide_swap"])) == {*alone, "swap"} - {"candide_swap"}
