"""Uploading a run's folder to the Hugging Face hub."""

from pathlib import Path

from textual_inversion.errors import OutputError

# Logs and resume state are of use on the machine that made them only.
_KEPT_BACK = ["logs/**", "checkpoint-*/**", ".*"]


def check_login(token: str | None) -> None:
    """Find out before a long run whether the hub will know who uploads.

    Raises:
        OutputError: it does not, or it cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        HfApi(token=token).whoami()
    except Exception as error:
        raise OutputError(
            f"--push_to_hub: the hub does not let you in ({_reason(error)}); check --hub_token and the network, or "
            "leave --push_to_hub out"
        ) from error


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def upload(folder: Path, repository: str | None, token: str | None) -> str:
    """Upload a run's folder in one commit and return the repository's address.

    Args:
        repository: its name on the hub; None takes the folder's name, under the account of the token.
        token: access token; None takes the one of an earlier login.

    Raises:
        OutputError: the hub cannot be reached or refuses; everything is still in `folder`.
    """
    from huggingface_hub import HfApi

    name = repository or folder.resolve().name
    try:
        api = HfApi(token=token)
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=str(folder), ignore_patterns=_KEPT_BACK)
    # The hub's client lets errors of several libraries through (network, HTTP, token store).
    except Exception as error:
        raise OutputError(
            f"the upload to {name} failed ({_reason(error)}); everything is in {folder}, check --hub_token and upload "
            "it later"
        ) from error
    return str(address)
