"""Texts as the ids that CLIP's text tower takes."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from magmax_jax.models.clip.config import LEGACY_EOS, TextConfig
from magmax_jax.models.text_ids import check_tokenizer, other_tokenizer, unpadded_ids


def token_ids(tokenizer: Any, config: TextConfig, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 (len(texts), n), n the length of the longest text, padded behind each EOS.

    Texts are cleaned as OpenAI's and OpenCLIP's tokenizers clean them, which transformers' does not
    do: `cleaned`.

    Args:
      tokenizer: the model's, of transformers; None where it came without one.
      config: the text tower's.
      texts: at least one.

    Raises:
      UserError: there is no tokenizer, it is another model's, or a text exceeds the context.
    """
    check_tokenizer(tokenizer, "tokenizer.json, or vocab.json and merges.txt")
    read = list(map(cleaned, texts)) if _is_clips(tokenizer) else texts
    ids = unpadded_ids(tokenizer, texts, read, config.context)
    longest = max(map(len, ids))
    # The tower sees nothing behind the first EOS, so any id pads; repeating it suits both poolings.
    padded = np.array([row + row[-1:] * (longest - len(row)) for row in ids], np.int32)
    ends = config.eos == LEGACY_EOS or (padded == config.eos).any(axis=1).all()
    if not ends or padded.max() >= config.vocabulary:
        facts = f"vocabulary {config.vocabulary}, eos_token_id {config.eos}"
        raise other_tokenizer(padded.max(), facts)
    return padded


def cleaned(text: str) -> str:
    """A text as OpenAI's tokenizer has it before it looks for tokens (clip/simple_tokenizer.py).

    Curly quotes become straight ones, HTML entities their characters, ligatures and full-width
    forms plain letters; wrongly decoded text is mended, runs of spaces become one, and letters
    lower case.

    >>> cleaned("Salt &amp; a cook’s  ﬂour")
    "salt & a cook's flour"
    """
    # ftfy leaves plain ASCII as it is, and takes longer than everything else here.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy  # lazily: most texts are plain

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _is_clips(tokenizer: Any) -> bool:
    """Whether a tokenizer joins spaces and ignores case as CLIP's own does.

    A CLIP model with another one, such as one that tells cases apart, gets its texts as they are.
    """
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    return normalizer is not None and normalizer.normalize_str("A \t b") == "a b"
