"""Writes the result of merging adapters, the change to theta_0, as an adapter."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from magmax_jax.errors import UserError
from magmax_jax.io.hub import ADAPTER
from magmax_jax.io.safetensors.computed import Computed
from magmax_jax.io.safetensors.reader import Reader, TensorFiles
from magmax_jax.io.safetensors.writer import FileWriter, TensorSpecs, nbytes
from magmax_jax.merge_files.lora.config import CONFIG, LoraConfig
from magmax_jax.merge_files.lora.delta import BLOCK, Product, is_change
from magmax_jax.merge_files.lora.factor import truncated_svd
from magmax_jax.merge_files.lora.names import PREFIX

_HEADLESS = ("CAUSAL_LM", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION")
"""Task types for which peft 0.21 does not expect a separate head in the adapter."""


class Loss(NamedTuple):
    """How much of the merged change an adapter of its rank loses: relative norms."""

    overall: float
    worst: float
    where: str
    """The tensor that loses most."""

    def __str__(self) -> str:
        return (
            f"relative error of its deltas {self.overall:.2g}, at most {self.worst:.2g} "
            f"({self.where})"
        )


class AdapterWriter:
    """Takes merged tensors like `DirectoryWriter` and writes `adapter_model.safetensors`.

    Collects tensors one at a time and factorises each one's difference from theta_0. The file is
    complete once its `with` block ends without an error.

    Args:
      directory: an existing empty one.
      rank: of the adapter.
      pretrained: theta_0.
      models: the merged models, all of them adapters.
      merged: names of tensors; other tensors that are written are theta_0's own.
      dtype: of the matrices.

    Raises:
      OSError: a disk operation fails, or the disk is full.
    """

    def __init__(
        self,
        directory: Path,
        rank: int,
        pretrained: TensorFiles,
        models: Sequence[TensorFiles],
        merged: Sequence[str],
        dtype: np.dtype,
    ):
        self._directory, self.rank, self._dtype = directory, rank, dtype
        self._pretrained = pretrained
        self._products = products(models, merged)
        self._whole: dict[str, tuple[np.ndarray, int]] = {}
        self._squares: dict[str, tuple[float, float]] = {}
        self._reader = Reader()
        self._file = FileWriter(directory / ADAPTER, specs(self._products, rank, dtype))

    def write(self, name: str, data: np.ndarray, start: int = 0) -> None:
        """Takes the tensor's entries from `start` on, each once; float32 if it was merged.

        Raises:
          UserError: the merged tensor or its matrices are not finite.
        """
        if name not in self._products:
            return
        size = self._pretrained.tensors[name].size
        whole, filled = self._whole.pop(name, (np.empty(0, np.float32), 0))
        whole = whole if filled else np.empty(size, np.float32)
        whole[start : start + data.size] = data.reshape(-1)
        filled += data.size
        if filled < size:
            self._whole[name] = (whole, filled)
        else:
            self._factorise(name, whole)

    def _factorise(self, name: str, whole: np.ndarray) -> None:
        product, theta_0 = self._products[name], self._pretrained.tensors[name]
        delta = whole.astype(np.float64)
        if not is_change(theta_0):
            delta -= self._reader.whole(theta_0).reshape(-1)
        if product.transposed:
            delta = delta.reshape(theta_0.shape).T
        delta = delta.reshape(product.b.shape[0], -1)
        if not np.isfinite(delta).all():
            raise UserError(f"{name}: the merge exceeds float32: choose a --scale closer to 0")
        with np.errstate(over="ignore"):
            b, a = (factor.astype(self._dtype) for factor in truncated_svd(delta, self.rank))
        if not all(np.isfinite(factor.astype(np.float32)).all() for factor in (b, a)):
            raise UserError(
                f"{name}: its matrices exceed {self._dtype}: choose --out-dtype bfloat16 or float32"
            )
        self._squares[name] = _squares(delta, b.astype(np.float64), a.astype(np.float64))
        for key, factor in zip(_keys(product), (a, b), strict=True):
            self._file.write(key, factor)

    def loss(self) -> Loss:
        """What the rank loses; call it after the last `write`."""

        def ratio(lost: float, all: float) -> float:
            return math.sqrt(lost / all) if all else 0.0

        worst = max(self._squares, key=lambda name: ratio(*self._squares[name]))
        lost, whole = (sum(column) for column in zip(*self._squares.values(), strict=True))
        return Loss(ratio(lost, whole), ratio(*self._squares[worst]), worst)

    def write_config(self, first: LoraConfig | None, base: str | None) -> None:
        """Writes `adapter_config.json`.

        Args:
          first: the first adapter's, whose task type and orientation apply to all.
          base: the model that the adapter is for.
        """
        content = {
            "peft_type": "LORA",
            "base_model_name_or_path": base,
            "task_type": first.task if first and first.task in _HEADLESS else None,
            "r": self.rank,
            "lora_alpha": self.rank,
            "target_modules": sorted(p.module.name for p in self._products.values()),
            "fan_in_fan_out": bool(first and first.transposed),
            "bias": "none",
            "inference_mode": True,
        }
        (self._directory / CONFIG).write_text(json.dumps(content, indent=2) + "\n")

    def __enter__(self) -> "AdapterWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._reader.__exit__()
        if kind is not None:
            self._file.abandon()
        else:
            self._file.close({"format": "pt"})


def _squares(delta: np.ndarray, b: np.ndarray, a: np.ndarray) -> tuple[float, float]:
    """Squared Frobenius norms of `delta` - B A and of `delta`, with few rows in memory."""
    lost, whole, rows = 0.0, 0.0, max(1, BLOCK // a.shape[1])
    for start in range(0, len(delta), rows):
        part = delta[start : start + rows]
        lost += float(np.sum(np.square(part - b[start : start + rows] @ a)))
        whole += float(np.sum(np.square(part)))
    return lost, whole


def products(models: Sequence[TensorFiles], merged: Sequence[str]) -> dict[str, Product]:
    """One product per tensor, from the first model that changes it by one."""
    found: dict[str, Product] = {}
    for name in merged:
        for model in models:
            tensor = model.tensors.get(name)
            if isinstance(tensor, Computed) and isinstance(tensor.fill, Product):
                found[name] = tensor.fill
                break
    return found


def specs(found: dict[str, Product], rank: int, dtype: np.dtype) -> TensorSpecs:
    """Tensors of an adapter for these products."""
    tensors: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
    for product in found.values():
        key_a, key_b = _keys(product)
        a, b = product.a.shape, product.b.shape
        tensors[key_a] = (dtype, (rank, *a[1:]))
        tensors[key_b] = (dtype, (b[0], rank, *b[2:]))
    return tensors


def adapter_bytes(
    models: Sequence[TensorFiles], merged: Sequence[str], rank: int, dtype: str | None
) -> int:
    """The size of the matrices, before any file exists."""
    tensors = specs(products(models, merged), rank, np.dtype(dtype or np.float32))
    return sum(nbytes(*what) for what in tensors.values())


def _keys(product: Product) -> tuple[str, str]:
    """The names of A and B."""
    start = f"{PREFIX}{product.module.name}.lora_"
    if product.module.embedding:
        return f"{start}embedding_A", f"{start}embedding_B"
    return f"{start}A.weight", f"{start}B.weight"
