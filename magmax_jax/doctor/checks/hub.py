"""Whether models can be downloaded from the Hugging Face hub."""

import threading
import urllib.parse
from collections.abc import Callable, Iterator

from magmax_jax.doctor.check import Check, Finding
from magmax_jax.registry import CHECKS

SECONDS = 1.5
"""How long an answer may take."""


def look() -> Iterator[Finding]:
    """Asks the hub for nothing but an answer, unless offline mode is set. Sends no token."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname or "the hub"
    if constants.HF_HUB_OFFLINE:
        yield Finding(f"offline mode: only models in the cache are used, {host} is not asked")
        return
    answer = ask(lambda: get_session().head(constants.ENDPOINT, timeout=SECONDS).status_code)
    if not isinstance(answer, int):
        yield Finding(
            f"{host} cannot be reached ({answer})",
            "warning",
            "check the network and HTTPS_PROXY, or set HF_HUB_OFFLINE=1 to use only the cache",
        )
        return
    if answer >= 500:
        yield Finding(f"{host} answers with status {answer}", "warning", "try again later")
        return
    token = "a token is set" if huggingface_hub.get_token() else "no token: public models only"
    yield Finding(f"{host} can be reached; {token}")


def ask(request: Callable[[], int], seconds: float = SECONDS) -> int | str:
    """The status of an answer, or why there is none; never takes longer than `seconds`.

    Time limits of HTTP libraries do not cover name resolution, which can take minutes.
    """
    answers: list[int | str] = []

    def wait() -> None:
        try:
            answers.append(request())
        except Exception as error:  # of the HTTP library that huggingface_hub uses
            answers.append(type(error).__name__)

    thread = threading.Thread(target=wait, daemon=True)  # not waited for at exit
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer in {seconds:g} s"


CHECKS.register("hub", Check("Hub", look, waits=True))
