"""Container, compose and Kubernetes files say the same of one server, and let it do no more than it needs."""

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
from tests.containers import context_of, described
from tests.shipped import colour_model

INFRA = ROOT / "infra"
DOCKERFILE = INFRA / "serve.Dockerfile"
STAGES = described(DOCKERFILE.read_text(), {})
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
    assert len(MANIFESTS) == len(files), "one file, one kind"


def test_the_variant_with_a_volume_mounts_its_claim_where_the_server_looks() -> None:
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


def test_every_selector_finds_the_pods() -> None:
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
    assert "replicas" not in DEPLOYMENT, "an apply would undo what the autoscaler set"
    assert {image["name"] for image in KUSTOMIZATION["images"]} == {CONTAINER["image"]}


def test_one_port_is_listened_on_asked_and_opened() -> None:
    assert COMMAND[COMMAND.index("--port") + 1] == str(PORT)
    assert COMMAND[COMMAND.index("--host") + 1] == "0.0.0.0"
    assert f"127.0.0.1:{PORT}/" in RUNTIME["HEALTHCHECK"]
    (published,) = SERVICE["ports"]
    assert published.startswith("127.0.0.1:"), "open to this machine alone"
    assert published.endswith(f":{PORT}")
    assert CONTAINER["args"] == COMMAND
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == PORT
    (offered,) = MANIFESTS["Service"]["spec"]["ports"]
    (rule,) = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]
    probes = [CONTAINER[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")]
    assert {offered["targetPort"], rule["ports"][0]["port"], *probes} == {port["name"]}


def test_probes_and_the_page_reach_routes_of_the_app_without_a_key(tmp_path: Path) -> None:
    app = create_app(Settings(str(colour_model(tmp_path / "model.onnx"))), key="a-key")
    asked = re.findall(rf":{PORT}(/[^']*)'", RUNTIME["HEALTHCHECK"])
    asked += [CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert len(asked) == 4
    with TestClient(app) as client:
        assert {client.get(path).status_code for path in asked} == {200}
        assert client.get("/v1/model").status_code == 401
        page = client.get("/")
        parts = re.findall(r'src="([^"]+)"', page.text)
        assert parts, "the page has a script"
        assert {client.get(f"/{part}").status_code for part in parts} == {200}, "it asks for the key itself"


def test_one_user_runs_it_everywhere_and_is_not_root() -> None:
    security = POD["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (USER, GROUP)
    assert SERVICE["user"] == RUNTIME["USER"]
    assert USER > 10_000, "no user of the machine's own"


def test_a_pod_meets_the_restricted_standard() -> None:
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
    assert POD["enableServiceLinks"] is False, "variables named after services could be taken for the server's own"


def test_nothing_but_tmp_can_be_written() -> None:
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
    assert Path(COMMAND[0]).parent.as_posix() == models["target"], "a file put in its place is then seen"
    folder = (INFRA / models["source"].removeprefix("${MACULA_MODELS:-").removesuffix("}")).resolve()
    mounts = [DOCKERFILE.read_text(), (ROOT / "docs/guides/shipping.md").read_text()]
    named = [name for text in mounts for name in re.findall(r'-v "\$PWD/([^:]+):/models:ro"', text)]
    assert {ROOT / name for name in named} == {folder} and len(named) == 2
    made = [ROOT / out for stage in loaded(ROOT / "dvc.yaml")["stages"].values() for out in stage["outs"]]
    assert len(made) > 5
    assert not any(folder.is_relative_to(out) or out.is_relative_to(folder) for out in made), "a mount would lose it"


def test_nothing_is_gained_by_root_in_a_container_of_compose() -> None:
    assert SERVICE["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICE["security_opt"]
    assert "privileged" not in SERVICE


def test_what_is_asked_for_is_within_the_limits() -> None:
    asked, most = CONTAINER["resources"]["requests"], CONTAINER["resources"]["limits"]
    assert int(asked["cpu"]) <= int(most["cpu"]) == SERVICE["cpus"]
    sizes = {"Mi": 1, "Gi": 1024}
    assert (
        int(asked["memory"][:-2]) * sizes[asked["memory"][-2:]] < int(most["memory"][:-2]) * sizes[most["memory"][-2:]]
    )
    assert most["memory"] == SERVICE["mem_limit"].upper() + "i"
    scaling = MANIFESTS["HorizontalPodAutoscaler"]["spec"]
    assert scaling["minReplicas"] > MANIFESTS["PodDisruptionBudget"]["spec"]["maxUnavailable"]


def test_what_a_container_may_take_has_room_for_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_budget, "allowed", lambda: int(CONTAINER["resources"]["limits"]["memory"][:-2]) * 2**30)
    monkeypatch.setattr(memory_budget, "resident", lambda: 250 * 2**20)  # ResNet-18 of 45 MB, open
    bodies, images = memory_budget.memory_budgets(Settings(model=""))
    assert 2 * Settings.megabytes * 1e6 * memory_budget.BODY < bodies.size
    colours = TaskSpec("classification", "class", "label")
    four = TaskSpec("segmentation", "mask", "mask", labels=("ground", "a", "b", "c"))
    assert 24e6 * memory_budget.bytes_per_pixel(colours, drawn=True) < images.size, "of a camera"
    assert 12e6 * memory_budget.bytes_per_pixel(four, drawn=True) < images.size, "of a telephone"


def test_the_key_is_a_secret_that_no_file_holds() -> None:
    (variable,) = CONTAINER["env"]
    assert variable["name"] == KEY
    assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert "optional" not in variable["valueFrom"]["secretKeyRef"], "without a key nothing starts"
    assert SERVICE["environment"][KEY].startswith(f"${{{KEY}:?")
    assert "Secret" not in MANIFESTS
    told = (INFRA / "kubernetes/kustomization.yaml").read_text()
    secret = variable["valueFrom"]["secretKeyRef"]
    assert f"create secret generic {secret['name']} --from-literal={secret['key']}=" in told


@pytest.mark.parametrize("page", ["README.md", "docs/guides/shipping.md"])
def test_the_headers_that_a_page_names_carry_the_key(page: str, tmp_path: Path) -> None:
    named = dict(re.findall(r"[`\"](Authorization|X-API-Key): ([^`\"]+)[`\"]", (ROOT / page).read_text()))
    assert set(named) == {"Authorization", "X-API-Key"}
    app = create_app(Settings(str(colour_model(tmp_path / "model.onnx"))), key="a-key")
    with TestClient(app) as client:
        for name, said in named.items():
            shown = said.replace(f"${KEY}", "a-key").replace("KEY", "a-key")
            assert client.get("/v1/model", headers={name: shown}).status_code == 200


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on this machine: the line is not run")
def test_compose_reads_the_key_where_the_guide_writes_it_and_git_does_not(tmp_path: Path) -> None:
    (line,) = re.findall(r"^\(umask .*$", (ROOT / "docs/guides/shipping.md").read_text(), re.MULTILINE)
    (tmp_path / "infra").mkdir()
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    written = tmp_path / "infra/.env"
    assert re.fullmatch(rf"{KEY}=[0-9a-f]{{64}}\n", written.read_text())
    assert written.stat().st_mode & 0o077 == 0
    assert "/infra/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_what_is_copied_is_there_and_nothing_else_is_sent(tmp_path: Path) -> None:
    context = context_of(ROOT, INFRA / "serve.Dockerfile.dockerignore", tmp_path)
    sources = [
        source
        for name in STAGES
        for word, rest in STAGES[name][1]
        if word == "COPY" and "--from" not in rest
        for source in [w for w in rest.split() if not w.startswith("--")][:-1]
    ]
    assert "pyproject.toml" in sources
    for source in sources:
        made = source in ("data/export/model.onnx", "data/model_card/model-card.md")
        assert made or (context / source).exists(), source
    sent = {file.relative_to(context).parts[0] for file in context.rglob("*")}
    assert sent - {"data"} == {"LICENSE", "README.md", "infra", "pyproject.toml", "stages"}
    assert not list(context.rglob("__pycache__"))


@pytest.mark.parametrize("lock", ["serving", "build", "uv"])
def test_every_package_of_the_image_is_pinned_by_hash(lock: str) -> None:
    text = (INFRA / f"locks/{lock}.txt").read_text()
    pinned = re.findall(r"^[a-z0-9][^\n]*?==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    named = re.findall(r"^[a-z0-9].*", text, re.MULTILINE)
    assert len(pinned) == len(named) > 0
    assert not {"torch", "pandas", "torchvision"} & {line.split("==")[0] for line in named}
    installs = [rest for word, rest in STAGES["build"][1] if word == "RUN"]
    assert any(f"infra/locks/{lock}.txt" in rest and "--require-hashes" in rest for rest in installs)


def test_a_pod_has_time_to_end_what_it_accepted() -> None:
    sleep = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > sleep + GRACE_SECONDS
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > GRACE_SECONDS
    assert "STOPSIGNAL" not in RUNTIME, "SIGTERM, which the server drains at"
    assert json.loads(RUNTIME["ENTRYPOINT"])[0] == "python", "a shell between would keep the signal to itself"
