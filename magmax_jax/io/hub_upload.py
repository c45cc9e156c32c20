"""Uploads a finished model directory to a repository on the hub.

The directory is complete before anything is uploaded, and a failed upload leaves it as it is.
"""

import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from magmax_jax.errors import Interrupted, UserError, counted

if TYPE_CHECKING:  # huggingface_hub takes a sixth of a second to import
    from huggingface_hub import HfApi

_REASONS = {
    401: "the hub does not accept the token",
    403: "the token has no write access to it",
}
_CREATE_TOKEN = "run `hf auth login` with a token that may write"
_REMEDIES = {401: f"{_CREATE_TOKEN}, then", 403: f"{_CREATE_TOKEN} there, then"}


@dataclass(frozen=True)
class Upload:
    """Where a directory is uploaded, and how.

    Attributes:
      repo: as OWNER/NAME; created if it does not exist.
      private: whether a new repository is private; an existing one keeps its visibility.
      revision: the branch, created if it does not exist; None is main.
      message: of the commit; None is huggingface_hub's.
    """

    repo: str
    private: bool = False
    revision: str | None = None
    message: str | None = None

    def check(self) -> None:
        """Checks all that can be checked before there is a directory to upload.

        The hub is asked for the name of the token's user, and nothing is written there.

        Raises:
          UserError: the repository's name is malformed, the hub is offline or cannot be reached,
            or there is no valid token.
        """
        from huggingface_hub import HfApi, constants, get_token
        from huggingface_hub.errors import HFValidationError, HTTPError
        from huggingface_hub.utils import validate_repo_id

        flag = f"--push-to-hub {self.repo}"
        try:
            validate_repo_id(self.repo)
        except HFValidationError:
            raise UserError(f"{flag}: this is not a repository: write it as OWNER/NAME") from None
        if "/" not in self.repo:
            raise UserError(f"{flag}: the owner is missing: write the repository as OWNER/NAME")
        if constants.is_offline_mode():
            raise UserError(
                f"{flag}: HF_HUB_OFFLINE is set, so nothing can be uploaded: unset it, or leave "
                "out --push-to-hub"
            )
        if not get_token():
            raise UserError(f"{flag}: there is no token: {_CREATE_TOKEN}, or set HF_TOKEN")
        try:
            HfApi().whoami()
        except (HTTPError, OSError) as error:
            if _status(error) == 401:
                raise UserError(f"{flag}: {_REASONS[401]}: {_CREATE_TOKEN}") from None
            raise UserError(
                f"{flag}: the hub cannot be reached ({_reason(error)}): try again later, or leave "
                "out --push-to-hub"
            ) from None

    def describe(self, output: Path | None) -> str:
        """What would be uploaded, in one line."""
        kind = "private repository" if self.private else "repository"
        branch = f", branch {self.revision}" if self.revision else ""
        where = output or "the output"
        return f"uploads {where} with its model card to {self.url} ({kind}{branch})"

    def __call__(self, directory: Path) -> str:
        """Uploads all files of a directory; returns one line on what was uploaded.

        Raises:
          UserError: the upload failed; the message has the command that repeats it.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HTTPError
        from huggingface_hub.utils import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        try:
            self._upload(HfApi(), directory)
        except KeyboardInterrupt as interruption:
            raise Interrupted(
                getattr(interruption, "signal", signal.SIGINT),
                f"{directory} is complete; to upload it, run {self.command(directory)}",
            ) from None
        # Transfers of large files raise RuntimeError, malformed answers of the hub ValueError.
        except (HTTPError, OSError, RuntimeError, ValueError, KeyError) as error:
            status = _status(error)
            raise UserError(
                f"{directory} is complete, but could not be uploaded to {self.repo} "
                f"({_REASONS.get(status) or _reason(error)}): {_REMEDIES.get(status, 'to repeat')} "
                f"run {self.command(directory)}"
            ) from None
        files = sum(path.is_file() for path in directory.rglob("*"))
        return f"{self.url}: {counted(files, 'file')} uploaded"

    def command(self, directory: Path) -> str:
        """The command that uploads the directory later."""
        options = ["--private"] if self.private else []
        options += ["--revision", self.revision] if self.revision else []
        options += ["--commit-message", self.message] if self.message else []
        return shlex.join(["hf", "upload", self.repo, str(directory), *options])

    @property
    def url(self) -> str:
        """The page of the repository, or of its branch."""
        from huggingface_hub import constants

        branch = f"/tree/{self.revision}" if self.revision else ""
        return f"{constants.ENDPOINT}/{self.repo}{branch}"

    def _upload(self, api: "HfApi", directory: Path) -> None:
        # None lets the hub choose, because the owner may be an organisation with private defaults.
        api.create_repo(self.repo, private=self.private or None, exist_ok=True)
        if self.revision is not None:
            api.create_branch(self.repo, branch=self.revision, exist_ok=True)
        api.upload_folder(
            repo_id=self.repo,
            folder_path=directory,
            revision=self.revision,
            commit_message=self.message or "Upload a model made with magmax_jax",
        )


def _status(error: Exception) -> int:
    """The HTTP status of the hub's answer that caused an error; 0 if there was none."""
    cause: BaseException | None = error
    while cause is not None:
        if (response := getattr(cause, "response", None)) is not None:
            return int(response.status_code)
        cause = cause.__cause__
    return 0


def _reason(error: Exception) -> str:
    """The first line of an error's message, without the token that a server might echo."""
    from huggingface_hub import get_token

    token = get_token()
    text = str(error).strip() or type(error).__name__
    text = text.replace(token, "TOKEN") if token else text
    return text.partition("\n")[0][:200]
