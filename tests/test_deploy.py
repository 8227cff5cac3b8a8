"""The files of 05_deployment/deploy: valid by the tools that know them, in step with the service and the lock.

And every check is shown to refuse a file with the mistake that it is for. Nothing is built or applied:
there is no Docker here.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "05_deployment"
sys.path.insert(0, str(FOLDER))

from deploy import check, pin, validate  # noqa: E402
from service.limits import Gate  # noqa: E402
from service.metrics import Metrics  # noqa: E402
from service.settings import Settings  # noqa: E402

DEPLOY = FOLDER / "deploy"
MANIFESTS = check.load(*(DEPLOY / "k8s").glob("*.yaml"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
D, C, N, K = "Dockerfile", "compose.yaml", "nginx.conf.template", "k8s/deployment.yaml"


def broken(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of `deploy` in which one file has a mistake; returns that file."""
    text = (DEPLOY / file).read_text()
    assert old in text, f"{file} does not contain {old!r}"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    (folder / file).write_text(text.replace(old, new))
    return folder / file


# --- the tools ------------------------------------------------------------------


def test_every_file_is_valid():
    files = validate.files(DEPLOY)
    assert {path.name for path in files} >= {
        D,
        C,
        N,
        "prometheus.yml",
        "rules.yml",
        "deployment.yaml",
    }
    assert validate.refusals(files) == {}


REFUSED = [
    (D, 'CMD ["python", "-m", "service"]', "CMD python -m service", "DL3025"),
    (D, "python:3.13.12-slim-bookworm", "python", "DL3006"),
    (C, "depends_on:", "depend_on:", "'depend_on' was unexpected"),
    (C, "services:\n", "services: [\n", "Failed to parse"),
    (N, "proxy_next_upstream_tries 2;", "proxy_next_upstream_tries 2", 'unexpected "}"'),
    (N, "keepalive 16", "keepalife 16", "unknown directive"),
    ("prometheus.yml", "scrape_timeout: 3s", "scrape_timeout: 30s", "scrape timeout greater"),
    ("prometheus.yml", "rules.yml", "rulez.yml", "rulez.yml"),
    ("rules.yml", "avg(chat_inside)", "avg(chat_inside", "parse error"),
    (K, "maxSurge: 1", "maxSurg: 1", "'maxSurg' was unexpected"),
    (K, "containerPort: 8000", 'containerPort: "8000"', "is not of type 'integer'"),
    ("k8s/hpa.yaml", "autoscaling/v2", "autoscaling/v2beta2", "Couldn't find schema"),
]  # fmt: skip


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """What the tools say to all of them: one start of each tool, some of which take seconds."""
    folder = tmp_path_factory.mktemp("refused")
    paths = [broken(folder / str(i), *change[:3]) for i, change in enumerate(REFUSED)]
    found = validate.refusals(paths)
    return [found.get(path) for path in paths]


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[f"{r[0]} {r[2]}" for r in REFUSED])
def test_a_tool_refuses_the_mistake(refused, number):
    assert refused[number] is not None, "no tool refuses it"
    assert REFUSED[number][3] in refused[number]


def test_the_workflows_are_valid():
    workflows = (ROOT / ".github" / "workflows").glob("*.yml")
    schema = ["--builtin-schema", "vendor.github-workflows"]
    done = validate.run("check-jsonschema", *schema, *workflows)
    assert done.returncode == 0, done.stdout


# --- between the files --------------------------------------------------------------


def test_nothing_is_wrong_between_the_manifests():
    assert MANIFESTS.problems() == []
    assert check.compose_problems(COMPOSE) == []


