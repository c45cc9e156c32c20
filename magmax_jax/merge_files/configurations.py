"""Configurations beside weights: where models of equal shapes compute differently from theta_0."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from magmax_jax.errors import some
from magmax_jax.io import hub
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import TensorFiles

CONFIG = "config.json"
COMPARED = (
    (CONFIG,),
    ("open_clip_config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("config_sentence_transformers.json",),
    ("sentence_bert_config.json",),
)
"""Files that determine what is computed; in a group, later ones take precedence."""
DTYPES = ("torch_dtype", "dtype")
"""Its names in transformers 4 and transformers 5."""
_TRAINING = re.compile(
    r"_(?!class_name$).*|(torch_)?dtype|transformers_version|architectures|auto_map|use_cache"
    r"|id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params"
    r"|quantization_config|gradient_checkpointing|use_return_dict|return_dict|output_\w+"
    r"|initializer_\w+|\w*init_(range|scale|std)|\w*(drop|attn_implementation)\w*|processor_class"
    r"|(image_processor|feature_extractor|tokenizer)_(type|class)|(bos|eos|pad)_token_id"
    r"|prompts|default_prompt_name|logit_scale_init_value"
)
"""Fields that do not affect what a trained model computes, or that are compared elsewhere."""
_OFTEN_IMPLIED = re.compile(r"rope_\w+|sliding_window\w*|partial_rotary_factor|quick_gelu")
"""Fields that change the computation if unset; most others are merely not written out."""
_IMPLIED = {"rope_theta": 10000, "quick_gelu": False, "partial_rotary_factor": 1}
"""Values that nearly all models mean if they do not set them."""
_SIDES = frozenset({"height", "width", "shortest_edge", "longest_edge"})
_SHOWN = 6


def has_neighbours(files: TensorFiles) -> bool:
    """Whether the files beside a model's weights belong to it, not just share a folder."""
    return bool(files.files) and (not files.loose or files.files[0].name in hub.SAFETENSORS)


def belonging(files: TensorFiles, name: str = CONFIG) -> dict[str, Any]:
    """A JSON object beside a model's weights; empty if the model has none.

    Raises:
      UserError: the file holds something else.
    """
    return (read_object(files.directory / name) or {}) if has_neighbours(files) else {}


def notes(pretrained: TensorFiles, models: Sequence[TensorFiles]) -> Iterator[str]:
    """One line for each model whose configuration makes it compute differently from theta_0.

    Raises:
      UserError: a configuration is not JSON.
    """
    groups = [*COMPARED, *((name,) for name in _modules(pretrained))]
    ours = [_fields(pretrained, group) for group in groups]
    for model in models:
        differing = []
        for group, fields in zip(groups, ours, strict=True):
            theirs = _as_part(_fields(model, group), fields)
            if fields and theirs:
                where = "" if group[0] == CONFIG else f" in {group[0]}"
                differing += [text + where for text in _differences(fields, theirs)]
        if differing:
            yield (
                f"{model.place} computes differently from theta_0, whose configuration "
                f"(config.json) the output gets: {some(differing, _SHOWN)}"
            )


def adapted(
    config: dict[str, Any], dtype: str | None, labels: Sequence[str], tokens: Mapping[str, Any]
) -> dict[str, Any]:
    """A configuration with the fields in which the output differs from theta_0 replaced.

    Args:
      config: as transformers writes it; nested configurations have their own dtypes.
      dtype: of the merged tensors, None if it is theta_0's.
      labels: of the classes, in order; if empty, labels are unchanged.
      tokens: ids of special tokens, which nested configurations may also have.
    """
    changed = {
        name: adapted(value, dtype, (), tokens) if isinstance(value, dict) else value
        for name, value in config.items()
    }
    known = any(name in config for name in (*DTYPES, "model_type"))
    if dtype is not None and known:
        changed = {name: value for name, value in changed.items() if name not in DTYPES}
        changed["dtype"] = dtype
    changed |= {name: value for name, value in tokens.items() if name in config}
    ids = {str(i): label for i, label in enumerate(labels)}
    if labels and "label_names" in config:  # timm
        changed["label_names"] = [*labels]
    elif labels and config.get("id2label") != ids:
        changed["id2label"] = ids
        changed["label2id"] = {label: i for i, label in enumerate(labels)}
    return changed


def _modules(files: TensorFiles) -> list[str]:
    """Configurations of sentence-transformers' extra modules."""
    path = files.directory / "modules.json"
    if files.loose or not path.is_file():
        return []
    found = sorted(files.directory.glob("*_*/config.json"))
    return [file.relative_to(files.directory).as_posix() for file in found]


def _fields(files: TensorFiles, group: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in group:
        found |= _flat(belonging(files, name))
    return found


def _as_part(theirs: dict[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a lone tower under their names in a whole model: `vision_config.hidden_act`."""
    kind, name = theirs.get("model_type"), "model_type"
    parts = [field for field, value in ours.items() if field.endswith(f".{name}") and value == kind]
    if kind is None or len(parts) != 1:
        return theirs
    part = parts[0].removesuffix(name)
    return {part + field: value for field, value in theirs.items()}


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every relevant field in a uniform spelling, nested ones as `text_config.rope_theta`."""
    for name, value in config.items():
        if _TRAINING.fullmatch(name) or value is None:
            continue
        if name == "rope_parameters" and isinstance(value, dict):  # transformers 5
            if "rope_theta" in value:
                yield f"{before}rope_theta", value["rope_theta"]
            if _scaling(value).get("rope_type", "default") != "default":
                yield f"{before}rope_scaling", _scaling(value)
        elif name == "rope_scaling" and isinstance(value, dict):
            yield f"{before}{name}", _scaling(value)
        elif not isinstance(value, dict) or _SIDES.issuperset(value):
            yield f"{before}{name}", value
        else:
            # transformers 5 nests what is in preprocessor_config.json in transformers 4
            yield from _flat(value, before if name == "image_processor" else f"{before}{name}.")


def _scaling(value: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary scaling under current names: `rope_type` used to be `type`."""
    return {"rope_type" if k == "type" else k: v for k, v in value.items() if k != "rope_theta"}


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*ours, *theirs]):
        implied = _OFTEN_IMPLIED.fullmatch(name.rpartition(".")[2])
        if (name in ours and name in theirs) or implied:
            unset = _IMPLIED.get(name.rpartition(".")[2], "not set")
            if not _same(ours.get(name, unset), theirs.get(name, unset)):
                one, other = ours.get(name, "not set"), theirs.get(name, "not set")
                yield f"{name} is {_short(other)} (theta_0's {_short(one)})"


def _same(one: Any, other: Any) -> bool:
    """Whether two values mean the same: image sizes may be one number for all sides."""
    for number, sides in ((one, other), (other, one)):
        if isinstance(number, int) and isinstance(sides, dict):
            return set(sides.values()) == {number}
    return bool(one == other)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
