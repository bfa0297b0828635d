"""The store of community models that ppdiffusers downloads from, and its cache on this machine.

The store cannot list its files: a file exists if it can be fetched.
"""

import os
from pathlib import Path

from textual_inversion.hub.hugging_face import SECONDS_TO_ANSWER, is_offline


def cache_folder() -> Path:
    """Where ppdiffusers keeps downloads (its PPDIFFUSERS_CACHE, without the seconds that importing it takes)."""
    home = os.environ.get("PPNLP_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "paddlenlp")
    return Path(home, "ppdiffusers").expanduser().absolute()


def has_model(name: str) -> bool:
    """Whether the store answers within SECONDS_TO_ANSWER and has this model; False where downloads are forbidden."""
    import requests

    if is_offline():
        return False
    endpoint = os.environ.get("PPNLP_ENDPOINT", "https://bj.bcebos.com/paddlenlp")
    try:
        url = f"{endpoint}/models/community/{name}/model_index.json"
        return requests.head(url, timeout=SECONDS_TO_ANSWER).status_code == requests.codes.ok
    except requests.RequestException:
        return False


def fetch_file(name: str, file: str, cache_dir: str | Path | None = None) -> Path | None:
    """Download one file of a model, such as "unet/config.json", unless it is cached; None where there is none."""
    from ppdiffusers.utils import bos_aistudio_hf_download

    cache = str(cache_dir or cache_folder())
    try:
        return Path(bos_aistudio_hf_download(name, file, cache_dir=cache, from_hf_hub=False))
    except OSError:  # "no such file" too
        return None
