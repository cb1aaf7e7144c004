"""The contract of a vision-language model whose prompts can be learned, and class names as such prompts. Lab only."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unmask.errors import DataError
from unmask.networks.contract import Network

_CHUNK = 256  # texts or pictures encoded at a time


@dataclass(frozen=True)
class Tokens:
    """Texts as tokens.

    Attributes:
        ids: long (N, L), L the model's context; after a text's end padding.
        lengths: (N,) positions of each text, start and end tokens among them.
    """

    ids: Tensor
    lengths: tuple[int, ...]


class VisionLanguageModel(Network, ABC):
    """Pictures and texts in one space. Pictures are float32 (B, 3, S, S) in [0, 1], S its `size`.

    Attributes:
        width: of a token's embedding.
        dimension: of the common space.
        context: positions that a text has at most.
        trims: whether nothing after the end of a text bears on its vector, so that shorter texts may be computed on
            fewer positions, with the same numbers.
    """

    width: int
    dimension: int
    context: int
    trims: bool = True

    @abstractmethod
    def token_ids(self, texts: Sequence[str], positions: int) -> Tensor:
        """Tokens of texts, long (N, positions), padded, or cut where there are more."""

    @abstractmethod
    def token_embeddings(self, ids: Tensor) -> Tensor:
        """The rows of the embedding table, (N, L, width), without positions."""

    @abstractmethod
    def text_features(self, embeddings: Tensor, ids: Tensor) -> Tensor:
        """Vectors of texts, (N, dimension), of any length.

        Args:
            embeddings: (N, L, width), of tokens, in part perhaps learned ones; L may be less than the context if the
                model trims.
            ids: long (N, L), which say where texts end.
        """

    @abstractmethod
    def image_features(self, pictures: Tensor) -> Tensor:
        """Vectors of pictures, (B, dimension), of any length."""

    @abstractmethod
    def scale(self) -> Tensor:
        """What cosines are multiplied by, a scalar."""

    def offset(self) -> Tensor:
        """What is added to the scaled cosines, a scalar; 0 but for models trained pair by pair."""
        return self.scale().new_zeros(())

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Texts as tokens.

        Raises:
            DataError: a text has more tokens than the context.
        """
        ids = self.token_ids([*texts, ""], 4 * self.context)
        padding = ids[-1, -1]
        places = torch.arange(1, ids.shape[1] + 1)
        lengths = ((ids != padding).cpu() * places).amax(1)[:-1].tolist()
        for text, length in zip(texts, lengths, strict=True):
            if length > self.context:
                raise DataError(
                    f"{text[:60]!r}: {length} tokens or more, and the model takes {self.context}; use fewer words"
                )
        return Tokens(ids[:-1, : self.context], tuple(lengths))

    def trimmed(self, tokens: Tokens) -> Tensor:
        """The ids without positions that are padding in all texts, if the model trims."""
        return tokens.ids[:, : max(tokens.lengths)] if self.trims else tokens.ids

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of texts, float32 (N, dimension).

        Raises:
            DataError: as of `tokenize`.
        """
        ids = self.trimmed(self.tokenize(texts)).to(self.device)
        parts = [self.text_features(self.token_embeddings(part), part).float() for part in ids.split(_CHUNK)]
        return functional.normalize(torch.cat(parts), dim=1)

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Unit vectors of pictures float32 (N, 3, S, S) in [0, 1], float32 (N, dimension)."""
        parts = [self.image_features(part.to(self.device)).float() for part in pictures.split(_CHUNK)]
        return functional.normalize(torch.cat(parts), dim=1)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def fingerprint(self) -> str:
        """SHA-256 of all weights: prompts belong to one model."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def check_names(model: VisionLanguageModel, names: Sequence[str]) -> tuple[str, ...]:
    """Class names as prompts have them: words with spaces between them.

    Raises:
        DataError: there are none, one has no token or too many, or two are the same to the model.
    """
    if not names:
        raise DataError("no class names; give at least one")
    clean = tuple(" ".join(name.replace("_", " ").split()) for name in names)
    empty = model.tokenize([""]).lengths[0]
    seen: dict[tuple[int, ...], str] = {}
    tokens = model.tokenize(clean)
    for name, words, row, length in zip(names, clean, tokens.ids.tolist(), tokens.lengths, strict=True):
        if not words or length <= empty:
            raise DataError(f"the class name {name!r} has no word that the model knows; describe it in words")
        if tuple(row) in seen:
            raise DataError(f"the class names {seen[tuple(row)]!r} and {name!r} are the same to the model; change one")
        seen[tuple(row)] = name
    return clean


@dataclass(frozen=True)
class ClassPrompts:
    """Prompts "CONTEXT NAME.", of which the context's embeddings are left open.

    Attributes:
        ids: long (C, L).
        before: (C, s, width), the start token's embeddings, if there is one.
        words: (M, width), the embeddings of the words that the context begins from.
        after: (C, L - s - M, width), of the name, the full stop, the end and the padding.
    """

    ids: Tensor
    before: Tensor
    words: Tensor
    after: Tensor

    @classmethod
    def of(cls, model: VisionLanguageModel, names: Sequence[str], context: str) -> "ClassPrompts":
        """Prompts of some classes.

        Args:
            model: of the tokens.
            names: as `check_names` gives them.
            context: the words that come first.

        Raises:
            DataError: the context has no tokens, or a prompt too many.
        """
        empty, alone = model.tokenize(["", context]).lengths
        count = alone - empty
        if count < 1:
            raise DataError(f"the context {context!r} has no word that the model knows; begin from words")
        one, other = model.token_ids(["a", "photo"], model.context)[:, 0].tolist()
        start = int(one == other)  # texts begin with a token of their own
        ids = model.trimmed(model.tokenize([f"{context} {name}." for name in names])).to(model.device)
        with torch.no_grad():
            embeddings = model.token_embeddings(ids).float()
        end = start + count
        if (ids[:, start:end] != ids[:1, start:end]).any():
            raise DataError(f"the context {context!r} runs into a class name; end it with a whole word")
        return cls(ids, embeddings[:, :start], embeddings[0, start:end], embeddings[:, end:])

    def filled(self, context: Tensor) -> Tensor:
        """Embeddings of the prompts, (C, L, width).

        Args:
            context: (M, width), or (C, M, width) of each class.
        """
        own = context if context.ndim == 3 else context.expand(len(self.ids), -1, -1)
        return torch.cat([self.before, own, self.after], 1)
