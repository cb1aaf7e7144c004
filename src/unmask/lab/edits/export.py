"""From a finished run of a reader to a pack: calibrate on validation, measure on test, write the card. Lab only."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from scipy.optimize import minimize_scalar

from unmask.datasets.manifest import manifest_sha256
from unmask.edits.labels import place_of
from unmask.edits.reader import SequenceReader
from unmask.edits.reading import OUTPUTS, posterior
from unmask.errors import DataError, PackError
from unmask.lab.detection.evaluate import Evaluation
from unmask.lab.detection.train import Workshop
from unmask.lab.edits.checks import (
    Others,
    check_others,
    check_own,
    other_faces,
    others_table,
    own_table,
)
from unmask.lab.edits.edited_faces import SequenceFaces
from unmask.lab.edits.evaluate import Told, decodings, evaluate_reader, identity_likeness, reader_table
from unmask.lab.edits.train import load_reader, readings_of, sequence_faces
from unmask.lab.methods import METHODS
from unmask.lab.metrics import threshold_at
from unmask.lab.onnx_pack import write_onnx
from unmask.lab.run import SequenceProtocol, data_of, versions
from unmask.networks.contract import normalise
from unmask.packs import Pack, load_pack
from unmask.packs.card import Card, Reading
from unmask.provenance import sha256_of

_FALSE = 0.05  # of faces without a local edit, of any kind, that may be said to have some
_MISSED = 0.05  # of edited faces that may be said to have none
_GRID = 1_000_000  # steps in [0, 1] of the limits of what is said
_PARITY = 0.02  # of a probability or a grey value in [0, 1]; of the scores' softmax too
_LIMITS = (
    "Trained on edits made by `unmask forge --sequence` from CelebAMask-HQ: pasted, recoloured, reshaped, softened or "
    "textured noses, eyes, eyebrows, lips and hair, with the whole face drawn anew after each. What other tools do may "
    "look otherwise to it.",
    "The order of edits shows only where the whole face was drawn anew after each of them; where it was not, the order "
    "named is a guess.",
    "Posteriors hold if every length from none to five is as likely as any other; in the field untouched faces are.",
    "The recovered face is a hypothesis, not evidence: what an edit removed cannot be known. It identifies nobody.",
    "Near-frontal faces in visible light, one edit of each part at most.",
)
_MIN_QUALITY, _MIN_FACE_PX, _MAX_TURN, _MIN_MARGIN = 25.0, 48.0, 40.0, 1.3


def fit_reading(
    scores: np.ndarray, truth: Sequence[int], others: dict[str, np.ndarray], edits: tuple[str, ...], data: str
) -> Reading:
    """The temperature of the posterior and the limits of what is said, from validation.

    Args:
        scores: (N, 326) of faces whose sequences are known.
        truth: their places in `all_sequences()`.
        others: scores of faces without a local edit, by kind.
        edits: what the numbers 1 to 5 mean.
        data: what these faces are, for the card.

    Raises:
        DataError: none of the faces was edited, or none is without a local edit.
    """
    places = np.asarray(truth)
    untouched = others | ({"untouched faces of the set": scores[places == 0]} if (places == 0).any() else {})
    if not untouched or not places.any():
        lacking = "untouched" if not untouched else "edited"
        raise DataError(f"{data}: no {lacking} faces to set the limits by; give data that have some")
    rows = np.arange(len(places))

    def cost(log_temperature: float) -> float:
        sharp = scores.astype(np.float64) / np.exp(log_temperature)
        top = sharp.max(axis=1)
        return float((np.log(np.exp(sharp - top[:, None]).sum(axis=1)) + top - sharp[rows, places]).mean())

    temperature = float(np.exp(minimize_scalar(cost, bounds=(-2, 4), method="bounded").x))
    reading = Reading(
        edits=edits,
        temperature=round(temperature, 4),
        edited_at=1.0,
        untouched_at=0.0,
        min_quality=_MIN_QUALITY,
        min_face_px=_MIN_FACE_PX,
        max_turn=_MAX_TURN,
        min_margin=_MIN_MARGIN,
        method=(
            "temperature by log loss; edits are named where at most "
            f"{_FALSE:.0%} of every kind of face without a local edit would be; none is said where at most "
            f"{_MISSED:.0%} of the edited faces would be"
        ),
        data=data,
    )
    edited = 1 - posterior(scores, reading)[:, 0]
    named = max(threshold_at(1 - posterior(some, reading)[:, 0], _FALSE) for some in untouched.values())
    silent = -threshold_at(-edited[places != 0], _MISSED)
    # What lies at a limit is said: the limits stand one step beyond the first that may not be.
    edited_at = min(1.0, (math.floor(named * _GRID) + 1) / _GRID)
    untouched_at = max(0.0, min(edited_at, (math.ceil(silent * _GRID) - 1) / _GRID))
    values = asdict(reading) | {"edited_at": edited_at, "untouched_at": untouched_at}
    return Reading(**values)


def ship_reader(
    run: Path,
    data: Path,
    work: Path,
    others: Workshop | None,
    out: Path,
    version: str,
    workers: int,
    console: Console,
    name: str | None = None,
) -> tuple[Pack, str]:
    """Export a run, calibrate it on validation, measure it on test, write the pack; returns it and its tables.

    Args:
        run: finished.
        data: the set with sequences.
        work: folder for what is prepared.
        others: faces without local edits; without any, only the set's own untouched ones hold false alarms down.
        out: folder of the pack; until all figures are on its card it stands in `OUT.part`.
        version: of the pack.
        workers: processes that crop faces.
        console: for progress.
        name: of the pack; the method's if None.

    Raises:
        DataError: the run does not recover faces or say where they were edited, or the data are not those that it was
            trained on or lack some faces.
        PackError: the exported network says something else than the trained one.
    """
    reader, protocol = load_reader(run)
    says = reader.forward(torch.zeros(1, 3, reader.size, reader.size))
    if says.recovered is None or says.areas is None:
        lacking = "recovers no face" if says.recovered is None else "does not say where edits were made"
        raise DataError(f"{run}: {protocol.method} {lacking} with these options; a pack needs one that does")
    faces = sequence_faces(data, work, protocol.size, protocol.margin, workers, console)
    if faces.track.name != protocol.track:
        raise DataError(f"{run} reads {protocol.track}, {data} holds {faces.track.name}; give data of its track")
    held, tested, _ = (faces.split(split) for split in ("val", "test", "train"))  # the card counts the last
    kinds: dict[str, np.ndarray] = {}
    other_test: Others | None = None
    if others is not None:
        stored = others.faces()
        other_val, other_test = (
            other_faces(stored, split, protocol.size, protocol.margin) for split in ("val", "test")
        )
        told = _scores(reader, other_val.crops)
        kinds = {kind: told[rows] for kind, rows in other_val.groups().items() if kind != "ciplab"}
        console.print(f"read {len(told)} faces without local edits")
    reading = fit_reading(
        _scores(reader, held.take(np.arange(len(held))).faces),
        [place_of(row) for row in held.sequences.tolist()],
        kinds,
        faces.track.edits,
        f"val split of {data.name}" + (f"; {', '.join(kinds)}" if kinds else ""),
    )
    if manifest_sha256(faces.samples) != data_of(run):
        raise DataError(f"{run} was not trained on {data} as it is now; give the set that it was trained on")
    crops = tested.take(np.arange(len(tested))).faces
    readings = readings_of(reader, crops, torch.device("cpu"))
    result = evaluate_reader(
        Told(tested, readings, decodings(readings, protocol.known), protocol.known), "test", identity_likeness()
    )
    check_own(result, tested, readings.scores, reading)
    tables = f"{reader_table(result)}\n\n{own_table(result)}"
    if other_test is not None:
        check_others(result, other_test, _scores(reader, other_test.crops), reading)
        tables += "\n\n" + others_table(result)
    out = out.resolve()
    unfinished = out.with_name(f"{out.name}.part")
    pack = _write(reader, protocol, unfinished, name or protocol.method, version, faces, data, reading, result)
    difference = reader_parity(reader, pack, crops[:16])
    if not all(value <= _PARITY for value in difference.values()):  # not a number is no parity
        shutil.rmtree(unfinished)
        raise PackError(f"{run}: the exported network differs from the trained one ({difference})")
    if out.is_dir():
        for file in ("model.onnx", "card.json"):
            (unfinished / file).replace(out / file)
        unfinished.rmdir()
    else:
        unfinished.replace(out)
    told_parity = ", ".join(f"{value:.1e} ({key})" for key, value in difference.items())
    return load_pack(out), f"{tables}\n\nparity with torch {told_parity}"


def _scores(reader: SequenceReader, crops: np.ndarray) -> np.ndarray:
    return readings_of(reader, crops, torch.device("cpu")).scores


@torch.no_grad()
def reader_parity(reader: SequenceReader, pack: Pack, crops: np.ndarray) -> dict[str, float]:
    """Largest differences between torch and the pack, on crops uint8 (N, S, S, 3): of posterior, areas and pixels."""
    pixels = np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    scores, areas, recovered = pack.run(pixels)
    out = reader(normalise(torch.from_numpy(pixels), reader))
    assert out.areas is not None and out.recovered is not None and pack.card.reading is not None
    expected = posterior(out.scores.float().numpy(), pack.card.reading)
    return {
        "posterior": float(np.abs(posterior(scores, pack.card.reading) - expected).max()),
        "areas": float(np.abs(areas - out.areas.sigmoid().numpy()).max()),
        "recovered": float(np.abs(recovered - out.recovered.numpy()).max()),
    }


def _write(
    reader: SequenceReader,
    protocol: SequenceProtocol,
    folder: Path,
    name: str,
    version: str,
    faces: SequenceFaces,
    data: Path,
    reading: Reading,
    result: Evaluation,
) -> Pack:
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx(reader, folder / "model.onnx")
    method = METHODS[protocol.method]
    card = Card(
        name=name,
        version=version,
        task="edit_reading",
        description=f"{method.name} ({method.summary}; {method.source}) with {dict(protocol.options)}. Scores of all "
        "326 sequences of edits, where each edit was made, and a recovered face.",
        input_size=(reader.size, reader.size),
        colour_order="RGB",
        mean=reader.mean,
        std=reader.std,
        crop_margin=protocol.margin,
        outputs=OUTPUTS,
        licence="Apache-2.0 (weights of this project; see the terms of the training data)",
        origin=f"trained with `unmask train {protocol.method}`",
        training_data=f"training split of {data.name} ({len(faces.split('train'))} faces, {faces.track.name})",
        training_data_terms="CelebA and CelebAMask-HQ: non-commercial research. No picture is contained.",
        training_data_sha256=manifest_sha256(faces.samples),
        protocol={"runs": [asdict(protocol)], "versions": versions()},
        metrics=tuple(result.metrics),
        calibration=None,
        operating_points=(),
        limits=_LIMITS,
        sha256=sha256_of(folder / "model.onnx"),
        reading=reading,
    )
    card.check_complete()
    card.write(folder / "card.json")
    return load_pack(folder)
