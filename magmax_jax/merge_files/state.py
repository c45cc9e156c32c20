"""The state of a merge in a file: to add next month's model, no earlier model is needed.

A safetensors file. For every merged tensor it holds the rule's state as `0/NAME`, `1/NAME`, ...:
the leaves of the state for a tree of that tensor. Its metadata holds the merge's history: the rule,
theta_0 and the models in order.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from magmax_jax.errors import UserError, counted
from magmax_jax.io.safetensors.reader import Tensor, TensorFiles, open_files
from magmax_jax.io.safetensors.writer import TensorSpecs

if TYPE_CHECKING:  # headers are compared without JAX
    import jax

    from magmax_jax.merging import MergeRule

KEY = "magmax_state"


@dataclass(frozen=True)
class MergedModel:
    """One model of a history."""

    source: str
    """As given on the command line."""
    sha256: str | None
    """Checksum of its weights (see `digests_of`), None if not computed."""
    norm: float
    """|tau| over all merged tensors."""


@dataclass(frozen=True)
class MergeHistory:
    """Everything merged into one model so far: the content of a state file and a model card.

    Its field names and `MergedModel`'s are the JSON keys in state files.
    """

    rule: str
    options: dict[str, Any]
    seed: int
    pretrained: str
    sha256: str | None
    """Checksum of theta_0's weights."""
    tasks: tuple[MergedModel, ...] = ()
    labels: tuple[str, ...] = ()
    """Labels of the classes, in the row order of the merged heads; none if no model names them."""

    def build_rule(self, kept: bool = False) -> "MergeRule":
        """The rule with its options.

        Args:
          kept: whether its state is kept in a file, for which a rule may have further options.

        Raises:
          UserError: there is no such rule, or it cannot take the options.
        """
        from magmax_jax.merging import rules

        try:
            rule = rules.named(self.rule, self.seed, **self.options)
            if kept and rule.state_options:
                options = dict(rule.state_options) | self.options
                rule = rules.named(self.rule, self.seed, **options)
        except TypeError as error:
            given = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
            raise UserError(f"--options: {self.rule} cannot take {given} ({error})") from None
        return rule

    def title(self, models: int, scale: float | None, more: str = "") -> str:
        """What is computed of how many models, with more about these; the scale if it is known."""
        at = "" if scale is None else f" at scale {scale:g}"
        return f"{self.rule} of {counted(models, 'model')}{more}{at}"

    def to_metadata(self) -> dict[str, str]:
        value = dataclasses.asdict(self)
        if not self.labels:
            del value["labels"]
        return {KEY: json.dumps(value)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], path: Path) -> "MergeHistory":
        """Raises a UserError if the metadata is not a state's."""
        try:
            value = json.loads(metadata[KEY])
            tasks = tuple(MergedModel(**task) for task in value.pop("tasks"))
            options = value.pop("options").items()  # JSON has lists for tuples
            options = {key: tuple(v) if isinstance(v, list) else v for key, v in options}
            labels = tuple(value.pop("labels", ()))
            return cls(**value, options=options, tasks=tasks, labels=labels)
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
            raise UserError(
                f"{path} is not a state file: give one that --state has written"
            ) from None


def read_state(path: Path) -> tuple[MergeHistory, TensorFiles]:
    """The history and the tensors of a state file.

    Raises:
      UserError: there is none, or it is truncated or not a state.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such state file: give one that --state has written")
    files = open_files(path.parent, [path])
    return MergeHistory.from_metadata(files.metadata, path), files


def layout(rule: "MergeRule", names: Sequence[str], pretrained: TensorFiles) -> TensorSpecs:
    """The content of a state file for these tensors, leaf by leaf, each in theta_0's order."""
    states = {name: _leaves(rule, name, pretrained.tensors[name]) for name in names}
    count = max((len(state) for state in states.values()), default=0)
    return {
        f"{i}/{name}": (np.dtype(state[i].dtype), state[i].shape)
        for i in range(count)
        for name, state in states.items()
    }


def differences(files: TensorFiles, expected: TensorSpecs, path: Path) -> list[str]:
    """A problem if the file does not hold exactly the expected state."""
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in files.tensors.items()}
    differing = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    if not differing:
        return []
    return [
        f"{path} is the state of another model or choice of tensors: {len(differing)} of its "
        f"tensors differ, {differing[0]} first"
    ]


def _leaves(rule: "MergeRule", name: str, tensor: Tensor) -> "list[jax.ShapeDtypeStruct]":
    """Shapes and dtypes of the rule's state for one tensor."""
    import jax

    theta = jax.ShapeDtypeStruct(tensor.shape, np.float32)
    return jax.tree.leaves(jax.eval_shape(rule.init, {name: theta}))
