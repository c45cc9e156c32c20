"""mergekit's recipes: `magmax merge RECIPE` beside `mergekit-yaml RECIPE`, the same file for both.

python -m benchmarks.mergekit_recipes --peers PYTHON --output mergekit-recipes.md
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from benchmarks import tables
from benchmarks.checkpoints import CHANGE, SPREAD, compare, weights
from benchmarks.contenders import Whole
from benchmarks.flags import PeersFlags, command, matching
from benchmarks.machine import describe
from benchmarks.tables import Output, table

SIZES = {
    "300MB": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8,
              "vocab_size": 16000},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 96},
}  # fmt: skip
"""Small LLaMAs in float32: 75 M parameters, and one for trials."""
HEADS, KEY_HEADS = 4, 2
METHODS: dict[str, dict[str, Any]] = {
    "linear": {"parameters": {"weight": 1.0}},
    "ties": {"parameters": {"weight": 1.0, "density": 0.2, "lambda": 0.55}},
    "dare_ties": {"parameters": {"weight": 0.5, "density": 0.5}},
}
"""Recipes by method; the last one draws, so its outputs differ."""
OURS, PEER = "ours: ", "mergekit: "


@dataclass(frozen=True)
class Settings(PeersFlags):
    """Times both on the same recipes and files, each as a whole process."""

    size: str = "300MB"
    """300MB, or tiny for trials."""
    models: int = 3
    """How many fine-tuned models are merged."""
    work: Path | None = None
    """Directory for checkpoints, which are reused, and outputs (default: a temporary one)."""
    time_limit: float = 900.0
    """Seconds; a contender that takes longer is killed."""


def shapes(sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """The tensors of a LLaMA, by name."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    keys = width * KEY_HEADS // HEADS
    matrices = {
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }
    table = (sizes["vocab_size"], width)
    layers = {
        f"model.layers.{i}.{name}.weight": shape
        for i in range(sizes["num_hidden_layers"])
        for name, shape in matrices.items()
    }
    ends = {"model.embed_tokens.weight": table, "model.norm.weight": (width,)}
    return ends | layers | {"lm_head.weight": table}


def make(work: Path, size: str, models: int) -> list[Path]:
    """Directories of the base and the models; those of an earlier call are reused."""
    config = SIZES[size] | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    paths = [work / size / f"model_{i}" for i in range(models + 1)]
    for i, path in enumerate(paths):
        if path.exists():
            continue
        base, own = np.random.default_rng(0), np.random.default_rng(i)
        content = {}
        for name, shape in shapes(SIZES[size]).items():
            content[name] = base.standard_normal(shape, np.float32) * np.float32(SPREAD)
            if i:
                content[name] += own.standard_normal(shape, np.float32) * np.float32(CHANGE)
        partial = path.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(content, partial / "model.safetensors", metadata={"format": "pt"})
        (partial / "config.json").write_text(json.dumps(config))
        partial.rename(path)
    return paths


def contenders(settings: Settings, paths: Sequence[Path], outputs: Path) -> list[Whole]:
    """Both programs for every method; each writes to the folder `outputs`/NAME."""
    base, *finetuned = map(str, paths)
    files = [file for path in paths for file in weights(path)]
    field = []
    for method, fields in METHODS.items():
        recipe: dict[str, Any] = {"merge_method": method, "dtype": "float32", **fields}
        recipe["models"] = [{"model": model} for model in finetuned]
        if method != "linear":
            recipe["base_model"] = base
        path = outputs / f"{method}.yml"
        path.write_text(yaml.safe_dump(recipe))
        commands = {
            OURS: [sys.executable, "-m", "magmax_jax", "merge", str(path), "--output"],
            PEER: [str(settings.peers), "-m", "mergekit.scripts.run_yaml", str(path)],
        }
        for side, words in commands.items():
            name, needs = side + method, "mergekit.scripts.run_yaml" if side == PEER else None

            def before(name: str = name) -> None:
                """Flushes earlier writes and reads the models into the page cache."""
                shutil.rmtree(outputs / name, ignore_errors=True)
                os.sync()
                for file in files:
                    file.read_bytes()

            end = ["--no-copy-tokenizer"] if side == PEER else []
            field.append(
                Whole(
                    name=name,
                    command=[*words, str(outputs / name), *end],
                    labels={"models": len(finetuned)},
                    python=settings.peers,
                    limit=settings.time_limit,
                    memory=20e9,
                    before=before,
                    **({"needs": needs} if needs else {}),
                )
            )
    return field


def rows(ended: Sequence[Whole], outputs: Path) -> str:
    """The table: each program's seconds, core-seconds and memory, and mergekit's times ours."""
    well = {one.name: one for one in ended if not one.failure}

    def ours(one: Whole) -> Whole | None:
        return well.get(OURS + one.name.removeprefix(OURS).removeprefix(PEER))

    def times(one: Whole) -> str:
        other = ours(one)
        return tables.ratio(one.median(), other.median()) if other else ""

    def core_times(one: Whole) -> str:
        other = ours(one)
        both = [each.median("core_seconds") for each in (one, other) if each]
        return tables.ratio(*both) if len(both) == 2 else ""

    def difference(one: Whole) -> str:
        other = ours(one)
        if other is None or other is one:
            return ""
        return compare(outputs / other.name, outputs / one.name)

    columns = {
        "seconds": tables.median(),
        "all runs": tables.every(),
        "times ours": times,
        "core-seconds": lambda one: f"{one.median('core_seconds'):.2f}",
        "core-seconds, times ours": core_times,
        "private memory": lambda one: tables.size(max(call["private"] for call in one.calls)),
        "resident memory": lambda one: tables.size(max(call["resident"] for call in one.calls)),
        "output": difference,
    }
    return table({"": tables.name}, columns, ended)


def run(settings: Settings) -> None:
    """Prints the table, and writes it.

    Raises:
      UserError: no contender matches.
    """
    every = [side + method for method in METHODS for side in (OURS, PEER)]
    matching(every, settings.only, str)  # a mistake is reported before any work
    description = describe(settings.peers) | {"checkpoints": f"{settings.size}, float32"}
    output = Output(settings.output, description)
    with contextlib.ExitStack() as stack:
        base = settings.work or stack.enter_context(tempfile.TemporaryDirectory())
        work = Path(base).resolve()
        paths = make(work, settings.size, settings.models)
        outputs = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=work)))
        field = matching(contenders(settings, paths, outputs), settings.only)
        output.measure(field, settings.repeats)
        output.show(f"## {settings.models} models\n\n{rows(field, outputs)}")


main = command(Settings, run, "benchmarks.mergekit_recipes", __doc__)

if __name__ == "__main__":
    sys.exit(main())
