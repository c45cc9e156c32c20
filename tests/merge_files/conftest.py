"""Small made-up checkpoints with every kind of tensor."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import magmax_jax as mm
from magmax_jax.cli.main import main
from tests.helpers.libraries import python_with_libraries

SHAPES = {
    "a.weight": (70, 30),
    "a.bias": (30,),
    "b.weight": (5, 6, 7),
    "c.scale": (),
    "d": (40_000,),
}
HALF = "e.half"
COUNTER = "f.counter"


def tensors(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    made = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    made[HALF] = random.normal(size=(33,)).astype(ml_dtypes.bfloat16)
    made[COUNTER] = np.array([seed, 7], np.int64)
    return made


def write(directory: Path, content: dict[str, np.ndarray], shards: int = 1) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        save_file(content, directory / "model.safetensors", metadata={"format": "pt"})
    else:
        where = {}
        for i in range(shards):
            part = {name: content[name] for name in sorted(content)[i::shards]}
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            save_file(part, directory / file)
            where |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": where}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text('{"model_type": "anything", "torch_dtype": "float32"}')
    return directory


@pytest.fixture
def models(tmp_path) -> list[Path]:
    """theta_0 and three fine-tuned models; the last is sharded."""
    made = [write(tmp_path / f"theta_{i}", tensors(i)) for i in range(3)]
    return [*made, write(tmp_path / "theta_3", tensors(3), shards=3)]


def merge(*arguments) -> int:
    return main(["merge", *map(str, arguments)])


def sources(models) -> list:
    return ["--pretrained", models[0], "--finetuned", *models[1:]]


def expected(seeds, rule, scale=None, base=0) -> dict[str, np.ndarray]:
    return mm.merge(tensors(base), [tensors(seed) for seed in seeds], rule, scale)


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with the libraries whose files are merged."""
    return python_with_libraries(tmp_path_factory.mktemp("libraries"))
