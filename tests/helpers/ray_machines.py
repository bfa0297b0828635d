"""A Ray cluster of two machines on this one, as a process: prints its address; a line "replace" kills a machine.

Ray reads how it authenticates when it is first imported, so a process of its own has it.
"""

import shutil
import sys
import tempfile

_MACHINE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def main() -> None:
    """Run until the input ends."""
    from ray.cluster_utils import Cluster

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
