"""Names in LoRA adapters: which tensors are A and B of which module, and which are neither."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io.safetensors.header import Tensor
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import patterns

PREFIX = "base_model.model."
"""Prefix that peft adds to the names of the model's own modules."""
_ADAPTERS = re.compile(
    r"(^|\.)(lora_(embedding_)?[AB]|lora_magnitude_vector|(processor\.)?\w*lora\.(up|down)"
    r"|lora_(up|down)|hada_w[12]_[ab]|lokr_w[12](_[ab])?|ia3_l|oft_[rR]|vera_lambda_[bd])(\.|$)"
)
_KOHYA = re.compile(r"^lora_(unet|te\d?|transformer|prior\w*)_|\.lora_(up|down)\.|\.(hada|lokr)_w")
_DIFFUSERS = re.compile(r"^(unet|text_encoder(_\d)?|transformer|prior)\.|lora\.(up|down)\.weight$")
_MATRIX = re.compile(
    r"(?P<name>.+)\.lora_(?P<embedding>embedding_)?(?P<which>[AB])"
    r"(\.(?!weight$|bias$)(?P<adapter>[^.]+))?(\.(?P<leaf>weight|bias))?"
)


@dataclass
class Module:
    """A module of the model that an adapter changes.

    Attributes:
      name: in the model without an adapter.
      a, b: its matrices.
      bias: of B, added to the module's own.
    """

    name: str
    embedding: bool = False
    a: Tensor | None = None
    b: Tensor | None = None
    bias: Tensor | None = None


@dataclass
class Contents:
    """The tensors of an adapter.

    Attributes:
      modules: by name.
      whole: tensors that replace the model's own, by the model's names: biases, heads and other
        `modules_to_save`.
    """

    modules: dict[str, Module] = field(default_factory=dict)
    whole: dict[str, Tensor] = field(default_factory=dict)


def of_adapters(names: Iterable[str], exclude: Sequence[str] = ()) -> list[str]:
    """Names that only adapters have, except those that match a pattern."""
    return [
        name for name in names if _ADAPTERS.search(name) and not patterns.matches(name, exclude)
    ]


def why_not_readable(place: Path, files: TensorFiles, found: Sequence[str]) -> str:
    """The message for adapters without a configuration; `found` is from `of_adapters`."""
    whole = len(files.tensors) > len(found)
    kohya = [name for name in files.tensors if _KOHYA.search(name)]
    if kohya:
        return (
            f"{place} is a LoRA file in kohya's or LyCORIS's naming ({kohya[0]} first), which does "
            "not say which tensors it changes: load it into its model with diffusers "
            "(load_lora_weights, fuse_lora, save_pretrained) and give the result"
        )
    if any(_DIFFUSERS.search(name) for name in found):
        return (
            f"{place} is a LoRA file in diffusers' naming ({found[0]} first), not in peft's: "
            "load it into its model with diffusers (load_lora_weights, fuse_lora, save_pretrained) "
            "and give the result"
        )
    if whole and any(".base_layer." in name for name in files.tensors):
        return (
            f"{place} holds LoRA matrices beside the weights that they change ({found[0]} first): "
            "save the model with them merged in (peft's merge_and_unload) or keep them as theta_0 "
            "has them with --exclude '*lora_*'"
        )
    return (
        f"{place} holds the matrices of a LoRA adapter ({found[0]} first), but no "
        "adapter_config.json beside them says how they are scaled: give the adapter's whole "
        "directory, as peft's save_pretrained writes it"
    )


def contents(files: TensorFiles) -> Contents:
    """Sorts a LoRA adapter's tensors.

    Raises:
      UserError: it holds another kind of tensor, half a module, or several adapters.
    """
    found = Contents()
    adapters = set()
    for full, tensor in files.tensors.items():
        name = full.removeprefix(PREFIX)
        match = _MATRIX.fullmatch(name)
        if match is None:
            _add_whole(found, files, name, tensor)
            continue
        adapters.add(match["adapter"])
        if ".base_layer." in match["name"]:
            raise UserError(_of_attention(files.place, full))
        module = found.modules.setdefault(match["name"], Module(match["name"]))
        module.embedding = bool(match["embedding"])
        if match["leaf"] == "bias" and match["which"] == "B":
            module.bias = tensor
        elif match["leaf"] == "bias":
            raise _unknown(files, full)
        elif match["which"] == "A":
            module.a = tensor
        else:
            module.b = tensor
    if len(adapters) > 1:
        raise UserError(
            f"{files.place} holds several adapters ({', '.join(sorted(map(str, adapters)))}): save "
            "each into its own directory"
        )
    for module in found.modules.values():
        if module.a is None or module.b is None:
            lost = "lora_A" if module.a is None else "lora_B"
            raise UserError(
                f"{files.place} contains no {lost} of {module.name}: save the adapter again"
            )
    if not found.modules and not found.whole:
        raise UserError(f"{files.place} contains no tensors: save the adapter again")
    return found


def _add_whole(found: Contents, files: TensorFiles, name: str, tensor: Tensor) -> None:
    if _ADAPTERS.search(name) or ".token_adapter." in name:
        raise _unknown(files, name)
    if ".original_module." in name:  # a saved module before training
        return
    name = re.sub(r"\.modules_to_save(\.default)?(?=\.)", "", name).replace(".base_layer", "")
    found.whole[name] = tensor


def _of_attention(place: Path, name: str) -> str:
    """At least up to 0.21.2, peft adds it twice, also in training (its pull request 3774)."""
    return (
        f"{place} changes torch's MultiheadAttention ({name}), and versions of peft differ in "
        "how often they add it: merge it into its model with the peft that trained it "
        "(merge_and_unload, then save) and give the result"
    )


def _unknown(files: TensorFiles, name: str) -> UserError:
    return UserError(
        f"{files.place} holds {name}, which plain LoRA adapters do not have: merge it into its "
        "model with peft (merge_and_unload, then save_pretrained) and give the result"
    )


@dataclass(frozen=True)
class Rename:
    """Replaces one prefix by another: maps names in an adapter to theta_0's."""

    dropped: str = ""
    added: str = ""

    def __call__(self, name: str) -> str | None:
        """None if the name lacks the prefix."""
        if not name.startswith(self.dropped):
            return None
        return self.added + name.removeprefix(self.dropped)


def renames(name: str, known: Iterable[str]) -> list[Rename]:
    """Every prefix change that turns a name into one of `known`, smallest first."""
    words = name.split(".")
    found: dict[Rename, None] = {}
    for i in range(len(words) - 1):  # a last word alone, such as weight, is not evidence
        dropped, rest = "".join(f"{word}." for word in words[:i]), ".".join(words[i:])
        for other in known:
            if other == rest or other.endswith(f".{rest}"):
                found.setdefault(Rename(dropped, other.removesuffix(rest)))
    return list(found)
