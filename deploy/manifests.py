"""The objects of a run in Kubernetes: pods that are not root, hold no token of the cluster and have time to save.

No port of a run knows more of a password than Ray's token, so each run stands behind a wall: a NetworkPolicy by which
only its own pods reach one another.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.command_lines import APP

RESULTS, SHARED_MEMORY = "/results", "/dev/shm"  # where a pod finds them
USER = 10001  # the image's own, see Dockerfile
GRACE_SECONDS = 120  # from SIGTERM to SIGKILL: a step of a large model, and its checkpoint
BAD_INPUT = 2  # the status of a command that was asked for what cannot be; again would end in the same way
SHELL_SECONDS = 24 * 60 * 60
RAY_VERSION, RAY_DASHBOARD = "2.60.0", 8265
# As KubeRay's chart labels its operator, which hands over the job and asks how it is.
RAY_OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}
PADDLE_MASTER_PORT = 36543  # the operator's own
CARD = "nvidia.com/gpu"

Document = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """What the objects of a run are called.

    Attributes:
        name: of the run.
        namespace: None: that of kubectl.
    """

    name: str
    namespace: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What all objects of the run have."""
        return {"app.kubernetes.io/name": "textual-inversion", "app.kubernetes.io/instance": self.name}

    def document(self, version: str, kind: str, content: Document, suffix: str = "") -> Document:
        """One object."""
        metadata: Document = {"name": self.name + suffix, "labels": self.labels}
        if self.namespace:
            metadata["namespace"] = self.namespace
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


@dataclass(frozen=True)
class Machine:
    """What each pod is given.

    Attributes:
        image: of the container.
        cards: 0: processor cores only.
        cpus, memory: as Kubernetes writes amounts.
        claim: of the volume in RESULTS.
        secrets: whose keys become environment variables.
        node_labels: of the machines that will do.
    """

    image: str
    cards: int = 0
    cpus: str = "4"
    memory: str = "16Gi"
    claim: str | None = None
    secrets: Sequence[str] = ()
    node_labels: Mapping[str, str] | None = None


def container(machine: Machine, own_name: str, words: Sequence[str] | None) -> Document:
    """The container of a pod; `words` None: what its operator gives it."""
    amount = {"cpu": machine.cpus, "memory": machine.memory}
    if machine.cards:
        amount[CARD] = str(machine.cards)
    mounts = [{"name": "shared-memory", "mountPath": SHARED_MEMORY}, {"name": "scratch", "mountPath": "/tmp"}]
    told = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}
    if machine.claim:
        mounts.append({"name": "results", "mountPath": RESULTS})
        # Base models are downloaded once. What stands for addresses of object storage outlives a pod, too.
        told |= {"HF_HOME": f"{RESULTS}/models/hf", "PPNLP_HOME": f"{RESULTS}/models/paddlenlp"}
        told["TEXTUAL_INVERSION_STORAGE"] = f"{RESULTS}/storage"
    made: Document = {
        "name": own_name,
        "image": machine.image,
        "workingDir": APP,
        "env": [{"name": key, "value": value} for key, value in told.items()],
        "resources": {"requests": amount, "limits": dict(amount)},
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if words is not None:
        made["command"] = list(words)
    if machine.secrets:
        made["envFrom"] = [{"secretRef": {"name": one}} for one in machine.secrets]
    return made


def pod(names: Names, machine: Machine, made: Document, restart: str | None = None) -> Document:
    """A pod around one container."""
    volumes: list[Document] = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    if machine.claim:
        volumes.append({"name": "results", "persistentVolumeClaim": {"claimName": machine.claim}})
    user = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    spec: Document = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [made],
        "volumes": volumes,
    }
    if restart is not None:
        spec["restartPolicy"] = restart
    if machine.node_labels:
        spec["nodeSelector"] = dict(machine.node_labels)
    if machine.cards:
        spec["tolerations"] = [{"key": CARD, "operator": "Exists", "effect": "NoSchedule"}]
    return {"metadata": {"labels": names.labels}, "spec": spec}


