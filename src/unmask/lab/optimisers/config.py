"""The settings of a run's optimiser, as options of the command line. No torch."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from unmask.errors import DataError
from unmask.lab.config import option

Name = Literal["adamw", "sam", "gsam", "sagm", "gcsam"]
_RHO = {"sam": 0.05, "gsam": 0.05, "sagm": 0.05, "gcsam": 0.1}  # as published
_ALPHA = {"gsam": 0.4, "sagm": 0.001}


@dataclass(frozen=True, kw_only=True)
class OptimiserOptions:
    """How a network is trained: by AdamW, or by a sharpness-aware optimiser around it (`lab.optimisers.sharpness`).

    A sharpness-aware step computes two gradients, so that it takes twice as long.
    """

    optimiser: Name = option(
        "adamw", "adamw, or around it sam, gsam, sagm or gcsam, which look for flat minima and take two passes a step."
    )
    rho: float | None = option(
        None, "How far they move the weights, in the weights' own units: 0.05, for gcsam 0.1.", low=0
    )
    beta1: float = option(0.5, "gcsam: at this cosine of the two gradients and below, that of the loss is taken.")
    beta2: float = option(0.8, "gcsam: at this cosine and above, the SAM gradient is taken.")
    scope: Literal["tensor", "global"] = option(
        "tensor", "gcsam: whether each tensor has its cosine, as published, or all have one."
    )
    alpha: float | None = option(
        None, "gsam: weight of the orthogonal part, 0.4; sagm: how far the move is taken back, 0.001.", low=0
    )
    adaptive: bool = option(False, "Scale the move by the weights' squares (ASAM).")

    def settings(self) -> dict[str, Any]:
        """What a run's record keeps: nothing for AdamW, else all that decides the outcome.

        Raises:
            DataError: an option of an optimiser that was not chosen.
        """
        used = {
            "adamw": (),
            "sam": ("rho", "adaptive"),
            "gsam": ("rho", "alpha", "adaptive"),
            "sagm": ("rho", "alpha", "adaptive"),
            "gcsam": ("rho", "beta1", "beta2", "scope", "adaptive"),
        }[self.optimiser]
        plain = asdict(OptimiserOptions())
        for name, value in asdict(self).items():
            if name not in (*used, "optimiser") and value != plain[name]:
                raise DataError(f"--{name} is no option of --optimiser {self.optimiser}; leave it out")
        if self.optimiser == "adamw":
            return {}
        full = asdict(
            replace(
                self,
                rho=_RHO[self.optimiser] if self.rho is None else self.rho,
                alpha=_ALPHA.get(self.optimiser) if self.alpha is None else self.alpha,
            )
        )
        return {"optimiser": self.optimiser, **{name: full[name] for name in used}}
