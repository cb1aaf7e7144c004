"""An index whose photos Spark's workers embed: the same as without, and clear errors."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_search_pack import write_search_pack

from unmask.errors import MissingExtraError, PackError, UnmaskError
from unmask.retrieval.building import build_index
from unmask.retrieval.index import open_index
from unmask.retrieval.reading import read_batch

pytest.importorskip("faiss")
Photos = Callable[..., Path]


def test_without_pyspark_the_extra_is_named(
    make_photos: Photos, search_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*(name for name in sys.modules if name.partition(".")[0] in ("pyspark", "py4j")), "py4j.protocol"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"\[spark\]"):
        build_index(make_photos(2), tmp_path / "index", search_pack, engine="spark")


@pytest.mark.slow
def test_spark_embeds_what_one_process_embeds(
    spark: Any, make_photos: Photos, search_pack: Path, tmp_path: Path
) -> None:
    photos = make_photos(40)
    (photos / "broken.png").write_bytes(b"no picture")
    one, other = tmp_path / "one", tmp_path / "other"
    build_index(photos, one, search_pack)
    build_index(photos, other, search_pack, engine="spark")
    here, there = open_index(one), open_index(other)
    assert here.manifest.refused == there.manifest.refused and sum(there.manifest.refused.values()) == 1
    assert [here.described(n).path for n in range(41)] == [there.described(n).path for n in range(41)]
    np.testing.assert_allclose(there.vectors, here.vectors, atol=1e-6)
    # Nothing is left to do, for either engine.
    assert build_index(photos, other, search_pack).added == 0


@pytest.mark.slow
def test_a_worker_that_fails_is_one_line(
    spark: Any, make_photos: Photos, search_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the shared folder is not mounted")

    monkeypatch.setattr("unmask.retrieval.spark.read_batch", fail)
    with pytest.raises(UnmaskError, match="a worker of Spark failed") as caught:
        build_index(make_photos(4), tmp_path / "index", search_pack, engine="spark")
    text = str(caught.value)
    assert "\n" not in text and "RuntimeError: the shared folder is not mounted" in text and "--jobs 2" in text


@pytest.mark.slow
def test_workers_that_stay_take_the_model_of_each_build(
    spark: Any, make_photos: Photos, search_pack: Path, tmp_path: Path
) -> None:
    """One session, two packs: workers keep a model from job to job."""
    photos, other = make_photos(6), write_search_pack(tmp_path / "negative", name="negative", gain=-1.0)
    for name, pack in (("one", search_pack), ("two", other), ("three", search_pack)):
        build_index(photos, tmp_path / name, pack)
        build_index(photos, tmp_path / f"{name}-spark", pack, engine="spark")
        here, there = open_index(tmp_path / name), open_index(tmp_path / f"{name}-spark")
        np.testing.assert_allclose(there.vectors, here.vectors, atol=1e-6)
    assert not np.allclose(open_index(tmp_path / "one").vectors, open_index(tmp_path / "two").vectors, atol=0.01)


def test_a_machine_with_another_pack_of_the_name_is_refused(
    search_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.retrieval.reading._embedder", None)
    with pytest.raises(PackError, match="another one here"):
        read_batch([], str(search_pack), "0" * 64)
