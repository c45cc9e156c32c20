"""JAX 0.10.2 and 0.12.0 on CPUs: `jnp.max` and `jnp.min` of 4,096 float32 entries lose a NaN."""

from collections.abc import Iterator
from typing import Any

from magmax_jax.doctor.check import Check, Finding
from magmax_jax.doctor.jax_devices import devices
from magmax_jax.registry import CHECKS

ENTRIES = 4096


def look() -> Iterator[Finding]:
    """Tries it on one device of each kind."""
    kinds = {device.device_kind: device for device in devices()}
    if not kinds:
        yield Finding("not tried: JAX has no device")
        return
    losing = [kind for kind, device in kinds.items() if loses_nan(device)]
    if losing:
        import jax

        yield Finding(
            f"jnp.max loses NaN in arrays of {ENTRIES:,} entries or more on {', '.join(losing)} "
            f"(JAX {jax.__version__}); magmax_jax does not rely on it",
            "warning",
            "in your own code test jnp.isfinite(x).all() first",
        )
    else:
        yield Finding("jnp.max keeps NaN")


def loses_nan(device: Any) -> bool:
    """Whether the maximum of an array with a NaN is a number on a device."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    values = np.ones(ENTRIES, np.float32)
    values[0] = np.nan
    return not np.isnan(jnp.max(jax.device_put(values, device)))


CHECKS.register("nan_in_max", Check("NaN in jnp.max", look))
