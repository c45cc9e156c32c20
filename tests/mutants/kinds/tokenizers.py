"""Tokenizers as models read them, and as a merge compares them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.merge_files import tokenizers
from magmax_jax.models.checkpoint import read_tokenizer
from magmax_jax.models.clip.config import TextConfig
from magmax_jax.models.clip.tokens import token_ids
from magmax_jax.models.siglip import tokens as siglip
from magmax_jax.models.siglip.config import SigLIPTextConfig
from tests.conftest import byte_tokenizer
from tests.merge_files.conftest import write
from tests.mutants.kind import Kind, in_json, in_text_or_bytes

TEXTS = ("a photo of a cat.", "caf\u00e9 & bar", "x")
CONTEXT, VOCABULARY = 32, 258
_TOWER = {"width": 32, "layers": 2, "heads": 2, "mlp": 64, "activation": "gelu", "epsilon": 1e-5}
CLIP = TextConfig(**_TOWER, vocabulary=VOCABULARY, context=CONTEXT, bos=256, eos=257)
SIGLIP = SigLIPTextConfig(**_TOWER, vocabulary=VOCABULARY, context=CONTEXT)


def _make(folder: Path) -> None:
    byte_tokenizer().save_pretrained(folder)


def _make_vocabulary(folder: Path) -> None:
    """CLIP's tokenizer as vocabulary and merges, without tokenizer.json."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())[: VOCABULARY // 2 - 2]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>",
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _clip_ids(folder: Path) -> np.ndarray:
    return token_ids(read_tokenizer(folder), CLIP, TEXTS)


def _siglip_ids(folder: Path) -> np.ndarray:
    return siglip.token_ids(siglip.read_tokenizer(folder), SIGLIP, TEXTS)


def _in_range(folder: Path, ids: np.ndarray) -> bool:
    """Whether a text tower can take the ids: other ones would read outside its table."""
    fits = ids.shape[0] == len(TEXTS) and 0 < ids.shape[1] <= CONTEXT
    return fits and ids.dtype == np.int32 and ids.min() >= 0 and ids.max() < VOCABULARY


def _make_two(folder: Path) -> None:
    for name in ("base", "tuned"):
        write(folder / name, {"w": np.zeros(2, np.float32)})
        (folder / name / "config.json").write_text(json.dumps({"eos_token_id": 257}))
        byte_tokenizer().save_pretrained(folder / name)
        (folder / name / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
        (folder / name / "generation_config.json").write_text(json.dumps({"top_k": 5}))
    shutil.copy(folder / "base" / "vocab.json", folder / "tuned" / "merges.txt")


def _notes(folder: Path) -> list[str]:
    base, tuned = (open_tensors(folder / name) for name in ("base", "tuned"))
    return [*tokenizers.notes(base, [tuned], None), *tokenizers.notes(tuned, [base], "base")]


def _are_lines(folder: Path, found: list[str]) -> bool:
    return all("\n" not in note and len(note) < 2_000 for note in found)


def _kind(files: str, make: Callable[[Path], None], read: Callable[[Path], np.ndarray]) -> Kind:
    return Kind(files, make, read, in_text_or_bytes, _in_range)


KINDS = {
    "clip tokenizer": _kind("tokenizer*.json", _make, _clip_ids),
    "clip vocabulary": _kind("*.*", _make_vocabulary, _clip_ids),
    "siglip tokenizer": _kind("tokenizer*.json", _make, _siglip_ids),
    "two tokenizers": Kind("tuned/*.json", _make_two, _notes, in_json, _are_lines),
}
