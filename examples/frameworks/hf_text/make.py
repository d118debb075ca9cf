"""A small DistilBERT that tells good reviews from bad ones, saved as Hugging Face folders are.

    python make.py OUT    writes OUT/reviews (the folder) and OUT/samples (texts)

The reviews are made up of words; the tokenizer (WordPiece) is trained on them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast, DistilBertConfig, DistilBertForSequenceClassification

NAMES = ("negative", "positive")
WORDS = (
    ("dull", "tedious", "clumsy", "lifeless", "annoying", "shallow", "forgettable", "a mess"),
    ("moving", "charming", "witty", "gripping", "tender", "brilliant", "unforgettable", "a delight"),
)
THINGS = ("film", "story", "acting", "ending", "score", "dialogue", "picture", "comedy", "drama")
FORMS = (
    "The {thing} is {word}.",
    "What a {word} {thing}!",
    "{word} from beginning to end, and the {thing} even more so.",
    "I found the {thing} {word}, though it takes its time.",
    "Not one minute of this {thing} is anything but {word} and {other}.",
)
STEPS, ROWS = 60, 32


def review(kind: int, random: np.random.Generator) -> str:
    """One sentence, or two."""
    sentences = []
    for _ in range(int(random.integers(1, 3))):
        word, other = random.choice(WORDS[kind], 2)
        form = str(random.choice(FORMS))
        sentences.append(form.format(thing=random.choice(THINGS), word=word, other=other))
    return " ".join(sentences)


def main(out: Path) -> None:
    """Train for some seconds and save."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    (out / "reviews").mkdir(parents=True, exist_ok=True)
    pieces = BertWordPieceTokenizer(lowercase=True)
    corpus = [review(number % 2, random) for number in range(400)]
    pieces.train_from_iterator(corpus, vocab_size=160, min_frequency=1, show_progress=False)
    pieces.save(str(out / "reviews" / "tokenizer.json"))
    tokenizer = BertTokenizerFast(tokenizer_file=str(out / "reviews" / "tokenizer.json"), model_max_length=64)
    names = dict(enumerate(NAMES))
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        dim=48,
        n_layers=2,
        n_heads=4,
        hidden_dim=96,
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    model = DistilBertForSequenceClassification(config)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(STEPS):
        kinds = random.integers(0, 2, ROWS)
        texts = [review(int(kind), random) for kind in kinds]
        batch = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        loss = model(**batch, labels=torch.from_numpy(kinds)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval().save_pretrained(out / "reviews")
    tokenizer.save_pretrained(out / "reviews")
    (out / "samples").mkdir(parents=True, exist_ok=True)
    right = 0
    for number in range(10):
        text = review(number % 2, random)
        (out / "samples" / f"{NAMES[number % 2]}-{number}.txt").write_text(text, "utf-8")
        batch = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            right += int(model(**batch).logits.argmax()) == number % 2
    print(f"{right} of 10 samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
