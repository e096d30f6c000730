"""The viewer for volumes that goes into our pages: NiiVue, at the version that package.json names.

It is not part of the sources. `moe_pipeline.web.fetch` brings it, at installation or when the wheel is built.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
VENDOR = FOLDER / "vendor"
LICENCES = "LICENSES.txt"
PACKAGE = "@niivue/niivue"
HOW_TO_ADD = "To add the viewer (2.3 MB, npm must be able to reach its registry): python -m moe_pipeline.web.fetch"


def viewer_version() -> str:
    """The version that is wanted, such as 0.69.0."""
    wanted = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
    return str(wanted["dependencies"][PACKAGE])


def viewer_path(vendor: Path = VENDOR) -> Path:
    """Where the script of that version lies once it has been fetched."""
    return vendor / f"niivue-{viewer_version()}.umd.js"


def viewer_script(vendor: Path = VENDOR) -> str | None:
    """The viewer as one classic script, which defines `niivue`; None where it has not been fetched.

    It can stand between `<script>` tags as it is: no `</script` is in it.
    """
    path = viewer_path(vendor)
    return path.read_text(encoding="utf-8") if path.is_file() else None
