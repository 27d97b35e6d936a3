"""Build and run a Dockerfile without a container engine, by chroot and namespaces; requires Linux and root.

A stage is a folder with a copy of this Python in `usr/local`; programs and libraries of the system are mounted into it
read-only. Commands run as in a container, but on the base of this machine instead of the base image.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Template
from typing import Any

import pathspec

SYSTEM = ("etc", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "usr/share")
LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": "/usr/local/lib"}
REGISTRY_VARIABLES = re.compile(r"PIP_|UV_INDEX|UV_DEFAULT_INDEX|SSL_|REQUESTS_|https?_proxy|no_proxy", re.IGNORECASE)
LOOPBACK_UP = (
    "import fcntl, socket, struct; s = socket.socket(); "
    "fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 1 | 64))"  # SIOCSIFFLAGS: up and running
)


@dataclass
class Stage:
    """Build stage of a Dockerfile, with the folder that is its root."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(BASE_ENVIRONMENT))
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def unsupported_reason() -> str:
    """Return why containers cannot run on this machine; empty if they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "chroot requires Linux and root"
    if Path(sys.base_prefix) == Path("/usr"):
        return "this Python is part of the system and cannot be copied separately"
    if subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True).returncode:
        return "namespaces cannot be created on this machine"
    return ""


def steps(text: str) -> list[tuple[str, str]]:
    """Return (instruction, rest of its line) in order, without comments and with continued lines joined."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = (line.strip() for line in code.replace("\\\n", " ").splitlines())
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line]


def create_context(source: Path, ignore: Path, folder: Path) -> Path:
    """Copy the files that a build may use, according to the ignore file, into `folder`, and return it.

    Args:
        source: root of the project.
        ignore: ignore file of the Dockerfile; the last pattern that matches a file decides.
        folder: build context to create.
    """
    ignored = pathspec.PathSpec.from_lines("gitignore", ignore.read_text().splitlines())
    folders = [source / name for name in ("infra", "stages", "flows", "data/export", "data/model_card")]
    for file in [*source.glob("*"), *(file for parent in folders for file in parent.rglob("*"))]:
        path = file.relative_to(source)
        if file.is_file() and not ignored.match_file(path.as_posix()):
            shutil.copy(file, _with_parents(folder / path))
    return folder


