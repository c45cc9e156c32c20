"""Commands that write, each with the folder that it starts from."""

from tests.faults.commands.merges import MERGES
from tests.faults.commands.runs import RUNS
from tests.faults.commands.written import Written

COMMANDS: dict[str, Written] = {**MERGES, **RUNS}
