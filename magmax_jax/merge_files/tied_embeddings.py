"""Tied embeddings: one parameter that checkpoints hold under one or several names.

If a model's `config.json` has `tie_word_embeddings`, its output embedding is its input embedding;
transformers then stores one of the two, other programs both.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from magmax_jax.errors import UserError
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.computed import Computed
from magmax_jax.io.safetensors.reader import Reader, TensorFiles

OUTPUT_EMBEDDINGS = (
    "lm_head.weight",
    "embed_out.weight",
    "proj_out.weight",
    "lm_head.decoder.weight",
    "predictions.decoder.weight",
    "vocab_projector.weight",
    "generator_lm_head.weight",
    "lm_loss.weight",
    "output_projection.weight",
)
"""Its name in different architectures: suffixes of the tensor's name."""
_OUTPUT_BIASES = ("lm_head.decoder.bias", "predictions.decoder.bias")
_SHARED, _OF_SHARED = (
    "shared.weight",
    ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
)


@dataclass(frozen=True)
class Tied:
    """Checkpoints in which every tied pair is one parameter.

    Attributes:
      models: each with theta_0's choice of names, if that loses nothing.
      twins: by name of a merged tensor, the other names under which its merged values are written.
      notes: what was done.
    """

    models: list[TensorFiles]
    twins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def settle(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    merged: Sequence[str],
    state: Collection[str] = (),
) -> Tied:
    """Finds the pairs that are bit-identical in every checkpoint; reads those tensors, if any.

    A pair that theta_0's config.json declares untied stays two tensors.

    Args:
      merged: names of tensors to merge.
      state: names of the state's tensors: a copy that it was started with is kept.

    Raises:
      UserError: a file cannot be read.
    """
    twins: dict[str, tuple[str, ...]] = {}
    with Reader() as reader:
        settled, notes = _without_copies(pretrained, models, reader)
        wanted = set(merged)
        tied = _says_tied(pretrained) is not False
        for name in _copies(pretrained.tensors) if tied else ():
            original = _original(pretrained, name, reader)
            if original is None or not wanted & {name, original}:
                continue
            if not wanted >= {name, original}:
                kept = name if original in wanted else original
                notes.append(
                    f"{kept} stays theta_0's, so it is no longer equal to the embedding to which "
                    "theta_0 ties it"
                )
                continue
            lacking = [model for model in settled if _lacks_copy(model, name, original)]
            if lacking:
                settled = [
                    _with_copy(model, name, original) if model in lacking else model
                    for model in settled
                ]
                notes.append(f"{name} of {_places(lacking)} is {original}, to which it is tied")
            through = [_through_tie(model, name, original, pretrained) for model in settled]
            if found := [new for new, old in zip(through, settled, strict=True) if new is not old]:
                notes.append(
                    f"{name} and {original} are tied in theta_0, so what {_places(found)} adds to "
                    "one of them is added to both"
                )
            settled = through
            apart = [model for model in settled if not _equal(model, name, original, reader)]
            if any(name in model.tensors for model in apart):
                notes.append(
                    f"{name} is merged apart from {original}: they are equal in theta_0, not in "
                    f"{_places(apart)}"
                )
            elif not apart and f"0/{name}" not in state:
                twins[original] = (*twins.get(original, ()), name)
    return Tied(settled, twins, notes)


def _without_copies(
    pretrained: TensorFiles, models: Sequence[TensorFiles], reader: Reader
) -> tuple[list[TensorFiles], list[str]]:
    """The models without second copies that theta_0 does not store, and notes on these."""
    having: dict[tuple[str, str], list[TensorFiles]] = {}
    settled = []
    for model in models:
        copies = {
            name: original
            for name in _copies(model.tensors)
            if name not in pretrained.tensors and (original := _original(model, name, reader))
        }
        for name, original in copies.items():
            what = original if _ends(name, _OUTPUT_BIASES) else "the input embedding"
            having.setdefault((name, what), []).append(model)
        tensors = {n: tensor for n, tensor in model.tensors.items() if n not in copies}
        settled.append(dataclasses.replace(model, tensors=tensors) if copies else model)
    notes = [
        f"{name} of {_places(found)} is left out: it is a copy of {what}, to which theta_0 ties it"
        for (name, what), found in having.items()
    ]
    return settled, notes


