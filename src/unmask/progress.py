"""How long work tells whoever started it how far it is: one protocol, so that library code knows no display."""

from typing import Protocol


class Progress(Protocol):
    """Receives how far a long piece of work is. The command line draws bars; a service may store it; tests count."""

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        """A stage has come to `done` of `total` units.

        Args:
            stage: what is being done ("finding faces"); one bar each.
            done: units finished so far, from 0 to `total`; never less than in an earlier call for the stage.
            total: units in all, None where it is not known. A finished stage ends with `done == total`.
            detail: a few words that change with the work ("loss 0.312").
        """
        ...

    def note(self, text: str) -> None:
        """Something worth reading happened; one line."""
        ...


class Silent:
    """Tells nobody."""

    def update(self, stage: str, done: int, total: int | None = None, detail: str = "") -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


SILENT: Progress = Silent()
