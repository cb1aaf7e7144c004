"""Photos read and embedded by Spark's workers, on this machine or on many. Imported only when it is asked for."""

import os
import re
import sys
from collections.abc import Generator, Iterator
from itertools import islice

import numpy as np

from unmask.errors import MissingExtraError, UnmaskError
from unmask.retrieval.embedding import BATCH
from unmask.retrieval.index import IndexedFile
from unmask.retrieval.reading import PhotoFile, read_batch

_AHEAD = 16  # batches of a task's worker that one job has: what a stop costs at most


def read_with_spark(
    files: Iterator[PhotoFile], pack: str, sha256: str
) -> Generator[tuple[IndexedFile, np.ndarray], None, None]:
    """Read and embed files, in order, in the active Spark session, or a new one as Spark is configured.

    Every worker needs unmask with the extra `search`, and sees the photos, and a pack that is a folder, under the same
    path.

    Args:
        files: to read.
        pack: the model, as `pack_reference` takes it.
        sha256: of the model; a worker that has another one fails.

    Raises:
        MissingExtraError: PySpark is not installed.
        UnmaskError: Spark cannot start, or a worker failed.
    """
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingExtraError("spark", "--engine spark") from error
    try:
        context = SparkSession.builder.getOrCreate().sparkContext
    except (PySparkException, Py4JError, OSError, RuntimeError) as error:
        raise UnmaskError(f"Spark cannot start ({_reason(error)}): it needs Java 17 or later") from error
    context.setLogLevel("ERROR")
    if str(context.master).startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        context.pythonExec = sys.executable  # the interpreter that has unmask, not whichever comes first
    batches = iter(lambda: list(islice(files, BATCH)), [])
    while some := list(islice(batches, _AHEAD * context.defaultParallelism)):
        try:
            results = context.parallelize(some, len(some)).map(lambda batch: read_batch(batch, pack, sha256)).collect()
        except Py4JError as error:
            raise UnmaskError(
                f"a worker of Spark failed ({_reason(error)}): see that unmask[search] is installed and the photos "
                "can be read under the same path on every machine; if a file ends the process that reads it, leave "
                "--engine out and give --jobs 2, which refuses that file"
            ) from error
        for part in results:
            yield from part


def _reason(error: BaseException) -> str:
    """What went wrong, in one line: of a worker's error the end of its own traceback, else the first line."""
    text = (str(error) or type(error).__name__).strip()
    own = re.findall(r"Traceback \(most.*?^(\w[\w.]*: [^\n]*)", text, re.DOTALL | re.MULTILINE)
    return str(own[-1] if own else text.splitlines()[0])[:300]
