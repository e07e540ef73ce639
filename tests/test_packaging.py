"""The distribution as users get it: built, checked, installed where nothing else is, and used.

Run by `tox run -e package`; needs `build` and `twine`, and a package index for Django.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parent.parent

PROJECT = """\
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="of an empty project",
    INSTALLED_APPS=["asm_store"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
    USE_TZ=True,
)
django.setup()
"""

MANAGE = """\
import sys
import project
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""

README_EXAMPLE = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[2]
# What the README shows, in a project that was set up, with a look at the result.
USE = f"""\
import project
{README_EXAMPLE.partition("```")[0]}
print(*[event.sequence_number for event in store.get_events(session.id)])
"""


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that must succeed, away from the checkout's modules."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def project(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The Python of an environment with the wheel and its dependencies only, and a project."""
    folder = tmp_path_factory.mktemp("project")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    (wheel,) = distributions.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", wheel, cwd=folder)
    for name, text in {"project.py": PROJECT, "use.py": USE, "manage.py": MANAGE}.items():
        (folder / name).write_text(text)
    return python, folder


def packaged_files() -> set[str]:
    sources = (ROOT / "asm_store").rglob("*")
    return {
        path.relative_to(ROOT).as_posix()
        for path in sources
        if path.is_file() and path.suffix != ".pyc"
    }


def test_metadata_and_readme_are_accepted(distributions: Path) -> None:
    files = sorted(distributions.iterdir())
    assert [path.name.endswith((".whl", ".tar.gz")) for path in files] == [True, True]
    run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=distributions)


def test_wheel_holds_the_package_and_nothing_else(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licenses = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert names == packaged_files()
    assert "asm_store/py.typed" in names
    assert len(licenses) == 1


def test_sdist_holds_what_its_tests_need(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"LICENSE", "README.md", "pyproject.toml", "setup.cfg", "tox.ini"}
    assert names >= {"tests/test_packaging.py", "example_project/manage.py"}
    assert not [name for name in names if name.endswith((".pyc", ".sqlite3"))]


def test_an_empty_project_migrates_and_appends(project: tuple[Path, Path]) -> None:
    python, folder = project
    run(python, "manage.py", "migrate", cwd=folder)
    assert [run(python, "use.py", cwd=folder).split() for _ in range(2)] == [["1"], ["1"]]
    run(python, "manage.py", "check", cwd=folder)
    run(python, "manage.py", "asm_import", "--help", cwd=folder)


def test_an_unmigrated_project_is_told_the_command(project: tuple[Path, Path]) -> None:
    python, folder = project
    program = USE.replace("import project", PROJECT.replace("db.sqlite3", "new.sqlite3"))
    done = subprocess.run(
        [python, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "MigrationRequired" in done.stderr
    assert "migrate" in done.stderr.splitlines()[-1]


def test_only_django_and_django_filter_come_along(project: tuple[Path, Path]) -> None:
    python, folder = project
    listed = run(sys.executable, "-m", "pip", "--python", python, "list", cwd=folder).lower()
    names = {line.split()[0] for line in listed.splitlines()[2:] if line.strip()}
    assert names - {"tzdata"} == {
        "asgiref",
        "django",
        "django-asm-store",
        "django-filter",
        "sqlparse",
    }
