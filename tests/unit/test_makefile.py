"""`make` over a copy of the Makefile, with a Python that only says what it would do."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
# As Debian's without python3-venv: it leaves an environment without pip.
PYTHON = """\
#!/bin/sh
case "$*" in
"-m venv"*) mkdir -p .venv/bin && ln -sf "$0" .venv/bin/python; exit 1 ;;
"-m pip"*) echo "No module named pip" >&2; exit 1 ;;
esac
"""
TOOLS = ("ln", "mkdir", "sed", "touch")


@dataclass(frozen=True)
class Project:
    folder: Path

    def place(self, file, script):
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
        return path

    def make(self, goal, *, python, java_home=""):
        environment = {"PATH": str(self.folder / "bin"), "JAVA_HOME": java_home}
        command = [shutil.which("make"), "--no-print-directory", goal, f"PYTHON={python}"]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=20, check=False
        )


@pytest.fixture
def project(tmp_path):
    """A folder of what `make` looks at; on its PATH neither Python nor Java."""
    for name in ("requirements.lock", "requirements-airflow.lock", "setup.py"):
        (tmp_path / name).touch()
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return Project(tmp_path)


def test_without_ensurepip_every_try_names_what_to_install(project):
    python = project.place("python", PYTHON)
    project.place("bin/java", "#!/bin/sh\n")
    for _ in range(2):
        done = project.make(".venv/.installed", python=python)
        assert done.returncode == 2
        assert "sudo apt-get install python3-venv" in done.stderr


def test_java_is_found_by_java_home_alone(project):
    python = project.place("python", PYTHON)
    project.place("jdk/bin/java", "#!/bin/sh\n")
    assert "no Java found" in project.make(".venv/.installed", python=python).stderr
    assert "ava" not in project.make(".venv/.installed", python=python, java_home="jdk").stderr


def test_a_java_home_without_java_is_named_though_there_is_another_java(project):
    python = project.place("python", PYTHON)
    project.place("bin/java", "#!/bin/sh\n")
    done = project.make(".venv/.installed", python=python, java_home="gone")
    assert "JAVA_HOME is gone, and there is no bin/java in it" in done.stderr


def test_airflows_environment_has_the_python_of_the_other(project):
    project.place(
        ".venv/bin/python", '#!/bin/sh\n[ "$*" = "-m venv --without-pip .venv-airflow" ] && mkdir .venv-airflow\n'
    )
    project.place(".venv/bin/uv", "#!/bin/sh\n")
    (project.folder / ".venv/.installed").touch()
    done = project.make(".venv-airflow/.installed", python="/bin/false")
    assert done.returncode == 0, done.stderr
