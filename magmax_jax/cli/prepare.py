"""Data sets, downloaded and prepared once: `magmax prepare NAME...|all`."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from magmax_jax.cli.command import Command
from magmax_jax.errors import MAGMAX, Program, UserError, exit_code
from magmax_jax.registry import COMMANDS


@dataclass(frozen=True)
class Prepare:
    """Downloads data sets, prepares them for reading without TensorFlow, and verifies them.

    Data that is already prepared is only verified: the numbers of images and classes (for most data
    sets also the images per class) against the published ones, and every record against the
    fingerprint recorded in magmax.json at preparation.
    """

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME...")] = ()
    """Names of data sets or of lists (eight, fourteen, twenty), all, or TFDS builders
    (builder[/config])."""
    data_dir: Path | None = None
    """Directory of prepared data sets (default: TFDS's own, ~/tensorflow_datasets)."""
    manual_dir: Path | None = None
    """Directory of archives that you downloaded yourself: DIR/ARCHIVE or DIR/NAME/ARCHIVE."""
    repacked: bool = False
    """Accept archives that differ from the publishers' byte for byte; their contents are still
    verified."""
    verify: bool = False
    """Only verify; nothing is prepared, written or removed."""
    keep_archives: bool = True
    """Keep the downloaded archives beside the prepared data."""


def main(argv: list[str], program: Program = MAGMAX) -> None:
    """Prepares the data sets named; one that fails does not stop the others."""
    chosen = tyro.cli(Prepare, args=argv, prog=program.line("prepare"))
    names = _names(chosen.names)
    # Keeps TensorFlow, if it is needed, quiet and off the GPUs.
    os.environ |= {
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",  # the log level does not silence these
    }
    from magmax_jax.cli.prepare_bars import Bars
    from magmax_jax.data.prepare.prepare import Options, known, prepare

    data_dir = str(chosen.data_dir.expanduser()) if chosen.data_dir else None
    for name in names:
        known(name, data_dir)
    options = Options(
        data_dir, chosen.manual_dir, chosen.verify, chosen.repacked, chosen.keep_archives
    )
    display, failed = Bars(), {}
    for name in names:
        code = _attempt(partial(prepare, name, options, display), program)
        if code == 130:
            raise SystemExit(130)  # the message has already been printed
        if code:
            failed[name] = code
    if not failed:
        return
    if len(names) > 1:
        print(f"not prepared: {', '.join(failed)} ({len(failed)} of {len(names)})", file=sys.stderr)
    raise SystemExit(1 if 1 in failed.values() else 2)


def _names(given: tuple[str, ...]) -> list[str]:
    """Names in their order, each once; "all" and lists are expanded."""
    from magmax_jax.data.catalogue import LISTS, prepared_names

    lists = {name: [entry.split("@")[0] for entry in LISTS[name]] for name in LISTS}
    lists["all"] = prepared_names()
    if not given:
        raise UserError(
            f"no data set is given: choose one or more of {', '.join(lists['all'])}, or write "
            "all for all of them"
        )
    return list(dict.fromkeys(name for word in given for name in lists.get(word, [word])))


def _attempt(command: Callable[[], None], program: Program) -> int:
    """`exit_code`, except that a bug does not propagate: it stops one data set only."""
    try:
        return exit_code(command, program)
    except Exception:
        traceback.print_exc()
        return 1


# Downloads run in threads; after Ctrl-C, Python would wait until they complete.
COMMANDS.register(
    "prepare", Command("Downloads, prepares and verifies data sets.", main, abandons_threads=True)
)
