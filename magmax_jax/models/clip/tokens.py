"""Converts texts to the token ids that CLIP's text tower takes."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from magmax_jax.models.clip.config import LEGACY_EOS, TextConfig
from magmax_jax.models.text_ids import check_tokenizer, other_tokenizer, unpadded_ids


def token_ids(tokenizer: Any, config: TextConfig, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 (len(texts), n), n the length of the longest text, padded after each EOS.

    Texts are `cleaned` like in OpenAI's and OpenCLIP's tokenizers, which transformers' does not do.

    Args:
      tokenizer: the model's, from transformers; None if the model has none.
      config: the text tower's.
      texts: at least one.

    Raises:
      UserError: there is no tokenizer, it is another model's, or a text exceeds the context.
    """
    check_tokenizer(tokenizer, "tokenizer.json, or vocab.json and merges.txt")
    read = list(map(cleaned, texts)) if _is_clips(tokenizer) else texts
    ids = unpadded_ids(tokenizer, texts, read, config.context)
    longest = max(map(len, ids))
    # The tower ignores everything after the first EOS, so any id can pad; EOS suits both poolings.
    padded = np.array([row + row[-1:] * (longest - len(row)) for row in ids], np.int32)
    ends = config.eos == LEGACY_EOS or (padded == config.eos).any(axis=1).all()
    if not ends or padded.max() >= config.vocabulary:
        facts = f"vocabulary {config.vocabulary}, eos_token_id {config.eos}"
        raise other_tokenizer(padded.max(), facts)
    return padded


def cleaned(text: str) -> str:
    """Cleans a text as OpenAI's tokenizer does before tokenizing (clip/simple_tokenizer.py).

    Curly quotes become straight, HTML entities become characters, ligatures and full-width forms
    become plain letters; mojibake is repaired, runs of spaces are collapsed, and letters are
    lower-cased.

    >>> cleaned("Salt &amp; a cook’s  ﬂour")
    "salt & a cook's flour"
    """
    # ftfy does not change plain ASCII, and is slower than everything else here.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy  # lazily, as most texts are plain

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _is_clips(tokenizer: Any) -> bool:
    """Whether a tokenizer collapses spaces and ignores case, like CLIP's own.

    Other tokenizers, e.g. case-sensitive ones, get the texts unchanged.
    """
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    return normalizer is not None and normalizer.normalize_str("A \t b") == "a b"
