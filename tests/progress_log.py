"""A `Progress` that keeps what it receives, for tests."""

from collections.abc import Callable


class ProgressLog:
    """Keeps every update and note; `hook`, if given, is called with stage and done after each update."""

    def __init__(self, hook: Callable[[str, int], None] | None = None) -> None:
        self.steps: list[tuple[str, int, int | None]] = []
        self.notes: list[str] = []
        self._hook = hook

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        self.steps.append((stage, done, total))
        if self._hook:
            self._hook(stage, done)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def check_bars_end(self) -> None:
        """Every stage only grows, and ends with all of it done."""
        last: dict[str, tuple[int, int | None]] = {}
        for stage, done, total in self.steps:
            assert done >= last.get(stage, (0, None))[0], f"{stage} went back to {done}"
            last[stage] = done, total
        assert last and all(done == total for done, total in last.values()), last
