"""`unmask trace` in this process."""

from pathlib import Path

from typer.testing import CliRunner, Result

from unmask import cli
from unmask.errors import UnmaskError
from unmask.tracing.attributes.dictionary import dictionary_text
from unmask.tracing.simulation.synthetic import RegisterSpec, dictionary_of, write_register


def run(*words: object, input: str | None = None) -> Result:
    return CliRunner().invoke(cli.app, ["trace", *map(str, words)], input=input)


def refusal(*words: object) -> str:
    """The one line with which a command refuses."""
    return refused(run(*words))


def refused(result: Result) -> str:
    assert isinstance(result.exception, UnmaskError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def write_people(folder: Path, recipe: RegisterSpec) -> Path:
    """people.parquet, and people.toml beside it."""
    path = folder / "people.parquet"
    write_register(path, recipe)
    path.with_suffix(".toml").write_text(dictionary_text(dictionary_of(recipe)))
    return path
