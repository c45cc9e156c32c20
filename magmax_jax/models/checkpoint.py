"""Shared by checkpoints of all families: files that accompany the weights, and writing."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from magmax_jax.errors import UserError
from magmax_jax.inputs.preprocessing import Preprocessing
from magmax_jax.inputs.processor_settings import CROP, read_settings
from magmax_jax.io.atomic import new_directory
from magmax_jax.io.companions import CARD
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.io.safetensors.writer import DirectoryWriter
from magmax_jax.models import conversion
from magmax_jax.models.entries import Entry
from magmax_jax.models.hugging_face import quiet, transformers
from magmax_jax.registry import MODEL_FAMILIES

CONFIG = "config.json"
OPENCLIP = "open_clip_config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"


@dataclass(frozen=True, eq=False)
class Companions:
    """Tokenizer and preprocessor, which are saved with the weights.

    A model holds them as a static attribute, which JAX and Flax compare whenever they compare the
    structure of two models. Companions are equal if they tokenize texts and preprocess images
    alike: two loads of one checkpoint share compiled programs, and so does a copy of it. Those
    that differ must compare unequal, or a program compiled for one model would return another
    model's companions.
    """

    tokenizer: Any = None
    """A transformers tokenizer, or None if the checkpoint has none."""
    preprocessor: dict | None = None
    """The settings of the image processor, flat as in `preprocessor_config.json`, or None."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Companions):
            return NotImplemented
        return self is other or (
            self._preprocessing == other._preprocessing and self.tokenizes_like(other)
        )

    def tokenizes_like(self, other: "Companions") -> bool:
        """Whether both give every text the same ids."""
        return self.tokenizer is other.tokenizer or self._tokenization == other._tokenization

    def __hash__(self) -> int:
        """Constant, hence fast: models are hashed at every call of a compiled program."""
        return hash(Companions)

    @cached_property
    def _preprocessing(self) -> Preprocessing | dict:
        """At a fixed size, because the model's own is not known here.

        Unsupported settings, which only a caller can have set, are compared as they are.
        """
        settings = self.preprocessor or {}
        try:
            return Preprocessing.from_config(settings, CROP)
        except UserError:
            return settings

    @cached_property
    def _tokenization(self) -> Any:
        """What determines a text's ids; for tokenizers not from transformers, the object itself."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        pieces = getattr(self.tokenizer, "sp_model", None)
        if pieces is not None:  # sentencepiece's
            return hashlib.sha256(pieces.serialized_model_proto()).digest()
        if backend is None:
            return self.tokenizer
        settings = json.loads(backend.to_str())
        for left_by_the_last_call in ("padding", "truncation"):
            settings.pop(left_by_the_last_call)
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).digest()


def model_type(directory: Path) -> Any:
    """The `model_type` in `config.json`; None if there is no such file or entry.

    Raises:
      UserError: the file is not a JSON object.
    """
    return (read_object(directory / CONFIG) or {}).get("model_type")


def no_configuration(directory: Path) -> UserError:
    """The error for a directory that has no publisher's configuration."""
    return UserError(
        f"{directory} has neither {CONFIG} nor {OPENCLIP}: put the model's own {CONFIG} there"
    )


def check_type(config: Mapping[str, Any], wanted: str, name: str) -> None:
    """Raises a UserError if a configuration does not describe a whole model of a family.

    Args:
      config: content of a `config.json`.
      wanted: the family's `model_type`.
      name: of the family's models.
    """
    found = config.get("model_type")
    if found == wanted:
        classes = [str(each) for each in config.get("architectures") or ()]
        if any(each.endswith("ForImageClassification") for each in classes):
            raise UserError(
                f"architectures is {classes}, an image classifier without a text tower, for the "
                f"classes that it learned: choose the {name} from which it was made"
            )
        return
    known = isinstance(found, str) and found in MODEL_FAMILIES
    advice = (
        f"load it with magmax_jax.models.from_pretrained, or choose a {name}"
        if known
        else f"choose a {name} with both towers"
    )
    raise UserError(f"model_type is {found!r}, not {wanted!r}: {advice}")


MISTAKES = (
    *(TypeError, ValueError, KeyError, AttributeError, OverflowError, ZeroDivisionError),
    RecursionError,  # of settings that are nested too deep
)
"""Raised by transformers' configurations, and ours, for values that they do not check."""


