"""`python deploy/check.py deploy/k8s/*.yaml`: mistakes between manifests, which a schema cannot see.

Schema validators look at one object at a time, and every object can be right while the whole is
wrong: a selector that matches nothing, a probe of a port that nobody opens, a grace period that ends before
the drain. Prints one line for each; the status is 1 if there are any.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

UNITS = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def quantity(text: str | float) -> float:
    """256Mi in bytes, 100m in cores."""
    number, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(text)).groups()
    return float(number) * UNITS[unit]


def selects(selector: dict, labels: dict) -> bool:
    return selector.items() <= labels.items()


class Manifests:
    """All objects that are applied together."""

    def __init__(self, documents: list[dict]):
        self.documents = [document for document in documents if document]

    def kind(self, *kinds: str) -> Iterator[tuple[str, dict]]:
        """Name and object of each of these kinds."""
        for document in self.documents:
            if document["kind"] in kinds:
                yield f"{document['kind']}/{document['metadata']['name']}", document

    def named(self, kind: str, name: str) -> dict | None:
        return next((o for label, o in self.kind(kind) if label == f"{kind}/{name}"), None)

    def problems(self) -> list[str]:
        """What is wrong, a line each."""
        found = [*self.workloads(), *self.selectors(), *self.scaling()]
        return [f"{name}: {problem}" for name, problem in found]

    def settings(self, container: dict) -> dict[str, str]:
        """The container's environment, as far as it stands in these manifests."""
        values = {}
        for source in container.get("envFrom", []):
            config = self.named("ConfigMap", source.get("configMapRef", {}).get("name"))
            values |= (config or {}).get("data", {})
        return values | {e["name"]: e["value"] for e in container.get("env", []) if "value" in e}

    def workloads(self) -> Iterator[tuple[str, str]]:
        for name, workload in self.kind("Deployment"):
            spec, pod = workload["spec"], workload["spec"]["template"]["spec"]
            if not selects(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]):
                yield name, "its selector does not match its own pods"
            rolling = spec.get("strategy", {}).get("rollingUpdate", {})
            if rolling.get("maxSurge") == rolling.get("maxUnavailable") == 0:
                yield name, "maxSurge and maxUnavailable are both 0: it cannot roll out"
            for constraint in pod.get("topologySpreadConstraints", []):
                labels = constraint["labelSelector"]["matchLabels"]
                if not selects(labels, spec["template"]["metadata"]["labels"]):
                    yield name, "the topology spread counts other pods"
            for container in pod["containers"]:
                for problem in self.container(container, pod):
                    yield f"{name}/{container['name']}", problem

    def container(self, container: dict, pod: dict) -> Iterator[str]:
        tag = container["image"].rpartition("/")[2].partition(":")[2]
        if tag in ("", "latest"):
            yield "its image has no fixed version"
        for source in container.get("envFrom", []):
            ref = source.get("configMapRef", {}).get("name")
            if ref and not self.named("ConfigMap", ref):
                yield f"there is no ConfigMap {ref}"
        resources = container.get("resources", {})
        if "memory" not in resources.get("limits", {}) or "memory" not in resources.get(
            "requests", {}
        ):
            yield "no request or limit of memory"
        for what, limit in resources.get("limits", {}).items():
            if quantity(resources.get("requests", {}).get(what, 0)) > quantity(limit):
                yield f"it requests more {what} than its limit"
        yield from self.probes(container)
        yield from self.ending(container, pod)

    def probes(self, container: dict) -> Iterator[str]:
        ports = {
            key for p in container.get("ports", []) for key in (p.get("name"), p["containerPort"])
        }
        probes = {
            n: container[f"{n}Probe"]
            for n in ("startup", "readiness", "liveness")
            if f"{n}Probe" in container
        }
        for name, probe in probes.items():
            target = probe.get("httpGet") or probe.get("tcpSocket")
            if target and target["port"] not in ports:
                yield f"the {name} probe asks port {target['port']}, which the container does not have"
        if "readiness" not in probes:
            yield "without a readiness probe it gets requests before it can answer them"
        ready, alive = (
            probes.get(n, {}).get("httpGet", {}).get("path") for n in ("readiness", "liveness")
        )
        if ready and ready == alive:
            yield f"liveness asks {alive} as readiness does: an outage behind the service would restart it"
        port = self.settings(container).get("SERVICE_PORT")
        if port and int(port) not in ports:
            yield f"the service listens on {port}, which the container does not have"

    def ending(self, container: dict, pod: dict) -> Iterator[str]:
        """preStop + the service's own drain < what Kubernetes waits before it kills."""
        settings = self.settings(container)
        if "SERVICE_SHUTDOWN_GRACE_S" not in settings:
            return
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain, kill = (
            float(settings["SERVICE_SHUTDOWN_GRACE_S"]),
            pod.get("terminationGracePeriodSeconds", 30),
        )
        if not sleep:
            yield "no preStop: SIGTERM comes before the load balancers know"
        if kill <= sleep + drain:
            yield f"it is killed after {kill} s, preStop {sleep} and drain {drain:g} s may need {sleep + drain:g}"
        longest = sum(
            float(settings.get(f"SERVICE_{n}_TIMEOUT_S", 0)) for n in ("REQUEST", "QUEUE")
        )
        if drain <= longest:
            yield f"it drains for {drain:g} s, an answer may take {longest:g}"

    def selectors(self) -> Iterator[tuple[str, str]]:
        templates = [o["spec"]["template"] for _, o in self.kind("Deployment")]
        for name, thing in self.kind("Service", "PodDisruptionBudget", "NetworkPolicy"):
            spec = thing["spec"]
            selector = spec.get("podSelector", spec.get("selector"))
            labels = selector if thing["kind"] == "Service" else selector.get("matchLabels", {})
            pods = [t for t in templates if selects(labels, t["metadata"]["labels"])]
            if not pods:
                yield name, f"its selector {labels} matches no pod"
                continue
            ports = {k for t in pods for c in t["spec"]["containers"] for p in c.get("ports", [])
                     for k in (p.get("name"), p["containerPort"])}  # fmt: skip
            asked = [p.get("targetPort", p["port"]) for p in spec.get("ports", [])]
            asked += [p["port"] for rule in spec.get("ingress", []) for p in rule.get("ports", [])]
            for port in asked:
                if port not in ports:
                    yield name, f"its pods have no port {port}"

    def scaling(self) -> Iterator[tuple[str, str]]:
        budgets = [o["spec"] for _, o in self.kind("PodDisruptionBudget")]
        for name, scaler in self.kind("HorizontalPodAutoscaler"):
            spec = scaler["spec"]
            target = self.named(spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
            if target is None:
                yield name, f"there is no {spec['scaleTargetRef']['name']} to scale"
                continue
            if "replicas" in target["spec"]:
                yield name, "its target sets replicas, too: each `kubectl apply` undoes the scaling"
            labels = target["spec"]["template"]["metadata"]["labels"]
            for budget in budgets:
                if (
                    selects(budget["selector"]["matchLabels"], labels)
                    and budget.get("minAvailable", 0) >= spec["minReplicas"]
                ):
                    yield name, "the disruption budget forbids what the drain of a node needs"
            for metric in spec["metrics"]:
                resource = metric.get("resource", {}).get("name")
                requests = [
                    c.get("resources", {}).get("requests", {})
                    for c in target["spec"]["template"]["spec"]["containers"]
                ]
                if resource and any(resource not in request for request in requests):
                    yield name, f"it scales by {resource}, which a container does not request"


def seconds(text: str) -> float:
    """1m30s in seconds."""
    return sum(
        float(n) * {"s": 1, "m": 60, "h": 3600}[u] for n, u in re.findall(r"(\d+)(h|m|s)", text)
    )


def compose_problems(compose: dict) -> list[str]:
    """The same for a compose file: grace periods, versions, limits, and names that lead nowhere."""
    found = []
    for name, service in compose["services"].items():
        tag = service["image"].rpartition("/")[2].partition(":")[2]
        drain = float(service.get("environment", {}).get("SERVICE_SHUTDOWN_GRACE_S", 0))
        kill = seconds(service.get("stop_grace_period", "10s"))
        if tag in ("", "latest"):
            found.append(f"{name}: its image has no fixed version")
        if kill <= drain:
            found.append(f"{name}: it is killed after {kill:g} s and may drain for {drain:g}")
        if "memory" not in service.get("deploy", {}).get("resources", {}).get("limits", {}):
            found.append(f"{name}: no limit of memory")
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy" and "healthcheck" not in compose[
                "services"
            ].get(other, {}):
                found.append(
                    f"{name}: waits for {other} to be healthy, which has no healthcheck here"
                )
        used = {
            "networks": service.get("networks", []),
            "secrets": [s["source"] for s in service.get("secrets", [])],
        }
        for kind, names in used.items():
            found += [
                f"{name}: {n} is not among the {kind}"
                for n in names
                if n not in compose.get(kind, {})
            ]
    return found


def load(*paths: str | Path) -> Manifests:
    return Manifests([d for path in paths for d in yaml.safe_load_all(Path(path).read_text())])


if __name__ == "__main__":
    lines = load(*sys.argv[1:]).problems()
    print("\n".join(lines) or "nothing found")
    sys.exit(bool(lines))
