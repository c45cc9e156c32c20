"""torch's exact k-th smallest magnitude of the float32 numbers in a .npy file."""

import argparse
import json
import time

import numpy as np
import torch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("k", type=int)
    parser.add_argument("repeats", type=int)
    arguments = parser.parse_args()
    numbers = torch.from_numpy(np.load(arguments.file))
    seconds = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        found = numbers.abs().kthvalue(arguments.k).values.item()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "found": found}))


if __name__ == "__main__":
    main()
