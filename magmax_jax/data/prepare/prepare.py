"""Prepares data sets by name, for reading without TensorFlow, and verifies them."""

import contextlib
import io

import tensorflow_datasets as tfds

from magmax_jax.data.catalogue import expand, prepared_names, require_preparable
from magmax_jax.data.data_set import DataSet
from magmax_jax.data.prepare import expected, fingerprint
from magmax_jax.data.prepare.display import Display, NullDisplay
from magmax_jax.data.prepare.download import Options, make, remove_archives, remove_unfinished
from magmax_jax.data.prepare.errors import INSTALL
from magmax_jax.data.readers.tfds_builder import builder_of, info_damaged, why
from magmax_jax.data.readers.tfds_records import quiet
from magmax_jax.errors import UserError

__all__ = ["Display", "NullDisplay", "Options", "known", "parts", "prepare"]


def parts(name: str) -> list[tuple[str, DataSet | None]]:
    """The TFDS builders of a data set, each with its entry in `DATA_SETS` (`expand`).

    Raises:
      UserError: it needs no preparation.
    """
    require_preparable(name)
    builders, data = expand(name)
    return [(builder, data) for builder in builders]


def known(name: str, data_dir: str | None = None) -> None:
    """Checks a name, before doing anything else.

    Raises:
      UserError: neither `DATA_SETS` nor TFDS has it, it needs no preparation, or it is not for
        image classification.
    """
    for part, _ in parts(name):
        _builder(part, data_dir)


def prepare(name: str, options: Options, display: Display | None = None) -> None:
    """Downloads, prepares and verifies a data set; finished parts are only verified.

    Raises:
      UserError: it cannot be obtained, or the existing data is not as it should be.
    """
    display = display or NullDisplay()
    for part, data in parts(name):
        with quiet():
            builder = _builder(part, options.data_dir)
            new = not builder.is_prepared()
            if new:
                make(builder, data.name if data else builder.name, options, display)
            elif not {"array_record", "parquet"} & _formats(builder):
                raise UserError(
                    f"{fingerprint.title(builder)} is prepared as {', '.join(_formats(builder))} "
                    f"in {builder.data_dir}, which needs TensorFlow to read: remove it, or pass "
                    "another data_dir"
                )
            elif not options.verify:
                remove_unfinished(builder)
            _verify(builder, data, new, options.verify, display)
    if not (options.keep_archives or options.verify):
        remove_archives(builder)


def _builder(part: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            builder = builder_of(part, data_dir)
    except ImportError as error:  # a builder that needs TensorFlow or more even to be defined
        raise UserError(
            f"{part} needs further packages ({str(error).splitlines()[-1]}): {INSTALL}"
        ) from None
    except (ValueError, AssertionError) as error:
        known = ", ".join(prepared_names())
        raise UserError(
            f"no data set {part!r} ({why(part, error)}): choose from {known}, or a TFDS "
            "builder[/config]"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # protobuf and TFDS raise many kinds of errors for damaged files
        raise info_damaged(part, data_dir, error) from None
    features = dict(builder.info.features.items())
    label = features.get("label")
    if "image" not in features or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(
            f"{part} has the features {', '.join(features)}, but an image and a label of one class "
            "are needed: choose a classification data set"
        )
    return builder


def _verify(
    builder: tfds.core.DatasetBuilder,
    data: DataSet | None,
    new: bool,
    only_look: bool,
    display: Display,
) -> None:
    name = fingerprint.title(builder)
    records = sum(split.num_examples for split in builder.info.splits.values())
    try:
        with display.reading(name, records) as advance:
            found = fingerprint.examine(builder, advance)
        recorded = fingerprint.compare(builder, found)
        summary = expected.check(builder, data, found, new)
        facts = data.tfds if data else None
        if facts and facts.split:
            fingerprint.check_division(builder, facts.split, facts.train, recorded, not only_look)
    except UserError as error:
        # Keep what took hours: the table of published numbers may be wrong, too.
        hint = f"; what was prepared stays in {builder.data_dir}" if new else ""
        raise UserError(f"{error}{hint}") from None
    if recorded:
        state = "as recorded"
    elif only_look:
        state = "not recorded: verify writes nothing"
    elif fingerprint.record(builder, found):
        state = f"recorded in {fingerprint.RECORD}"
    else:
        state = f"not recorded: {builder.data_dir} cannot be written"
    display.say(f"{name}: {summary}; {state}")


def _formats(builder: tfds.core.DatasetBuilder) -> set[str]:
    return {kind.value for kind in builder.info.available_file_formats()}
