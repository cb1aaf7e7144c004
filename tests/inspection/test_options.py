import pickle
import shlex
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import pytest

from unmask.inspection import EDIT_PACK, Inspector, InspectorOptions
from unmask.media.sources import RefusedSource, Source


def words(options: InspectorOptions, source: Source | RefusedSource) -> list[str]:
    return shlex.split(options.command(source))


PHOTO = Source("photo.jpg", Path("photo.jpg"))


def test_the_defaults_are_those_of_the_inspector() -> None:
    assert InspectorOptions() == InspectorOptions.of() == InspectorOptions(("plain",), 5.0, "yunet", EDIT_PACK)
    assert words(InspectorOptions(), PHOTO) == ["unmask", "inspect", "--pack", "plain", "--fps", "5", "photo.jpg"]


def test_one_record_makes_the_same_inspector_again(tiny_pack: Path) -> None:
    options = InspectorOptions.of([tiny_pack, "plain"], 2.5, edit_pack=None)
    sent = pickle.loads(pickle.dumps(options))
    assert sent == options and hash(sent) == hash(options)
    inspector = Inspector(**asdict(sent))
    assert inspector.options == options
    assert [card.name for card in inspector.cards] == ["yunet", "tiny", "plain"]
    assert options.recorded() == {
        "pack": [str(tiny_pack), "plain"],
        "face_pack": "yunet",
        "frames_per_second": 2.5,
        "edit_pack": None,
    }
    assert InspectorOptions().recorded()["pack"] == "plain"
    packs = ("--pack", str(tiny_pack), "--pack", "plain")
    assert words(options, PHOTO) == ["unmask", "inspect", *packs, "--fps", "2.5", "--edits", "none", "photo.jpg"]


def test_options_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        InspectorOptions().frames_per_second = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("name", ["plain", "none", "mmnet"])
def test_a_folder_that_is_called_like_something_else_gets_a_path(name: str) -> None:
    assert InspectorOptions.of(Path(name), edit_pack=Path(name)) == InspectorOptions(
        (f"./{name}",), edit_pack=f"./{name}"
    )
    assert InspectorOptions.of(name).forgery_pack == (name,)
    assert InspectorOptions.of(Path("folder") / name).forgery_pack == (f"folder/{name}",)


@pytest.mark.parametrize(
    ("source", "end"),
    [
        (Source("-", None, b""), ["5", "-"]),
        (Source("--quiet", Path("--quiet")), ["5", "--", "--quiet"]),
        (Source("a b.jpg", Path("a b.jpg")), ["5", "a b.jpg"]),
    ],
)
def test_the_command_names_its_source(source: Source, end: list[str]) -> None:
    assert words(InspectorOptions(), source)[-len(end) :] == end


def test_the_command_opens_a_name_that_is_not_utf8() -> None:
    assert InspectorOptions().command(Source("\ufffd.jpg", Path("\udcff.jpg"))).endswith(" $'\\xff.jpg'")
