"""What a command of `magmax` is: an entry of `registry.COMMANDS`."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from magmax_jax.errors import Program


@dataclass(frozen=True)
class Command:
    """A command, registered under its name in the module that defines it.

        COMMANDS.register("greet", Command("Says hello.", main))

    Its module should import slow packages (JAX, Flax) only when the command runs, because
    `magmax --help` imports the module.
    """

    summary: str
    """One line for `magmax --help`."""
    main: Callable[[list[str], Program], None]
    """Takes the arguments after the command's name, and how the program was started, for messages.
    Raises UserError for a mistake, SystemExit for wrong flags and for help."""
    abandons_threads: bool = False
    """Whether the process exits without waiting for threads that are still running."""
    collected: Collection[str] = ()
    """Flags that may be repeated; all of their values count."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Flags of configuration fields that differ from those of `run`: {"eval_batch_size":
    "--batch-size"}. Messages about the configuration name them."""
