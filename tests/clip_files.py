"""Small CLIP image halves with random weights, under the names of those who publish them, and what they say."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

WIDTH, DEPTH, HEADS, PATCH, GRID, PROJECTED = 128, 2, 2, 16, 4, 24
SIDE = PATCH * GRID


def transformers_state(seed: int = 0) -> dict[str, Tensor]:
    """`vision_model.…` and the projection, as transformers' CLIPModel saves them."""
    torch.manual_seed(seed)
    shapes = {
        "embeddings.class_embedding": (WIDTH,),
        "embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": (GRID * GRID + 1, WIDTH),
    }
    for norm in ("pre_layrnorm", "post_layernorm"):
        shapes |= {f"{norm}.{part}": (WIDTH,) for part in ("weight", "bias")}
    for number in range(DEPTH):
        layer = f"encoder.layers.{number}."
        for norm in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}{norm}.{part}": (WIDTH,) for part in ("weight", "bias")}
        sizes = {f"self_attn.{part}_proj": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")}
        sizes |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
        for name, size in sizes.items():
            shapes |= {f"{layer}{name}.weight": size, f"{layer}{name}.bias": size[:1]}
    state = {f"vision_model.{name}": 0.1 * torch.randn(shape) for name, shape in shapes.items()}
    state["vision_model.embeddings.position_ids"] = torch.arange(GRID * GRID + 1)[None]
    state["visual_projection.weight"] = 0.1 * torch.randn(PROJECTED, WIDTH)
    return state


def gend_folder(folder: Path, backbone: str = "openai/clip-vit-tiny", head: str = "LinearNorm") -> dict[str, Tensor]:
    """Write a hub folder of GenD; returns its tensors."""
    folder.mkdir(exist_ok=True)
    state = {f"feature_extractor.{name}": value for name, value in transformers_state().items()}
    state |= {"model.linear.weight": torch.randn(2, WIDTH), "model.linear.bias": torch.randn(2)}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"backbone": backbone, "head": head, "model_type": "GenD"}))
    return state


def open_clip_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as open_clip and OpenAI name them."""
    own = {name.removeprefix("vision_model."): value for name, value in state.items()}
    named = {
        "visual.class_embedding": own["embeddings.class_embedding"],
        "visual.positional_embedding": own["embeddings.position_embedding.weight"],
        "visual.conv1.weight": own["embeddings.patch_embedding.weight"],
        "visual.proj": own["visual_projection.weight"].T.contiguous(),
    }
    for part in ("weight", "bias"):
        named |= {f"visual.ln_{when}.{part}": own[f"{when}_lay{end}.{part}"] for when, end in _ENDS}
        for number in range(DEPTH):
            new, old = f"visual.transformer.resblocks.{number}.", f"encoder.layers.{number}."
            joined = torch.cat([own[f"{old}self_attn.{name}_proj.{part}"] for name in "qkv"])
            named[f"{new}attn.in_proj_{part}"] = joined
            named[f"{new}attn.out_proj.{part}"] = own[f"{old}self_attn.out_proj.{part}"]
            for norm in "12":
                named[f"{new}ln_{norm}.{part}"] = own[f"{old}layer_norm{norm}.{part}"]
            named[f"{new}mlp.c_fc.{part}"] = own[f"{old}mlp.fc1.{part}"]
            named[f"{new}mlp.c_proj.{part}"] = own[f"{old}mlp.fc2.{part}"]
    return named


_ENDS = (("pre", "rnorm"), ("post", "ernorm"))


def pooled(state: dict[str, Tensor], faces: Tensor) -> Tensor:
    """The pooled feature (B, WIDTH) of faces in [0, 1], by the definition of CLIP with OpenAI's activation."""
    own = {name.removeprefix("vision_model."): value for name, value in state.items()}
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (WIDTH,), own[f"{name}.weight"], own[f"{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, own[f"{name}.weight"], own[f"{name}.bias"])

    patches = functional.conv2d((faces - mean) / std, own["embeddings.patch_embedding.weight"], stride=PATCH)
    tokens = patches.flatten(2).transpose(1, 2)
    first = own["embeddings.class_embedding"].expand(len(faces), 1, -1)
    x = norm(torch.cat([first, tokens], 1) + own["embeddings.position_embedding.weight"], "pre_layrnorm")
    for number in range(DEPTH):
        layer = f"encoder.layers.{number}."
        seen = norm(x, f"{layer}layer_norm1")
        q, k, v = (
            linear(seen, f"{layer}self_attn.{part}_proj").unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in "qkv"
        )
        weights = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        x = x + linear((weights @ v).transpose(1, 2).flatten(2), f"{layer}self_attn.out_proj")
        inner = linear(norm(x, f"{layer}layer_norm2"), f"{layer}mlp.fc1")
        x = x + linear(inner * torch.sigmoid(1.702 * inner), f"{layer}mlp.fc2")
    return norm(x[:, 0], "post_layernorm")