LIVENESS = "periodSeconds: 10\n            timeoutSeconds: 3\n            failureThreshold: 3"
BETWEEN = [
    (K, "path: /readyz, port: http", "path: /readyz, port: 8080", "asks port 8080"),
    (K, f"/healthz, port: http}}\n            {LIVENESS}", f"/readyz, port: http}}\n            {LIVENESS}", "would restart it"),
    (K, "readinessProbe:", "livenessProbe:", "without a readiness probe"),
    (K, "GracePeriodSeconds: 40", "GracePeriodSeconds: 35", "killed after 35 s"),
    (K, "terminationGracePeriodSeconds: 40", "dnsPolicy: Default", "killed after 30 s"),
    (K, "seconds: 5}", "seconds: 0}", "no preStop"),
    (K, "maxSurge: 1", "maxSurge: 0", "cannot roll out"),
    (K, "limits: {memory: 256Mi}", "limits: {memory: 256m}", "requests more memory"),
    (K, "limits: {memory: 256Mi}", "limits: {}", "no request or limit"),
    (K, "configMapRef: {name: chat-1-0-0}", "configMapRef: {name: chat}", "no ConfigMap chat"),
    (K, "chat:1.0.0 #", "chat:latest #", "no fixed version"),
    (K, "chat:1.0.0 #", "chat #", "no fixed version"),
    (K, "spec: # no `replicas`", "spec:\n  replicas: 2 # no `replicas`", "sets replicas"),
    (K, "      labels: {app: chat}", "      labels: {app: chats}", "does not match its own pods"),
    (K, "          labelSelector: {matchLabels: {app: chat}}", "          labelSelector: {matchLabels: {app: other}}", "other pods"),
    (K, "requests: {cpu: 100m, memory: 160Mi}", "requests: {memory: 300Mi}", "requests more memory"),
    ("k8s/configmap.yaml", 'GRACE_S: "30"', 'GRACE_S: "20"', "an answer may take 22"),
    ("k8s/configmap.yaml", "\ndata:", '\ndata:\n  SERVICE_PORT: "9000"', "listens on 9000"),
    ("k8s/service.yaml", "selector: {app: chat}", "selector: {app: chats}", "matches no pod"),
    ("k8s/service.yaml", "targetPort: http", "targetPort: web", "no port web"),
    ("k8s/service.yaml", ", targetPort: http", "", "no port 80"),
    ("k8s/pdb.yaml", "maxUnavailable: 1", "minAvailable: 2", "the drain of a node"),
    ("k8s/networkpolicy.yaml", "port: http", "port: 9000", "no port 9000"),
    ("k8s/hpa.yaml", "Deployment, name: chat}", "Deployment, name: chats}", "no chats to scale"),
    (C, "stop_grace_period: 40s # more", "stop_grace_period: 30s # more", "killed after 30 s"),
    (C, "  stop_grace_period: 40s # more", "  # more", "killed after 10 s"),
    (C, "redis:8.6.0-alpine", "redis", "no fixed version"),
    (C, "source: openai_api_key", "source: openai_key", "openai_key is not among the secrets"),
    (C, "networks: [back]", "networks: [backs]", "backs is not among the networks"),
    (C, "memory: 64M, ", "", "no limit of memory"),
    (C, "  healthcheck: # readiness", "  x-healthcheck: # readiness", "chat-1 to be healthy"),
]  # fmt: skip


@pytest.mark.parametrize("change", BETWEEN, ids=[f"{b[0]} {b[3]}" for b in BETWEEN])
def test_check_sees_what_the_tools_do_not(tmp_path, change):
    *edit, message = change
    path = broken(tmp_path / "deploy", *edit)
    if edit[0] == C:
        found = check.compose_problems(yaml.safe_load(path.read_text()))
    else:
        found = check.load(*path.parent.glob("*.yaml")).problems()
    assert any(message in problem for problem in found), found