def job(names: Names, machine: Machine, kind: str, words: Sequence[str], retries: int) -> list[Document]:
    """A Job on one machine. It begins again where its pod was lost or ended, unless its input was bad."""
    moved = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    rule = {"containerName": kind, "operator": "In", "values": [BAD_INPUT]}
    spec = {
        "backoffLimit": retries,
        "podFailurePolicy": {"rules": [moved, {"action": "FailJob", "onExitCodes": rule}]},
        "template": pod(names, machine, container(machine, kind, words), "Never"),
    }
    return [names.document("batch/v1", "Job", {"spec": spec}), wall(names)]


def paddle_job(names: Names, machine: Machine, words: Sequence[str], nodes: int, retries: int) -> list[Document]:
    """One training on several machines."""
    made = container(machine, "paddle", words)  # the operator looks for a container of this name
    made["ports"] = [{"name": "master", "containerPort": PADDLE_MASTER_PORT}]
    worker = {"replicas": nodes, "restartPolicy": "OnFailure", "template": pod(names, machine, made)}
    spec = {
        "runPolicy": {"backoffLimit": retries, "cleanPodPolicy": "Running"},
        "paddleReplicaSpecs": {"Worker": worker},
    }
    return [names.document("kubeflow.org/v1", "PaddleJob", {"spec": spec}), wall(names, own_pods(names))]


def ray_job(
    names: Names, machine: Machine, words: Sequence[str], nodes: int, retries: int, secret: str | None
) -> list[Document]:
    """Many trainings or images on a Ray cluster of their own, which asks for a token and goes when they are done.

    Args:
        secret: which holds the token as `auth_token`; None: KubeRay's operator makes one.
    """
    head = pod(names, machine, container(machine, "ray-head", None))
    # The operator talks to the dashboard from outside the pod; what else could is kept out by the wall, and the token.
    cluster: Document = {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token"} | ({"secretName": secret} if secret else {}),
        "headGroupSpec": {"rayStartParams": {"dashboard-host": "0.0.0.0"}, "template": head},
    }
    template = pod(names, machine, container(machine, "ray-worker", None))
    group = {"groupName": "workers", "replicas": nodes - 1, "minReplicas": nodes - 1, "maxReplicas": nodes - 1}
    cluster["workerGroupSpecs"] = [{**group, "rayStartParams": {}, "template": template}]
    spec = {
        "entrypoint": f"cd {APP} && {shlex.join(words)}",
        "submissionMode": "HTTPMode",
        "shutdownAfterJobFinishes": True,
        "backoffLimit": retries,
        "rayClusterSpec": cluster,
    }
    operator = {
        "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": RAY_OPERATOR}}],
        "ports": [{"protocol": "TCP", "port": RAY_DASHBOARD}],
    }
    return [names.document("ray.io/v1", "RayJob", {"spec": spec}), wall(names, own_pods(names), operator)]


def own_pods(names: Names) -> Document:
    """The rule by which pods of a run reach one another."""
    return {"from": [{"podSelector": {"matchLabels": names.labels}}]}


def wall(names: Names, *rules: Document) -> Document:
    """Lets nobody connect to the pods of a run but whom a rule names."""
    spec = {"podSelector": {"matchLabels": names.labels}, "policyTypes": ["Ingress"], "ingress": list(rules)}
    return names.document("networking.k8s.io/v1", "NetworkPolicy", {"spec": spec}, "-wall")


def shell(names: Names, machine: Machine) -> list[Document]:
    """A pod that waits for a day beside the results: to copy images in, to look at results, to draw."""
    made = pod(names, machine, container(machine, "shell", ["sleep", "infinity"]), "Never")
    made["spec"] |= {"activeDeadlineSeconds": SHELL_SECONDS, "terminationGracePeriodSeconds": 5}
    return [names.document("v1", "Pod", {"spec": made["spec"]}), wall(names)]


def claim(names: Names, size: str, storage_class: str | None) -> list[Document]:
    """A volume that several machines may write to."""
    spec: Document = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return [names.document("v1", "PersistentVolumeClaim", {"spec": spec})]
