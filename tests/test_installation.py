"""What a message about a missing extra says to type."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from unmask import installation
from unmask.installation import install_line, requirements_of

REQUIRES = metadata.requires("unmask")


class Installed:
    requires = REQUIRES

    def __init__(self, direct: dict[str, Any] | None) -> None:
        self.direct = direct

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.direct is None else json.dumps(self.direct)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(direct: dict[str, Any] | None) -> None:
        monkeypatch.setattr(installation.metadata, "distribution", lambda _: Installed(direct))
        monkeypatch.setattr(installation.sys, "prefix", "/a/virtual/environment")

    return install


def test_the_line_is_that_of_how_it_was_installed(installed: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    installed({"url": folder.as_uri(), "dir_info": {}})
    assert install_line("trace") == f"pip install '{folder}[trace]'"
    installed({"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert install_line("trace") == f"pip install -e '{folder}[trace]'"
    installed({"url": "https://example.org/unmask.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert install_line("trace") == 'pip install "unmask[trace] @ git+https://example.org/unmask.git@abc"'
    installed(None)
    assert install_line("trace") == 'pip install "unmask[trace]"'


def test_without_its_folder_the_libraries_are_named(installed: Any, tmp_path: Path) -> None:
    installed({"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    line = install_line("linkage")
    assert line.startswith("pip install ") and "splink" in line and "duckdb" in line and "unmask" not in line
    assert all(requirement in " ".join(requirements_of("linkage")) for requirement in requirements_of("trace"))
    assert requirements_of("no-such-extra") == []


def test_outside_a_virtual_environment_the_interpreter_is_named(
    installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(None)
    monkeypatch.setattr(installation.sys, "prefix", installation.sys.base_prefix)
    assert install_line("trace").startswith(f"{installation.sys.executable} -m pip install")


def test_a_checkout_that_is_not_installed_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise metadata.PackageNotFoundError

    checkout = Path(__file__).resolve().parent.parent
    monkeypatch.setattr(installation, "__file__", str(checkout / "src" / "unmask" / "installation.py"))
    monkeypatch.setattr(installation.metadata, "distribution", missing)
    line = install_line("lab")
    assert line.rstrip("'").endswith("[lab]")
    assert Path(line.split("install ")[1].strip("'").removesuffix("[lab]")) == checkout
