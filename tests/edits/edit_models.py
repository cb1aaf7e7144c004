"""The readers that the conformance battery tests: add a line, and a new one is held to all of it."""

from collections.abc import Callable
from dataclasses import dataclass

from unmask.edits.mmnet import MMNet
from unmask.edits.model import EditSequenceModel
from unmask.edits.seqfakeformer import SeqFakeFormer


@dataclass(frozen=True)
class Candidate:
    """A reader under test.

    `make` gives it untrained, without a download. `steps` are more than twice as many as it takes to learn eight faces
    by heart. `says_where` if it gives the edits' areas, `recovers` if it gives the face before. `idle` begins the names
    of parameters that no loss depends on; `shifted` ends the names of those that add the same to all logits of a
    softmax, or to both sides of a difference, so that their gradient is none but rounding.
    """

    name: str
    make: Callable[[], EditSequenceModel]
    steps: int = 70
    says_where: bool = True
    recovers: bool = True
    idle: tuple[str, ...] = ()
    shifted: tuple[str, ...] = ("attention.key.bias",)

    def __str__(self) -> str:
        return self.name


READERS = (
    Candidate(
        "seqfakeformer",
        SeqFakeFormer,
        says_where=False,
        recovers=False,
    ),
    Candidate("mmnet", MMNet),
    Candidate("mmnet-coarse", lambda: MMNet(scales="coarse"), steps=140),
    Candidate("mmnet-forward", lambda: MMNet(readers="forward")),
    Candidate("mmnet-backward", lambda: MMNet(readers="backward")),
    Candidate("mmnet-tokens", lambda: MMNet(readers="tokens")),
    Candidate("mmnet-regions", lambda: MMNet(readers="regions")),
    Candidate(
        "mmnet-sequence-alone",
        lambda: MMNet(presence=False, masks=False, recovery=False),
        says_where=False,
        recovers=False,
        shifted=(
            "attention.key.bias",
            "pyramid.areas.bias",
        ),  # the areas are read by a softmax over cells alone
    ),
    Candidate("mmnet-without-masks", lambda: MMNet(masks=False), says_where=False),
    Candidate("mmnet-without-recovery", lambda: MMNet(recovery=False), recovers=False),
)
LARGE = (
    Candidate("seqfakeformer-resnet50", lambda: SeqFakeFormer("paper", "resnet50"), says_where=False, recovers=False),
    Candidate("seqfakeformer-resnet34", lambda: SeqFakeFormer("paper", "resnet34"), says_where=False, recovers=False),
    Candidate("mmnet-resnet34", lambda: MMNet("paper", "resnet34")),
)
