"""Small Hugging Face folders with random weights, and the image processors that they may have."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TEXTS = (
    "A charming film, if you ask me!",
    "Dull from beginning to end.",
    "good",
    "it's not bad — it's worse",
)


@contextmanager
def transformers() -> Iterator[Any]:
    """The library, without its warnings, or a skip."""
    pytest.importorskip("torch", reason="torch is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("transformers", reason="transformers is not installed")


def processor(name: str, **settings: Any) -> Any:
    """`vit.ViT` with settings: the one that works with Pillow."""
    with transformers():
        place, _, kind = name.partition(".")
        module = importlib.import_module(f"transformers.models.{place}.image_processing_pil_{place}")
        return getattr(module, f"{kind}ImageProcessorPil")(**settings)


def pictures(
    folder: Path, own: Any = None, *, channels: int = 3, pickled: bool = False, **config: Any
) -> Path:
    """A ResNet of a few kilobytes for four classes."""
    with transformers() as library:
        import torch

        torch.manual_seed(3)
        names = {0: "cat", 1: "dog", 2: "tapir", 3: "yak"}
        sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
        model = library.ResNetForImageClassification(
            library.ResNetConfig(**sizes, num_channels=channels, id2label=names)
        )
        model.save_pretrained(folder)
        if own is not None:
            own.save_pretrained(folder)
        if pickled:
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
            (folder / "model.safetensors").unlink()
    return folder


def detector(folder: Path, kind: str, own: Any) -> Path:
    """A detector of a few kilobytes for three classes: `Yolos` or `RTDetr`."""
    with transformers() as library:
        import torch

        torch.manual_seed(1)
        names = {0: "cat", 1: "dog", 2: "yak"}
        layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
        if kind == "Yolos":
            sizes: dict[str, Any] = layers | {"intermediate_size": 32, "image_size": [64, 64]}
            sizes |= {"num_detection_tokens": 10, "use_mid_position_embeddings": False}
        else:
            stages = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "layer_type": "basic"}
            backbone = library.RTDetrResNetConfig(
                embedding_size=8, out_features=["stage2", "stage3", "stage4"], **stages
            )
            sizes = {"backbone_config": backbone, "encoder_in_channels": [12, 16, 24], "d_model": 16}
            sizes |= {"encoder_hidden_dim": 16, "decoder_in_channels": [16] * 3, "feat_strides": [8, 16, 32]}
            sizes |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "encoder_attention_heads": 2}
            sizes |= {"decoder_attention_heads": 2, "decoder_layers": 2, "num_queries": 10}
            sizes |= {"num_denoising": 0, "anchor_image_size": None}
        config = getattr(library, f"{kind}Config")(**sizes, id2label=names)
        model = getattr(library, f"{kind}ForObjectDetection")(config).eval()
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if weights.dim() > 1 and kind == "RTDetr":
                    # Its queries are the places with the highest scores, which must not be all alike.
                    gain = 8 if "decoder" not in name or "head" in name else 1
                    weights.copy_(torch.randn_like(weights) * (gain / weights[0].numel() ** 0.5))
        model.save_pretrained(folder)
        own.save_pretrained(folder)
    return folder


def texts(folder: Path, kind: str, tokenizer: Any, **config: Any) -> Path:
    """A text classifier of one layer: `Bert`, `DistilBert` or `Roberta`."""
    with transformers() as library:
        import torch

        torch.manual_seed(4)
        if kind == "DistilBert":
            sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
        else:
            sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
            sizes |= {"intermediate_size": 32}
        made = getattr(library, f"{kind}Config")(
            vocab_size=len(tokenizer),
            max_position_embeddings=34 if kind == "Roberta" else 32,
            pad_token_id=tokenizer.pad_token_id,
            id2label={0: "bad", 1: "good"},
            **sizes,
            **config,
        )
        getattr(library, f"{kind}ForSequenceClassification")(made).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def word_pieces(corpus: Any = TEXTS, size: int = 120) -> Any:
    """BERT's own kind of tokenizer, trained on some texts."""
    with transformers() as library:
        import tokenizers

        pieces = tokenizers.BertWordPieceTokenizer(lowercase=True)
        pieces.train_from_iterator(corpus, vocab_size=size, min_frequency=1, show_progress=False)
        return library.BertTokenizerFast(tokenizer_object=pieces._tokenizer, model_max_length=32)


def byte_pairs() -> Any:
    """RoBERTa's."""
    with transformers() as library:
        import tokenizers

        pairs = tokenizers.ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        pairs.train_from_iterator(TEXTS, 300, 1, special_tokens=special, show_progress=False)
        made = pairs._tokenizer
        ends = (("</s>", 2), ("<s>", 0))
        made.post_processor = tokenizers.processors.RobertaProcessing(*ends, add_prefix_space=False)
        return library.PreTrainedTokenizerFast(
            tokenizer_object=made,
            bos_token="<s>",
            cls_token="<s>",
            eos_token="</s>",
            sep_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            model_input_names=["input_ids", "attention_mask"],
        )


def whole_words(*, lower: bool = True) -> Any:
    """A vocabulary of words between white space."""
    with transformers() as library:
        import tokenizers

        words = sorted({word for text in TEXTS for word in text.lower().split()})
        known = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="[UNK]"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        if lower:
            made.normalizer = tokenizers.normalizers.Lowercase()
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]"}
        return library.PreTrainedTokenizerFast(
            tokenizer_object=made, **{f"{name}_token": token for name, token in special.items()}
        )


def scenes(count: int = 8) -> list[Any]:
    """Pictures of many shapes, uint8[height, width, 3]."""
    random = np.random.default_rng(5)
    sizes = [(64, 64), (97, 131), (131, 97), (40, 33), (301, 77), (50, 203), (28, 28), (9, 300)]
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes[:count]]
