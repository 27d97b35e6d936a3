"""Container, Compose and Kubernetes files agree with each other and give the server only the rights it needs."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from ruamel.yaml import YAML

from stages.serve import GRACE_SECONDS
from stages.serving import memory_budget
from stages.serving.app import create_app
from stages.serving.settings import KEY, Settings
from stages.tasks.task_spec import TaskSpec
from tests.conftest import ROOT
from tests.containers import create_context, parse_stages
from tests.shipped import colour_model

INFRA = ROOT / "infra"
DOCKERFILE = INFRA / "serve.Dockerfile"
STAGES = parse_stages(DOCKERFILE.read_text(), {})
RUNTIME = dict(STAGES["runtime"][1])
USER = int(RUNTIME["USER"].split(":")[0])
GROUP = int(RUNTIME["USER"].split(":")[1])
PORT = int(RUNTIME["EXPOSE"])
COMMAND = json.loads(RUNTIME["CMD"])


def loaded(file: Path) -> Any:
    return YAML(typ="safe").load(file)


KUSTOMIZATION = loaded(INFRA / "kubernetes/kustomization.yaml")
MANIFESTS = {m["kind"]: m for m in (loaded(INFRA / "kubernetes" / name) for name in KUSTOMIZATION["resources"])}
SERVICE = loaded(INFRA / "compose.yaml")["services"]["serve"]
DEPLOYMENT = MANIFESTS["Deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_the_kustomization_lists_every_file_of_its_folder() -> None:
    files = {file.name for file in (INFRA / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(KUSTOMIZATION["resources"])
    assert len(MANIFESTS) == len(files), "each file defines one kind"


def test_the_mounted_variant_mounts_its_claim_at_the_model_folder() -> None:
    variant = loaded(INFRA / "kubernetes-mounted/kustomization.yaml")
    assert variant["namespace"] == KUSTOMIZATION["namespace"]
    (patch,) = (YAML(typ="safe").load(patch["patch"]) for patch in variant["patches"])
    assert {key: patch[key] for key in ("apiVersion", "kind")} == {"apiVersion": "apps/v1", "kind": "Deployment"}
    assert patch["metadata"]["name"] == MANIFESTS["Deployment"]["metadata"]["name"]
    changed = patch["spec"]["template"]["spec"]
    (container,), (volume,) = changed["containers"], changed["volumes"]
    (mount,) = container["volumeMounts"]
    assert container["name"] == CONTAINER["name"]
    assert mount == {"name": volume["name"], "mountPath": Path(COMMAND[0]).parent.as_posix(), "readOnly": True}
    claim = loaded(INFRA / "kubernetes-mounted/claim.yaml")["metadata"]["name"]
    assert volume["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}


def test_every_selector_matches_the_pods() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    selectors = [
        DEPLOYMENT["selector"]["matchLabels"],
        MANIFESTS["Service"]["spec"]["selector"],
        MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    scaled = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert scaled == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": MANIFESTS["Deployment"]["metadata"]["name"],
    }
    assert "replicas" not in DEPLOYMENT, "`kubectl apply` would override the autoscaler"
    assert {image["name"] for image in KUSTOMIZATION["images"]} == {CONTAINER["image"]}


def test_the_server_probes_and_rules_use_one_port() -> None:
    assert COMMAND[COMMAND.index("--port") + 1] == str(PORT)
    assert COMMAND[COMMAND.index("--host") + 1] == "0.0.0.0"
    assert f"127.0.0.1:{PORT}/" in RUNTIME["HEALTHCHECK"]
    (published,) = SERVICE["ports"]
    assert published.startswith("127.0.0.1:"), "published on this machine only"
    assert published.endswith(f":{PORT}")
    assert CONTAINER["args"] == COMMAND
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == PORT
    (service_port,) = MANIFESTS["Service"]["spec"]["ports"]
    (rule,) = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]
    probes = [CONTAINER[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")]
    assert {service_port["targetPort"], rule["ports"][0]["port"], *probes} == {port["name"]}


def test_probes_and_the_page_are_served_without_a_key(tmp_path: Path) -> None:
    app = create_app(Settings(str(colour_model(tmp_path / "model.onnx"))), key="a-key")
    paths = re.findall(rf":{PORT}(/[^']*)'", RUNTIME["HEALTHCHECK"])
    paths += [CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert len(paths) == 4
    with TestClient(app) as client:
        assert {client.get(path).status_code for path in paths} == {200}
        assert client.get("/v1/model").status_code == 401
        page = client.get("/")
        scripts = re.findall(r'src="([^"]+)"', page.text)
        assert scripts, "the page has a script"
        assert {client.get(f"/{script}").status_code for script in scripts} == {200}, "the page prompts for the key"


def test_the_server_runs_as_the_same_unprivileged_user() -> None:
    security = POD["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (USER, GROUP)
    assert SERVICE["user"] == RUNTIME["USER"]
    assert USER > 10_000, "the id does not belong to a user of the machine"


def test_the_pod_meets_the_restricted_security_standard() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"]["allowPrivilegeEscalation"] is False
    assert CONTAINER["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(POD)
    assert {next(iter(set(volume) - {"name"})) for volume in POD["volumes"]} <= {"emptyDir", "persistentVolumeClaim"}
    enforced = MANIFESTS["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"
    assert KUSTOMIZATION["namespace"] == MANIFESTS["Namespace"]["metadata"]["name"]
    assert POD["automountServiceAccountToken"] is False
    assert POD["enableServiceLinks"] is False, "variables named after services could be read as settings of the server"


def test_only_tmp_is_writable() -> None:
    assert SERVICE["read_only"] is True
    (tmpfs,) = SERVICE["tmpfs"]
    assert tmpfs.startswith("/tmp:size=")
    (models,) = SERVICE["volumes"]
    assert models["read_only"] is True
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    (mount,) = CONTAINER["volumeMounts"]
    (volume,) = POD["volumes"]
    assert (mount["mountPath"], mount["name"]) == ("/tmp", volume["name"])
    assert volume["emptyDir"]["sizeLimit"]
    assert "HOME=/tmp" in RUNTIME["ENV"]


def test_compose_mounts_the_folder_of_the_model() -> None:
    (models,) = SERVICE["volumes"]
    assert Path(COMMAND[0]).parent.as_posix() == models["target"], "a replaced model file is visible in the container"
    folder = (INFRA / models["source"].removeprefix("${MACULA_MODELS:-").removesuffix("}")).resolve()
    mounts = [DOCKERFILE.read_text(), (ROOT / "docs/guides/shipping.md").read_text()]
    mounted = [name for text in mounts for name in re.findall(r'-v "\$PWD/([^:]+):/models:ro"', text)]
    assert {ROOT / name for name in mounted} == {folder} and len(mounted) == 2
    outputs = [ROOT / out for stage in loaded(ROOT / "dvc.yaml")["stages"].values() for out in stage["outs"]]
    assert len(outputs) > 5
    assert not any(folder.is_relative_to(out) or out.is_relative_to(folder) for out in outputs), (
        "DVC replaces the folder of an output, which breaks a mount"
    )


def test_the_compose_container_has_no_capabilities() -> None:
    assert SERVICE["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICE["security_opt"]
    assert "privileged" not in SERVICE


def test_resource_requests_are_within_the_limits() -> None:
    requests, limits = CONTAINER["resources"]["requests"], CONTAINER["resources"]["limits"]
    assert int(requests["cpu"]) <= int(limits["cpu"]) == SERVICE["cpus"]
    sizes = {"Mi": 1, "Gi": 1024}
    assert (
        int(requests["memory"][:-2]) * sizes[requests["memory"][-2:]]
        < int(limits["memory"][:-2]) * sizes[limits["memory"][-2:]]
    )
    assert limits["memory"] == SERVICE["mem_limit"].upper() + "i"
    scaling = MANIFESTS["HorizontalPodAutoscaler"]["spec"]
    assert scaling["minReplicas"] > MANIFESTS["PodDisruptionBudget"]["spec"]["maxUnavailable"]


def test_the_memory_limit_of_a_container_suffices_for_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_budget, "allowed", lambda: int(CONTAINER["resources"]["limits"]["memory"][:-2]) * 2**30)
    monkeypatch.setattr(memory_budget, "resident", lambda: 250 * 2**20)  # a loaded ResNet-18 of 45 MB
    bodies, images = memory_budget.memory_budgets(Settings(model=""))
    assert 2 * Settings.megabytes * 1e6 * memory_budget.BODY < bodies.size
    classification = TaskSpec("classification", "class", "label")
    segmentation = TaskSpec("segmentation", "mask", "mask", labels=("ground", "a", "b", "c"))
    assert 24e6 * memory_budget.bytes_per_pixel(classification, drawn=True) < images.size, "a camera photo"
    assert 12e6 * memory_budget.bytes_per_pixel(segmentation, drawn=True) < images.size, "a smartphone photo"


def test_the_key_is_a_secret_that_no_file_contains() -> None:
    (variable,) = CONTAINER["env"]
    assert variable["name"] == KEY
    assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert "optional" not in variable["valueFrom"]["secretKeyRef"], "the server must not start without a key"
    assert SERVICE["environment"][KEY].startswith(f"${{{KEY}:?")
    assert "Secret" not in MANIFESTS
    instructions = (INFRA / "kubernetes/kustomization.yaml").read_text()
    secret = variable["valueFrom"]["secretKeyRef"]
    assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in instructions


@pytest.mark.parametrize("page", ["README.md", "docs/guides/shipping.md"])
def test_documented_headers_authenticate_with_the_key(page: str, tmp_path: Path) -> None:
    headers = dict(re.findall(r"[`\"](Authorization|X-API-Key): ([^`\"]+)[`\"]", (ROOT / page).read_text()))
    assert set(headers) == {"Authorization", "X-API-Key"}
    app = create_app(Settings(str(colour_model(tmp_path / "model.onnx"))), key="a-key")
    with TestClient(app) as client:
        for name, template in headers.items():
            value = template.replace(f"${KEY}", "a-key").replace("KEY", "a-key")
            assert client.get("/v1/model", headers={name: value}).status_code == 200


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_documented_command_writes_the_key_that_git_ignores(tmp_path: Path) -> None:
    (line,) = re.findall(r"^\(umask .*$", (ROOT / "docs/guides/shipping.md").read_text(), re.MULTILINE)
    (tmp_path / "infra").mkdir()
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    written = tmp_path / "infra/.env"
    assert re.fullmatch(rf"{KEY}=[0-9a-f]{{64}}\n", written.read_text())
    assert written.stat().st_mode & 0o077 == 0
    assert "/infra/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_build_context_contains_only_the_copied_files(tmp_path: Path) -> None:
    context = create_context(ROOT, INFRA / "serve.Dockerfile.dockerignore", tmp_path)
    sources = [
        source
        for name in STAGES
        for word, rest in STAGES[name][1]
        if word == "COPY" and "--from" not in rest
        for source in [w for w in rest.split() if not w.startswith("--")][:-1]
    ]
    assert "pyproject.toml" in sources
    for source in sources:
        generated = source in ("data/export/model.onnx", "data/model_card/model-card.md")
        assert generated or (context / source).exists(), source
    sent = {file.relative_to(context).parts[0] for file in context.rglob("*")}
    assert sent - {"data"} == {"LICENSE", "README.md", "infra", "pyproject.toml", "stages"}
    assert not list(context.rglob("__pycache__"))


@pytest.mark.parametrize("lock", ["serving", "build", "uv"])
def test_every_package_of_the_image_is_pinned_by_hash(lock: str) -> None:
    text = (INFRA / f"locks/{lock}.txt").read_text()
    pinned = re.findall(r"^[a-z0-9][^\n]*?==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    packages = re.findall(r"^[a-z0-9].*", text, re.MULTILINE)
    assert len(pinned) == len(packages) > 0
    assert not {"torch", "pandas", "torchvision"} & {line.split("==")[0] for line in packages}
    installs = [rest for word, rest in STAGES["build"][1] if word == "RUN"]
    assert any(f"infra/locks/{lock}.txt" in rest and "--require-hashes" in rest for rest in installs)


def test_a_pod_has_time_to_complete_accepted_requests() -> None:
    sleep = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > sleep + GRACE_SECONDS
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > GRACE_SECONDS
    assert "STOPSIGNAL" not in RUNTIME, "the server drains on SIGTERM, the default"
    assert json.loads(RUNTIME["ENTRYPOINT"])[0] == "python", "a shell as entry point would not forward the signal"
