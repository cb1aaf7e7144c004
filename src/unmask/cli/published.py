"""`unmask import` and `calibrate`: published detectors as packs, with likelihood ratios fitted on data of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import DataOption, WorkersOption, WorkOption, command_line, extra, progress_bars

NewPackOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new pack; it must not be there yet.")]


def import_detector(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="gend, sbi, deepfakebench-xception, deepfakebench-efficientnet or univfd."),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its weights, as published; for gend the hub's folder.")],
    out: NewPackOption,
    encoder: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Of univfd: folder or file of CLIP ViT-L/14.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Where the file is from; the publisher's address if left out.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights; as the publisher states if left out.")] = None,
) -> None:
    """Turn a published detector that you have as a file into a pack, to be calibrated before use."""
    with extra("lab", "unmask import"):
        from unmask.demo import photograph
        from unmask.lab.importing.published import import_detector as imported

        with progress_bars() as progress:
            made = imported(kind, file, out, encoder, origin, licence, photograph(), progress)
    parity = ", ".join(f"{value:.1e} ({key})" for key, value in made.parity.items())
    print(f"{made.folder}: parity with torch {parity}")
    if made.logits is not None:
        print(
            f"logit of the demonstration's photograph: {made.logits[0]:.2f} with its publisher's crop, "
            f"{made.logits[1]:.2f} with this project's"
        )
    print(f"not calibrated yet; next: unmask calibrate {made.folder} --data DATA --out {made.folder}-calibrated")


def calibrate(
    pack: Annotated[
        str, typer.Argument(metavar="PACK", help="A pack's name or folder, such as `unmask import` wrote.")
    ],
    data: DataOption,
    out: NewPackOption,
    work: WorkOption = Path("runs/work"),
    workers: WorkersOption = 2,
) -> None:
    """Fit a pack's likelihood ratio on a data set, measure it on its test split, and write it as a new pack."""
    with extra("lab", "unmask calibrate"):
        from unmask.lab.detection.config import DetectionPaths
        from unmask.lab.detection.pack_calibration import calibrate_pack
        from unmask.lab.evaluate import as_markdown

        with progress_bars() as progress:
            paths = DetectionPaths(data=data, work=work, workers=workers)
            made = calibrate_pack(pack, paths, out, progress, command_line())
    print(as_markdown(made.tables))
    card = made.pack.card
    assert card.calibration is not None  # a pack is not written without
    print(f"\n{made.pack.folder}: calibrated on {made.rows}; Cllr {card.calibration.cllr:.2f} there")
