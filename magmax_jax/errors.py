"""The two ways in which a run ends early without a stack trace."""


class UserError(ValueError):
    """A mistake its reader can mend: one sentence that says what, where and what to do (exit code 2)."""


class DivergedError(RuntimeError):
    """Training left the finite numbers: the sentence says at which task and step (exit code 1)."""
