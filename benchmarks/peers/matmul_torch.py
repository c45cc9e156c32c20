"""torch's large matrix products, as a contender: what `benchmarks.peak` is for JAX."""

import statistics
import time

import torch

from benchmarks.turns import Facts, Prepared, serve

REPEATS = 3
"""Of every product in one turn."""


def prepare(settings: Facts) -> Prepared:
    """Each call measures the best of all products; the median of all but the first is told.

    Args:
      settings: `dtype`, `device` and `shapes`, (m, k, n) each.
    """
    device, dtype = torch.device(settings["device"]), getattr(torch, settings["dtype"])
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as JAX computes on a GPU by default
    rates: list[float] = []

    def rate(m: int, k: int, n: int) -> float:
        a, b = torch.randn(m, k, device=device), torch.randn(k, n, device=device)
        a, b = a.to(dtype), b.to(dtype)
        product = a @ b

        def once() -> float:
            start = time.perf_counter()
            torch.matmul(a, b, out=product)
            if device.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - start

        once()
        return 2.0 * m * k * n / statistics.median(once() for _ in range(REPEATS))

    def call() -> None:
        rates.append(max(rate(*shape) for shape in settings["shapes"]))

    def last() -> Facts:
        counted = rates[1:] or rates
        return {"flops": statistics.median(counted), "all": counted}

    return Prepared({}, call, last)


if __name__ == "__main__":
    serve(prepare)