def in_a_line(error: BaseException) -> str:
    """An error's message in one line: transformers' validation errors have several."""
    return " ".join(str(error).split())


def open_weights(directory: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Every tensor in the safetensors of a directory, each loaded when called.

    Raises:
      UserError: there are none, or a file is incomplete.
    """
    found = open_tensors(directory)
    return {name: functools.partial(found.load, name) for name in found.tensors}


def read_tokenizer(directory: Path) -> Any:
    """The transformers tokenizer in a directory, None if there is none.

    Raises:
      UserError: its files are broken.
    """
    if not any((directory / name).exists() for name in ("tokenizer.json", "vocab.json")):
        return None
    return load_tokenizer(directory, transformers().AutoTokenizer)


def load_tokenizer(directory: Path, kind: Any) -> Any:
    """The tokenizer in a directory, loaded with a class of transformers.

    Raises:
      UserError: its files are broken.
    """
    try:
        with quiet():
            return kind.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare exceptions on broken files
        raise UserError(
            f"{directory}: the tokenizer cannot be read ({in_a_line(error)}): fetch its files again"
        ) from None


def read_preprocessor(directory: Path, processor: str | None = None) -> dict | None:
    """The settings of the image processor in a directory, flat; None if there are none.

    transformers' `CLIPProcessor.save_pretrained` writes `processor_config.json` and nests them
    under `image_processor`; if both files exist, transformers reads that one.

    Args:
      processor: the family's `image_processor_type`, one of `processor_settings.PROCESSORS`, which
        supplies missing settings. CLIP's if not given.

    Raises:
      UserError: a file is not a JSON object, or asks for something unsupported.
    """
    path = directory / PROCESSOR
    settings = (read_object(path) or {}).get("image_processor")
    if not isinstance(settings, dict):
        path = directory / PREPROCESSOR
        settings = read_object(path)
    if settings is None:
        return None
    if processor is not None:
        named = settings.get("image_processor_type") or settings.get("feature_extractor_type")
        settings = settings | {"image_processor_type": named or processor}
    return checked(settings, path)


def checked(settings: dict, path: Path) -> dict:
    """Returns `settings` unchanged if their image processor is supported.

    Raises:
      UserError: it is not; the message begins with `path`.
    """
    try:
        read_settings(settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return settings


def saved_preprocessor(settings: dict | None, processor: str, size: int) -> dict:
    """The settings to save for an image processor: complete, so that no reader's defaults matter.

    Args:
      settings: as read.
      processor: the `image_processor_type` to save.
      size: of the model's images, in pixels.
    """
    computed = Preprocessing.from_config(settings or {}, size).to_config()
    return (settings or {}) | {"image_processor_type": processor} | computed


def write(
    directory: Path,
    hf_config: Any,
    companions: Companions,
    entries: Sequence[Entry],
    state: nnx.State,
    dtype: str,
    card: str | None = None,
) -> None:
    """Atomically writes a directory that transformers can load.

    Args:
      directory: a new one.
      hf_config: a transformers configuration of the model; its `dtype` is set.
      companions: the preprocessor's content is written unchanged.
      entries: every parameter of the model.
      state: the parameters.
      dtype: of the tensors.
      card: the text of the model card, if it gets one.

    Raises:
      UserError: the directory is not empty, checkpoints do not support the dtype, or writing fails.
    """
    if dtype not in conversion.DTYPES:
        written = ", ".join(conversion.DTYPES)
        raise UserError(f"{directory}: dtype {dtype!r} is not supported: use {written}")
    kind = np.dtype(dtype)
    hf_config.dtype = dtype
    with new_directory(directory) as partial:
        with quiet():
            hf_config.save_pretrained(partial)
        if companions.tokenizer is not None:
            companions.tokenizer.save_pretrained(partial)
        preprocessor = json.dumps(companions.preprocessor, indent=2) + "\n"
        (partial / PREPROCESSOR).write_text(preprocessor)
        if card is not None:
            (partial / CARD).write_text(card, encoding="utf-8")
        shapes = conversion.hf_shapes(entries, state)
        layout = {name: (kind, shape) for name, shape in shapes.items()}
        with DirectoryWriter(partial, layout) as writer:
            for name, tensor in conversion.to_hf(entries, state):
                writer.write(name, tensor.astype(kind, copy=False))
