"""Converts texts to the token ids that SigLIP's text tower takes."""

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.json_files import read_object
from magmax_jax.models.checkpoint import load_tokenizer
from magmax_jax.models.hugging_face import transformers
from magmax_jax.models.siglip.config import SigLIPTextConfig
from magmax_jax.models.text_ids import check_tokenizer, other_tokenizer, unpadded_ids

SENTENCEPIECE = "spiece.model"
_OF_SENTENCEPIECE = "SiglipTokenizer"
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def read_tokenizer(directory: Path) -> Any:
    """The transformers tokenizer in a directory, None if there is none.

    transformers' class for the first SigLIP needs the sentencepiece package. If there is a
    `tokenizer.json`, the tokenizers library reads that instead.

    Raises:
      UserError: its files are broken, or need a package that is not installed.
    """
    found = transformers()
    if (directory / "tokenizer.json").exists():
        settings = read_object(directory / "tokenizer_config.json") or {}
        own = settings.get("tokenizer_class", _OF_SENTENCEPIECE) != _OF_SENTENCEPIECE
        return load_tokenizer(directory, found.AutoTokenizer if own else found.TokenizersBackend)
    if not (directory / SENTENCEPIECE).exists():
        return None
    if not found.utils.is_sentencepiece_available() or not found.utils.is_protobuf_available():
        raise UserError(
            f"{directory}: its tokenizer is {SENTENCEPIECE} alone, and the packages that read it "
            "are not installed: pip install sentencepiece protobuf"
        )
    return load_tokenizer(directory, found.AutoTokenizer)


def token_ids(tokenizer: Any, config: SigLIPTextConfig, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 (len(texts), context), padded with the tokenizer's own token on its own side.

    Padding is part of the text: the tower sees it, and pools at the last token. No attention mask
    is used: some copies of the tokenizers return one, but no SigLIP was trained with it. Texts are
    lower-cased, as in the training of both versions. The first one, whose vocabulary is a unigram
    model, was also evaluated without punctuation, which transformers' class for it removes.

    Args:
      tokenizer: the model's, from transformers; None if the model has none.
      config: the text tower's.
      texts: at least one.

    Raises:
      UserError: there is no tokenizer, it is another model's, or a text exceeds the context.
    """
    check_tokenizer(tokenizer, f"tokenizer.json, or {SENTENCEPIECE}")
    if tokenizer.pad_token_id is None:
        raise UserError(
            "the tokenizer has no padding token, and SigLIP's texts are padded to one length: copy "
            "the tokenizer files of the original model into its directory"
        )
    plain = _is_unigram(getattr(tokenizer, "backend_tokenizer", None))
    read = [_canonical(text) if plain else text.lower() for text in texts]
    ids = unpadded_ids(tokenizer, texts, read, config.context)
    padding = ([tokenizer.pad_token_id] * (config.context - len(row)) for row in ids)
    left = tokenizer.padding_side == "left"
    padded = np.array(
        [more + row if left else row + more for row, more in zip(ids, padding, strict=True)],
        np.int32,
    )
    if padded.max() >= config.vocabulary:
        raise other_tokenizer(padded.max(), f"vocabulary {config.vocabulary}")
    return padded


def _is_unigram(backend: Any) -> bool:
    from tokenizers.models import Unigram  # slow to import

    return backend is not None and isinstance(backend.model, Unigram)


def _canonical(text: str) -> str:
    """Lower case, no punctuation, single spaces, as in the evaluation of SigLIP's authors."""
    return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()
