"""What a command of `magmax` is: an entry of `registry.COMMANDS`."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from magmax_jax.errors import Program


@dataclass(frozen=True)
class Command:
    """A command, registered under its name in the module that defines it.

        COMMANDS.register("greet", Command("Says hello.", main))

    Its module should import what is slow (JAX, Flax) only once it runs: `magmax --help` imports it.
    """

    summary: str
    """One line for `magmax --help`."""
    main: Callable[[list[str], Program], None]
    """Takes the words after the command's name, and how the program was started, for messages.
    Raises UserError for a mistake, SystemExit for wrong flags and for help."""
    abandons_threads: bool = False
    """Whether the process ends without waiting for the threads that the command leaves behind."""
    collected: Collection[str] = ()
    """Flags that may be given several times: all of their values count."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Flags for fields of the configuration, where `run` has others: {"eval_batch_size":
    "--batch-size"}. Messages about the configuration then name them."""
