"""No merge at all: reads every model and writes as many bytes as one, about the least one can do.

In pieces through one buffer and in one thread, as a plain program copies files.
"""

from benchmarks.peers.arguments import WEIGHTS, parse

PIECE = 1 << 22
"""Bytes of the buffer."""


def main() -> None:
    arguments = parse({"copy": 1.0})
    buffer = memoryview(bytearray(PIECE))
    for path in arguments.finetuned:
        with open(path / WEIGHTS, "rb", buffering=0) as source:
            while source.readinto(buffer):
                pass
    with (
        open(arguments.pretrained / WEIGHTS, "rb", buffering=0) as source,
        open(arguments.output / WEIGHTS, "wb", buffering=0) as target,
    ):
        while count := source.readinto(buffer):
            target.write(buffer[:count])


if __name__ == "__main__":
    main()
