"""Divides a data set into training and test images by file name only.

The split depends neither on the order of the records nor on the version of a random generator, so
the same files always give the same split.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from magmax_jax.errors import UserError


@dataclass(frozen=True)
class SeededSplit:
    """How to divide a data set whose publishers provide no test images.

    Images are ranked by a hash of seed and file name: the first ones train, the last ones test, and
    those in between do neither (a validation part). See `divide`.
    """

    train: float = 0.8
    """Share of the images, in (0, 1)."""
    test: float = 0.2
    by_class: bool = True
    """Whether to take these shares of every class, or of all images together."""
    seed: int = 5
    key: str = "filename"
    """The TFDS feature that holds the file name."""
    fingerprint: str = ""
    """`fingerprint` of the test images' names, to ensure the same split everywhere; "" for any."""


def divide(names: Sequence[str], labels: np.ndarray, how: SeededSplit) -> dict[str, np.ndarray]:
    """Ranks n images by sha256("seed:name"); the first share trains, the last share tests.

    Args:
      names: distinct file names of the n images.
      labels: int (n,); each class is divided separately if `how.by_class`.

    Returns:
      "train" and "test": int64 (m,), ascending positions.
    """
    ranked = sorted(range(len(names)), key=lambda i: _digest(how.seed, names[i]))
    of_group: dict[int, list[int]] = {}
    for position in ranked:
        of_group.setdefault(int(labels[position]) if how.by_class else 0, []).append(position)
    train, test = [], []
    # Exact decimal shares: in binary, 0.7 and 0.3 do not add up to 1.
    until, since = Fraction(str(how.train)), 1 - Fraction(str(how.test))
    for group in of_group.values():
        train += group[: round(len(group) * until)]
        test += group[round(len(group) * since) :]
    return {
        name: np.sort(np.array(rows, np.int64)) for name, rows in [("train", train), ("test", test)]
    }


def fingerprint(names: Sequence[str]) -> str:
    """Hexadecimal sha256 of the sorted names, one per line without a final line break."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def check_fingerprint(dataset: str, test_names: Sequence[str], how: SeededSplit) -> None:
    """Compares test images with the published ones, if `how` has their fingerprint.

    Raises:
      UserError: they differ, because files are missing, renamed or added.
    """
    if how.fingerprint and fingerprint(test_names) != how.fingerprint:
        raise UserError(
            f"{dataset}: its {len(test_names)} test images are not those of the published split "
            f"(seed {how.seed}), because files are missing, renamed or added; prepare it again "
            "from the complete archive"
        )


def _digest(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
