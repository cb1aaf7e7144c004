"""The shortcut: a plain classifier over whole sequences, which cannot name one that it was not trained on."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from unmask.edits.decoding import SEQUENCES
from unmask.edits.model import EditSequenceModel, EditSequenceOutput
from unmask.edits.trunks import Trunk, make_trunk, pooled
from unmask.networks.contract import Batch


class Classifier(EditSequenceModel):
    """Mean and maximum of the trunk's maps at strides 8 to 32, and one linear layer over the 326 sequences."""

    def __init__(self, trunk: Trunk, weights: str) -> None:
        super().__init__()
        self.trunk, widths = make_trunk(trunk, weights)
        self.head = nn.Sequential(nn.LayerNorm(2 * sum(widths[2:])), nn.Linear(2 * sum(widths[2:]), len(SEQUENCES)))

    def forward(self, faces: Tensor) -> EditSequenceOutput:
        maps = self.trunk(self.normalised(faces))[2:]
        return EditSequenceOutput(self.head(torch.cat([pooled(one) for one in maps], 1)))

    def greedy(self, faces: Tensor) -> Tensor:
        return SEQUENCES.to(faces.device)[self(faces).scores.argmax(1)]

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        same = (SEQUENCES.to(batch["faces"].device)[None] == batch["sequences"][:, None]).all(2)
        return {"sequence": functional.cross_entropy(self(batch["faces"]).scores.float(), same.float().argmax(1))}
