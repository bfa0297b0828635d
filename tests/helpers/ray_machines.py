"""A Ray cluster of two machines on this one, as a process: prints its address; a line "replace" kills a machine.

Ray reads how it authenticates when it is first imported, so a process of its own has it.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.paths import ROOT

_MACHINE = {"num_cpus": 1, "object_store_memory": 80 << 20}


class Machines:
    """Two machines with a core each, both on this one, whose cluster wants a token.

    Attributes:
        environment: of a process that knows the token.
        address: of the cluster.
    """

    def __init__(self):
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        self.environment = environment = os.environ | own
        words = [sys.executable, "-m", "helpers.ray_machines"]
        self._said = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment,
            cwd=ROOT / "tests",
        )  # fmt: skip
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            self._process.wait(timeout=60)
            self._said.seek(0)
            raise RuntimeError(f"Ray's machines did not start: {self._said.read()[-2000:]}")

    def replace(self) -> None:
        """Kill a machine, and add another."""
        self._process.stdin.write("replace\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "replaced\n"

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._said.close()


def main() -> None:
    """Run until the input ends."""
    from ray.cluster_utils import Cluster

    # Ray notes the address of a head in its usual folder, which is there only if it was used before.
    Path("/tmp/ray").mkdir(exist_ok=True)
    place = tempfile.mkdtemp(prefix="ti-ray-")
    head = {**_MACHINE, "include_dashboard": False, "temp_dir": place}
    machines = Cluster(initialize_head=True, head_node_args=head)
    try:
        machine = machines.add_node(**_MACHINE)
        print(machines.address, flush=True)
        for _ in sys.stdin:
            machines.remove_node(machine, allow_graceful=False)
            machine = machines.add_node(**_MACHINE)
            print("replaced", flush=True)
    finally:
        machines.shutdown()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
