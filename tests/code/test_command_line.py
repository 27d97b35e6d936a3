"""Tests of the commands: help, exit codes, Ctrl-C, JSON output, and behaviour without a terminal."""

import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from typer.testing import CliRunner

from stages.batch_prediction import FORMATS
from stages.command_line import app, cpu_speed, machine_checks, options, reference
from stages.command_line.app import COMMANDS, application
from stages.command_line.exit_codes import BLOCKED, BUG, FAILED, INTERRUPTED, OBJECTIVE_MISSED, USAGE
from stages.command_line.machine_checks import Check
from stages.core.dependency_errors import DEBUG
from stages.core.errors import UserError
from stages.importers import IMPORTERS
from stages.runtime.engine_selection import ENGINES
from tests.conftest import ROOT, png
from tests.shipped import colour_model, plain

PATIENCE = 120.0  # seconds: on a busy machine an import takes a while
MACULA = [sys.executable, "-m", "stages"]
HEAVY = {"torch", "pydantic", "rich", "numpy", "pandas", "dvc", "prefect", "onnxruntime", "ruamel", "fastapi"}


def invoke(*words: str) -> Any:
    return CliRunner().invoke(application(), list(words))


def environment(**more: str) -> dict[str, str]:
    """Return the environment in which a command runs in another folder."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | more


def run_command(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MACULA, *words], cwd=cwd, env=environment(**more), capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_the_command_accepts(name: str) -> None:
    shown = invoke(name, "--help")
    assert shown.exit_code == 0
    examples = [line.strip() for line in shown.stdout.partition("Example:")[2].splitlines() if line.strip()]
    examples = [line for line in examples if line.startswith("macula")]
    assert examples
    command = typer.main.get_command(application([name])).commands[name]  # type: ignore[attr-defined]
    for example in examples:
        program, called, *words = shlex.split(example, comments=True)
        assert (program, called) == ("macula", name)
        command.make_context(name, words)
    assert all(param.help for param in command.params), "every parameter is documented"


def test_help_lists_all_commands_in_full() -> None:
    shown = invoke("--help").stdout
    assert all(f"  {name} " in shown and text in shown for name, text in COMMANDS.items())
    assert "..." not in shown.partition("Commands:")[2], "no text is truncated"


def test_the_reference_page_is_up_to_date() -> None:
    assert (ROOT / reference.PAGE).read_text(encoding="utf-8") == reference.page()


@pytest.mark.parametrize("words", [["--help"], ["predict", "--help"], ["serve", "--help"], ["run", "--nonsense"]])
def test_start_up_imports_no_heavy_packages(words: list[str]) -> None:
    code = f"import sys\nsys.argv = {['macula', *words]}\nfrom stages.__main__ import main\ntry:\n    main()\n"
    code += f"finally:\n    print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_choices_equal_the_registries() -> None:
    assert get_args(options.PredictFormat) == tuple(FORMATS)
    assert get_args(options.ImageFormat) == tuple(IMPORTERS)
    assert get_args(options.Engine) == ENGINES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["predikt", "m", "i"], "Did you mean 'predict'?"),
        (["predict", "m"], "Missing argument 'images"),
        (["predict", "m", "i", "--format", "cvs"], "'cvs' is not a choice; did you mean `csv`?"),
        (["predict", "m", "i", "--workers", "-1"], "'-1' is out of range; it must be at least 0"),
        (["predict", "m", "i", "--workers", "many"], "'many' is not an integer"),
        (["serve", "m", "--port", "70000"], "it must be at least 0 and at most 65535"),
        (["serve", "m", "--latency", "x"], "'x' is not a number"),
        (["configure", "x", "--minutes", "0"], "0 is not a finite number above 0"),
        (["run", "--nonsense"], "No such option"),
    ],
)
def test_an_invalid_command_line_is_a_usage_error(words: list[str], message: str) -> None:
    done = invoke(*words)
    assert done.exit_code == USAGE
    assert message in done.stderr and done.stdout == ""


def make_runs_raise(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `macula runs` raise this error."""

    def raising() -> None:
        raise error

    monkeypatch.setattr("stages.compare_runs.main", raising)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("x is 3; set it to 4"), FAILED, "error: x is 3; set it to 4\n"),
        (MemoryError(), FAILED, "error: memory is exhausted; "),
        (ZeroDivisionError("division by zero"), BUG, "error: unexpected ZeroDivisionError: division by zero\n"),
        (KeyboardInterrupt("repeat it"), INTERRUPTED, "interrupted: repeat it\n"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted\n"),
    ],
)
def test_an_error_gives_a_message_and_an_exit_code(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    make_runs_raise(error, monkeypatch)
    done = invoke("runs")
    assert done.exit_code == code
    assert done.stderr.startswith(message) and done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--debug", "runs"], ["runs", "--debug"]])
def test_debug_shows_the_traceback_before_the_message(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, "")
    make_runs_raise(UserError("x is 3"), monkeypatch)
    done = invoke(*words)
    assert done.exit_code == FAILED
    assert done.stderr.startswith("Traceback") and done.stderr.endswith("error: x is 3\n")


def test_shells_complete_commands_and_choices(tmp_path: Path) -> None:
    def completed(words: str, number: int) -> list[str]:
        request = {"_MACULA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        return run_command(cwd=tmp_path, **request).stdout.split()

    assert completed("macula rep", 1) == ["report"]
    assert set(completed("macula predict --o", 2)) == {"--output", "--overlays"}
    line = shlex.join([*MACULA, "--show-completion"]) + "; true"  # two commands, so that the shell stays the parent
    shown = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert "complete -o" in shown.stdout and "macula" in shown.stdout, shown.stderr


def test_version_equals_the_package_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"macula": "9.8.7"}[name])
    assert invoke("--version").stdout == "macula 9.8.7\n"


