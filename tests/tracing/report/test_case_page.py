"""A case as a page: whole for every status, with nothing from outside, and harmless whatever a register holds."""

import itertools
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_registers import cube, dictionary_of, register_of, table_of

from unmask.errors import DataError
from unmask.tracing.case.case_file import Event
from unmask.tracing.case.investigation import Investigation, shown
from unmask.tracing.inference.belief import Answer, begin
from unmask.tracing.inference.conclusion import StopRule, percent
from unmask.tracing.registers.memory import MemoryRegister, coded
from unmask.tracing.report.page import Bar, entropy_curve, page_of, waterfall, write_page
from unmask.tracing.report.trace_report import TraceReport

TIME = "2026-01-02T03:04:05+00:00"
PLAIN = StopRule()


def case(
    register: MemoryRegister,
    answers: Mapping[str, Any],
    rule: StopRule = PLAIN,
    trust: float = 1.0,
    asked: bool = False,
    **texts: str,
) -> TraceReport:
    """The report after some answers, in their order; with the questions shown before each if `asked`."""
    inquiry = Investigation(register, rule)
    for name, answer in answers.items():
        questions = shown(inquiry.questions()) if asked else ()
        inquiry.apply(Event("answer", TIME, name, answer, trust, questions))
    usual = {"path": "people.csv", "dictionary_sha256": "d" * 64, "command": "unmask trace find people.csv"}
    return inquiry.report(**{**usual, **texts})


def dozen(error: float = 0.01, absent: float = 0.2) -> MemoryRegister:
    """Twelve records told apart by two attributes, each recorded twice; "z" adds nothing."""
    columns = {f"{name}{copy}": [f"{name}{row // step % 4}" for row in range(12)]
               for name, step in (("x", 1), ("y", 4)) for copy in (1, 2)}  # fmt: skip
    return register_of({**columns, "z": ["z"] * 12}, absent, error)


ALL_TOLD = {"x1": "x2", "y1": "y1", "x2": "x2", "y2": "y1"}


def strangers() -> MemoryRegister:
    return register_of({f"x{place}": ["a"] * 6 + ["b"] * 2 for place in range(8)}, 0.2, 0.01)


REPORTS: dict[str, TraceReport] = {
    "identified": case(dozen(), ALL_TOLD),
    "candidate_set": case(register_of({"x": list("aaabbb"), "y": list("uuuuvv")}, 0.05, 1e-4), {"x": "a", "y": "u"}),
    "not_in_register": case(strangers(), {f"x{place}": "ab"[place % 2] for place in range(8)}),
    "undetermined": case(cube(0.3, 0.2), {"b0": "1", "b1": "0", "b2": None}),
    "open": case(dozen(), {"x1": "x2", "z": None}, asked=True),
    "no answers": case(dozen(), {}),
    "uncertain": case(dozen(), {"x1": {"x2": 0.7, "x1": 0.2}, "y1": "y1"}, trust=0.4),
    "certain prior": case(dozen(absent=0.0), ALL_TOLD),
}
STATUSES = {
    "identified": "Identified",
    "candidate_set": "A set of candidates",
    "not_in_register": "Not in the register",
    "undetermined": "Undetermined",
    "open": "Open",
}


HARMLESS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "div", "span", "p", "pre"),
    *("h1", "h2", "h4", "dl", "dt", "dd", "ul", "li", "table", "thead", "tr", "th", "td", "i", "b"),
    *("svg", "line", "polyline", "circle", "text"),
}


