"""What token ids of all families have in common: whose they are, and how many a text may have."""

from collections.abc import Sequence
from typing import Any

from magmax_jax.errors import UserError


def check_tokenizer(tokenizer: Any, files: str) -> None:
    """Raises a UserError if a model came without a tokenizer.

    Args:
      files: those of the family's tokenizers, for the message.
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
      read: the same as the tokenizer gets them.
      context: how many ids a text may have.

    Raises:
      UserError: a text has more.
    """
    ids: list[list[int]] = tokenizer(list(read))["input_ids"]
    longest = max(range(len(ids)), key=lambda i: len(ids[i]))
    if len(ids[longest]) > context:
        raise UserError(
            f"the text {texts[longest]!r} has {len(ids[longest])} tokens, the model takes at most "
            f"{context}: shorten the class name or the template"
        )
    return ids


def other_tokenizer(highest: int, facts: str) -> UserError:
    """The error for ids that are not a model's.

    Args:
      highest: of the ids.
      facts: what the model's own ids obey.
    """
    return UserError(
        f"the tokenizer's ids (up to {highest}) are not those of this model ({facts}): copy the "
        "tokenizer files of the original model into its directory"
    )
