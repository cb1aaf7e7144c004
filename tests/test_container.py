"""The Dockerfile: what it copies is there and gets into its context, what it installs exists, and who it runs as."""

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions() -> list[tuple[str, list[str]]]:
    """The Dockerfile's instructions with their words."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], shlex.split(line.split(" ", 1)[1])) for line in kept]


def copied() -> list[str]:
    """What is copied from the checkout."""
    rows = [words for name, words in instructions() if name == "COPY" and not words[0].startswith("--from")]
    return [word for words in rows for word in words[:-1]]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[1] == "*" and kept == set(copied())
    assert all((ROOT / name).exists() for name in copied())
    left_out = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    assert not any(fnmatch.fnmatch(name, rule) for name in copied() for rule in left_out)


def test_all_that_the_build_needs_is_copied() -> None:
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src"} == set(copied())


def test_every_builder_reads_it() -> None:
    """Docker before 23 and Buildah before 1.30 refuse a Dockerfile with flags of RUN."""
    assert not any(words[0].startswith("--") for name, words in instructions() if name == "RUN")


def test_the_extras_and_the_command_exist() -> None:
    (install,) = [words for name, words in instructions() if name == "RUN" and "install" in words]
    extras = re.fullmatch(r"\.\[([\w,]+)\]", install[-1])
    assert extras is not None and set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    (entry,) = [words for name, words in instructions() if name == "ENTRYPOINT"]
    assert entry[0].strip("[]") in PROJECT["scripts"]


def test_it_runs_as_a_user_without_rights_and_on_a_python_that_is_supported() -> None:
    rows = instructions()
    last = max(place for place, (name, _) in enumerate(rows) if name == "FROM")
    users = [words[0].split(":") for name, words in rows[last:] if name == "USER"]
    assert len(users) == 1 and all(part.isdigit() and int(part) > 0 for part in users[0])
    for name, words in rows:
        if name == "FROM" and words[0].startswith("python:"):
            version = tuple(map(int, words[0].removeprefix("python:").removesuffix("-slim").split(".")))
            assert version >= tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
