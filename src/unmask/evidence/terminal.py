"""Reports on a terminal: one row per face, or one per file, printed as they come so that nothing piles up.

File names are shown harmless: control characters, text-direction overrides and lone surrogates as backslash escapes,
and never read as rich markup.
"""

import unicodedata
from collections import Counter
from types import TracebackType
from typing import Literal, Self

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unmask.errors import RefusalCode
from unmask.evidence.likelihood import (
    REFUSAL_REMEDIES,
    SHORT_PROPOSITIONS,
    limit_words,
    lr_text,
    refusal_word,
    strength,
    stretch_words,
)
from unmask.evidence.report import (
    FaceFinding,
    Inconclusive,
    NamingFinding,
    Opinion,
    Refusal,
    Report,
    SequenceFinding,
    Verdict,
    percent,
)

# Shape and word as well as colour; magenta and cyan stay apart for the colour-blind where red and green do not.
_STYLES = {
    Verdict.FORGED: ("bold magenta", "▲", "!"),
    Verdict.AUTHENTIC: ("cyan", "●", "o"),
    Verdict.INCONCLUSIVE: ("yellow", "◆", "?"),
    Verdict.REFUSED: ("dim", "○", "-"),
}
CAVEAT = "No detection is no proof of authenticity, and no detector replaces a person who looks."

# Header, width, and the narrowest terminal (columns) that still shows it.
_COLUMNS = (
    ("Face", 5, 0),
    ("Support", 21, 60),
    ("LR", 11, 0),
    ("Verdict", 14, 0),
    ("Qual", 4, 78),
    ("Size/time", 9, 90),
)

CHECK_NAMES = {
    "exif": "EXIF",
    "xmp": "XMP",
    "generator": "Image generator",
    "jpeg": "JPEG tables",
    "double_compression": "Double compression",
    "thumbnail": "Thumbnail",
    "content_credentials": "Content Credentials",
    "container": "Container",
}
"""What the checks beside the pixels are called."""

Wording = Literal["verdict", "evaluative"]
"""Whether the words "forged" and "authentic" are said beyond the limits, or the support alone."""
EVALUATIVE = {
    Verdict.FORGED: "support for H1",
    Verdict.AUTHENTIC: "support for H2",
    Verdict.INCONCLUSIVE: "no limit passed",
    Verdict.REFUSED: "not judged",
}
"""What stands for a verdict where it is left out."""

# Control, format (direction overrides, zero width), surrogate, line and paragraph separators.
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def safe_text(text: str, encoding: str = "utf-8") -> str:
    """Text from a file or its name, fit to be printed: what could move the cursor, hide or reorder is escaped.

    Characters that `encoding` lacks are escaped too.
    """
    # The whole text at once first: it is the usual case, and the HTML report asks this of every string it shows.
    harmless = text if text.isprintable() else "".join(_harmless(char) for char in text)
    return harmless.encode(encoding, "backslashreplace").decode(encoding)


def _harmless(char: str) -> str:
    return char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSAFE else char


