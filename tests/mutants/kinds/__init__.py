"""Every kind of file that is read: a valid file, its mutations, and its meaning."""

from tests.mutants.kind import Kind
from tests.mutants.kinds import (
    adapters,
    cards,
    checkpoints,
    command_lines,
    configurations,
    images,
    prepared,
    runs,
    tensors,
    tokenizers,
)

KINDS: dict[str, Kind] = {
    **tensors.KINDS,
    **adapters.KINDS,
    **cards.KINDS,
    **configurations.KINDS,
    **tokenizers.KINDS,
    **images.KINDS,
    **prepared.KINDS,
    **runs.KINDS,
    **checkpoints.KINDS,
    **command_lines.KINDS,
}
