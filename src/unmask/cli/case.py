"""`unmask case`: the examiner's case file."""

from pathlib import Path
from typing import Annotated

import typer

from unmask.cli.options import check_result_file


def case(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The file to write; it must not be there yet.")],
) -> None:
    """Write an empty case file: case, exhibit, examiner, laboratory, notes. Fill it in for `unmask inspect --case`."""
    from unmask.evidence.case_file import TEMPLATE
    from unmask.files import whole

    check_result_file("FILE.toml", file, Path())
    with whole(file) as part:
        part.write_text(TEMPLATE, encoding="utf-8")
    print(f"{file}: fill it in, then unmask inspect FILE --case {file}")
