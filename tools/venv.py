"""Make a virtual environment with this project in it, or do nothing when it is there, whole and fresh.

Usage: python3 tools/venv.py [--base PYTHON] FOLDER EXTRA [REQUIREMENT...]

The environment is made without pip and filled by the pip of the Python that runs this file (``pip --python``), which works where
ensurepip is missing and where the system's Python refuses installs. A stamp is written last; without it, or when it names another
``pyproject.toml``, interpreter or place, the folder is made again from nothing. A lock beside the folder keeps
two runs apart. pip inherits the lock: when this file is killed and pip lives on, the next run waits for it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
WHO = "import sys; print(sys.version, sys.executable)"


def make(folder: Path, base: str, requirements: list[str]) -> None:
    stamp = folder / "complete"
    interpreter = subprocess.run([base, "-c", WHO], check=True, capture_output=True, text=True).stdout
    inputs = ((PROJECT / "pyproject.toml").read_text(), interpreter, str(folder.absolute()), *requirements)
    wanted = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that fills {folder.name}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        whole = stamp.exists() and (folder / "bin" / "python").exists()
        if whole and stamp.read_text() == wanted:
            return
        print(f"filling {folder.name}: {' '.join(requirements)}", file=sys.stderr)
        if folder.exists():
            shutil.rmtree(folder)
        inherited = (lock.fileno(),)
        subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True, pass_fds=inherited)
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--editable", *requirements], check=True, pass_fds=inherited, cwd=PROJECT)
        partial = stamp.with_suffix(".new")
        partial.write_text(wanted)
        partial.replace(stamp)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=sys.executable, help="the interpreter to make it from (default: the one that runs this)")
    parser.add_argument("folder", type=Path)
    parser.add_argument("extra", help="of durable-core: the project itself is installed with it, editable")
    parser.add_argument("requirements", nargs="*", help="what else to install")
    options = parser.parse_args()
    try:
        make(options.folder, options.base, [f".[{options.extra}]", *options.requirements])
    except subprocess.CalledProcessError as failed:
        print(
            f"could not fill {options.folder}: the command above ended with {failed.returncode}; the next run starts anew", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
