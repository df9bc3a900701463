"""The first steps on a fresh machine, with stand-ins for its commands: nothing is installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
BASH = shutil.which("bash")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
APT = 'echo "apt-get $*"'

PYTHON_WITHOUT_ITS_PACKAGES = f"""
case "$2" in *version_info*) echo {VERSION};; *) exit 1;; esac"""
WITHOUT_OSMESA = "echo 'libGL.so.1 (libc6,x86-64) => /lib/libGL.so.1'"
WITH_OSMESA = """
echo 'libOSMesa.so.8 (libc6,x86-64) => /lib/libOSMesa.so.8'
for i in $(seq 3000); do echo "libother$i.so.1 (libc6,x86-64) => /lib/libother$i.so.1"; done"""


class Machine:
    """A folder of commands, which is all that the scripts find."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bash", "env", "seq"):
            self.add(name, f'exec {shlex.quote(shutil.which(name))} "$@"')
        self.add("python3", f'exec {shlex.quote(sys.executable)} "$@"')
        self.add("g++", "")
        self.add("id", "echo 0")
        self.add("apt-get", APT)
        self.add("ldconfig", WITHOUT_OSMESA)

    def add(self, name: str, text: str) -> None:
        command = self.folder / name
        command.write_text(f"#!{BASH}\n{text}\n")
        command.chmod(0o755)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [BASH, str(SCRIPTS / script), *arguments],
            env={"PATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=30,
        )

    def install(self) -> subprocess.CompletedProcess:
        return self.run("install_system_packages.sh", "python3")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_nothing_is_installed_where_nothing_is_missing(machine):
    """With thousands of libraries, the search used to end before ldconfig and count as missing."""
    machine.add("ldconfig", WITH_OSMESA)
    done = machine.install()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_missing_is_installed_and_said(machine):
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "Installing missing system packages through apt: libosmesa6\n" in done.stdout
    assert "apt-get install -y -qq --no-install-recommends libosmesa6\n" in done.stdout


def test_packages_of_python_are_those_of_its_version(machine):
    machine.add("python3", PYTHON_WITHOUT_ITS_PACKAGES)
    done = machine.install()
    assert f"libosmesa6 python{VERSION}-venv python{VERSION}-dev" in done.stdout


def test_a_user_installs_with_sudo(machine):
    machine.add("id", "echo 1000")
    machine.add("sudo", 'echo "sudo $1"; exec "$@"')
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "sudo env\napt-get install" in done.stdout


def test_an_update_that_fails_does_not_keep_from_installing(machine):
    machine.add("apt-get", APT + '; [ "$1" != update ]')
    assert machine.install().returncode == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.add("id", "echo 1000"), "only root"),
        (lambda m: (m.folder / "apt-get").unlink(), "no apt-get"),
        (lambda m: m.add("apt-get", "exit 100"), "could not install"),
    ],
)
def test_what_cannot_be_installed_is_named(machine, change, reason):
    change(machine)
    done = machine.install()
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Install by hand: libosmesa6" in done.stderr


def python_of(version: str) -> str:
    """Say whether a version is from 3.10 to 3.13, as that Python would."""
    return f"exit {int(version not in ('3.10', '3.11', '3.12', '3.13'))}"


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        ({"python3": "3.12"}, "python3"),
        ({"python3": "3.14", "python3.10": "3.10"}, "python3.10"),
        ({"python3": "3.13"}, "python3"),
        ({"python3": "3.9", "python3.12": "3.12", "python3.11": "3.11"}, "python3.12"),
    ],
)
def test_the_first_fitting_python_is_found(machine, installed, chosen):
    for name, version in installed.items():
        machine.add(name, python_of(version))
    assert machine.run("find_python.sh").stdout.strip() == str(machine.folder / chosen)


def test_no_fitting_python_is_said(machine):
    machine.add("python3", python_of("3.14"))
    done = machine.run("find_python.sh")
    assert done.returncode == 1
    assert "make PYTHON=" in done.stderr


def test_the_environment_leaves_out_libraries_of_another_ros(tmp_path):
    """Kilted's libraries came after Jazzy's; a process ended in silence at a missing symbol."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text(f"VIRTUAL_ENV={tmp_path}/.venv\n")
    shutil.copy(ROOT / "env.sh", tmp_path)
    own = "install/vla_pruner_ros/lib"
    for name in ("ros/lib", "other clone/lib", "cuda/lib", own):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ros/lib/librosidl_runtime_c.so").touch()
    for clone in (own, "other clone/lib"):
        (tmp_path / clone / "libvla_pruner_ros__rosidl_generator_c.so").touch()
    given = f"{tmp_path}/ros/lib:{tmp_path}/other clone/lib:{tmp_path}/cuda/lib"
    for shell in filter(shutil.which, ("bash", "dash", "zsh")):
        done = subprocess.run(
            [shell, "-c", '. ./env.sh && . ./env.sh && printf %s "$LD_LIBRARY_PATH"'],
            cwd=tmp_path,
            env={**os.environ, "LD_LIBRARY_PATH": given},
            capture_output=True,
            text=True,
        )
        assert done.stdout == f"{tmp_path}/{own}:{tmp_path}/cuda/lib", shell


LOST = """[gw1] node down: Not properly terminated
worker 'gw1' crashed while running 'test/a.py::test_a[x]'
FAILED test/a.py::test_a[x] - worker 'gw1' crashed while running ..."""
BAD = "FAILED test/b.py::test_b - assert False"


@pytest.mark.parametrize(
    ("said", "code", "times"),
    [(LOST, 0, 2), (f"{LOST}\n{BAD}", 1, 1), (BAD, 1, 1)],
    ids=["an interpreter was lost", "a test failed as well", "a test failed"],
)
def test_ci_repeats_no_run_in_which_a_test_failed(tmp_path, said, code, times):
    """A test that failed next to a lost interpreter was run again, and passing then counted."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "said").write_text(said + "\n")
    make = tmp_path / "make"
    make.write_text(
        f"#!{BASH}\n[ $1 = test ] || exit 0\necho run >> runs\n"
        "[ $(wc -l < runs) = 1 ] || exit 0\ncat said\nexit 2\n"
    )
    make.chmod(0o755)
    done = subprocess.run(
        [BASH, ".ci/run"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, (tmp_path / "runs").read_text().count("run")) == (code, times)
