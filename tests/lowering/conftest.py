import jax
import jax.numpy as jnp
import pytest

from magmax_jax.models.layers import attention
from tests.lowering.programs import PLATFORMS


# Programs for TPUs differ from those for GPUs only in attention and decompositions.
@pytest.fixture(params=["cuda", pytest.param("tpu", marks=pytest.mark.slow)])
def platform(request, monkeypatch):
    """A platform to lower for. Device queries while tracing get its answers (NVIDIA: an H100's)."""
    if request.param == "cuda":
        request.getfixturevalue("cudnn")
        monkeypatch.setattr(attention, "fits_cudnn", lambda q: q.dtype == jnp.bfloat16)
    monkeypatch.setattr(jax, "default_backend", lambda: PLATFORMS[request.param])
    return request.param
