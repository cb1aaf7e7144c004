"""Finding: ranked, explained, in both orders, with a defined answer to every odd query; and the page."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from search_pictures import hatched, pattern
from tiny_search_pack import write_search_pack

from unmask.errors import DataError
from unmask.retrieval import build_index, find, open_index
from unmask.retrieval.answers import ALONE, NO_FACE, NOTHING, SEVERAL_FACES, Answer, Searcher, default_order
from unmask.retrieval.page import is_search_page, search_page
from unmask.retrieval.sketches import INVERTED, PHOTOGRAPH

pytest.importorskip("faiss")
Photos = Callable[..., Path]


def sketch(path: Path, number: int) -> Path:
    """A drawing of pattern `number`."""
    Image.fromarray(hatched(number)).save(path)
    return path


@pytest.fixture
def index(make_photos: Photos, search_pack: Path, tmp_path: Path) -> Path:
    build_index(make_photos(25), tmp_path / "index", search_pack)
    return tmp_path / "index"


def one(index: Path, query: Path | str, **how: object) -> Answer:
    (answer,) = find(index, [query], **how)  # type: ignore[arg-type]
    return answer


def test_the_photo_that_a_drawing_shows_comes_first(index: Path, tmp_path: Path) -> None:
    for number in (4, 11, 17):
        (ranking,) = one(index, sketch(tmp_path / f"{number}.png", number), top=5, order="plain").rankings
        assert ranking.order == "plain" and [hit.rank for hit in ranking.hits] == [1, 2, 3, 4, 5]
        assert Path(ranking.hits[0].path).name == f"{number:03}.png"
        distances = [hit.photo_distance for hit in ranking.hits]
        assert distances == sorted(distances)


def test_with_clusters_it_is_the_first_of_its_cluster(index: Path, tmp_path: Path) -> None:
    for number in (4, 11, 17):
        (ranking,) = one(index, sketch(tmp_path / f"{number}.png", number), top=25).rankings
        assert ranking.order == "clusters" and ranking.hits[0].nearest_cluster
        shown = next(hit for hit in ranking.hits if Path(hit.path).name == f"{number:03}.png")
        assert all(hit.cluster != shown.cluster for hit in ranking.hits[: shown.rank - 1])
        distances = [hit.distance for hit in ranking.hits]
        assert distances == sorted(distances)


def test_both_orders_stand_side_by_side(index: Path, tmp_path: Path) -> None:
    answer = one(index, sketch(tmp_path / "q.png", 4), top=25, order="both")
    assert [ranking.order for ranking in answer.rankings] == ["clusters", "plain"]
    clusters, plain = ({hit.path: hit for hit in ranking.hits} for ranking in answer.rankings)
    assert clusters.keys() == plain.keys() and len(plain) == 25
    for path, hit in plain.items():
        assert clusters[path].other_rank == hit.rank and hit.other_rank == clusters[path].rank


def test_a_hit_is_explained(index: Path, tmp_path: Path) -> None:
    answer = one(index, sketch(tmp_path / "q.png", 4), top=25, order="clusters")
    opened = open_index(index)
    codes = opened.matcher.codes[:, 0]  # type: ignore[union-attr]
    for hit in answer.rankings[0].hits:
        assert hit.cluster is not None and hit.cluster_size == (codes == hit.cluster).sum()
        assert hit.centroid_distance is not None
        assert hit.distance == pytest.approx(0.8 * hit.centroid_distance + 0.2 * hit.photo_distance, abs=1e-5)
        assert hit.path not in hit.members and len(hit.members) == min(5, hit.cluster_size - 1)
    nearest = {hit.cluster for hit in answer.rankings[0].hits if hit.nearest_cluster}
    assert len(nearest) == 1


def test_whole_pictures_are_ordered_by_clusters_and_faces_plainly(index: Path) -> None:
    opened = open_index(index)
    assert default_order(opened) == "clusters"
    opened.manifest = opened.manifest.model_copy(update={"faces": True})
    assert default_order(opened) == "plain"


def test_odd_queries_have_a_defined_answer(index: Path, tmp_path: Path, portrait: Path) -> None:
    folder = tmp_path / "queries"
    folder.mkdir()
    Image.new("RGB", (200, 200), "white").save(folder / "a blank.png")
    Image.fromarray(255 - hatched(4)).save(folder / "b inverted.png")
    shutil.copy(portrait, folder / "c photo.jpg")
    (folder / "d cut.png").write_bytes((folder / "a blank.png").read_bytes()[:50])
    (folder / "e clip.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(200))
    huge = cv2.resize(hatched(4), (6000, 6000), interpolation=cv2.INTER_NEAREST)
    Image.fromarray(huge).convert("1").save(folder / "f huge.png")
    answers = {Path(answer.path).name[:1]: answer for answer in find(index, [folder], order="plain")}
    codes = {name: answer.refusal.code for name, answer in answers.items() if answer.refusal}
    assert codes == {"a": "empty", "d": "corrupt", "e": "unsupported"}
    assert INVERTED in answers["b"].notes and PHOTOGRAPH in answers["c"].notes
    for name in "bf":
        assert Path(answers[name].rankings[0].hits[0].path).name == "004.png"
    assert all(not answer.rankings for name, answer in answers.items() if name in codes)


def test_none_or_one_photo(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos, query = make_photos(0), sketch(tmp_path / "q.png", 4)
    (photos / "broken.png").write_bytes(b"no picture")
    build_index(photos, tmp_path / "index", search_pack)
    answer = one(tmp_path / "index", query)
    assert answer.notes == (NOTHING,) and answer.rankings[0].hits == () and answer.refusal is None
    Image.fromarray(pattern(4)).save(photos / "one.png")
    build_index(photos, tmp_path / "index", search_pack)
    answer = one(tmp_path / "index", query)
    assert answer.notes == (ALONE,) and len(answer.rankings[0].hits) == 1


def test_an_index_of_another_model_is_refused(index: Path, tmp_path: Path) -> None:
    other = write_search_pack(tmp_path / "other", gain=2.0, name="other")
    with pytest.raises(DataError, match=r"made with pack tiny_search 1 .* not with other 1"):
        one(index, sketch(tmp_path / "q.png", 4), pack=other)


def test_a_network_that_gives_nothing_refuses_the_file(make_photos: Photos, tmp_path: Path) -> None:
    pack = write_search_pack(tmp_path / "null", gain=0.0, mean=(0.0, 0.0, 0.0))
    photos = make_photos(2)
    assert build_index(photos, tmp_path / "index", pack).manifest.refused == {"unreadable": 2}
    answer = one(tmp_path / "index", sketch(tmp_path / "q.png", 4))
    assert answer.refusal is not None and answer.refusal.code == "unreadable"


def test_faces_are_searched_with_the_largest_face(face_search_pack: Path, portrait: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(portrait) as picture:
        face = np.asarray(picture.convert("RGB"))
    Image.fromarray(np.hstack([face, face[:, ::-1]])).save(photos / "two.png")
    build_index(photos, tmp_path / "index", face_search_pack)
    answer = one(tmp_path / "index", portrait)
    assert PHOTOGRAPH in answer.notes
    (ranking,) = answer.rankings
    assert ranking.order == "plain" and len(ranking.hits) == 2 and ranking.hits[0].box is not None
    assert ranking.hits[0].box[0] < face.shape[1] < ranking.hits[1].box[0]  # type: ignore[index]
    assert SEVERAL_FACES in one(tmp_path / "index", photos / "two.png").notes
    refused = one(tmp_path / "index", sketch(tmp_path / "q.png", 4))
    assert refused.refusal is not None
    assert (refused.refusal.code, refused.refusal.message) == ("no_face", NO_FACE)


def test_ties_keep_the_order_of_the_index(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos = make_photos(4)
    with Image.open(photos / "001.png") as picture:
        for name in ("x.bmp", "y.tiff"):  # other files, the same pixels
            picture.save(photos / name)
    build_index(photos, tmp_path / "index", search_pack)
    names = [Path(hit.path).name for hit in one(tmp_path / "index", photos / "001.png", order="plain").rankings[0].hits]
    assert names[:3] == ["001.png", "x.bmp", "y.tiff"]


def test_copies_are_one_hit(make_photos: Photos, search_pack: Path, tmp_path: Path) -> None:
    photos = make_photos(4)
    for number in range(60):
        shutil.copy(photos / "001.png", photos / f"copy {number:02}.png")
    build_index(photos, tmp_path / "index", search_pack)
    (ranking,) = one(tmp_path / "index", photos / "001.png", top=3, order="plain").rankings
    assert len(ranking.hits) == 3
    assert len(ranking.hits[0].also_at) == 60


class Nesting(HTMLParser):
    """Checks that tags nest, and collects sources and words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_has_drawing_hits_and_why_and_nothing_from_outside(
    make_photos: Photos, search_pack: Path, tmp_path: Path
) -> None:
    photos = make_photos(10)
    (photos / "004.png").rename(photos / "<script>alert(1)<.png")
    build_index(photos, tmp_path / "index", search_pack)
    (photos / "007.png").unlink()
    (photos / "008.png").write_bytes((photos / "002.png").read_bytes())
    searcher = Searcher(tmp_path / "index", top=10, order="both")
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")
    page = tmp_path / "page.html"
    with search_page(page, searcher.index.manifest, "unmask search find q.png") as written:
        for answer, picture in searcher.answers([sketch(tmp_path / "q.png", 4), tmp_path / "blank.png"]):
            written.add(answer, picture)
    text = page.read_text(encoding="utf-8")
    parsed = Nesting(text)
    assert parsed.open == [] and "script" not in parsed.tags
    assert all(source.startswith("data:image/jpeg;base64,") for source in parsed.sources)
    assert len(parsed.sources) == 2 + 2 * 8  # both queries, ten hits in two orders, of which two are not as they were
    words = " ".join(parsed.words)
    for wanted in (
        "<script>alert(1)<.png",
        "the nearest to the drawing",
        "Not searched",
        "has changed since",
        "no such",
    ):
        assert wanted in words
    assert is_search_page(page)


def test_an_answer_is_plain_json(index: Path, tmp_path: Path) -> None:
    answer = one(index, sketch(tmp_path / "q.png", 4))
    read = json.loads(answer.model_dump_json())
    assert read["schema_version"] == "1.0" and read["rankings"][0]["hits"][0]["rank"] == 1
    assert Answer.model_validate(read) == answer
