"""cuDNN's attention, which `--model.dtype bfloat16` uses on NVIDIA GPUs from Ampere on.

JAX 0.10 has no gradient for an odd number of tokens, which nearly all CLIPs have, so
`models.layers.attention` pads them. This check computes the gradient of such a padded call.
"""

from collections.abc import Iterator
from typing import Any

from magmax_jax.doctor.check import Check, Finding
from magmax_jax.doctor.jax_devices import devices
from magmax_jax.errors import first_line
from magmax_jax.registry import CHECKS


def look() -> Iterator[Finding]:
    """Nothing is tried if no device has this attention."""
    gpus = [device for device in devices() if device.platform in ("gpu", "cuda")]
    if not any(_is_ampere(device) for device in gpus):
        yield Finding("no device uses cuDNN's attention")
        return
    try:
        padded_gradient()
    except Exception as error:  # of JAX, XLA or cuDNN
        line = first_line(error)
        yield Finding(
            f"cuDNN's attention does not work here ({line})",
            "broken",
            "use --model.dtype float32, or install JAX's own cuDNN: "
            "pip install --upgrade 'jax[cuda12]' (or cuda13)",
        )
        return
    yield Finding("cuDNN's attention works, also with odd numbers of tokens (padded by one)")


def _is_ampere(device: Any) -> bool:
    """Whether its compute capability is 8.0 or higher; on AMD it is not a number."""
    capability = str(getattr(device, "compute_capability", ""))
    return capability[:1].isdigit() and float(capability) >= 8.0


def padded_gradient() -> None:
    """Compiles and runs attention over 17 of 18 tokens, (1, 18, 1, 64) bfloat16, and its gradient.

    Raises:
      ValueError, RuntimeError: JAX or cuDNN refuses it, or a gradient is not finite.
    """
    import jax
    import jax.numpy as jnp

    lengths = jnp.array([17], jnp.int32)

    def attended(q: jax.Array) -> jax.Array:
        found = jax.nn.dot_product_attention(
            q,
            q,
            q,
            query_seq_lengths=lengths,
            key_value_seq_lengths=lengths,
            implementation="cudnn",
        )
        return found[:, :17].astype(jnp.float32).sum()

    gradient = jax.grad(attended)(jnp.ones((1, 18, 1, 64), jnp.bfloat16))
    if not bool(jnp.isfinite(gradient[:, :17]).all()):
        raise ValueError("its gradient is not finite")


CHECKS.register("cudnn", Check("cuDNN", look))
