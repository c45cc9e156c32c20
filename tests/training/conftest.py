import pytest
from flax import nnx

from magmax_jax.data import Preprocessing
from magmax_jax.models import CLIP
from magmax_jax.training.regularizers import diagonal_fisher


@pytest.fixture(scope="session")
def tower(tiny_clip):
    """The tiny CLIP's image tower: its graphdef and its parameters."""
    return nnx.split(CLIP.from_pretrained(tiny_clip).vision)


@pytest.fixture(scope="session")
def fishers(tower):
    """Every kind of Fisher by its name, compiled once for all tests."""
    return {
        kind: diagonal_fisher(tower[0], Preprocessing(16), kind)
        for kind in ("empirical", "batch", "accumulated")
    }
