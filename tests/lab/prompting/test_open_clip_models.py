"""open_clip's models behind our contract: its own numbers, from a folder, with whatever text tower."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from tiny_clip import CONFIG, NAMES, as_folder, task, tiny
from torch import nn
from torch.nn import functional

from unmask.errors import DataError
from unmask.lab.prompting.config import PromptOptions
from unmask.lab.prompting.learners import CoOp, new_learner
from unmask.lab.prompting.open_clip_models import OpenClipModel, load_open_clip
from unmask.lab.prompting.vision_language import VisionLanguageModel, check_names

pytestmark = pytest.mark.lab
TEXTS = ["a photo of a cat.", "a photo of a very old and slow giant sea turtle.", "fox"]


@pytest.fixture(scope="module")
def model() -> OpenClipModel:
    return tiny()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_folder(tmp_path_factory.mktemp("models") / "tiny")


def test_texts_and_pictures_as_open_clip_encodes_them(model: OpenClipModel) -> None:
    own, tokenizer = model.tower.model, open_clip.get_tokenizer("ViT-B-32")
    with torch.no_grad():
        expected = own.encode_text(tokenizer(TEXTS), normalize=True)
        torch.testing.assert_close(model.encode_texts(TEXTS), expected, rtol=1e-5, atol=1e-6)
        pictures = torch.rand(3, 3, 16, 16)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (own.visual.image_mean, own.visual.image_std))
        seen = own.encode_image((pictures - mean) / std, normalize=True)
    torch.testing.assert_close(model.encode_pictures(pictures), seen, rtol=1e-5, atol=1e-6)
    assert model.scale().item() == pytest.approx(own.logit_scale.exp().item()) and model.offset().item() == 0


def test_trimmed_texts_have_the_vectors_of_whole_ones(model: OpenClipModel) -> None:
    """Attention is causal: what comes after the end token does not count."""
    tokens = model.tokenize(TEXTS)
    short, whole = model.trimmed(tokens), tokens.ids
    assert whole.shape[1] == 77 and short.shape[1] == max(tokens.lengths) == 14
    with torch.no_grad():
        vectors = [model.text_features(model.token_embeddings(ids), ids) for ids in (short, whole)]
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-5, atol=1e-6)
    assert (vectors[0][0] - vectors[0][1]).abs().max() > 1e-2


def test_zero_shot_is_open_clips(model: OpenClipModel) -> None:
    learner = new_learner(model, NAMES, PromptOptions(method="zero-shot"))
    features = task(model)[0][:, 0]
    own, tokenizer = model.tower.model, open_clip.get_tokenizer("ViT-B-32")
    texts = tokenizer([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    with torch.no_grad():
        expected = own.logit_scale.exp() * features @ own.encode_text(texts, normalize=True).T
    torch.testing.assert_close(learner.logits(features), expected, rtol=1e-4, atol=1e-4)


def test_a_learned_context_is_that_of_open_clips_text_tower_on_changed_embeddings(model: OpenClipModel) -> None:
    """CoOp's text vectors, computed by open_clip's modules one by one on all 77 positions, and their gradient."""
    learner = new_learner(model, NAMES, PromptOptions(method="coop"))
    assert isinstance(learner, CoOp)
    with torch.no_grad():
        learner.context.add_(0.5 * torch.randn(learner.context.shape, generator=torch.Generator().manual_seed(3)))
    own, tokenizer = model.tower.model, open_clip.get_tokenizer("ViT-B-32")
    ids = tokenizer([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    embeddings = own.token_embedding(ids).detach()
    context = learner.context.detach().clone().requires_grad_()
    embeddings = torch.cat([embeddings[:, :1], context.expand(len(ids), -1, -1), embeddings[:, 5:]], 1)
    x = own.ln_final(own.transformer(embeddings + own.positional_embedding, attn_mask=own.attn_mask))
    texts = functional.normalize(x[torch.arange(len(ids)), ids.argmax(1)] @ own.text_projection, dim=1)
    features, labels = task(model)
    expected = own.logit_scale.exp() * features[:, 0] @ texts.T
    logits = learner.logits(features[:, 0])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    functional.cross_entropy(expected, labels).backward()
    learner.backward(features[:, 0], labels)
    torch.testing.assert_close(learner.context.grad, context.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "trims"),
    [
        ({}, True),
        ({"pool_type": "eos", "eos_id": 49407}, True),
        ({"no_causal_mask": True, "pool_type": "last"}, False),  # SigLIP's
        ({"embed_cls": True, "pad_id": 0}, False),  # CoCa's
    ],
    ids=["causal", "end token", "bidirectional", "appended token"],
)
def test_other_text_towers(text: dict[str, object], trims: bool) -> None:
    torch.manual_seed(0)
    made = open_clip.CustomTextCLIP(**{**CONFIG, "text_cfg": {**CONFIG["text_cfg"], **text}})  # type: ignore[arg-type, dict-item]
    for name in ("image_mean", "image_std"):
        setattr(made.visual, name, (0.5, 0.5, 0.5))
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    model = OpenClipModel(made.eval(), tokenizer)
    assert model.trims == trims
    with torch.no_grad():
        expected = made.encode_text(tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(model.encode_texts(TEXTS), expected, rtol=1e-4, atol=1e-5)
    learner = new_learner(model, NAMES, PromptOptions(method="coop"))
    zero = new_learner(model, NAMES, PromptOptions(method="zero-shot"))
    features, labels = task(model)
    torch.testing.assert_close(learner.logits(features[:, 0]), zero.logits(features[:, 0]), rtol=1e-4, atol=1e-4)
    learner.backward(features[:, 0], labels)
    gradient = next(learner.parameters()).grad
    assert gradient is not None and float(gradient.norm()) > 0


def test_a_bias_of_logits_is_added() -> None:
    model = tiny(init_logit_bias=-2.5)
    features = task(model)[0][:, 0]
    biased = new_learner(model, NAMES, PromptOptions(method="zero-shot")).logits(features)
    plain = new_learner(tiny(), NAMES, PromptOptions(method="zero-shot")).logits(features)
    torch.testing.assert_close(biased, plain - 2.5, rtol=1e-4, atol=1e-4)


# From a folder


def test_a_folder_gives_the_model_with_its_colours_and_its_tokenizer(folder: Path, model: OpenClipModel) -> None:
    loaded = load_open_clip(folder)
    assert (loaded.size, loaded.width, loaded.dimension, loaded.context) == (16, 24, 16, 77)
    assert (loaded.mean, loaded.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    assert loaded.fingerprint() == model.fingerprint()
    assert torch.equal(loaded.encode_texts(TEXTS), model.encode_texts(TEXTS))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_folders_that_are_not_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="open_clip_config"):
        load_open_clip(tmp_path / "none")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    with pytest.raises(DataError, match="no weights"):
        load_open_clip(tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(DataError, match="cannot load"):
        load_open_clip(tmp_path)


# Class names


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "no class names"),
        (("cat", ""), "no word"),
        (("cat", " _ "), "no word"),
        (("cat", "dog", "cat"), "the same"),
        (("sea_lion", "Sea  lion"), "the same"),
        (("cat", "word " * 90), "tokens or more"),
    ],
)
def test_names_that_cannot_be_prompts(names: tuple[str, ...], reason: str, model: VisionLanguageModel) -> None:
    with pytest.raises(DataError, match=reason):
        check_names(model, names)


def test_a_name_that_fits_alone_but_not_in_its_prompt(model: OpenClipModel) -> None:
    with pytest.raises(DataError, match="77"):
        new_learner(model, ("cat", "word " * 74), PromptOptions(method="coop"))
    with pytest.raises(DataError, match="context"):
        new_learner(model, NAMES, PromptOptions(method="coop", context=" "))


def test_the_model_is_frozen_and_no_part_of_what_is_learned(model: OpenClipModel) -> None:
    learner = new_learner(model, NAMES, PromptOptions(method="coop"))
    assert {name for name, _ in learner.named_parameters()} == set(learner.state_dict()) == {"context"}
    assert not any(isinstance(module, OpenClipModel) for module in learner.modules())
    assert isinstance(learner, nn.Module) and not learner.model.training