def parse_stages(text: str, arguments: dict[str, str]) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return the base and the steps of every stage by name, with build arguments inserted."""
    known: dict[str, str] = {}
    stages: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for word, rest in steps(text):
        if word == "ARG":
            key, _, value = rest.partition("=")
            known[key] = arguments.get(key, value)
        elif word == "FROM":
            parent, name = Template(rest).safe_substitute(known).split(" AS ")
            stages[name] = (parent, [])
        else:
            list(stages.values())[-1][1].append((word, Template(rest).safe_substitute(known)))
    return stages


def build(
    dockerfile: Path, context: Path, targets: Iterable[str], folder: Path, cache: Path, **arguments: str
) -> dict[str, Stage]:
    """Run the steps of the target stages and of the stages that they depend on, each in a folder of its name.

    Args:
        dockerfile: file that defines the stages.
        context: folder from which files are copied.
        targets: names of the stages to build.
        folder: parent of the folders of the stages.
        cache: folder that is mounted as build cache.
        arguments: build arguments by name.

    Returns:
        Built stages by name.
    """
    stages = parse_stages(dockerfile.read_text(), arguments)
    built: dict[str, Stage] = {}

    def make(name: str) -> None:
        parent, instructions = stages[name]
        copied = [other for word, rest in instructions if word == "COPY" for other in re.findall(r"--from=(\S+)", rest)]
        for other in [parent, *copied]:
            if other in stages and other not in built:
                make(other)
        stage = built[name] = _create_stage(built.get(parent), folder / name)
        for word, rest in instructions:
            _run_step(stage, word, rest, built, context, cache)

    for target in targets:
        make(target)
    return built


def _create_stage(parent: Stage | None, root: Path) -> Stage:
    if parent is not None:
        subprocess.run(["cp", "-a", parent.root, root], check=True)
        return replace(parent, root=root, environment=dict(parent.environment))
    for name in ("proc", "dev", "tmp", "root", "usr/local/bin", "usr/local/lib", *SYSTEM):
        (root / name).mkdir(parents=True)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    version, prefix = f"python3.{sys.version_info.minor}", Path(sys.base_prefix)
    shutil.copy(prefix / "bin" / version, root / "usr/local/bin/python")
    for library in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy(library, root / "usr/local/lib")
    ignored = shutil.ignore_patterns("test", "tests", "site-packages", "config-*", "__pycache__", "idlelib", "tkinter")
    shutil.copytree(prefix / "lib" / version, root / "usr/local/lib" / version, ignore=ignored)
    packages = f"lib/{version}/site-packages"
    shutil.copytree(prefix / packages / "pip", root / "usr/local" / packages / "pip")
    return Stage(root)


def _run_step(stage: Stage, word: str, rest: str, stages: dict[str, Stage], context: Path, cache: Path) -> None:
    match word:
        case "COPY":
            _copy(stage, shlex.split(rest), stages, context)
        case "RUN":
            mounts = re.findall(r"--mount=type=cache,target=(\S+)", rest)
            command = re.sub(r"--mount=\S+", "", rest)
            run(stage, ["sh", "-c", command], volumes={cache: mounts[0]} if mounts else {})
        case "ENV":
            for entry in shlex.split(rest):
                key, _, value = entry.partition("=")
                stage.environment[key] = Template(value).safe_substitute(stage.environment)
        case "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "USER":
            stage.user = rest
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        case "CMD":
            stage.command = json.loads(rest)
        case "HEALTHCHECK":
            stage.health = json.loads(rest[rest.index("CMD ") + 4 :])
        case "LABEL" | "EXPOSE":
            pass
        case _:
            raise NotImplementedError(f"{word} {rest}")


def _copy(stage: Stage, words: list[str], stages: dict[str, Stage], context: Path) -> None:
    options = dict(w.removeprefix("--").split("=") for w in words if w.startswith("--"))
    *sources, destination = [w for w in words if not w.startswith("--")]
    origin = stages[options["from"]].root if "from" in options else context
    base = stage.root if destination.startswith("/") else stage.root / stage.folder.lstrip("/")
    target = base / destination.lstrip("/")
    for source in sources:
        found = origin / source.lstrip("/")
        if found.is_dir():
            shutil.copytree(found, target, symlinks=True, dirs_exist_ok=True)
        else:
            file = target / found.name if destination.endswith(("/", ".")) else target
            copied = Path(shutil.copy(found, _with_parents(file)))
            copied.chmod(int(options.get("chmod", "644"), 8))


def run(stage: Stage, command: list[str], volumes: dict[Path, str] | None = None) -> None:
    """Run a command as a build does: as root, in a writable stage."""
    script = _mounts(stage.root, {f: (p, False) for f, p in (volumes or {}).items()})
    script += f"exec chroot {stage.root} env -i {_environment(stage, build=True)} sh -c " + shlex.quote(
        f"cd {stage.folder} && exec {shlex.join(command)}"
    )
    subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script], check=True)


def start(stage: Stage, volumes: dict[Path, str], **environment: str) -> subprocess.Popen[bytes]:
    """Start a stage as a container: own network and process IDs, read-only except /tmp, unprivileged user."""
    script = f"{sys.executable} -c {shlex.quote(LOOPBACK_UP)}\n" + _mounts(
        stage.root, {f: (p, True) for f, p in volumes.items()}, read_only=True
    )
    words = shlex.join([*stage.entrypoint, *stage.command])
    script += f"cd {stage.root}{stage.folder}\nexec chroot {stage.root} {_confined(stage, environment)} {words}"
    spaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    return subprocess.Popen(["unshare", *spaces, "sh", "-ec", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def execute(pid: int, stage: Stage, command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a running container, as `docker exec` does.

    Args:
        pid: `first_process` of the container.
        stage: stage that the container runs.
        command: command and its arguments.
        options: passed to `subprocess.run`.
    """
    enter = ["nsenter", "--target", str(pid), "--mount", "--net", "--pid", "--root", "sh", "-c"]
    script = f"cd {stage.folder} && exec {_confined(stage, {})} {shlex.join(command)}"
    return subprocess.run([*enter, script], capture_output=True, timeout=60, **options)


def first_process(container: subprocess.Popen[bytes]) -> int:
    """Return the process ID, outside the container, of the first process in it."""
    return int(Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()[0])


def _mounts(root: Path, volumes: dict[Path, tuple[str, bool]], read_only: bool = False) -> str:
    script = "mount --make-rprivate /\n"
    if read_only:
        script += f"mount --bind {root} {root}\n"
    for name in SYSTEM:
        if Path("/", name).is_dir():
            script += f"mount --bind /{name} {root}/{name}\nmount -o remount,ro,bind {root}/{name}\n"
    script += (
        f"mount -t proc proc {root}/proc\nmount --bind /dev {root}/dev\nmount -t tmpfs -o mode=1777 tmp {root}/tmp\n"
    )
    for folder, (target, protected) in volumes.items():
        script += f"mkdir -p {root}{target}\nmount --bind {folder} {root}{target}\n"
        script += f"mount -o remount,ro,bind {root}{target}\n" if protected else ""
    return script + (f"mount -o remount,ro,bind {root}\n" if read_only else "")


def _confined(stage: Stage, environment: dict[str, str]) -> str:
    user, group = stage.user.split(":")
    drop = "--clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all"
    variables = _environment(replace(stage, environment=stage.environment | environment), build=False)
    return f"setpriv --reuid {user} --regid {group} {drop} env -i {variables}"


def _environment(stage: Stage, build: bool) -> str:
    """Return the environment as shell words; a build also gets the registry settings of this machine."""
    registries = {key: value for key, value in os.environ.items() if build and REGISTRY_VARIABLES.match(key)}
    return shlex.join(f"{key}={value}" for key, value in (registries | {"HOME": "/root"} | stage.environment).items())


def _with_parents(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
