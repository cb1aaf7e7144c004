"""A finished run of a small dual encoder, never trained; and a tiny sentence encoder in place of the published one."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel

from unmask.lab.engine import save_weights
from unmask.lab.prompting.config import VisionLanguageConfig
from unmask.lab.prompting.dual_encoder import WIDTH
from unmask.lab.prompting.task import VisionLanguageTask
from unmask.lab.run import Run
from unmask.lab.train import new_network

OPTIONS = {"backbone": "test_resnet", "weights": "none"}
WORDS = (
    *("a", "photo", "drawing", "of", "cat", "dog", "cow", "hen", "swapped", "face", "drawn", "genuine", "mouth"),
    *("photograph", "another", "head", "onto", "generator", "by", "whole", "forged", ".", ",", "X"),
)


def tiny_text(width: int = WIDTH) -> tuple[BertModel, Tokenizer]:
    """A random BERT of one layer that knows `WORDS`, and its tokenizer."""
    torch.manual_seed(0)
    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    return BertModel(config, add_pooling_layer=False), tokenizer


def write_run(folder: Path) -> Path:
    """The run folder, with random weights."""
    config = VisionLanguageConfig(size=32, options=OPTIONS, classes=("cat", "dog"), tested=("cow",))
    torch.manual_seed(0)
    Run(folder, config, "0" * 64, "vision_language")
    save_weights(new_network(VisionLanguageTask(), config, pretrained=False), folder / "weights.safetensors")
    return folder
