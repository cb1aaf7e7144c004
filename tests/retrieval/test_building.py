"""Building an index: whole, brought up to date, resumed after a kill at any point, and refused where it must be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from progress_log import ProgressLog
from search_pictures import pattern
from tiny_search_pack import write_search_pack

from unmask.errors import DataError, PackError, RefusalCode, Refused
from unmask.media.sources import RefusedSource, Source
from unmask.retrieval import building, reading
from unmask.retrieval.building import build_index
from unmask.retrieval.index import SearchIndex, open_index
from unmask.retrieval.journal import JOURNAL, JOURNAL_VECTORS

pytest.importorskip("faiss")
Photos = Callable[..., Path]


def paths(index: SearchIndex) -> list[str]:
    return sorted(index.described(number).path for number in range(index.manifest.files))


def by_path(index: SearchIndex) -> dict[str, np.ndarray]:
    """The vectors of each file."""
    vectors = {}
    for number, entry in enumerate(index.files):
        vectors[index.described(number).path] = np.array(index.vectors[entry["first"] : entry["first"] + entry["rows"]])
    return vectors


def same(one: SearchIndex, other: SearchIndex) -> None:
    first, second = by_path(one), by_path(other)
    assert first.keys() == second.keys()
    for path, vectors in first.items():
        np.testing.assert_allclose(vectors, second[path], atol=1e-6)


def test_an_index_holds_every_picture_once(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos, log = make_photos(23), ProgressLog()
    built = build_index(photos, tmp_path / "index", search_pack, progress=log)
    index = open_index(tmp_path / "index")
    assert index.manifest == built.manifest
    assert (built.added, built.removed, len(index), index.manifest.files) == (23, 0, 23, 23)
    assert paths(index) == sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    np.testing.assert_allclose(np.linalg.norm(index.vectors, axis=1), 1, atol=1e-5)
    assert index.manifest.pack_sha256 == json.loads((search_pack / "card.json").read_text())["sha256"]
    assert (index.manifest.kind, index.manifest.clusters and index.manifest.clusters.count) == ("exact", 8)
    assert log.stages["embedding"][-1] == (23, 23)
    log.check_bars_end()


def test_a_second_run_does_nothing(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos, out = make_photos(5), tmp_path / "index"
    build_index(photos, out, search_pack)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    built = build_index(photos, out)  # with the model of the index
    assert (built.added, built.removed) == (0, 0)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_new_changed_and_removed_pictures_are_noticed(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos, out = make_photos(9), tmp_path / "index"
    build_index(photos, out, search_pack)
    Image.fromarray(pattern(100)).save(photos / "new.png")
    (photos / "001.png").unlink()
    Image.fromarray(pattern(101)).save(photos / "002.png")
    os.utime(photos / "002.png", ns=(1, 1))
    built = build_index(photos, out, search_pack)
    assert (built.added, built.removed) == (2, 2)
    shutil.copytree(photos, tmp_path / "copy")
    build_index(tmp_path / "copy", tmp_path / "fresh", search_pack)
    same(open_index(out), open_index(tmp_path / "fresh"))
    assert built.manifest.generation == 2
    generations = {path.name.split("-")[1][:6] for path in out.iterdir() if "-" in path.name}
    assert generations == {"000002"}, "files of the generation before are left"


def test_clusters_are_kept_until_the_gallery_has_changed_much(
    make_photos: Photos, search_pack: Path, tmp_path: Path
) -> None:
    photos, out = make_photos(30), tmp_path / "index"
    first = build_index(photos, out, search_pack).manifest.clusters
    Image.fromarray(pattern(100)).save(photos / "new.png")
    assert build_index(photos, out, search_pack).manifest.clusters == first
    assert len(open_index(out).matcher.codes) == 31  # type: ignore[union-attr]
    for number in range(200, 212):
        Image.fromarray(pattern(number)).save(photos / f"{number}.png")
    again = build_index(photos, out, search_pack).manifest.clusters
    assert again is not None and again.rows == 43


def test_what_is_no_picture_is_kept_as_refused(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos = make_photos(3)
    (photos / "cut.png").write_bytes((photos / "001.png").read_bytes()[:60])
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(200))
    (photos / "notes.txt").write_text("no picture")
    manifest = build_index(photos, tmp_path / "index", search_pack).manifest
    assert manifest.refused == {"corrupt": 1, "empty": 1, "unsupported": 1}
    assert (manifest.files, manifest.rows) == (6, 3)
    assert build_index(photos, tmp_path / "index").added == 0  # they are not tried again


def test_copies_are_counted_and_ranked_once(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos = make_photos(6)
    for name in ("a.png", "b.png"):
        shutil.copy(photos / "001.png", photos / name)
    assert build_index(photos, tmp_path / "index", search_pack).manifest.copies == 2
    index = open_index(tmp_path / "index")
    query = index.vectors[index.file_of(0)][None]
    (ranked,) = index.rank(query, 8, ("plain",))
    assert len(ranked["plain"]) == 6
    names = [index.described(index.file_of(hit.row)).path for hit in ranked["plain"]]
    assert len({"a.png", "b.png", "001.png"} & set(names)) == 1
    kept = next(hit for hit, name in zip(ranked["plain"], names, strict=True) if name in ("a.png", "b.png", "001.png"))
    assert len(index.copies_of(index.file_of(kept.row))) == 3


@pytest.mark.slow
def test_workers_give_what_one_process_gives(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos = make_photos(40)
    build_index(photos, tmp_path / "one", search_pack)
    build_index(photos, tmp_path / "two", search_pack, jobs=2)
    same(open_index(tmp_path / "one"), open_index(tmp_path / "two"))


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("after", [0, 1, 7, 16, 20])
@pytest.mark.parametrize("torn", [False, True])
def test_a_build_goes_on_where_it_was_killed(
    after: int, torn: bool, make_photos: Photos, search_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = make_photos(20), tmp_path / "index"
    append = building.Journal.append
    count = 0

    def killing(self: building.Journal, *entry: object) -> None:
        nonlocal count
        if count == after:
            raise Killed
        count += 1
        append(self, *entry)  # type: ignore[arg-type]

    monkeypatch.setattr(building.Journal, "append", killing)
    try:
        build_index(photos, out, search_pack)
    except Killed:
        assert after < 20
    monkeypatch.undo()
    if torn and after < 20:
        for name, rest in ((JOURNAL, b'{"path": "0'), (JOURNAL_VECTORS, b"\1\2\3\4\5")):
            with (out / name).open("ab") as stream:
                stream.write(rest)
    embedded = []
    seen = reading._seen

    def counting(file: reading.PhotoFile, embedder: object) -> object:
        embedded.append(file.name)
        return seen(file, embedder)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "_seen", counting)
    build_index(photos, out, search_pack)
    assert len(embedded) == 20 - after
    build_index(photos, tmp_path / "fresh", search_pack)
    same(open_index(out), open_index(tmp_path / "fresh"))


@pytest.mark.parametrize("name", ["files", "vectors", "clusters", "index.json", "clear"])
def test_a_kill_while_a_generation_is_written_leaves_the_one_before(
    name: str, make_photos: Photos, search_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = make_photos(6), tmp_path / "index"
    build_index(photos, out, search_pack)
    before = by_path(open_index(out))
    Image.fromarray(pattern(100)).save(photos / "new.png")
    whole = building.whole

    def killing(path: Path) -> object:
        if path.name.startswith(name):
            raise Killed
        return whole(path)

    if name == "clear":
        monkeypatch.setattr(building.Journal, "clear", lambda self: (_ for _ in ()).throw(Killed))
    else:
        monkeypatch.setattr(building, "whole", killing)
    with pytest.raises(Killed):
        build_index(photos, out, search_pack)
    monkeypatch.undo()
    there = by_path(open_index(out))
    assert there.keys() == before.keys() | ({"new.png"} if name == "clear" else set())
    monkeypatch.setattr(reading, "_seen", None)  # nothing is embedded again
    build_index(photos, out, search_pack)
    assert by_path(open_index(out)).keys() == before.keys() | {"new.png"}


@pytest.mark.slow
def test_real_kills_at_any_moment(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos, out = make_photos(60), tmp_path / "index"
    code = (
        "import sys, time\nfrom unmask.retrieval import reading\nfrom unmask.retrieval.building import build_index\n"
        "seen = reading._seen\n"
        "reading._seen = lambda *given: (time.sleep(0.01), seen(*given))[1]\n"
        "print('ready', flush=True)\n"
        f"build_index({str(photos)!r}, {str(out)!r}, {str(search_pack)!r})\n"
    )
    generator = np.random.default_rng(0)
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(float(generator.uniform(0.05, 0.5)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (out / "index.json").exists():
            open_index(out)
    build_index(photos, out, search_pack)
    build_index(photos, tmp_path / "fresh", search_pack)
    same(open_index(out), open_index(tmp_path / "fresh"))


@pytest.mark.slow
def test_a_file_that_ends_its_process_is_refused_and_the_rest_goes_on(
    make_photos: Photos, search_pack: Path, tmp_path: Path
) -> None:
    photos = make_photos(20)
    (photos / "005.png").rename(photos / "kill.png")
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import multiprocessing, os\n"
        "if multiprocessing.parent_process() is not None or os.environ.get('KILLING'):\n"
        "    from unmask.retrieval import reading\n"
        "    seen = reading._seen\n"
        "    def deadly(file, embedder):\n"
        "        if file.name == 'kill.png':\n"
        "            os._exit(11)\n"
        "        return seen(file, embedder)\n"
        "    reading._seen = deadly\n"
    )
    code = (
        "import os\nfrom unmask.retrieval.building import build_index\n"
        "if __name__ == '__main__':\n"
        "    os.environ['KILLING'] = '1'\n"
        f"    build_index({str(photos)!r}, {str(tmp_path / 'index')!r}, {str(search_pack)!r}, jobs=2)\n"
    )
    script = tmp_path / "build.py"
    script.write_text(code)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": path}, check=True)
    index = open_index(tmp_path / "index")
    assert index.manifest.refused == {"corrupt": 1} and len(index) == 19


def test_a_folder_without_pictures_and_one_picture(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos = make_photos(0)
    with pytest.raises(DataError, match="no pictures there"):
        build_index(photos, tmp_path / "index", search_pack)
    (photos / "broken.png").write_bytes(b"none")
    assert build_index(photos, tmp_path / "index", search_pack).manifest.rows == 0
    index = open_index(tmp_path / "index")
    assert index.matcher is None and list(index.rank(np.ones((1, 16), np.float32) / 4, 5, ("plain",))) == [
        {"plain": []}
    ]
    Image.fromarray(pattern(1)).save(photos / "one.png")
    build_index(photos, tmp_path / "index", search_pack)
    index = open_index(tmp_path / "index")
    (ranked,) = index.rank(index.vectors[:1], 5, ("plain", "clusters"))
    assert [len(hits) for hits in ranked.values()] == [1, 1]
    (photos / "one.png").unlink()
    assert build_index(photos, tmp_path / "index", search_pack).manifest.rows == 0


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "pq"])
def test_approximate_kinds_measure_what_they_miss(
    kind: str, make_photos: Photos, search_pack: Path, tmp_path: Path
) -> None:
    photos = make_photos(150)
    manifest = build_index(photos, tmp_path / "index", search_pack, kind=kind).manifest  # type: ignore[arg-type]
    assert manifest.shortlist is not None
    assert (manifest.kind, manifest.shortlist.kind, manifest.shortlist.depth) == (kind, kind, 20)
    assert manifest.shortlist.recall >= 0.95  # the shortlist holds all
    index, exact = open_index(tmp_path / "index"), build_index(photos, tmp_path / "exact", search_pack)
    assert exact.manifest.kind == "exact"
    query = index.vectors[70:71]
    (listed,), (all_rows,) = (
        list(one.rank(query, 5, ("plain", "clusters"))) for one in (index, open_index(tmp_path / "exact"))
    )
    for order in ("plain", "clusters"):
        assert [hit.row for hit in listed[order]] == [hit.row for hit in all_rows[order]]  # type: ignore[index]
    assert build_index(photos, tmp_path / "index").manifest.kind == kind  # it stays what it was asked to be


def test_faces_are_rows_with_boxes(face_search_pack: Path, portrait: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(portrait) as picture:
        face = np.asarray(picture.convert("RGB"))
    Image.fromarray(np.hstack([face, face[:, ::-1]])).save(photos / "two.png")
    Image.fromarray(face).save(photos / "one.png")
    Image.fromarray(pattern(1)).save(photos / "none.png")
    manifest = build_index(photos, tmp_path / "index", face_search_pack, faces=True).manifest
    assert (manifest.faces, manifest.files, manifest.rows, manifest.refused) == (True, 3, 3, {"no_face": 1})
    index = open_index(tmp_path / "index")
    boxes = {index.described(number).path: index.described(number).boxes for number in range(3)}
    assert [len(boxes[name]) for name in ("one.png", "two.png", "none.png")] == [1, 2, 0]


def test_what_must_not_be_mixed_is_refused(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos, out = make_photos(3), tmp_path / "index"
    build_index(photos, out, search_pack)
    other = write_search_pack(tmp_path / "other", gain=2.0, name="other")
    with pytest.raises(DataError, match=r"made with pack tiny_search 1 .* not with other 1 .*: give that pack"):
        build_index(photos, out, other)
    with pytest.raises(DataError, match=r"an index of .*photos, not of .*elsewhere"):
        build_index(make_photos(2, "elsewhere"), out, search_pack)
    with pytest.raises(DataError, match=r"give that pack with --pack"):
        open_index(out).embedder(other)
    assert open_index(out).embedder().pack.card.name == "tiny_search"


def test_a_build_begun_with_another_model_is_refused(
    make_photos: Photos, search_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = make_photos(3), tmp_path / "index"
    monkeypatch.setattr(building._Build, "_commit", lambda *given: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        build_index(photos, out, search_pack)
    monkeypatch.undo()
    with pytest.raises(DataError, match="a build was begun there with another model"):
        build_index(photos, out, write_search_pack(tmp_path / "other", gain=2.0))


def test_places_that_cannot_be_are_refused(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos = make_photos(2)
    with pytest.raises(DataError, match="these are the photos"):
        build_index(photos, photos, search_pack)
    with pytest.raises(DataError, match="holds no search index"):
        build_index(photos / "more", photos, search_pack)
    with pytest.raises(DataError, match="file of this name"):
        build_index(photos, photos / "001.png", search_pack)
    with pytest.raises(DataError, match="no folder of photos"):
        build_index(tmp_path / "nowhere", tmp_path / "index", search_pack)
    with pytest.raises(DataError, match="no search index there; make one with"):
        open_index(tmp_path / "nowhere")
    assert not (tmp_path / "index").exists()


def test_packs_of_other_kinds_are_refused(
    make_photos: Photos, tiny_pack: Path, search_pack: Path, tmp_path: Path
) -> None:
    photos = make_photos(1)
    with pytest.raises(PackError, match="forgery_detection, not sketch_search"):
        build_index(photos, tmp_path / "index", tiny_pack)
    with pytest.raises(PackError, match="sees whole pictures"):
        build_index(photos, tmp_path / "index", search_pack, faces=True)
    with pytest.raises(PackError, match="no model pack 'sketch_nothing'"):
        build_index(photos, tmp_path / "index", "sketch_nothing")
    wrong = write_search_pack(tmp_path / "wrong", outputs=("vector",))
    with pytest.raises(PackError, match="not for sketch search"):
        build_index(photos, tmp_path / "index", wrong)


def test_two_builds_at_once_are_refused(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    from unmask.records import record_file

    photos, out = make_photos(2), tmp_path / "index"
    build_index(photos, out, search_pack)
    with record_file(out / JOURNAL, "busy"), pytest.raises(DataError, match="another run is building this index"):
        build_index(photos, out, search_pack)


def test_a_damaged_index_is_refused(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index(make_photos(2), out, search_pack)
    (out / "vectors-000001.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="missing or damaged"):
        open_index(out)
    (out / "index.json").write_text("{}")
    with pytest.raises(DataError, match="not the manifest"):
        open_index(out)


def test_what_cannot_be_listed_is_not_gone(
    make_photos: Photos, search_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = make_photos(6), tmp_path / "index"
    build_index(photos, out, search_pack)
    walk = building.walk

    Image.fromarray(pattern(101)).save(photos / "002.png")
    os.utime(photos / "002.png", ns=(1, 1))

    def unlisted(places: list[Path]) -> Iterator[Source | RefusedSource]:
        yield from (item for item in walk(places) if "/more/" not in item.path)
        yield RefusedSource(str(photos / "more"), Refused(RefusalCode.UNREADABLE, "There is no permission."))

    monkeypatch.setattr(building, "walk", unlisted)
    built = build_index(photos, out, search_pack)
    assert (built.removed, built.unlisted, built.manifest.rows) == (1, (str(photos / "more"),), 6)
    assert paths(open_index(out)) == sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))


def test_an_open_index_stays_as_it_was(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos, out = make_photos(6), tmp_path / "index"
    build_index(photos, out, search_pack)
    index = open_index(out)
    before = by_path(index)
    (photos / "001.png").unlink()
    Image.fromarray(pattern(100)).save(photos / "new.png")
    build_index(photos, out, search_pack)
    assert by_path(index).keys() == before.keys()
    (ranked,) = index.rank(index.vectors[:1], 6, ("clusters",))
    assert len(ranked["clusters"]) == 6
    assert "new.png" in by_path(open_index(out))


def test_a_damaged_journal_is_refused(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos, out = make_photos(2), tmp_path / "index"
    build_index(photos, out, search_pack)
    settings = building.Settings(str(photos.resolve()), "", open_index(out).manifest.pack_sha256)
    with building.record_file(out / JOURNAL, "") as record, (out / JOURNAL_VECTORS).open("ab", buffering=0) as stream:
        building.Journal(record, stream, 16, settings, out)
        record.append(b"nothing\n")
    with pytest.raises(DataError, match="damaged; remove it"):
        build_index(photos, out, search_pack)


def test_names_that_are_not_utf8(search_pack: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    Image.fromarray(pattern(1)).save(tmp_path / "plain.png")
    try:
        (tmp_path / "plain.png").rename(photos / name)
    except OSError:
        pytest.skip("this file system holds no such names")
    build_index(photos, tmp_path / "index", search_pack)
    assert open_index(tmp_path / "index").described(0).path == name
