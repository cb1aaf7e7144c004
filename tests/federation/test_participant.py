"""A client's answers: what it keeps to itself where privacy is promised, and what it refuses."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from loopback import joining
from small_network import CONFIG, Small, client

from unmask.federation.aggregation import ARRAYS, METRICS, WEIGHT, record_of
from unmask.federation.aggregation import CONFIG as ROUND
from unmask.federation.client import RoundConfig, untrained
from unmask.federation.messages import AFTER, END, JOIN, SETTING, Hello, Joining, Setting, content, record, words_of
from unmask.federation.participant import Participant, Ready
from unmask.federation.privacy import Privacy
from unmask.federation.rounds import TRAIN, FederationConfig

SETTING_ = Setting(number=0, clients=1, config=CONFIG, federation=FederationConfig(rounds=2, local_steps=2))
LOCAL = Privacy("local", 1.0, 1.0, 1e-5, 1.0, 2)
WEIGHTS = record_of(untrained(Small, 0))


@pytest.fixture
def participant(tmp_path: Path) -> Participant:
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1

    def prepare(setting: Setting) -> Ready:
        return Ready(4, lambda p: client(0, tmp_path, privacy=p), dict, lambda s: {}, lambda s: 0.75)

    return Participant(joining(0), prepare)


def asked(kind: str, setting: Setting = SETTING_, **changes: object) -> Message:
    config = {**asdict(RoundConfig(number=1, steps=2)), **changes}
    records = {ARRAYS: WEIGHTS, ROUND: ConfigRecord(config), SETTING: record(setting)}  # type: ignore[arg-type]
    return Message(RecordDict(records), 7, kind, group_id="1")


def test_where_privacy_is_promised_a_client_tells_nothing_without_noise(participant: Participant) -> None:
    private = Message(content(Hello(private=True)), 7, JOIN)
    assert words_of(participant.answer(private), Joining, "it").pictures == 1
    open_ = Message(content(Hello(private=False)), 7, JOIN)
    assert words_of(participant.answer(open_), Joining, "it").pictures == 10
    setting = replace(SETTING_, privacy=LOCAL)
    numbers = participant.answer(asked(TRAIN, setting)).content.metric_records[METRICS]
    assert dict(numbers) == {WEIGHT: 1}
    assert "loss" in participant.answer(asked(TRAIN)).content.metric_records[METRICS]
    assert dict(participant.answer(asked(END, setting)).content.metric_records[METRICS]) == {}
    refused = participant.answer(asked(AFTER, setting))
    assert "tell of the pictures without noise" in str(refused.error.reason)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protocol": 9}, "speaks version 9"),
        ({"steps": "2"}, "steps='2'"),
        ({"steps": 0}, "what cannot be"),
        ({"number": 0}, "what cannot be"),
        ({"compression": "zip"}, "what cannot be"),
        ({"local": 1}, "local=1"),
    ],
)
def test_a_round_that_is_not_one_is_refused_and_the_client_stays(
    change: dict[str, object], why: str, participant: Participant
) -> None:
    assert why in str(participant.answer(asked(TRAIN, **change)).error.reason)
    assert participant.failed is None and participant.answer(asked(TRAIN)).has_content()


def test_a_message_of_no_known_kind_ends_the_client(participant: Participant) -> None:
    assert participant.answer(Message(RecordDict(), 7, "query.shell")).has_error()
    assert "'query.shell'" in str(participant.failed)
