from pathlib import Path

import pytest
from layout_files import add_mapping, draw, refusal

from unmask.datasets.layouts import read_layout
from unmask.datasets.layouts.celebamask_hq import load_celebamask_hq
from unmask.datasets.manifest import SHARES, split_of


def test_celebamask_hq_is_read(celebamask: Path) -> None:
    samples = load_celebamask_hq(celebamask)
    assert [Path(s.path).name for s in samples] == ["0.jpg", "1.jpg", "2.jpg", "2001.jpg"]
    assert {(s.label, s.family, s.source) for s in samples} == {(0, "real", "celebamask")}
    parts = celebamask / "CelebAMask-HQ-mask-anno"
    assert [s.mask for s in samples] == [str(parts / "0"), str(parts / "0"), "", str(parts / "1")]
    assert [s.subject for s in samples] == [f"celebamask-hq/{number}" for number in (0, 1, 2, 2001)]
    assert all(s.split == split_of(s.subject, SHARES) for s in samples)


@pytest.mark.parametrize("name", ["CelebAMaskHQ-mask", "CelebAMask-HQ-mask"])
def test_merged_masks_stand_in_for_parts(celebamask: Path, name: str) -> None:
    for number in (1, 2):
        draw(celebamask / name / f"{number}.png")
    masks = [Path(s.mask).relative_to(celebamask).as_posix() for s in load_celebamask_hq(celebamask)]
    parts = "CelebAMask-HQ-mask-anno"
    assert masks == [f"{parts}/0", f"{parts}/0", f"{name}/2.png", f"{parts}/1"]
    draw(celebamask / name / "2.png", side=4)
    assert "has 4 x 4 pixels, its picture 8 x 8" in refusal(load_celebamask_hq, celebamask)


def test_the_mapping_gives_celebas_own_split(celebamask: Path) -> None:
    add_mapping(celebamask)
    samples = load_celebamask_hq(celebamask)
    assert [s.split for s in samples] == ["train", "val", "test", "train"]
    assert [s.subject for s in samples][:2] == ["celeba/162770.jpg", "celeba/162771.jpg"]


def test_identities_are_the_subjects(celebamask: Path) -> None:
    add_mapping(celebamask)
    people = "162770.jpg 17\n162771.jpg 18\n182638.jpg 19\n000009.jpg 17\n"
    (celebamask / "identity_CelebA.txt").write_text(people)
    assert [s.subject for s in load_celebamask_hq(celebamask)] == [f"celeba/{n}" for n in (17, 18, 19, 17)]
    (celebamask / "identity_CelebA.txt").write_text(people.replace(" 18", " 17"))
    assert "is in val here and in train in" in refusal(load_celebamask_hq, celebamask)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (
            "CelebA-HQ-to-CelebA-mapping.txt",
            b"0 1 000002.jpg\n",
            "1.jpg: CelebA-HQ-to-CelebA-mapping.txt has no line for 1;",
        ),
        ("CelebA-HQ-to-CelebA-mapping.txt", b"idx\n", "line 1: 1 columns instead of 3"),
        ("CelebA-HQ-to-CelebA-mapping.txt", b"\xff\xfe", "not a readable text file"),
        ("CelebA-HQ-to-CelebA-mapping.txt", b"0 1 a.jpg\n", "names a.jpg, no picture of CelebA"),
        ("identity_CelebA.txt", b"000001.jpg 1\n", "identity_CelebA.txt has no line for 162770.jpg"),
    ],
)
def test_a_faulty_mapping_is_named(celebamask: Path, file: str, content: bytes, reason: str) -> None:
    add_mapping(celebamask)
    (celebamask / file).write_bytes(content)
    assert reason in refusal(load_celebamask_hq, celebamask)


def test_a_faulty_celebamask_hq_is_refused(celebamask: Path, tmp_path: Path) -> None:
    draw(celebamask / "CelebA-HQ-img" / "copy of 1.jpg")
    assert "the name is no number of CelebA-HQ" in refusal(load_celebamask_hq, celebamask)
    (tmp_path / "other" / "CelebA-HQ-img").mkdir(parents=True)
    assert "no samples" in refusal(read_layout, tmp_path / "other")
    assert "no such folder" in refusal(load_celebamask_hq, tmp_path / "gone")