def _places(models: Iterable[TensorFiles]) -> str:
    return " and ".join(str(model.place) for model in models)


def why_missing(name: str, pretrained: TensorFiles, model: TensorFiles) -> str:
    """What to add to "`name` is missing" in `model`: nothing, or that it is tied and what to do."""
    if is_output_embedding(name) and _says_tied(pretrained):
        # Keeping theta_0's would leave two different ones, which transformers no longer ties.
        return (
            ": it is tied to the input embedding (tie_word_embeddings in config.json), but theta_0 "
            "stores both: save theta_0 again with transformers' save_pretrained, which leaves a "
            "copy out"
        )
    if is_output_embedding(name) and _says_tied(model):
        return (
            ": it is tied to the input embedding there (tie_word_embeddings in config.json), in "
            f"theta_0 it is not: keep theta_0's with --exclude {name}"
        )
    return ""


def why_unexpected(name: str, pretrained: TensorFiles) -> str:
    """What to add to "`name` is not in theta_0": nothing, or that the model is untied."""
    if is_output_embedding(name):
        why = " (tie_word_embeddings in config.json)" if _says_tied(pretrained) else ""
        return (
            f": the model's output embedding is not tied to its input embedding, unlike "
            f"theta_0's{why}: leave it out with --exclude {name}"
        )
    return ""


def is_output_embedding(name: str) -> bool:
    """Whether this is an architecture's name for its output embedding."""
    return _ends(name, OUTPUT_EMBEDDINGS)


def _ends(name: str, ends: Iterable[str]) -> bool:
    return f".{name}".endswith(tuple(f".{end}" for end in ends))


def _copies(names: Collection[str]) -> Iterator[str]:
    """Names under which a checkpoint may hold a second copy of an embedding, or of its bias."""
    shared = any(_ends(name, [_SHARED]) for name in names)
    ends = (*OUTPUT_EMBEDDINGS, *_OUTPUT_BIASES, *(_OF_SHARED if shared else ()))
    return (name for name in list(names) if _ends(name, ends))


def _original(files: TensorFiles, name: str, reader: Reader) -> str | None:
    """The tensor of which `name` is a bit-identical copy; None if there is none."""
    copies = set(_copies(files.tensors))
    others = (other for other in files.tensors if other not in copies)
    return next((other for other in others if _equal(files, name, other, reader)), None)


def _equal(files: TensorFiles, name: str, other: str, reader: Reader) -> bool:
    """Whether both exist and hold the same bits; stops reading at the first difference."""
    if name not in files.tensors or other not in files.tensors:
        return False
    return reader.same_bits(files.tensors[name], files.tensors[other])


def _lacks_copy(model: TensorFiles, name: str, original: str) -> bool:
    there = original in model.tensors and name not in model.tensors
    return there and _says_tied(model) is not False


def _with_copy(model: TensorFiles, name: str, original: str) -> TensorFiles:
    tensors = model.tensors | {name: model.tensors[original]}
    return dataclasses.replace(model, tensors=tensors)


def _through_tie(
    model: TensorFiles, name: str, original: str, pretrained: TensorFiles
) -> TensorFiles:
    """The model, with an adapter's change to one tensor of a tied pair applied to both.

    The pair is one parameter of the model that the adapter was trained on. A tensor that the
    adapter holds whole (peft's modules_to_save) is a separate parameter.
    """
    tensors = model.tensors
    for changed, other in ((name, original), (original, name)):
        added = tensors.get(changed)
        if (
            isinstance(added, Computed)
            and added != pretrained.tensors[changed]
            and tensors.get(other) == pretrained.tensors[other]
        ):
            return dataclasses.replace(model, tensors=tensors | {other: added})
    return model


def _says_tied(files: TensorFiles) -> bool | None:
    """What config.json says; None if it says nothing, e.g. for the architecture's default."""
    try:
        config = read_object(files.directory / "config.json") or {}
    except UserError:
        return None
    # Models with several parts state it for their text model.
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    said = [part.get("tie_word_embeddings") for part in parts]
    if True in said:
        return True
    return False if False in said else None
