from pathlib import Path

import cv2
import numpy as np
import pytest

from unmask.errors import DataError
from unmask.forging.parsing import CLASSES, PARSER, PARTS, FaceParser, part_masks


def test_parts_join_their_classes_and_leave_out_specks() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[:20] = CLASSES.index("hair")
    labels[40:44, 30:40], labels[40:44, 60:70] = CLASSES.index("left_eye"), CLASSES.index("right_brow")
    labels[60, 50:55] = CLASSES.index("nose")
    masks = part_masks(labels)
    assert masks.keys() == {"hair", "eyes"}
    assert masks["hair"].sum() == 2000 and masks["eyes"].sum() == 80


def test_weights_that_are_missing_or_others_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, None):
        with pytest.raises(DataError, match="face_parser"):
            FaceParser(folder)
    file = tmp_path / PARSER.path
    file.parent.mkdir()
    file.write_bytes(b"another network")
    with pytest.raises(DataError, match=file.name):
        FaceParser(tmp_path)


@pytest.mark.data
@pytest.mark.lab
def test_a_portrait_is_parsed_where_its_parts_are(data_dir: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    folder = data_dir / "forensics" / "ffhq_stylegan_256" / "real"
    bgr = cv2.imread(str(sorted(folder.iterdir())[1]), cv2.IMREAD_COLOR)
    assert bgr is not None
    labels = FaceParser(data_dir / "weights")(np.ascontiguousarray(bgr[..., ::-1]))
    assert labels.shape == bgr.shape[:2] and labels.max() < len(CLASSES)
    masks = part_masks(labels)
    assert masks.keys() >= set(PARTS) - {"hair"}
    # FFHQ's alignment: eyes above the middle, the nose between them and the mouth.
    rows = {name: np.argwhere(mask)[:, 0].mean() / len(mask) for name, mask in masks.items()}
    assert 0.35 < rows["eyes"] < rows["nose"] < rows["mouth"] < 0.85
