"""Keys and endpoints of object storage, from where the services' own tools keep them.

    s3://     AWS_* variables; ~/.aws/credentials and ~/.aws/config (AWS_PROFILE chooses)
    bos://    BCE_ACCESS_KEY_ID, BCE_SECRET_ACCESS_KEY and BOS_ENDPOINT or BCE_REGION; ~/.go-bcecli/credentials
    gs://     GOOGLE_APPLICATION_CREDENTIALS; gcloud's own file
    az://     AZURE_* variables

What stands in the environment wins. The client library reads the variables of s3, gs and az by itself; here is what it
leaves out. Nothing of this is ever recorded or printed.
"""

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

from textual_inversion.system import user_files

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# What gives keys without their standing in the environment: a role of a cluster or a container.
_OF_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_BOS_REGION = "bj"
HOW = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or fill in ~/.aws/credentials",
    "bos": "set BCE_ACCESS_KEY_ID and BCE_SECRET_ACCESS_KEY, or fill in ~/.go-bcecli/credentials",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


def s3_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings of the client for s3:// that its library does not find by itself."""
    found: dict[str, str] = {}
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    # Keys of one place only: half of a pair from here and half from there would be refused, without telling why.
    if not any(environment.get(name) for name in (*_KEYS, *_OF_ROLES)):
        path = environment.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
        found |= _section(path, (profile,), ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"))
    names = (profile,) if profile == "default" else (f"profile {profile}", profile)
    more = _section(environment.get("AWS_CONFIG_FILE", "~/.aws/config"), names, ("region", "endpoint_url"))
    if not (environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")) and "region" in more:
        found["region"] = more["region"]
    if "endpoint_url" in more and not any(environment.get(name) for name in _ENDPOINTS):
        found["endpoint"] = more["endpoint_url"]
    return found


def s3_endpoint(settings: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> str:
    """The endpoint that the client for s3:// will ask; "" for Amazon's own."""
    named = next((environment[name] for name in _ENDPOINTS if environment.get(name)), "")
    return named or settings.get("endpoint", "")


def bos_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings of a client for bos://, which speaks as s3:// does at another endpoint."""
    file = _section("~/.go-bcecli/credentials", ("Defaults", "default"), ("ak", "sk"))
    more = _section("~/.go-bcecli/config", ("Defaults", "default"), ("region", "domain"))
    region = environment.get("BCE_REGION") or more.get("region") or _BOS_REGION
    endpoint = environment.get("BOS_ENDPOINT") or f"https://s3.{region}.bcebos.com"
    key, secret = environment.get("BCE_ACCESS_KEY_ID"), environment.get("BCE_SECRET_ACCESS_KEY")
    if not (key and secret):
        key, secret = file.get("ak"), file.get("sk")
    found = {"region": region, "endpoint": endpoint if "://" in endpoint else f"https://{endpoint}"}
    token = environment.get("BCE_SESSION_TOKEN")
    return found | ({"access_key_id": key, "secret_access_key": secret} if key and secret else {}) | (
        {"session_token": token} if token else {}
    )  # fmt: skip


def _section(path: str, names: tuple[str, ...], wanted: tuple[str, ...]) -> dict[str, str]:
    """Some values of the first of some sections of an INI file; {} where there is none that can be read."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(user_files.read_text(Path(path).expanduser(), user_files.SETTINGS))
    except (OSError, RuntimeError, UnicodeDecodeError, configparser.Error):
        return {}
    section = next((name for name in names if parser.has_section(name)), None)
    values = dict(parser.items(section)) if section is not None else {}
    return {name: values[name].strip() for name in wanted if values.get(name)}
