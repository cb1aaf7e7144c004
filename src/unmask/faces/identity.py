"""Whose face: embeddings of SFace (Zhong et al. 2021), to keep one person on one side of a split. Lab only."""

from collections.abc import Sequence

import numpy as np
import onnx
from scipy.sparse.csgraph import connected_components

from unmask.faces.alignment import align
from unmask.offline import onnx_runtime
from unmask.packs.assets import SFACE, fetch

SAME_PERSON = 0.45
"""Cosine from which two faces are taken for one person's. OpenCV's own is 0.363, which links unlike people too when
every face is compared with hundreds."""


class FaceEmbedder:
    """A unit vector for every face."""

    def __init__(self) -> None:
        model = onnx.load(str(fetch(SFACE)))
        # The file names its weights as inputs too, which neither ONNX Runtime nor OpenCV runs.
        picture = model.graph.input[0]
        del model.graph.input[1:]
        runtime = onnx_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._net = runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self._input = picture.name

    def embed(self, pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The embedding of one face.

        Args:
            pixels: uint8 (H, W, 3) RGB.
            landmarks: (5, 2) as `FoundFace.landmarks`, pixels.

        Returns:
            float32 (128,) of length 1.
        """
        face = align(pixels, landmarks).transpose(2, 0, 1)[None].astype(np.float32)
        vector = self._net.run(None, {self._input: face})[0][0]
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def people_of(embeddings: Sequence[np.ndarray]) -> list[int]:
    """For each face the row of the first face of the same person: pairs at SAME_PERSON or more are linked in chains."""
    if not embeddings:
        return []
    vectors = np.stack(embeddings)
    _, group = connected_components(vectors @ vectors.T >= SAME_PERSON, directed=False)
    first: dict[int, int] = {}
    return [first.setdefault(int(label), row) for row, label in enumerate(group)]
