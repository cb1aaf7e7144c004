"""A progress that keeps what it is told, for tests to look at."""

from dataclasses import dataclass, field


@dataclass
class Recorded:
    """`stages` are (done, total) by stage, `details` the words beside them, `notes` what was worth reading."""

    stages: dict[str, list[tuple[int, int | None]]] = field(default_factory=dict)
    details: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        self.stages.setdefault(stage, []).append((done, total))
        self.details.setdefault(stage, []).append(detail)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def check(self) -> None:
        """Every stage grows, within one total, and ends with all of it done: its bar is full."""
        for stage, steps in self.stages.items():
            done = [one for one, _ in steps]
            assert done == sorted(done) and done[0] >= 0, (stage, done)
            totals = {total for _, total in steps if total is not None}
            assert len(totals) == 1 and done[-1] == totals.pop(), (stage, steps)
