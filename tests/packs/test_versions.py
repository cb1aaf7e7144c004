"""Versions that packs were checked with, and what is said of others."""

from dataclasses import replace

import pytest

from unmask.packs import Card, load_pack
from unmask.packs.versions import CHECKED, checked_versions, unchecked

PLAIN = load_pack("plain").card


def with_versions(low: str, high: str) -> Card:
    return replace(PLAIN, checked_versions={"onnxruntime": (low, high)})


@pytest.mark.parametrize("version", ["1.18.0", "1.18.9", "1.25", "1.32.0", "1.32.5"])
def test_versions_between_are_checked_whatever_the_last_number(version: str) -> None:
    assert unchecked([with_versions("1.18.1", "1.32.0")], {"onnxruntime": version}) == []


@pytest.mark.parametrize("version", ["1.17.3", "1.33.0", "2.0", "0.99"])
def test_others_are_named_with_the_packs(version: str) -> None:
    other = replace(with_versions("1.18.1", "1.32.0"), name="other")
    (sentence,) = unchecked([with_versions("1.18.1", "1.32.0"), other], {"onnxruntime": version, "numpy": "0.1"})
    assert sentence == (
        f"onnxruntime {version}: not a version that plain and other were checked with (1.18.1 to 1.32.0)"
    )


def test_a_pack_that_was_exported_was_checked_with_the_versions_of_its_export() -> None:
    own = replace(PLAIN, checked_versions=None, protocol={"versions": {"onnxruntime": "1.20.1", "torch": "2.5"}})
    assert checked_versions(own) == {"onnxruntime": ("1.20.1", "1.20.1")}
    assert unchecked([own], {"onnxruntime": "1.21.0"}) == [
        "onnxruntime 1.21.0: not a version that plain was checked with (1.20.1)"
    ]


def test_a_pack_that_says_nothing_of_versions_is_passed_over() -> None:
    assert unchecked([replace(PLAIN, checked_versions=None, protocol={})], {"onnxruntime": "9.9"}) == []


@pytest.mark.parametrize("name", ["plain", "mmnet", "yunet"])
def test_the_packs_of_an_inspection_were_checked_with_the_libraries_at_hand_and_others(name: str) -> None:
    versions = checked_versions(load_pack(name).card)
    assert set(versions) == set(CHECKED) and all(low != high for low, high in versions.values())