class TerminalReport:
    """Prints reports as they are added, and a footer on leaving; a context manager.

    Args:
        console: where to; a rich console that heeds NO_COLOR and the terminal's width.
        compact: one row per file instead of one per face.
        wording: "evaluative" leaves the verdict out and says the support alone.
    """

    def __init__(self, console: Console | None = None, *, compact: bool = False, wording: Wording = "verdict") -> None:
        self.console = console or Console()
        self.compact = compact
        self.wording = wording
        self._counts: Counter[Verdict] = Counter()
        self._packs: dict[str, None] = {}
        self._cases: dict[str, None] = {}
        self._unchecked: dict[str, None] = {}
        self._several_faces = False
        # Narrow terminals lose columns from the right; the file name keeps what is left, at least 12 columns.
        evaluative = wording == "evaluative"
        hidden = "Verdict" if evaluative else ""
        self._columns = [
            column
            for column in _COLUMNS
            if column[0] != hidden and (self.console.width >= column[2] or (evaluative and column[0] == "Support"))
        ]
        self._reasons: dict[Inconclusive, int] = {}
        self._refusals: set[RefusalCode] = set()
        self._limits: dict[str, None] = {}
        taken = sum(width + 1 for _, width, _ in self._columns)
        self._name_width = max(12, self.console.width - taken - 1)

    def __enter__(self) -> Self:
        return self

    def add(self, report: Report) -> None:
        """Print one report."""
        if not self._counts:
            self._print_header()
        self._counts[report.verdict] += 1
        self._packs.update(dict.fromkeys(f"{pack.name} {pack.version}" for pack in report.packs))
        self._several_faces |= len(report.faces) > 1
        self._unchecked.update(dict.fromkeys(report.tool.unchecked))
        if report.case is not None:
            named = report.case.model_dump(exclude_none=True, exclude={"notes"})
            self._cases[", ".join(f"{name} {value}" for name, value in named.items())] = None
        if self.compact or len(report.faces) != 1:
            self._print_file(report)
        if not self.compact:
            for face in report.faces:
                self._print_face(report, face)
        # A face's own refusal stands under that face; the file's stands here.
        if report.refusal is not None and (self.compact or not report.faces):
            self._print_refusal(report.refusal)
        if self.compact:
            self._print_why(report.inconclusive)
        if report.media is not None and report.media.synthetic_mark is not None:
            mark = f"{report.media.synthetic_mark} (IPTC digital source type)"
            self._print_note(f"marked as synthetic: the metadata say {mark}; it takes no part in the verdict")
        for finding in () if self.compact else report.findings:
            # The mark above is one of the XMP packet; said once is enough.
            if finding.outcome == "notable" and "digital source type" not in finding.details:
                self._print_note(f"beside the pixels: {CHECK_NAMES[finding.check]}: {finding.statement}")
        if report.identical_to is not None:
            self._print_note(f"identical to {report.identical_to}, byte for byte: judged once")
        for warning in () if self.compact or report.media is None else report.media.warnings:
            self._print_note(f"note: {warning}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._counts:
            return
        total = self._counts.total()
        words = EVALUATIVE if self.wording == "evaluative" else {verdict: verdict.value for verdict in Verdict}
        parts = [f"{self._counts[verdict]} {words[verdict]}" for verdict in Verdict if self._counts[verdict]]
        lines = [
            Text(f"{total} {'file' if total == 1 else 'files'}: {', '.join(parts)}", style="bold"),
            Text(
                f"H1: {SHORT_PROPOSITIONS[0]}. H2: {SHORT_PROPOSITIONS[1]}. LR 10: the findings are 10 times more "
                "probable under H1; LR 1/10: under H2."
            ),
            Text("Support: verbal scale of the ENFSI guideline (2015)."),
        ]
        if self.wording == "verdict":
            lines += [Text(self._shown(line)) for line in self._limits]
        if self._several_faces:
            lines.append(
                Text(
                    "The LR of a file with several faces is that one of them was forged, the mean of theirs: among "
                    "many, one that looks forged is no rarity. Look at each; the numbers are those in the page."
                )
            )
        lines += [Text(self._shown(f"Case file: {case}.")) for case in self._cases if case]
        if self._packs:
            lines.append(Text(f"Packs: {', '.join(map(self._shown, self._packs))}."))
        lines += [Text(self._shown(f"Note: {sentence}.")) for sentence in self._unchecked]
        lines.append(Text(CAVEAT, style="italic"))
        self.console.print()
        for line in lines:
            self.console.print(line, soft_wrap=False)

    def _print_header(self) -> None:
        names = {name: Text(name) for name, _, _ in self._columns}
        self._print_row(Text("File"), names, style="bold underline")

    def _print_file(self, report: Report) -> None:
        several = (str(len(report.faces)) if self.compact else "file") if report.faces else ""
        cells = {"Face": Text(several), "Size/time": Text(_extent(report)), **self._judgement(report)}
        self._print_row(self._name(report), cells)
        if report.inconclusive is not None and report.inconclusive.code == "several_faces" and not self.compact:
            self._print_why(report.inconclusive)

    def _print_face(self, report: Report, face: FaceFinding) -> None:
        extent = f"{face.box[2]:.0f} px" if face.time is None else f"{face.time:.1f} s"
        cells = {
            "Face": Text(f"{face.index + 1}/{len(report.faces)}"),
            "Qual": Text(f"{face.quality.unified:.0f}"),
            "Size/time": Text(extent),
            **self._judgement(face),
        }
        self._print_row(self._name(report) if len(report.faces) == 1 else Text(), cells)
        if face.decision is not None:
            self._limits.setdefault(limit_words(face.decision, face.condition))
        if face.refusal is not None:
            self._print_refusal(face.refusal)
        self._print_why(face.inconclusive)
        for remark in face.remarks:
            self._print_note(f"remark: {remark.message}")
        if face.stretch is not None:
            self._print_note(f"stretch: {stretch_words(face.stretch)}")
        if face.sequence is not None:
            self._print_note(_edits(face.sequence))
        for opinion in (face.opinions or ())[1:]:  # the row above is the first
            self._print_note(f"second opinion, {opinion.pack}: {self._said(opinion)}")
        for naming in face.naming or ():
            self._print_note(_named(naming))

    def _judgement(self, judged: Report | FaceFinding) -> dict[str, Text]:
        style, symbol, plain = _STYLES[judged.verdict]
        symbol = symbol if safe_text(symbol, self._encoding) == symbol else plain
        verdict = Text(f"{symbol} {judged.verdict}", style=style)
        if judged.refusal is not None:
            word = f"not judged: {refusal_word(judged.refusal.code)}"
            return {"Support": Text(word), "LR": Text(), "Verdict": verdict}
        log10_lr = judged.log10_lr or 0.0
        return {"Support": Text(_supported(log10_lr)), "LR": Text(lr_text(log10_lr)), "Verdict": verdict}

    def _name(self, report: Report) -> Text:
        name = "standard input" if report.path == "-" else self._shown(report.path)
        width = self._name_width
        if cell_len(name) <= width:
            return Text(name)
        # The end of a path tells more than its beginning.
        mark = "…" if safe_text("…", self._encoding) == "…" else "~"
        while cell_len(name) > width - 1:
            name = name[max(1, (cell_len(name) - width) // 2) :]
        return Text(mark + name)

    def _print_row(self, name: Text, cells: dict[str, Text], style: str = "") -> None:
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=self._name_width, no_wrap=True)
        for _, width, _ in self._columns:
            table.add_column(width=width, no_wrap=True)
        table.add_row(name, *(cells.get(column, Text()) for column, _, _ in self._columns), style=style)
        self.console.print(table, no_wrap=True, crop=True)

    def _print_refusal(self, refusal: Refusal) -> None:
        """Why there is no judgement, with what would help where the reason comes for the first time."""
        remedy = "" if refusal.code in self._refusals else f" {REFUSAL_REMEDIES[refusal.code]}"
        self._refusals.add(refusal.code)
        self._print_note(f"{refusal.code}: {refusal.message}{remedy}")

    def _print_why(self, why: Inconclusive | None) -> None:
        """Why there is no verdict, in full where it is said first: it is the same for many faces."""
        if why is None:
            return
        if why in self._reasons:
            self._print_note(f"no verdict: as in ({self._reasons[why]})")
            return
        self._reasons[why] = len(self._reasons) + 1
        self._print_note(f"no verdict ({self._reasons[why]}): {why.message} {why.remedy}")

    def _print_note(self, text: str) -> None:
        self.console.print(Padding(Text(self._shown(text), style="dim"), (0, 0, 0, 2)))

    def _said(self, opinion: Opinion) -> str:
        if opinion.log10_lr is None:
            return opinion.verdict.value
        text = f"{_supported(opinion.log10_lr)}, LR {lr_text(opinion.log10_lr)}"
        return text if self.wording == "evaluative" else f"{text}, {opinion.verdict}"

    def _shown(self, text: str) -> str:
        return safe_text(text, self._encoding)

    @property
    def _encoding(self) -> str:
        return self.console.encoding


def _supported(log10_lr: float) -> str:
    word = strength(log10_lr)
    return "neither" if word is None else f"{word} {'H1' if log10_lr > 0 else 'H2'}"


def _edits(sequence: SequenceFinding) -> str:
    if sequence.outcome == "no_local_edit":
        return "edits: no local edit found"
    if sequence.best is None:
        return f"edits: cannot tell. {sequence.reason}"
    # That a part was edited is surer than when: the sequence's own share alone would undersell it.
    steps = ", then ".join(f"{step.edit} ({percent(step.present)})" for step in sequence.steps)
    assert sequence.edited is not None  # as wherever edits are named
    shares = f"exactly this {percent(sequence.best.posterior)}, any edit {percent(sequence.edited)}"
    return f"edits: {steps}; {shares}; a hypothesis, not evidence"


def _named(naming: NamingFinding) -> str:
    if naming.likeliest is None:
        said = f"none of the {len(naming.families)} that it knows ({percent(naming.none)})"
    else:
        best = naming.families[0]
        said = f"{best.name}, {best.words} ({percent(best.probability)}); none of these {percent(naming.none)}"
    return f"if it is forged, family by {naming.pack}: {said}; no part of the verdict"


def _extent(report: Report) -> str:
    if report.media is None:
        return ""
    if report.media.duration is not None:
        return f"{report.media.duration:.1f} s"
    return f"{report.media.width}x{report.media.height}"
