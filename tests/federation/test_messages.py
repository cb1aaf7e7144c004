"""What server and clients say to each other: typed, of one version, and never a way to code or out of the machine."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import joining
from small_network import CONFIG

from unmask.errors import DataError
from unmask.federation.messages import SETTING, Joining, Setting, content, words_of
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import FederationConfig

PRIVACY = Privacy("dp-sgd", 1.0, 1.5, 1e-5, 0.25, 40, 2)
WHOLE = Setting(
    number=1,
    clients=3,
    config=replace(CONFIG, options={"width": 8, "flag": True, "share": 0.5, "backbone": "test_resnet"}),
    federation=FederationConfig(),
    privacy=PRIVACY,
)


@pytest.fixture(autouse=True)
def _task() -> None:
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1


def sent(words: Any) -> Message:
    return Message(RecordDict({SETTING: ConfigRecord({SETTING: json.dumps(words)})}), 1, "query.prepare")


def test_words_arrive_as_they_were_said() -> None:
    for words in (WHOLE, replace(WHOLE, privacy=None), joining(1)):
        assert words_of(Message(content(words), 1, "query.join"), type(words), "the server") == words


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protocol": 2}, "speaks version 2 of the protocol"),
        ({"more": 1}, "with other fields than here"),
        ({"number": 3}, "calls this client number 3 of 3"),
        ({"number": "1"}, "with other fields than here"),
        (
            {"config": {**asdict(WHOLE.config), "method": "subprocess:Popen"}},
            "'subprocess:Popen', which is not installed",
        ),
        (
            {"config": {**asdict(WHOLE.config), "options": {"backbone": "hf-hub:a/b"}}},
            "options of a federation are plain",
        ),
        (
            {"config": {**asdict(WHOLE.config), "options": {"weights": "/etc/passwd"}}},
            "options of a federation are plain",
        ),
        ({"config": {**asdict(WHOLE.config), "steps": "many"}}, "no valid Setting"),
        ({"federation": {**asdict(WHOLE.federation), "compression": "zip"}}, "no valid Setting"),
        ({"privacy": {**asdict(PRIVACY), "noise": 0.0}}, "without noise nothing is private"),
    ],
)
def test_a_setting_that_is_not_one_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        words_of(sent({**asdict(WHOLE), **change}), Setting, "the server")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "../../etc"}, "a client's name has letters"),
        ({"name": ""}, "a client's name has letters"),
        ({"pictures": -1}, "says of its data what cannot be"),
        ({"families": {}}, "says of its data what cannot be"),
        ({"families": {"gan": 2.0}}, "says of its data what cannot be"),
        ({"sources": ["\x1b[2J"]}, "is no name of a family, kind or source"),
    ],
)
def test_a_client_that_says_what_cannot_be_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        words_of(sent({**asdict(joining(0)), **change}), Joining, "a client")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*asdict(WHOLE)]), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(words=JSON, kind=st.sampled_from([Joining, Setting]))
def test_whatever_comes_is_words_or_a_refusal(words: Any, kind: type[Any]) -> None:
    with pytest.raises(DataError):
        words_of(sent(words), kind, "the server")
