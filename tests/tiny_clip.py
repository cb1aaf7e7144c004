"""A tiny random model of open_clip as a folder, and tasks for it."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from unmask.lab.prompting.open_clip_models import OpenClipModel

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 1, "width": 32, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}
NAMES = ("tabby_cat", "red fox", "hen", "sea lion")


def tiny(**changes: object) -> OpenClipModel:
    """A random model, its towers alive enough for its texts to differ."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**{**CONFIG, **changes})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.mul_(3)
        model.token_embedding.weight.mul_(10)
        model.logit_scale.fill_(3.0)
    for name, value in (("image_mean", (0.4, 0.5, 0.6)), ("image_std", (0.2, 0.3, 0.25))):
        setattr(model.visual, name, value)
    return OpenClipModel(model.eval(), open_clip.get_tokenizer("ViT-B-32"))


def as_folder(folder: Path) -> Path:
    """The model in the layout of open_clip's local folders."""
    folder.mkdir()
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess}))
    save_file(tiny().tower.model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def task(model: OpenClipModel, shots: int = 6, classes: int = len(NAMES)) -> tuple[Tensor, Tensor]:
    """Unit vectors (N, 1, dimension) about one centre a class, and labels."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn((classes, model.dimension), generator=generator)
    labels = torch.arange(classes).repeat(shots)
    vectors = centres[labels] + 0.5 * torch.randn((len(labels), model.dimension), generator=generator)
    return torch.nn.functional.normalize(vectors, dim=1)[:, None], labels
