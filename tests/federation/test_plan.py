"""Who holds what: every subject with one client, every picture once, and the same plan from the same seed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.datasets.manifest import Sample
from unmask.errors import DataError
from unmask.federation.plan import Plan, family_weights, make_plan

FAMILIES = ("stylegan", "ciplab", "wav2lip", "own")
SOURCES = ("ffhq", "ciplab", "wav2lip", "elsewhere")


def rows(subjects: int = 40) -> list[Sample]:
    """Subjects of four sources; of each, two frames that are real and one that is forged."""
    made = []
    for number in range(subjects):
        place = number % 4
        split = ("train", "train", "train", "val", "test")[number // 4 % 5]
        about = {"source": SOURCES[place], "subject": f"s{number}", "split": split}
        for frame in range(2):
            made.append(Sample(path=f"{number}-{frame}.png", label=0, family="real", **about))
        made.append(Sample(path=f"{number}-f.png", label=1, family=FAMILIES[place], **about))
    return made


@pytest.mark.parametrize("split", ["type", "dirichlet", "source", "subject"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), clients=st.integers(2, 4))
def test_every_subject_lies_with_one_client_and_every_picture_is_dealt_once(
    split: str, seed: int, clients: int
) -> None:
    try:
        plan = make_plan(rows(), clients, split, ("selfblend",), alpha=5.0, seed=seed)  # type: ignore[arg-type]
    except DataError as error:
        assert "would have no" in str(error)
        return
    owners: dict[str, set[str]] = {}
    for share in plan.shares:
        for row in share.rows:
            owners.setdefault(row.subject, set()).add(share.name)
    assert all(len(names) == 1 for names in owners.values())
    paths = sorted(row.path for share in plan.shares for row in share.rows)
    assert paths == sorted(row.path for row in rows() if row.split in ("train", "val"))
    for share in plan.shares:
        assert any(not row.label and row.split == "val" for row in share.rows) and share.families
    assert plan == make_plan(rows(), clients, split, ("selfblend",), alpha=5.0, seed=seed)  # type: ignore[arg-type]


def test_by_type_a_family_has_one_client() -> None:
    plan = make_plan(rows(), 3, "type", ("selfblend", "swap"))
    held = [name for share in plan.shares for name in share.families]
    assert sorted(held) == sorted({*FAMILIES, "selfblend", "swap"})
    for share in plan.shares:
        assert {row.family for row in share.rows if row.label} <= share.families.keys()


def test_a_held_out_family_lies_with_nobody() -> None:
    plan = make_plan(rows(), 2, "subject", (), held_out="ciplab")
    assert "ciplab" not in plan.families
    assert not any(row.family == "ciplab" for share in plan.shares for row in share.rows)
    with pytest.raises(DataError, match="no family 'gan' to hold out"):
        make_plan(rows(), 2, "subject", (), held_out="gan")


def test_small_alpha_deals_unevenly() -> None:
    def spread(alpha: float) -> float:
        values = []
        for seed in range(20):
            try:
                plan = make_plan(rows(200), 3, "dirichlet", ("selfblend", "swap"), alpha, seed=seed)
            except DataError:
                continue
            values += [max((s.families.get("swap", 0.0) for s in plan.shares), default=0.0)]
        return sum(values) / len(values)

    assert spread(0.1) > spread(10.0) + 0.2


def test_what_cannot_be_dealt_out_is_refused() -> None:
    for clients, split, words in (
        (1, "subject", "a federation has two or more"),
        (9, "type", "5 families for 9 clients"),
        (9, "source", "4 sources of real faces for 9 clients"),
        (2, "age", "no split by 'age'"),
    ):
        with pytest.raises(DataError, match=words):
            make_plan(rows(), clients, split, ("selfblend",))  # type: ignore[arg-type]


def test_a_plan_is_written_once(tmp_path: Path) -> None:
    plan = make_plan(rows(), 2, "subject", ())
    plan.write(tmp_path / "plan")
    plan.write(tmp_path / "plan")
    assert sorted(path.name for path in (tmp_path / "plan").iterdir()) == ["client-1.csv", "client-2.csv", "plan.json"]
    with pytest.raises(DataError, match="holds another plan"):
        make_plan(rows(), 2, "subject", (), seed=1).write(tmp_path / "plan")


def test_weights_are_shares_times_how_often_a_family_is_drawn_anywhere() -> None:
    assert family_weights({"selfblend": 0.5, "own": 1.0}) == {"selfblend": pytest.approx(0.13), "own": 0.15}
    assert isinstance(make_plan(rows(), 2, "subject", ()), Plan)
