"""Tasks on a Ray cluster: one that runs already, or one of this command's own on this machine.

Ray decides where a task runs, keeps to what each machine has, and starts a task anew whose machine or worker was lost.

Ray's ports listen on all interfaces, and whoever reaches them may run any program. So token authentication is always
on: a cluster of one's own gets a fresh token, which only this process and its children know, and a cluster that runs
already must have one.
"""

import contextlib
import importlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from textual_inversion.system.environment import available_cores
from textual_inversion.system.errors import SettingsError, one_line
from textual_inversion.system.paths import ROOT

INSTALL = "pip install -r requirements-cluster.txt, or pip install 'textual-inversion-paddle[cluster]'"
_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_DEFAULT_TOKEN = Path(".ray", "auth_token")  # in the home folder
_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.5  # a signal is heard between two polls
_OBJECT_STORE = 100 << 20  # bytes: tasks hand over names and figures
# Times that Ray starts a task anew whose machine or worker was lost, which is no fault of the task.
_LOST = 100
# Ray gives a machine half a minute to start; a busy one may need more.
_STARTS = 3
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}


@dataclass(frozen=True)
class Room:
    """What each task takes.

    Attributes:
        cpus: cores.
        gpus: cards; None: one where the cluster has any.
    """

    cpus: int = 1
    gpus: int | None = None


@dataclass(frozen=True)
class Lost:
    """What a task gives whose workers were lost again and again, or that failed by itself."""

    reason: str


class Pool(Protocol):
    """What does tasks, some at a time.

    Attributes:
        size: tasks that it can do at the same time.
        gpus: cards of each task.
    """

    size: int
    gpus: int

    def submit(self, key: Any, task: Callable[[Any], Any], order: Any) -> None:
        """Begin a task. Its key names it in `next_done`."""

    def next_done(self) -> tuple[Any, Any]:
        """(key, result) of a task that has ended, after waiting for one; the result may be `Lost`."""


class RayPool:
    """Tasks on a Ray cluster. Made by `opened`."""

    def __init__(self, size: int, cpus: int, gpus: int):
        self.size, self.gpus = size, gpus
        self._options = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": _LOST, "scheduling_strategy": "SPREAD"}
        self._running: dict[Any, Any] = {}

    def submit(self, key: Any, task: Callable[[Any], Any], order: Any) -> None:
        """Begin a task."""
        import ray

        self._running[ray.remote(task).options(**self._options).remote(order)] = key

    def next_done(self) -> tuple[Any, Any]:
        """(key, result) of a task that has ended."""
        import ray

        done: list = []
        while not done:
            done, _ = ray.wait(list(self._running), num_returns=1, timeout=_POLL_SECONDS)
        key = self._running.pop(done[0])
        try:
            return key, ray.get(done[0])
        except ray.exceptions.RayError as error:
            return key, Lost(one_line(error))


@contextlib.contextmanager
def opened(address: str | None, room: Room, folder: Path | None = None) -> Iterator[RayPool]:
    """A pool on the cluster at an address, or on one of its own, which ends with the block.

    Args:
        address: "auto" or HOST:PORT; None: a cluster of its own.
        room: of each task.
        folder: which all machines must see; None: any.

    Raises:
        SettingsError: Ray is not installed, the cluster does not answer or refuses the token, a machine does not see
            the folder, or none has the room.
    """
    check_installed()
    os.environ[_MODE] = "token"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with _own_cluster() if address is None else _running_cluster(address):
        pool = _pool(room)
        if address is not None and folder is not None:
            _check_machines(folder)
        yield pool


def check_installed() -> None:
    """Refuse to go on without Ray and Optuna; raises SettingsError."""
    missing = [name for name in ("ray", "optuna") if find_spec(name) is None]
    if missing:
        raise SettingsError(f"this needs {' and '.join(missing)}, which are not installed: {INSTALL}")


