"""The attacks by name, each loaded when it is asked for."""

from typing import TYPE_CHECKING

from unmask.plugins import Entry, Table

if TYPE_CHECKING:
    from unmask.redteam.attacks.contract import Attack

_HERE = "unmask.redteam.attacks"
ATTACKS: "Table[type[Attack]]" = Table(
    "attack",
    "unmask.attacks",
    (
        Entry("corruptions", f"{_HERE}.corruptions:Corruptions", "the worst of common corruptions; the baseline"),
        Entry("fgsm", f"{_HERE}.pgd:FGSM", "one step along the gradient's sign"),
        Entry("pgd", f"{_HERE}.pgd:PGD", "projected gradients on the margin"),
        Entry("pgd-ce", f"{_HERE}.pgd:PGDCE", "projected gradients on the cross-entropy"),
        Entry("pgd-logit", f"{_HERE}.pgd:PGDLogit", "projected gradients on the target's logit"),
        Entry("mi-fgsm", f"{_HERE}.pgd:MIFGSM", "with momentum; made to transfer"),
        Entry("ti-fgsm", f"{_HERE}.pgd:TIFGSM", "with smoothed gradients; made to transfer"),
        Entry("di-fgsm", f"{_HERE}.pgd:DIFGSM", "with resized inputs; made to transfer"),
        Entry("apgd", f"{_HERE}.pgd:APGD", "projected gradients without a step size to choose"),
        Entry("square", f"{_HERE}.black_box:Square", "random squares, by scores; black box"),
        Entry("hopskipjump", f"{_HERE}.black_box:HopSkipJump", "along the border, by decisions; black box"),
        Entry("patch", f"{_HERE}.regions:Patch", "a patch; epsilon is its share of the picture"),
        Entry(
            "adv-diffusion",
            f"{_HERE}.adv_diffusion:AdvDiffusion",
            "surroundings painted anew, guided by other models; epsilon is the guidance",
        ),
        Entry("inpainting", f"{_HERE}.adv_diffusion:Inpainting", "the same without guidance: its floor"),
        Entry("eyeglasses", f"{_HERE}.regions:Eyeglasses", "a frame about the eyes; epsilon is its share"),
    ),
)
"""Attacks by name, from the mildest on; another package adds one by an entry point."""
