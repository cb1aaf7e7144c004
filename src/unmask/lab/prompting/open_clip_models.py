"""Vision-language models of open_clip, from a local folder or its hub. Lab only; extra `prompts`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.func import functional_call

from unmask.errors import DataError
from unmask.lab.prompting.vision_language import VisionLanguageModel


class _TextTower(nn.Module):
    """A model's own `encode_text`, on embeddings in place of those of the ids."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, embeddings: Tensor) -> Tensor:
        table = embedding_table(self.model)
        hook = table.register_forward_hook(lambda *_: embeddings.to(table.weight.dtype))
        try:
            features: Tensor = self.model.encode_text(ids)
        finally:
            hook.remove()
        return features


class OpenClipModel(VisionLanguageModel):
    """A model that open_clip has built, with its tokenizer.

    Learned embeddings go through the model's own text tower, whichever it is. Causal towers that read a text at its end
    token are computed on as many positions as are needed; others on all.

    Args:
        model: of `open_clip.create_model`.
        tokenizer: of `open_clip.get_tokenizer`.
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.tower = _TextTower(model)
        self._tokenizer = tokenizer
        made: Any = model
        side = made.visual.image_size
        self.size = int(side[0] if isinstance(side, Sequence) else side)
        self.mean, self.std = tuple(made.visual.image_mean), tuple(made.visual.image_std)
        self.width = int(embedding_table(model).weight.shape[1])
        self.context = int(made.context_length)
        causal = [name for name, _ in self.tower.named_buffers() if name in ("model.attn_mask", "model.text.attn_mask")]
        native = isinstance(model, open_clip.CLIP)
        pool = made.text_pool_type if native else getattr(made.text, "pool_type", "none")
        appended = None if native else getattr(made.text, "cls_emb", None)
        self.trims = bool(causal) and pool in ("argmax", "eos") and appended is None
        self._positions = "model." if native else "model.text."
        with torch.no_grad():
            ids = self.token_ids(["a"], self.context).to(self.device)
            self.dimension = int(self.text_features(self.token_embeddings(ids), ids).shape[1])

    @property
    def _model(self) -> Any:
        return self.tower.model

    def token_ids(self, texts: Sequence[str], positions: int) -> Tensor:
        """See the base class."""
        ids: Tensor = self._tokenizer(list(texts), context_length=positions)
        return ids

    def token_embeddings(self, ids: Tensor) -> Tensor:
        """See the base class."""
        embeddings: Tensor = embedding_table(self._model)(ids)
        return embeddings

    def text_features(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """See the base class."""
        length = ids.shape[1]
        if length == self.context:
            features: Tensor = self.tower(ids, embeddings)
            return features
        names = [f"{self._positions}{name}" for name in ("positional_embedding", "attn_mask")]
        positions, mask = self.tower.get_parameter(names[0]), self.tower.get_buffer(names[1])
        shorter = {names[0]: positions[:length], names[1]: mask[:length, :length]}
        return functional_call(self.tower, shorter, (ids, embeddings))

    def image_features(self, pictures: Tensor) -> Tensor:
        """See the base class."""
        weight = next(self._model.visual.parameters())
        features: Tensor = self._model.encode_image(self.normalised(pictures).to(weight.dtype))
        return features

    def scale(self) -> Tensor:
        """See the base class."""
        scale: Tensor = self._model.logit_scale.exp().reshape(())
        return scale

    def offset(self) -> Tensor:
        """See the base class."""
        bias = self._model.logit_bias
        return super().offset() if bias is None else bias.reshape(())


def embedding_table(model: Any) -> Any:
    """The token embeddings of an open_clip model, whichever tower it has."""
    if hasattr(model, "token_embedding"):
        return model.token_embedding
    if hasattr(model.text, "token_embedding"):
        return model.text.token_embedding
    return model.text.transformer.get_input_embeddings()


def load_open_clip(place: str | Path) -> OpenClipModel:
    """A model from a folder as open_clip and its hub have them, or from the hub.

    Args:
        place: folder with `open_clip_config.json`, weights and, where the tokenizer is not CLIP's own, its files; or
            `hf-hub:OWNER/NAME`, which is fetched.

    Raises:
        DataError: no such folder, no weights in it, or not a model that open_clip knows.
    """
    if str(place).startswith("hf-hub:"):
        name = str(place)
    else:
        folder = Path(place)
        if not (folder / "open_clip_config.json").is_file():
            raise DataError(f"{folder}: no open_clip_config.json there; give the folder of an open_clip model")
        if not any(path.suffix in (".safetensors", ".bin", ".pth") for path in folder.iterdir()):
            raise DataError(f"{folder}: no weights beside the configuration; put open_clip_model.safetensors there")
        name = f"local-dir:{folder}"
    try:
        model, _, _ = open_clip.create_model_and_transforms(name)
        return OpenClipModel(model.eval().requires_grad_(False), open_clip.get_tokenizer(name))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, ImportError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{place}: open_clip cannot load it ({reason[:160]}); see that it is whole") from error
