"""A classifier of texts by their words: TfidfVectorizer and logistic regression, as a skops file.

python make.py OUT    writes OUT/tickets.skops and OUT/texts
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skops.io
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

TEXTS, SHOWN = 600, 8
SUBJECTS = {
    "billing": "invoice refund charge card payment price twice subscription receipt cancel",
    "delivery": "parcel courier late address tracking package lost arrived shipping box",
    "account": "password login email locked reset username sign profile verify code",
}
COMMON = [
    "the",
    "my",
    "a",
    "please",
    "I",
    "it",
    "was",
    "not",
    "is",
    "again",
    "today",
    "for",
    "with",
    "and",
    "help",
    "why",
    "you",
]


def texts() -> tuple[list[str], list[str]]:
    """Sentences with some words of their subject, and the subjects."""
    random = np.random.default_rng(0)
    made, subjects = [], []
    for _ in range(TEXTS):
        subject = str(random.choice(list(SUBJECTS)))
        own = random.choice(SUBJECTS[subject].split(), 3).tolist()
        words = [*own, *random.choice(COMMON, 6).tolist()]
        random.shuffle(words)
        made.append(" ".join(words).capitalize() + str(random.choice([".", "!", "?", " ..."])))
        subjects.append(subject)
    return made, subjects


def main(out: Path) -> None:
    """Fit, and save the pipeline and some texts."""
    made, subjects = texts()
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    model.fit(made, subjects)
    skops.io.dump(model, out / "tickets.skops")
    (out / "texts").mkdir()
    for number, text in enumerate(made[:SHOWN]):
        (out / "texts" / f"{number}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
