"""A `Progress` that keeps what it receives."""


class Counting:
    """Keeps (stage, done, total) of every update."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, int, int | None]] = []

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        self.updates.append((stage, done, total))

    def note(self, text: str) -> None:
        raise AssertionError(text)
