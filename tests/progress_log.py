"""A `Progress` that keeps what it receives, for tests."""

from collections.abc import Callable


class ProgressLog:
    """Keeps every update and note; `hook`, if given, is called with stage and done after each update.

    `steps` are (stage, done, total) in their order, `stages` (done, total) by stage, `details` the words beside them.
    """

    def __init__(self, hook: Callable[[str, int], None] | None = None) -> None:
        self.steps: list[tuple[str, int, int | None]] = []
        self.stages: dict[str, list[tuple[int, int | None]]] = {}
        self.details: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self._hook = hook

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        self.steps.append((stage, done, total))
        self.stages.setdefault(stage, []).append((done, total))
        self.details.setdefault(stage, []).append(detail)
        if self._hook:
            self._hook(stage, done)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def check_bars_end(self) -> None:
        """Every stage only grows, towards one total, and ends with all of it done; there is one at least."""
        assert self.stages
        for stage, steps in self.stages.items():
            done = [one for one, _ in steps]
            assert done == sorted(done) and done[0] >= 0, f"{stage} went back: {done}"
            assert {total for _, total in steps if total is not None} == {done[-1]}, (stage, steps)
