"""The small model of our own: the text half's contract, the loss of the image tower, the sentence encoder's numbers."""

import numpy as np
import pytest
import torch
from naming_runs import tiny_text

from unmask.errors import DataError
from unmask.lab.prompting.config import PromptOptions
from unmask.lab.prompting.dual_encoder import DualEncoder
from unmask.lab.prompting.learners import new_learner
from unmask.lab.prompting.sentences import SentenceModel, sentence_encoder
from unmask.lab.prompting.training import learn

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    def images(pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(len(pixels), -1)[:, :16]

    return SentenceModel(*tiny_text(16), 14.0, images, 4).eval()


def test_texts_are_the_mean_over_their_tokens_whatever_the_padding(model: SentenceModel) -> None:
    tokens = model.tokenize(["a cat", "a photo of a dog ."])
    assert tokens.lengths == (4, 8)
    short, whole = model.trimmed(tokens), tokens.ids
    with torch.no_grad():
        vectors = [model.text_features(model.token_embeddings(ids), ids) for ids in (short, whole)]
        alone = model.text(input_ids=tokens.ids[:1, :4]).last_hidden_state.mean(1)
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vectors[0][:1], alone, rtol=1e-4, atol=1e-5)


def test_prompts_are_learned_for_it(model: SentenceModel) -> None:
    names = ("cat", "dog", "swapped face")
    zero = new_learner(model, names, PromptOptions(method="zero-shot"))
    features = torch.nn.functional.normalize(torch.randn(9, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.arange(9) % 3
    coop = new_learner(model, names, PromptOptions(method="coop"))
    torch.testing.assert_close(coop.logits(features), zero.logits(features), rtol=1e-4, atol=1e-4)
    options = PromptOptions(method="gcscoop", epochs=6, learning_rate=0.05)
    history = learn(model, names, features[:, None], labels, options).history
    assert history[-1]["loss"] < history[0]["loss"]


def test_pictures_come_from_elsewhere(model: SentenceModel) -> None:
    pictures = torch.rand(2, 3, 4, 4)
    vectors = model.encode_pictures(pictures)
    assert vectors.shape == (2, 16) and torch.allclose(vectors.norm(dim=1), torch.ones(2))
    blind = SentenceModel(*tiny_text(16), 14.0)
    with pytest.raises(ValueError, match="vectors alone"):
        blind.encode_pictures(pictures)


def test_a_fingerprint_is_of_both_halves() -> None:
    marks = {
        SentenceModel(*tiny_text(16), scale, None, 4, of).fingerprint() for scale in (1.0, 2.0) for of in ("a", "b")
    }
    assert len(marks) == 4


def test_pairs_are_learned() -> None:
    torch.manual_seed(0)
    made = DualEncoder("test_resnet", "none").train()
    texts = torch.nn.functional.normalize(torch.randn(3, 384), dim=1)[[0, 1, 2, 0]]
    batch = {"faces": torch.rand(4, 3, 32, 32), "texts": texts, "labels": torch.tensor([0, 1, 2, 0])}
    optimiser = torch.optim.AdamW(made.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        (loss,) = made.training_losses(batch).values()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_pictures_of_one_text_are_all_right_answers() -> None:
    """With vectors that are the texts' own, nothing is left to learn but to be sure."""
    made = DualEncoder("test_resnet", "none")
    texts = torch.eye(384)[[0, 1, 0]]
    made.forward = lambda faces: texts  # type: ignore[method-assign]
    batch = {"faces": torch.zeros(3, 3, 32, 32), "texts": texts, "labels": torch.tensor([0, 1, 0])}
    with torch.no_grad():
        made.logit_scale.fill_(50.0)
        (loss,) = made.training_losses(batch).values()
    # Two of three share the probability evenly: ln 2 for them, 0 for the third; the same by text.
    assert float(loss) == pytest.approx(2 / 3 * np.log(2), abs=1e-4)
    assert float(made.scale().detach()) == 100


@pytest.mark.slow
def test_the_sentence_encoder_knows_what_words_mean() -> None:
    try:
        text, tokenizer = sentence_encoder()
    except DataError as error:
        pytest.skip(str(error))
    made = SentenceModel(text, tokenizer, 1.0).eval()
    cat, kitten, car = made.encode_texts(["a cat", "a kitten", "a motor car"])
    assert float(cat @ kitten) > 0.6 > float(cat @ car) + 0.1
