"""What tox.ini cannot say: which interpreters and which client libraries this machine has.

tox reads this file by itself. It changes tox's own environment only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def find_more_interpreters() -> None:
    """Let tox see the Pythons that pyenv installed but has not put on the PATH."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = sorted(str(folder) for folder in root.glob("versions/3.*/bin"))
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *folders])


def can_build_mysqlclient() -> bool:
    """mysqlclient comes as source: it needs MariaDB's or MySQL's client library and a compiler."""
    if shutil.which("mariadb_config") or shutil.which("mysql_config"):
        return True
    pkg_config = shutil.which("pkg-config")
    names = ("libmariadb", "mysqlclient")
    return bool(pkg_config) and any(
        subprocess.run([pkg_config, "--exists", name], check=False).returncode == 0  # noqa: S603
        for name in names
    )


find_more_interpreters()
if can_build_mysqlclient():
    os.environ["ASM_TOX_MYSQL"] = "mysql"
else:
    print("mysqlclient SKIPPED: no MariaDB or MySQL client library to build it with.")  # noqa: T201
