from pathlib import Path

from layout_files import by_name, draw, refusal, stems

from unmask.datasets.layouts import detect_layout
from unmask.datasets.layouts.index_table import load_index

HEAD = "path,label,family,kind,source,group"
ANNA, BERT = stems("train")


def write(root: Path, *rows: str, head: str = HEAD, side: dict[str, int] | None = None) -> Path:
    for row in rows:
        name = row.split(",")[0]
        draw(root / name, (side or {}).get(name, 8))
    (root / "index.csv").write_text("\n".join((head, *rows)) + "\n")
    return root


def test_families_kinds_and_groups_are_read(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        f"swap/fake/a__1.jpg,1,swap,faceswap_video,web,{ANNA}",
        f"swap/real/a__1.jpg,0,swap,faceswap_video,web,{ANNA}",
        f"wild/real/b.jpg,0,wild,real,web,{BERT}",
    )
    assert detect_layout(root) == "index"
    forged, real, other = load_index(root)
    assert (forged.label, forged.family, forged.source, forged.subject) == (1, "swap", "swap", ANNA)
    assert (forged.kind, real.kind) == ("faceswap_video", "")
    assert (real.label, real.family, real.source) == (0, "real", "swap")
    assert other.source == "wild"
    assert forged.split == real.split
    assert forged.original == real.path


def test_a_twin_is_of_the_same_group_name_and_size(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        "x/fake/p1__inp.jpg,1,x,inpainting,web,p1",
        "x/real/p1__orig.jpg,0,x,inpainting,web,p1",
        "x/fake/p2__f1.jpg,1,x,inpainting,web,p2",
        "x/real/p2__f1.jpg,0,x,inpainting,web,p2",
        "x/real/p2__f2.jpg,0,x,inpainting,web,p2",
        "x/fake/p3.jpg,1,x,inpainting,web,p3",
        "x/real/p3.jpg,0,x,inpainting,web,p3",
        "y/fake/p4.jpg,1,y,inpainting,web,p4",
        side={"x/fake/p3.jpg": 16},
    )
    samples = by_name([sample for sample in load_index(root) if sample.label])
    assert samples["p1__inp.jpg"].original.endswith("x/real/p1__orig.jpg")
    assert samples["p2__f1.jpg"].original.endswith("x/real/p2__f1.jpg")
    assert not samples["p3.jpg"].original and not samples["p4.jpg"].original


def test_a_group_is_on_one_side(tmp_path: Path) -> None:
    head = f"{HEAD},split"
    root = write(tmp_path, "x/a.jpg,1,x,gan,web,anna,train", "y/b.jpg,0,y,real,web,anna,test", head=head)
    assert "group anna is in the splits train and test" in refusal(load_index, root)
    kept = write(tmp_path / "kept", "x/a.jpg,1,x,gan,web,anna,val", "y/b.jpg,0,y,real,web,anna,val", head=head)
    assert {sample.split for sample in load_index(kept)} == {"val"}


def test_faulty_rows_are_named(tmp_path: Path) -> None:
    assert "row 2: no group" in refusal(load_index, write(tmp_path / "a", "x/a.jpg,1,x,gan,web,"))
    assert "label 'fake'" in refusal(load_index, write(tmp_path / "b", "x/a.jpg,fake,x,gan,web,g"))
    root = write(tmp_path / "c", "x/a.jpg,0,x,real,web,g", "x/b.jpg,1,x,gan,web,g")
    (root / "x/b.jpg").unlink()
    assert "row 3: no file" in refusal(load_index, root)
    assert "split 'dev'" in refusal(
        load_index, write(tmp_path / "d", "x/a.jpg,0,x,real,web,g,dev", head=f"{HEAD},split")
    )
