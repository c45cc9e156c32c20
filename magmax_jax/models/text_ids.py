"""Checks of token ids shared by all families: the right tokenizer, and the length of texts."""

from collections.abc import Sequence
from typing import Any

from magmax_jax.errors import UserError
from magmax_jax.models.checkpoint import in_a_line


def check_tokenizer(tokenizer: Any, files: str) -> None:
    """Raises a UserError if a model has no tokenizer.

    Args:
      files: the family's tokenizer files, for the message.
    """
    if tokenizer is None:
        raise UserError(
            f"the model's directory has no tokenizer ({files}) to read texts with: copy the "
            "tokenizer files of the original model into it"
        )


def unpadded_ids(
    tokenizer: Any, texts: Sequence[str], read: Sequence[str], context: int
) -> list[list[int]]:
    """The ids of each text.

    Args:
      texts: as the user wrote them, at least one.
      read: the same texts as passed to the tokenizer.
      context: maximum number of ids per text.

    Raises:
      UserError: a text has more, or the tokenizer's settings are broken.
    """
    try:
        ids: list[list[int]] = tokenizer(list(read))["input_ids"]
    except BaseException as error:  # transformers uses settings that it has not checked
        # What tokenizers raises for some of them is, by pyo3's choice, not an Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(
            f"the model's tokenizer cannot read {texts[0]!r} ({in_a_line(error)}): fetch the "
            "files of the tokenizer again"
        ) from None
    longest = max(range(len(ids)), key=lambda i: len(ids[i]))
    if len(ids[longest]) > context:
        raise UserError(
            f"the text {texts[longest]!r} has {len(ids[longest])} tokens, the model takes at most "
            f"{context}: shorten the class name or the template"
        )
    return ids


def other_tokenizer(highest: int, facts: str) -> UserError:
    """The error for token ids from another model's tokenizer.

    Args:
      highest: the highest id.
      facts: what holds for the model's own ids.
    """
    return UserError(
        f"the tokenizer's ids (up to {highest}) are not those of this model ({facts}): copy the "
        "tokenizer files of the original model into its directory"
    )