@pytest.mark.parametrize("start", [["-m", "stages", "predict"], ["-m", "stages.predict"]])
def test_ctrl_c_ends_predict_and_states_how_to_resume(start: list[str], tmp_path: Path) -> None:
    colour_model(tmp_path / "model.onnx")
    (tmp_path / "photo.png").write_bytes(png(plain("green")))
    command = [sys.executable, *start, "model.onnx", "-", "--output", "rows.csv", "--workers", "1"]
    read, write = os.pipe()  # the list of images, which does not end
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdin=read, stderr=subprocess.PIPE, text=True, process_group=0
    )
    os.write(write, b"photo.png\n" * 2000)
    wait_for((tmp_path / "rows.csv.part.json").is_file, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    stderr = process.communicate(timeout=PATIENCE)[1]
    os.close(write)
    assert process.returncode == INTERRUPTED, stderr
    assert "Finished rows are kept in rows.csv.part; repeat the command to resume" in stderr
    assert "Traceback" not in stderr


def wait_for(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        assert process.poll() is None and time.monotonic() < until, process.stderr and process.stderr.read()
        time.sleep(0.1)


SCORES = {
    "objective": {"score": "accuracy", "met": False},
    "scores": {"accuracy": {"value": 0.5}},
    "constant": {"accuracy": {"value": 0.4}},
    "baseline": {"available": True, "model": "ridge regression", "scores": {"accuracy": {"value": 0.45}}},
    "images": 3,
}
WRITE_SCORES = f"""
import json, pathlib
pathlib.Path("data/evaluate").mkdir(parents=True, exist_ok=True)
pathlib.Path("data/report").mkdir(parents=True, exist_ok=True)
pathlib.Path("data/evaluate/scores.json").write_text(json.dumps({SCORES!r}))
pathlib.Path("data/report/summary.txt").write_text("score       accuracy 0.5\\n")
"""
WAIT = """
import pathlib, time
import stages
pathlib.Path("started").write_text("")
time.sleep(600)
"""
BLOCK = """
import pathlib, sys
pathlib.Path("work/gate").mkdir(parents=True, exist_ok=True)
pathlib.Path("work/gate/blocked.md").write_text("two findings")
sys.exit("error: the gate stops the pipeline")
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that creates a project of two stages: `first`, and `second`, which runs a program."""

    def make(program: str, name: str = "second") -> Path:
        shutil.copy(ROOT / "params.yaml", tmp_path)
        (tmp_path / "program.py").write_text(program)
        (tmp_path / "dvc.yaml").write_text(
            "stages:\n"
            "  first:\n    cmd: echo first > first.txt\n    outs: [first.txt]\n"
            f"  {name}:\n    cmd: python program.py\n    deps: [first.txt, program.py]\n"
        )
        shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        for words in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
        ):
            subprocess.run(["git", *words], cwd=tmp_path, check=True)
        return tmp_path

    return make


def test_run_shows_stages_and_writes_the_result_as_json(project: Callable[..., Path]) -> None:
    folder = project(WRITE_SCORES)
    done = run_command("run", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "[1/2] first   running"
    assert lines[1].startswith("[1/2] first   finished in ") and lines[3].startswith("[2/2] second  finished in ")
    assert lines[-2:] == ["score       accuracy 0.5", f"report      {folder / 'data/report/index.html'}"]
    done = run_command("run", "--json", cwd=folder)
    result = json.loads(done.stdout)
    assert [(stage["name"], stage["state"]) for stage in result["stages"]] == [
        ("first", "unchanged"),
        ("second", "unchanged"),
    ]
    assert result["exit_code"] == 0 and result["objective"] == SCORES["objective"]
    assert result["constant"] == {"value": 0.4}
    assert result["baseline"] == {"model": "ridge regression", "value": 0.45}
    assert "[2/2] second  unchanged" in done.stderr
    assert run_command("run", "--require-objective", cwd=folder).returncode == OBJECTIVE_MISSED


def test_run_exits_with_its_own_code_when_a_finding_blocks(project: Callable[..., Path]) -> None:
    folder = project(BLOCK, "gate")
    done = run_command("run", "--json", cwd=folder)
    assert done.returncode == BLOCKED
    result = json.loads(done.stdout)
    assert (result["failed"], result["blocked"], result["exit_code"]) == ("gate", "work/gate/blocked.md", BLOCKED)
    assert "error: the gate stopped the pipeline; work/gate/blocked.md lists the findings" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_names_a_failed_stage_and_an_unknown_stage(project: Callable[..., Path]) -> None:
    folder = project("import sys\nsys.exit('error: no images')")
    done = run_command("run", cwd=folder)
    assert done.returncode == FAILED
    assert done.stderr.splitlines()[0] == "error: no images"
    assert "error: the stage second failed; its message is above" in done.stderr
    done = run_command("run", "secnd", cwd=folder)
    assert done.returncode == FAILED
    assert "error: DVC: " in done.stderr and "secnd" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_run_and_all_its_processes(number: signal.Signals, project: Callable[..., Path]) -> None:
    folder = project(WAIT)
    process = subprocess.Popen(
        [*MACULA, "run"], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for((folder / "started").is_file, process)
    running = [int(word) for word in subprocess.run(["pgrep", "-f", "program.py"], capture_output=True).stdout.split()]
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == INTERRUPTED
    assert "[2/2] second  interrupted after " in stdout
    assert stderr.startswith("interrupted: finished stages are kept. Repeat the command to resume")
    assert "error" not in stderr and "Traceback" not in stderr
    assert running and not [pid for pid in running if cwd_of(pid) == folder], "no stage is still running"
    (folder / "program.py").write_text(WRITE_SCORES)
    again = run_command("run", cwd=folder)
    assert again.returncode == 0 and again.stdout.startswith("[1/2] first   unchanged\n"), again.stderr


def cwd_of(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True)
    except OSError:
        return None


def test_run_outside_a_project_states_where_to_run_it(tmp_path: Path) -> None:
    done = run_command("run", cwd=tmp_path)
    assert done.returncode == FAILED
    assert "params.yaml does not exist" in done.stderr and "project's folder" in done.stderr


def test_the_test_split_stays_sealed_without_confirmation(tmp_path: Path) -> None:
    done = run_command("unseal", cwd=tmp_path)
    assert done.returncode == FAILED
    assert "without a terminal, confirm with --yes" in done.stderr
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*MACULA, "unseal"], cwd=tmp_path, env=environment(), stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    output = b""
    while b"[y/N]" not in output:
        output += os.read(leader, 1000)
    os.write(leader, b"n\n")
    assert process.wait(PATIENCE) == FAILED
    while chunk := read_some(leader):
        output += chunk
    os.close(leader)
    assert b"recorded in data/openings.csv" in output and b"the test split stays sealed" in output


def read_some(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1000)
    except OSError:  # the last process has closed it
        return b""


def test_params_are_printed_as_json_and_a_key_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rows = json.loads(invoke("params", "train", "--json").stdout)
    assert len(rows) > 5 and all(row["key"].startswith("train.") for row in rows)
    assert [row["key"] for row in json.loads(invoke("params", "train.epochs", "--json").stdout)] == ["train.epochs"]
    given = json.loads(invoke("params", "--given", "--format", "json").stdout)
    assert given and all(row["given"] for row in given)
    done = invoke("params", "trian")
    assert done.exit_code == FAILED and "did you mean `train`?" in done.stderr


def test_report_names_the_command_that_writes_it_and_lists_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("report")
    assert done.exit_code == FAILED and "`macula run` writes it" in done.stderr
    exec(WRITE_SCORES)
    (tmp_path / "data/report/index.html").write_text("")
    assert f"report      {tmp_path}/data/report/index.html" in invoke("report").stdout
    result = json.loads(invoke("report", "--json").stdout)
    assert result["pages"] == {"report": f"{tmp_path}/data/report/index.html"}
    assert result["objective"] == SCORES["objective"]


def test_doctor_reports_each_check_and_fails_on_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock = "typer==0.0.1 \\\n    --hash=sha256:00\nnot-there==1.0\nwinpty==1 ; sys_platform == 'win32'\n"
    (tmp_path / "pipeline.txt").write_text(lock)
    monkeypatch.setattr(machine_checks, "LOCKS", tmp_path)
    monkeypatch.setattr(machine_checks, "PROJECT", tmp_path)
    done = invoke("doctor", "--quick", "--json")
    assert done.exit_code == FAILED
    checks = [Check(**one) for one in json.loads(done.stdout)]
    names = {check.name for check in checks}
    assert names >= {"python", "packages", "disk", "memory", "shared memory", "settings", "dvc remote", "prefect api"}
    missing, other = (check for check in checks if check.name == "packages")
    assert missing.state == "error" and missing.found.endswith(": not-there") and missing.advice == "run `make env`"
    assert other.state == "warning" and "typer" in other.found and "locked 0.0.1" in other.found
    assert all(check.advice for check in checks if check.state != "ok")
    assert "-> run `make env`" in invoke("doctor", "--quick").stdout


def test_doctor_reports_a_service_that_does_not_respond(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text(
        "[core]\n    remote = far\n    no_scm = true\n['remote \"far\"']\n    url = http://127.0.0.1:9/cache\n"
    )
    done = run_command("doctor", "--quick", "--json", cwd=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["dvc remote"]["state"] == "warning" and "cannot be reached" in checks["dvc remote"]["found"]
    assert checks["prefect api"]["state"] == "warning" and "does not respond" in checks["prefect api"]["found"]
    (tmp_path / ".dvc/config").write_text(
        f"[core]\n    remote = near\n    no_scm = true\n['remote \"near\"']\n    url = {tmp_path}/store\n"
    )
    (tmp_path / "store").mkdir()
    done = run_command("doctor", "--quick", "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["dvc remote"]["state"] == "ok" and "near" in checks["dvc remote"]["found"]


@pytest.mark.skipif(cpu_speed.operations_per_cycle() not in (32, 64), reason="the processor has no AVX2 to disable")
def test_doctor_reports_settings_that_slow_down_this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {check.name: check for check in cpu_speed.speed()}
    assert set(found) == {"cpu load", "multiplication", "jpeg decoding"}
    assert found["multiplication"].state == "ok", found
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")  # a processor without AVX
    slow = {check.name: check for check in cpu_speed.speed()}
    assert slow["multiplication"].state == "warning" and slow["multiplication"].advice
    (setting,) = [check for check in cpu_speed.settings() if "OPENBLAS_CORETYPE" in check.found]
    assert setting.state == "warning" and setting.advice == "unset OPENBLAS_CORETYPE"


def test_a_check_that_raises_is_reported_as_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(machine_checks, "disk", broken)
    (disk,) = [check for check in machine_checks.checks(quick=True) if check.name == "broken"]
    assert disk.state == "error" and "ZeroDivisionError" in disk.found


def test_every_command_has_its_module() -> None:
    files = {file.stem.removesuffix("_command") for file in Path(app.__file__).parent.glob("*_command.py")}
    assert files == set(COMMANDS)
