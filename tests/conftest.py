"""Shared by all tests: how programs are compiled, and a tiny CLIP on disk."""

import atexit
import gc
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

# pytest loads this file before any test imports JAX; workers and child processes inherit the
# variables.

# One compilation cache for the whole test run; the user's own cache is untouched.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="magmax-xla-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Test programs run for milliseconds and compile for seconds, so XLA optimises them less (a seventh
# of the compile time). MAGMAX_TESTS_OPTIMIZED=1 compiles them as users do: `.ci/run` also runs the
# tests that compare bits that way.
OPTIMIZED = os.environ.get("MAGMAX_TESTS_OPTIMIZED") == "1"
QUICK = "--xla_cpu_use_fusion_emitters=false"
if not OPTIMIZED:
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    flags = os.environ.get("XLA_FLAGS", "")
    # Newer versions lack the flag, and XLA aborts on unknown flags.
    if metadata.version("jaxlib").startswith("0.10.") and QUICK not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {QUICK}".strip()


def pytest_collection_finish() -> None:
    """Tracing makes many objects; without this, garbage collection rescans all imported ones."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


REAL = Path(__file__).parents[2] / "shared" / "models" / "clip-vit-tiny-patch16-224"


@pytest.fixture
def cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets JAX lower cuDNN's attention without a GPU; it refuses what it would refuse on one."""
    import jax

    from magmax_jax.models.layers import attention

    internals = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(internals, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(attention, "fits_cudnn", lambda q: True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.fixture(scope="session")
def real_clip() -> Path:
    """Directory of a small CLIP with real weights, next to the repository."""
    if not REAL.is_dir():
        pytest.skip(f"the shared model is not at {REAL}")
    return REAL


def byte_tokenizer():
    """A transformers fast tokenizer: bytes as tokens between bos (256) and eos (257)."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "<bos>", "<eos>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 256), ("<eos>", 257)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>"
    )


def save_tiny_clip(directory: Path) -> None:
    """A random CLIP: 16-pixel images, patches of 8, two layers of width 32."""
    from flax import nnx

    from magmax_jax.models import CLIP, CLIPConfig, Companions, TextConfig, VisionConfig

    tower = {"layers": 2, "heads": 2, "mlp": 64, "activation": "quick_gelu", "epsilon": 1e-5}
    config = CLIPConfig(
        vision=VisionConfig(width=32, **tower, image_size=16, patch_size=8),
        text=TextConfig(width=32, **tower, vocabulary=258, context=77, bos=256, eos=257),
        projection=16,
    )
    model = CLIP(config, rngs=nnx.Rngs(0))
    model.companions = Companions(
        byte_tokenizer(), {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    )
    model.save_pretrained(directory)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of `save_tiny_clip`'s model."""
    directory = tmp_path_factory.mktemp("models") / "tiny-clip"
    save_tiny_clip(directory)
    return directory
