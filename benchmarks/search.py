"""Search by drawings, after embedding: milliseconds of one core a query, and recall, by vectors and kind of search.

The vectors are random: classes of about a hundred photos about a centre each, of 512 numbers; a query is a member of a
class, moved. Recall is the share of the 20 exactly nearest among the 20 first of the plain order. Sizes are measured
in processes of their own, so that the peak memory is that of one size.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import finish, parser, spread

from unmask import __version__
from unmask.retrieval.index import MANIFEST, Clusters, IndexedFile, Manifest, generation_file, open_index
from unmask.retrieval.journal import Table
from unmask.retrieval.matching import ClusterMatcher
from unmask.retrieval.shortlist import build_shortlist

DIMENSION = 512
TOP = 20
KINDS = ("exact", "ivf", "hnsw", "pq")
_BLOCK = 20_000


def blocks(count: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Unit vectors of classes, block by block."""
    centres = generator.normal(size=(max(10, count // 100), DIMENSION)).astype(np.float32)
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        rows = centres[generator.integers(0, len(centres), size)]
        rows = rows + 0.9 * generator.standard_normal(rows.shape, np.float32)
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_vectors(folder: Path, count: int, seed: int) -> None:
    """Random vectors and a table in which each is of a file of its own."""
    path = folder / generation_file("vectors", 1, "npy")
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIMENSION))
    done = 0
    for block in blocks(count, np.random.default_rng(seed)):
        vectors[done : done + len(block)] = block
        done += len(block)
    vectors.flush()
    table = Table()
    with (folder / generation_file("files", 1, "jsonl")).open("wb") as stream:
        for number in range(count):
            file = IndexedFile(f"{number:09}.jpg", f"{number:064x}"[::-1], 1, 1, 1)
            table.add(file, stream.tell())
            stream.write(file.line())
    np.save(folder / generation_file("files", 1, "npy"), table.entries())


def measure(count: int, kinds: list[str], queries: int, seed: int, work: Path | None) -> dict[str, Any]:
    """All kinds on the same vectors and clusters."""
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        write_vectors(folder, count, seed)
        vectors = np.load(folder / generation_file("vectors", 1, "npy"), mmap_mode="r")
        began = time.process_time()
        matcher = ClusterMatcher(seed=seed).fit(vectors)
        clustering = time.process_time() - began
        np.savez(folder / generation_file("clusters", 1, "npz"), centroids=matcher.centroids, codes=matcher.codes)
        clusters = Clusters(count=matcher.centroids.shape[1], rows=count, seed=seed, weight=matcher.weight)
        generator = np.random.default_rng(seed + 1)
        asked = np.asarray(vectors[np.sort(generator.choice(count, queries, replace=False))])
        asked = asked + 0.7 * generator.standard_normal(asked.shape, np.float32) / DIMENSION**0.5
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        results: dict[str, Any] = {}
        for kind in kinds:
            record, shortlisting = None, 0.0
            if kind != "exact":
                began = time.process_time()
                search, record = build_shortlist(vectors, kind, seed)  # type: ignore[arg-type]
                search.write(folder / generation_file("shortlist", 1, "faiss"))
                shortlisting = time.process_time() - began
            manifest = Manifest(
                unmask=__version__,
                written="",
                photos="/",
                pack="",
                pack_name="",
                faces=False,
                pack_version="",
                pack_sha256="",
                dimension=DIMENSION,
                generation=1,
                files=count,
                rows=count,
                copies=0,
                refused={},
                data_sha256="",
                kind=kind,
                shortlist=record,
                clusters=clusters,
            )
            (folder / MANIFEST).write_text(manifest.model_dump_json())
            results[kind] = {
                **times_of(folder, asked),
                "built_s": {"clusters": round(clustering, 2), "shortlist": round(shortlisting, 2)},
                "shortlist": record and record.model_dump(),
                "disk_mb": round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1),
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            }
            (folder / generation_file("shortlist", 1, "faiss")).unlink(missing_ok=True)
        return results


def times_of(folder: Path, asked: np.ndarray) -> dict[str, Any]:
    """Of an index: CPU seconds of each query by order, and the recall of the plain one."""
    began = time.perf_counter()
    index = open_index(folder)
    opened = time.perf_counter() - began
    times: dict[str, list[float]] = {"plain": [], "clusters": []}
    recall = []
    list(index.rank(asked[:1], TOP, ("plain", "clusters")))  # what is only loaded once
    for query in asked[1:]:
        listed: set[int] = set()
        for order, some in times.items():
            began = time.process_time()  # on one thread: others on the machine do not count
            (ranked,) = index.rank(query[None], TOP, (order,))  # type: ignore[arg-type]
            some.append(time.process_time() - began)
            listed |= {hit.row for hit in ranked[order]} if order == "plain" else set()  # type: ignore[index]
        nearest = np.argsort(-(index.vectors @ query), kind="stable")[:TOP]
        recall.append(len(listed & set(nearest.tolist())) / TOP)
    return {
        "seconds": {order: spread(some) for order, some in times.items()},
        "recall": round(float(np.mean(recall)), 4),
        "opened_s": round(opened, 4),
    }


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments.add_argument("--kinds", nargs="+", choices=KINDS, default=["exact", "ivf"])
    arguments.add_argument("--queries", type=int, default=40)
    arguments.add_argument("--work", type=Path, help="folder for the indexes, three gigabytes for a million vectors")
    arguments.add_argument("--one", type=int, metavar="SIZE", help="measure this size alone and print it as JSON")
    chosen = arguments.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one, chosen.kinds, chosen.queries, chosen.seed, chosen.work)))
        return
    results: dict[str, Any] = {}
    for size in chosen.sizes:
        command = [sys.executable, __file__, "--one", str(size), "--queries", str(chosen.queries)]
        command += ["--seed", str(chosen.seed), *(["--work", str(chosen.work)] if chosen.work else [])]
        done = subprocess.run([*command, "--kinds", *chosen.kinds], stdout=subprocess.PIPE, text=True, check=True)
        results[str(size)] = json.loads(done.stdout)
        print(size, done.stdout.strip(), file=sys.stderr, flush=True)
    finish(chosen, "search", results)


if __name__ == "__main__":
    main()