def check_address(address: str | None) -> None:
    """Refuse an address that nobody answers at, or a cluster without a token; raises SettingsError."""
    if address is None:
        return
    if not _has_token():
        raise SettingsError(
            f"--address {address}: there is no token; start the cluster with {_MODE}=token, and put its token into "
            f"{_TOKEN}, or into ~/{_DEFAULT_TOKEN}"
        )
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address.startswith("ray://") or not (colon and host and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise SettingsError(f"--address {address} is neither auto nor HOST:PORT, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except OSError as error:
        raise SettingsError(
            f"--address {address}: no cluster answers there ({error.strerror or error}); start one with ray start "
            "--head, or leave --address out"
        ) from None


def _has_token() -> bool:
    named = os.environ.get(_TOKEN_PATH)
    with contextlib.suppress(RuntimeError):  # there is no home folder
        return bool(os.environ.get(_TOKEN)) or Path(named or Path.home() / _DEFAULT_TOKEN).is_file()
    return False


@contextlib.contextmanager
def _own_cluster() -> Iterator[None]:
    """A cluster on this machine, with a token of its own."""
    os.environ[_TOKEN] = secrets.token_hex(32)
    os.environ.pop("RAY_ADDRESS", None)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    place = tempfile.mkdtemp(prefix="ti-ray-")  # short: sockets lie in it, whose paths end at 107 bytes
    ray = importlib.import_module("ray")
    try:
        _started(
            lambda: ray.init(
                num_cpus=available_cores(),
                object_store_memory=_OBJECT_STORE,
                _temp_dir=place,
                include_dashboard=False,
                **_QUIET,
            ),  # fmt: skip
            "no cluster can be started on this machine",
            "free memory or processes, or name a cluster with --address",
            _STARTS,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _running_cluster(address: str) -> Iterator[None]:
    check_address(address)
    ray = importlib.import_module("ray")
    variables = {"PYTHONPATH": str(ROOT)}
    try:
        _started(
            lambda: ray.init(address=address, runtime_env={"env_vars": variables}, **_QUIET),
            f"--address {address}",
            f"start a cluster of Ray {ray.__version__} with ray start --head, give its own token in {_TOKEN}, or leave "
            "--address out",
        )
        yield
    finally:
        ray.shutdown()


def _started(start: Callable[[], Any], what: str, way_out: str, tries: int = 1) -> None:
    """Start or meet a cluster; what Ray raises then becomes one line."""
    ray = importlib.import_module("ray")
    try:
        for left in reversed(range(tries)):
            try:
                start()
                break
            except Exception:
                if not left:
                    raise
                ray.shutdown()
    except ray.exceptions.AuthenticationError as error:
        raise SettingsError(
            f"{what}: the cluster refuses the token ({_first_sentence(error)}); put the cluster's own into {_TOKEN}"
        ) from error
    except Exception as error:  # Ray raises plain ones too, such as of a node that took too long
        raise SettingsError(f"{what}: {_first_sentence(error)}; {way_out}") from error


def _first_sentence(error: BaseException) -> str:
    return one_line(error).partition(". ")[0].rstrip(".")


def _pool(room: Room) -> RayPool:
    """A pool with as many tasks at a time as the cluster has room for; raises SettingsError where it has none."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_cards = any(node.get("GPU", 0) for node in nodes)
    gpus = room.gpus if room.gpus is not None else int(has_cards)
    if gpus and not has_cards:
        raise SettingsError(f"--gpus_per_run {gpus}: no machine of the cluster has a card; leave it out")
    fits = [_times(node, room.cpus, gpus) for node in nodes]
    if not sum(fits):
        most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        cards = f" and {gpus} cards" if gpus else ""
        raise SettingsError(
            f"no machine of the cluster has {room.cpus} cores{cards}, the largest has {most} cores; lower "
            "--cpus_per_run or --gpus_per_run"
        )
    return RayPool(sum(fits), room.cpus, gpus)


def _times(resources: dict[str, float], cpus: int, gpus: int) -> int:
    by_cards = [int(resources.get("GPU", 0) // gpus)] if gpus else []
    return min([int(resources.get("CPU", 0) // cpus), *by_cards])


def _check_machines(folder: Path) -> None:
    """Refuse machines that do not see a folder, or that take tasks from anybody; raises SettingsError."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(num_cpus=0, max_retries=0)(_seen_by_machine)
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        where, name = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False), node["NodeManagerAddress"]
        try:
            mode, is_seen = ray.get(probe.options(scheduling_strategy=where).remote(str(folder)), timeout=120)
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            continue  # it was lost meanwhile, as any machine may be
        except ray.exceptions.RayError as error:
            raise SettingsError(f"machine {name} does no task ({_first_sentence(error)})") from error
        if mode != "token":
            raise SettingsError(f"machine {name} takes tasks from anybody; start all of them with {_MODE}=token")
        if not is_seen:
            raise SettingsError(f"machine {name} does not see {folder}; choose a folder that all machines share")


def _seen_by_machine(folder: str) -> tuple[str, bool]:
    return os.environ.get(_MODE, ""), os.path.isdir(folder)