def test_a_scaler_by_a_resource_needs_a_request_of_it():
    documents = json.loads(json.dumps(MANIFESTS.documents))
    scaler = next(d for d in documents if d["kind"] == "HorizontalPodAutoscaler")
    target = {"type": "Utilization", "averageUtilization": 70}
    scaler["spec"]["metrics"] = [
        {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    ]
    assert check.Manifests(documents).problems() == []
    deployment = check.Manifests(documents).named("Deployment", "chat")
    del deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    assert any("scales by cpu" in problem for problem in check.Manifests(documents).problems())


def test_check_as_a_program(tmp_path):
    program = [sys.executable, str(DEPLOY / "check.py")]
    good = subprocess.run(
        [*program, *(DEPLOY / "k8s").glob("*.yaml")], capture_output=True, text=True
    )
    assert (good.returncode, good.stdout) == (0, "nothing found\n")
    path = broken(tmp_path / "deploy", K, "seconds: 5}", "seconds: 0}")
    bad = subprocess.run([*program, *path.parent.glob("*.yaml")], capture_output=True, text=True)
    assert bad.returncode == 1 and "no preStop" in bad.stdout


def test_quantities():
    assert [check.quantity(q) for q in ("100m", "1.5", 2, "256Mi", "1G")] == [
        0.1,
        1.5,
        2,
        2**28,
        1e9,
    ]
    assert [check.seconds(s) for s in ("40s", "1m30s", "1h")] == [40, 90, 3600]


# --- files and service ------------------------------------------------------------------


def test_every_setting_exists():
    fields = Settings.model_fields
    known = {f"SERVICE_{name}".upper() for name in fields} | {
        f.validation_alias for f in fields.values()
    }
    known |= {"SERVICE_SECRETS_DIR"}
    config = MANIFESTS.named("ConfigMap", "chat-1-0-0")["data"]
    chat = COMPOSE["services"]["chat-1"]
    image = re.findall(r"\b(SERVICE_\w+)=", (DEPLOY / D).read_text())
    used = {*config, *chat["environment"], *image, *(s["target"] for s in chat["secrets"])}
    assert used <= known, used - known
    wanted = {"OPENAI_BASE_URL", "OPENAI_MODEL"}
    assert wanted <= config.keys() and wanted <= chat["environment"].keys()


def test_compose_and_kubernetes_have_the_same_limits():
    config = MANIFESTS.named("ConfigMap", "chat-1-0-0")["data"]
    chat = COMPOSE["services"]["chat-1"]["environment"]
    numbers = {name: value for name, value in chat.items() if value.isdigit()}
    assert len(numbers) == 4
    assert {name: config[name] for name in numbers} == numbers


def test_nginx_keeps_to_the_limits_of_the_service():
    template, settings = (DEPLOY / N).read_text(), Settings.model_fields

    def number(directive: str) -> int:
        return int(re.search(rf"^\s*{directive} (\d+)[sk]?;", template, re.MULTILINE)[1])

    assert number("keepalive_timeout") < settings["keep_alive_s"].default
    assert 1024 * number("client_max_body_size") == settings["max_body_bytes"].default
    config = MANIFESTS.named("ConfigMap", "chat-1-0-0")["data"]
    longest = sum(float(config[f"SERVICE_{name}_TIMEOUT_S"]) for name in ("REQUEST", "QUEUE"))
    assert number("proxy_read_timeout") > longest
    assert set(re.findall(r"\$\{(\w+)\}", re.sub(r"#.*", "", template))) == {
        "LISTEN",
        "SERVERS",
        "NEXT_UPSTREAM",
    }
    assert {"LISTEN", "SERVERS", "NEXT_UPSTREAM"} <= COMPOSE["services"]["nginx"][
        "environment"
    ].keys()


def test_metrics_that_are_used_are_exported():
    metrics = Metrics(Gate(1, 1, 1.0))
    metrics.count("/v1/chat", 200)
    exported = set(re.findall(r"^(chat_\w+)", metrics.exposition().decode(), re.MULTILINE))
    used = set(
        re.findall(
            r"\bchat_\w+",
            (DEPLOY / "rules.yml").read_text() + (DEPLOY / "k8s" / "hpa.yaml").read_text(),
        )
    )
    assert used and used <= exported, used - exported


def test_the_models_slots_are_shared_out():
    config = MANIFESTS.named("ConfigMap", "chat-1-0-0")["data"]
    scaler = MANIFESTS.named("HorizontalPodAutoscaler", "chat")["spec"]
    text = (DEPLOY / "k8s" / "hpa.yaml").read_text()
    assert scaler["maxReplicas"] * int(config["SERVICE_MAX_CONCURRENCY"]) == int(
        re.search(r"the (\d+) slots", text)[1]
    )


def test_users_are_numbers_and_not_root():
    assert re.findall(r"^USER (\S+)", (DEPLOY / D).read_text(), re.MULTILINE) == ["10001:10001"]
    for name, deployment in MANIFESTS.kind("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0, (
            name
        )
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            hardened = container["securityContext"]
            assert (
                hardened["readOnlyRootFilesystem"] and not hardened["allowPrivilegeEscalation"]
            ), name
            assert hardened["capabilities"] == {"drop": ["ALL"]}, name
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name


def test_no_secret_lies_here():
    assert not list(MANIFESTS.kind("Secret"))
    assert (DEPLOY / ".gitignore").read_text().split() == ["secrets/"]
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert [line for line in ignore if line[:1] != "#"] == [
        "*",
        "!service/*.py",
        "!deploy/requirements.txt",
    ]


def test_requirements_are_what_pin_writes():
    written = [
        line for line in (DEPLOY / "requirements.txt").read_text().splitlines() if line[:1] != "#"
    ]
    assert written == pin.pins()
    names = {line.partition("==")[0] for line in written}
    assert {"fastapi", "uvicorn", "openai", "limits", "redis", "structlog"} <= names
    assert not names & {"torch", "transformers", "pytest", "jupyterlab"}