class Page(HTMLParser):
    """What a browser makes of a page: tags with their attributes, texts, and whether all that is opened is closed."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_the_registers_of_this_file_come_to_what_they_are_named_by() -> None:
    assert {name: REPORTS[name].status for name in STATUSES} == {name: name for name in STATUSES}
    assert REPORTS["no answers"].status == "open"


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_says_what_the_report_says(name: str) -> None:
    report = REPORTS[name]
    text = Page(page_of(report)).text
    assert STATUSES[report.status] in text
    for part in (report.statement, *report.limits, report.tool.command, report.searched.sha256):
        assert part in text
    for one in report.candidates:
        assert one.id in text
        assert f"{one.log10_lr:+.2f}" in text
    for step in report.steps:
        assert f"{step.attribute} " in text
        assert f"{step.bits:+.2f}" in text
    for question in report.next:
        assert f"{question.attribute} {question.bits:.2f}" in text
    for apart in report.separators:
        assert f"{apart.attribute}: {apart.first}, or {apart.second}" in text
    assert (report.core_set is not None) == ("Core identification set:" in text)
    assert bool(report.steps) == ("Ledger" in text)
    assert bool(report.candidates) == ("Who it may be" in text)
    assert bool(report.next) == ("What to ask next" in text)


def test_an_answer_is_shown_as_it_was_given() -> None:
    text = Page(page_of(REPORTS["uncertain"])).text
    assert f"x2 {percent(0.7)} x1 {percent(0.2)} (trust {percent(0.4)})" in text
    assert "not to be had" in Page(page_of(REPORTS["undetermined"])).text
    report = REPORTS["open"]
    assert report.steps[1].overrode
    assert f"(ranked first: {report.steps[1].shown[0].attribute})" in Page(page_of(report)).text


def test_the_reason_keeps_the_names_of_attributes_as_they_are_written() -> None:
    columns = {f"B{bit}": [str(n >> bit & 1) for n in range(8)] for bit in range(3)}
    report = case(register_of(columns, 0.01, 1e-4), {"B0": "1", "B1": "0", "B2": "1"}, StopRule(robust=True))
    assert "the answer about B" in report.reason
    assert report.reason[1:] in Page(page_of(report)).text


@pytest.mark.parametrize("count", [2, 20, 50, 51, 52, 60, 400])
def test_a_set_of_candidates_is_counted_whole_even_if_not_all_are_named(count: int) -> None:
    register = register_of({"x": ["a"] * count + ["b"] * 10}, 0.0, 1e-6)
    report = case(register, {"x": "a"})
    assert (report.status, report.candidate_count) == ("candidate_set", count)
    assert len(report.candidates) == min(register.size, max(10, min(count, 50)))
    assert (f"The conclusion names {count} records" in page_of(report)) == (count > 50)
    assert f"{count} records" in report.reason


@pytest.mark.parametrize("name", REPORTS)
def test_a_page_takes_nothing_from_elsewhere_and_runs_nothing(name: str) -> None:
    page = page_of(REPORTS[name])
    parsed = Page(page)
    assert {tag for tag, _ in parsed.tags} <= HARMLESS
    for _, attributes in parsed.tags:
        for attribute in attributes:
            assert attribute not in ("src", "srcset", "href", "xlink:href", "action", "data", "poster", "background")
            assert not attribute.startswith("on")
    assert not re.search(r"https?://|//\w|url\(|@import|javascript:", page)
    policy = next(attributes["content"] for tag, attributes in parsed.tags if tag == "meta" and "content" in attributes)
    assert policy.startswith("default-src 'none'")


HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></title><b>{{ 7 * 7 }}{% raw %}&lt;&amp;",
    "a\x1b[31mred\x07\nnew line\r\x00\x7f",
    "\u202egnp.exe\u2066\u200b\u2028",
)


def of_texts(a: str, b: str, c: str, path: str) -> TraceReport:
    """A case in which the texts given are in every place that holds text from outside."""
    ids = [f"{a}{row}" for row in range(12)]
    columns = {
        a: [f"{b}{row % 3}" for row in range(12)],
        b: [f"{c}{row // 3}" for row in range(12)],
        c: [f"{a}{row % 2}" for row in range(12)],
        f"{a}{b}": [None] * 12,
    }
    dictionary = dictionary_of(
        {name: {"kind": "categorical", "error": 0.02} for name in columns}, 0.2, absentees="independent"
    )
    table = table_of(columns).set_column(0, "id", [ids])
    register = coded(table, dictionary, "f" * 64)
    inquiry = Investigation(register, StopRule(robust=True))
    for name, answer in ((c, f"{a}1"), (a, {f"{b}1": 0.8, f"{b}2": 0.1})):
        inquiry.apply(Event("answer", TIME, name, answer, 0.9, shown(inquiry.questions())))
    return inquiry.report(path, "d" * 64, f"unmask trace find {path}", f"to find {a} and {b}")


@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_whatever_the_texts_a_page_has_the_same_shape_and_no_control_characters(place: int) -> None:
    texts = [HOSTILE[(place + step) % len(HOSTILE)] for step in range(4)]
    report = of_texts(*texts)
    plain = Page(page_of(of_texts("aa", "bb", "cc", "people.csv")))
    page = page_of(report)
    parsed = Page(page)
    assert parsed.shape == plain.shape
    assert not [char for char in page if ord(char) < 32 and char != "\n"]
    assert not set(page) & set("\x7f\u202e\u2066\u200b\u2028")
    assert "<script" not in page
    # It is all there to be read: id, attribute, value, note, path, purpose.
    for part in (report.candidates[0].id, report.steps[0].attribute, report.notes[0], report.searched.path):
        assert "".join(escaped(part).split()) in "".join(parsed.text.split())
    assert "".join(escaped(report.purpose).split()) in "".join(parsed.text.split())


def escaped(text: str) -> str:
    """As `safe_text` writes what could move the cursor, hide or reorder."""
    unsafe = "\x00\x07\n\r\x1b\x7f\u202e\u2066\u200b\u2028"
    return "".join(char.encode("unicode_escape").decode() if char in unsafe else char for char in text)


@pytest.mark.parametrize("name", REPORTS)
def test_the_entropy_curve_goes_from_the_start_through_every_answer_within_the_chart(name: str) -> None:
    report = REPORTS[name]
    curve = entropy_curve(report)
    assert [point.label for point in curve] == ["at first", *(step.attribute for step in report.steps)]
    assert [point.bits for point in curve] == [report.entropy_start, *(step.entropy_after for step in report.steps)]
    top = max(point.bits for point in curve)
    for point in curve:
        assert 0.0 <= point.x <= 100.0
        assert 0.0 <= point.y <= 100.0
        assert point.y == pytest.approx(100.0 * (1.0 - point.bits / top), abs=1e-3)
    assert (np.diff([point.x for point in curve]) > 0.0).all()
    assert (curve[0].x, curve[-1].x) == (0.0, 100.0 if report.steps else 0.0)


def test_an_entropy_curve_without_entropy_is_flat() -> None:
    """One record that is known to be the one."""
    report = case(register_of({"x": ["a"]}, 0.0), {"x": "a"})
    assert [(point.x, point.y) for point in entropy_curve(report)] == [(0.0, 100.0), (100.0, 100.0)]
    assert "Down to zero" in page_of(report)


@pytest.mark.parametrize(("answer", "down"), [("a", True), ("b", False)])
def test_a_page_says_down_to_zero_only_where_nothing_is_open(answer: str, down: bool) -> None:
    report = case(register_of({"x": ["a", "b", "b"]}, 0.0, error=1e-9), {"x": answer})
    assert report.entropy == pytest.approx(0.0 if down else 1.0, abs=1e-3)
    assert ("Down to zero bits" in page_of(report)) == down
    assert ("Bits that are open" in page_of(report)) != down


def grouped(absentees: str = "independent") -> MemoryRegister:
    """Two answers from one photograph, and attributes that depend on one another."""
    columns = {"x": [f"x{row % 4}" for row in range(80)], "y": [f"y{row % 4}" for row in range(80)]}
    columns["z"] = [f"z{row // 20}" for row in range(80)]
    attributes: dict[str, dict[str, Any]] = {name: {"kind": "categorical", "error": 0.05} for name in columns}
    for name in "xy" if absentees == "independent" else "":
        attributes[name]["group"] = "photo"
    dictionary = dictionary_of(attributes, 0.2, groups={"photo": {"error": 0.1}}, absentees=absentees)
    return coded(table_of(columns), dictionary, "grouped")


WATERFALLS = {
    **{name: report for name, report in REPORTS.items() if name not in ("no answers", "certain prior")},
    "group": case(grouped(), {"x": "x1", "y": "y1", "z": "z2"}),
    "tree": case(grouped("tree"), {"x": "x1", "y": "y1", "z": "z2"}),
}


@pytest.mark.parametrize("name", WATERFALLS)
def test_the_bars_of_the_waterfall_sum_from_the_prior_to_the_posterior(name: str) -> None:
    report = WATERFALLS[name]
    bars = waterfall(report)
    first, *others, last = bars
    prior = report.searched.absent
    assert (first.label, last.label) == ("prior odds", "posterior odds")
    assert first.bits == pytest.approx(log2((1.0 - prior) / report.searched.records / prior))
    assert last.bits == pytest.approx(log2(report.candidates[0].probability / report.absent), abs=1e-3)
    assert first.bits + sum(bar.bits for bar in others) == pytest.approx(last.bits, abs=0.006)
    answers = [bar for bar in others if bar.label != "shared between answers"]
    answered = [step for step in report.steps if step.told is not None]
    assert [(bar.label, bar.bits) for bar in answers] == [(step.attribute, step.weight) for step in answered]
    assert all(bar.kind == ("for" if bar.bits >= 0 else "against") for bar in others)
    assert {first.kind, last.kind} == {"sum"}


@pytest.mark.parametrize("name", WATERFALLS)
def test_each_bar_of_the_waterfall_is_where_the_one_before_ended(name: str) -> None:
    bars = waterfall(WATERFALLS[name])
    ends = np.cumsum([bar.bits for bar in bars[:-1]])
    spans = [(0.0, ends[0]), *itertools.pairwise(ends), (0.0, bars[-1].bits)]
    low, high = min(0.0, *(min(span) for span in spans)), max(0.0, *(max(span) for span in spans))

    def placed(span: tuple[float, float]) -> tuple[float, float]:
        return (min(span) - low) * 100.0 / (high - low), max(abs(span[1] - span[0]) * 100.0 / (high - low), 0.2)

    for bar, span in zip(bars, spans, strict=True):
        assert (bar.left, bar.width) == pytest.approx(placed(span), abs=0.1)
        assert bar.left >= 0.0
        assert bar.left + bar.width <= 100.0 + 0.21


def shared(bars: list[Bar]) -> list[float]:
    return [bar.bits for bar in bars if bar.label == "shared between answers"]


def test_what_answers_share_is_a_bar_of_its_own_and_only_where_they_share_something() -> None:
    assert shared(waterfall(REPORTS["identified"])) == []
    assert shared(waterfall(REPORTS["not_in_register"])) == []
    (group,) = shared(waterfall(WATERFALLS["group"]))
    (tree,) = shared(waterfall(WATERFALLS["tree"]))
    assert group < -0.1  # both may be of somebody else
    assert tree < -0.5  # who has x1 has y1 anyway


@pytest.mark.parametrize("trust", [0.4, 0.9])
def test_an_answer_that_is_not_quite_trusted_weighs_what_it_does_and_shares_nothing(trust: float) -> None:
    register = dozen()
    report = case(register, {"x1": "x2"}, trust=trust)
    ratio = np.exp(register.models["x1"].log_ratios("x2").max())
    assert report.steps[0].weight == pytest.approx(log2(trust * ratio + 1.0 - trust), abs=1e-4)
    assert shared(waterfall(report)) == []


def test_there_is_no_waterfall_without_a_prior_of_absence_or_without_answers() -> None:
    assert waterfall(REPORTS["certain prior"]) == []
    assert waterfall(REPORTS["no answers"]) == []
    assert "What each answer weighs" not in page_of(REPORTS["certain prior"])
    assert "What each answer weighs" in page_of(REPORTS["identified"])


def test_scores_of_another_method_are_counted_not_listed() -> None:
    attributes = {"x": {"kind": "categorical"}, "sketch": {"kind": "score", "log10_lr": [[0.0, -2.0], [1.0, 3.0]]}}
    register = coded(table_of({"x": list("aabbb")}), dictionary_of(attributes, 0.2), "scored")
    report = case(register, {"sketch": {"p1": 0.9, "p3": 0.2}, "x": "a"})
    page = page_of(report)
    assert "scores of 2 records" in page
    bars = waterfall(report)
    assert sum(bar.bits for bar in bars[:-1]) == pytest.approx(bars[-1].bits, abs=0.006)
    assert bars[1].bits == pytest.approx(2.5 * log2(10.0), abs=1e-4)


def test_a_page_is_written_whole_with_its_letters(tmp_path: Path) -> None:
    register = register_of({"Augenfarbe": ["grün", "blau", "grün"]}, 0.2)
    report = case(register, {"Augenfarbe": "grün"}, path="/тест/人.csv")
    path = tmp_path / "r.html"
    path.write_text("before")
    write_page(report, path)
    written = path.read_text(encoding="utf-8")
    assert "grün" in written and "/тест/人.csv" in written
    assert written.startswith("<!doctype html>") and written.rstrip().endswith("</html>")
    assert [one.name for one in tmp_path.iterdir()] == ["r.html"]


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere" / "r.html", tmp_path / "folder", tmp_path / "file" / "r.html"):
        with pytest.raises(DataError, match="cannot be written"):
            write_page(REPORTS["identified"], path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_survives_json(name: str) -> None:
    """And the page of what was read is that of what was written."""
    report = REPORTS[name]
    again = TraceReport.model_validate_json(report.model_dump_json())
    assert again == report
    assert Page(page_of(again)).shape == Page(page_of(report)).shape


def test_the_posterior_on_the_page_is_that_of_the_belief() -> None:
    register = dozen()
    belief = begin(register).update(*(Answer(name, answer) for name, answer in ALL_TOLD.items()))
    report = REPORTS["identified"]
    assert report.candidates[0].probability == pytest.approx(belief.candidates[0].probability, abs=1e-6)
    assert report.absent == pytest.approx(belief.absent, abs=1e-6)
    assert [one.without for one in report.counterfactuals] == list(ALL_TOLD)
