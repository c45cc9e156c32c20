"""Reads an adapter's `adapter_config.json`: how its matrices change the model's weights.

peft's format (https://github.com/huggingface/peft, 0.21). Adapters that are not a plain sum of
weights and products B A are refused.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError
from magmax_jax.io.json_files import read_object

CONFIG = "adapter_config.json"
MERGE_FIRST = (
    "merge it into its model with peft (merge_and_unload, then save_pretrained) and give the result"
)
_DEFAULT = 8  # peft's r and lora_alpha if a configuration has none
_NO_WEIGHTS = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT")
"""Types that train inputs of the model, so there is nothing to add to weights."""
_VARIANTS = {
    "use_dora": "a DoRA adapter, which also rescales the weights",
    "use_qalora": "a QALoRA adapter, which pools the inputs of its matrices",
    "use_bdlora": "a block-diagonal LoRA adapter",
    "alora_invocation_tokens": "an activated LoRA adapter, which changes only some positions",
    "arrow_config": "an Arrow router over adapters",
    "kasa_config": "a KaSA adapter, which changes the base weights too",
    "monteclora_config": "a MonteCLoRA adapter, which samples its weights",
    "target_parameters": "a LoRA adapter of parameters (target_parameters)",
    "layer_replication": "a LoRA adapter of a model with repeated layers (layer_replication)",
    "trainable_token_indices": "a LoRA adapter with trained tokens (trainable_token_indices)",
}
"""Settings that make an adapter more than a sum of B A, and what it is then."""
_OTHER_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initialisations that change the base's weights: prefixes of `init_lora_weights`."""


@dataclass(frozen=True)
class LoraConfig:
    """A plain LoRA adapter's settings.

    Attributes:
      path: of the file.
      base: the model that the adapter was trained on, a hub id or any path; None if not set.
      task: `task_type`, None if not set.
      rank, alpha: for modules that no pattern matches.
      rank_pattern, alpha_pattern: regular expressions for modules, with their values.
      rank_stabilised: scales by alpha / sqrt(r) instead of alpha / r.
      transposed: the model's weights are (in, out), as GPT-2's are.
    """

    path: Path
    base: str | None
    task: str | None
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rank_stabilised: bool
    transposed: bool

    def rank_of(self, module: str) -> int:
        return _matching(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """The factor of B A."""
        rank = self.rank_of(module)
        divisor = math.sqrt(rank) if self.rank_stabilised else rank
        return _matching(self.alpha_pattern, module, self.alpha) / divisor


def read_config(directory: Path) -> LoraConfig | None:
    """The settings of the adapter in a directory; None if there is no configuration.

    Raises:
      UserError: it is not a LoRA adapter, or not a plain sum of weights and products B A.
    """
    path = directory / CONFIG
    content = read_object(path)
    if content is None:
        return None
    _refuse(directory, content)
    try:
        return LoraConfig(
            path=path,
            base=content.get("base_model_name_or_path") or None,
            task=content.get("task_type"),
            rank=_rank(content.get("r", _DEFAULT)),
            alpha=_alpha(content.get("lora_alpha", _DEFAULT)),
            rank_pattern={_regex(k): _rank(v) for k, v in _patterns(content, "rank_pattern")},
            alpha_pattern={_regex(k): _alpha(v) for k, v in _patterns(content, "alpha_pattern")},
            rank_stabilised=_flag(content, "use_rslora"),
            transposed=_flag(content, "fan_in_fan_out"),
        )
    except (TypeError, ValueError, AttributeError, OverflowError, re.error) as error:
        raise UserError(
            f"{path} is not the configuration of a LoRA adapter ({error}): fetch it again"
        ) from None


def _refuse(directory: Path, content: dict[str, Any]) -> None:
    kind = content.get("peft_type")
    if kind in _NO_WEIGHTS:
        raise UserError(
            f"{directory} is an adapter of type {kind}, which changes no weights, so it cannot be "
            "merged"
        )
    if kind != "LORA":
        what = f"is an adapter of type {kind}" if kind else f"has no peft_type in {CONFIG}"
        raise UserError(f"{directory} {what}, and only LoRA adapters are read: {MERGE_FIRST}")
    for key, what in _VARIANTS.items():
        if content.get(key):
            raise UserError(
                f"{directory} is {what}, so it is not theta_0 + a scaled B A: {MERGE_FIRST}"
            )
    init = content.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_OTHER_BASE):
        raise UserError(
            f"{directory} is a LoRA adapter of a base that its initialisation changed "
            f"(init_lora_weights is {init}): convert it to plain LoRA with peft's save_pretrained("
            "path_initial_model_for_weight_conversion=...), or give its merged model"
        )


def _patterns(content: dict[str, Any], key: str) -> Any:
    return (content.get(key) or {}).items()


def _rank(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is not a rank")
    return value


def _alpha(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _flag(content: dict[str, Any], key: str) -> bool:
    value = content.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}, neither true nor false")
    return bool(value)


def _regex(pattern: str) -> str:
    re.compile(pattern)
    return pattern


def _matching(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that matches the module's full name or a suffix of it."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
