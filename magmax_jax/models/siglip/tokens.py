"""Texts as the ids that SigLIP's text tower takes."""

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
    """The transformers tokenizer in a directory, None where there is none.

    The class that transformers has for the first SigLIP needs the sentencepiece package. Where
    there is a `tokenizer.json`, the tokenizers library reads that instead.

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

    Padding is part of the text: the tower sees it, and pools at the last token. An attention mask,
    which some copies of the tokenizers give and no SigLIP was trained with, is not made. Texts are
    put in small letters, as both versions were trained. The first, whose vocabulary is a unigram
    model, was evaluated without punctuation as well, which transformers' class for it takes out.

    Args:
      tokenizer: the model's, of transformers; None where it came without one.
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
    """Small letters, no punctuation, single spaces: what SigLIP's authors evaluate with."""
    return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()
