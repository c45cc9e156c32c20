"""torch's large matrix products, as a contender: what `benchmarks.peak` is for JAX."""

import statistics
import time

import torch

from benchmarks.peak import REPEATS, measuring
from benchmarks.peers import torch_device
from benchmarks.turns import Facts, Prepared, serve


def prepare(settings: Facts) -> Prepared:
    """Each call measures the best of all products.

    Args:
      settings: `dtype`, `device` and `shapes`, (m, k, n) each.
    """
    device, dtype = torch.device(settings["device"]), getattr(torch, settings["dtype"])
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as JAX computes on a GPU by default

    def rate(m: int, k: int, n: int) -> float:
        a, b = torch.randn(m, k, device=device), torch.randn(k, n, device=device)
        a, b = a.to(dtype), b.to(dtype)
        product = a @ b

        def once() -> float:
            start = time.perf_counter()
            torch.matmul(a, b, out=product)
            torch_device.wait(device)
            return time.perf_counter() - start

        once()
        return 2.0 * m * k * n / statistics.median(once() for _ in range(REPEATS))

    return measuring(lambda: max(rate(*shape) for shape in settings["shapes"]))


if __name__ == "__main__":
    serve(prepare)
