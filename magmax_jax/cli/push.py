"""Options of `--push-to-hub`, shared by the commands that write a model directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from magmax_jax.cli.flag_types import checked_by_tyro
from magmax_jax.errors import UserError

if TYPE_CHECKING:
    from magmax_jax.io.hub_upload import Upload


@checked_by_tyro
@dataclass(frozen=True)
class Push:
    """Uploads the finished output to the Hugging Face hub."""

    push_to_hub: str | None = None
    """OWNER/NAME of a model repository on the Hugging Face hub, to which the finished output is
    uploaded with its model card; created if it does not exist. The token is that of
    `hf auth login`, or HF_TOKEN."""
    private: bool = False
    """Make the repository private if --push-to-hub creates it."""
    revision: str | None = None
    """Branch to upload to, created if it does not exist; not set: main."""
    commit_message: str | None = None
    """First line of the upload's commit."""

    def checked(self, output: Path | None) -> "Upload | None":
        """The upload, with name, token and hub checked; None without --push-to-hub.

        Raises:
          UserError: an option needs --push-to-hub, the output is a single file, or the upload
            would fail.
        """
        if self.push_to_hub is None:
            if self != Push():
                raise UserError("--private, --revision and --commit-message need --push-to-hub")
            return None
        if output is not None and output.suffix == ".safetensors":
            raise UserError(
                f"--push-to-hub: {output} would be a single file without a model card: name a "
                "directory as --output"
            )
        from magmax_jax.io.hub_upload import Upload

        upload = Upload(self.push_to_hub, self.private, self.revision, self.commit_message)
        upload.check()
        return upload
