"""From a page's records to one HTML file that needs nothing else."""

import base64
import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from moe_pipeline.records.run import package_version
from moe_pipeline.report.layout import PALETTE
from moe_pipeline.report.page.blocks import Page, Viewer
from moe_pipeline.web.viewer import HOW_TO_ADD, LICENCES, VENDOR, viewer_script, viewer_version

_FOLDER = Path(__file__).parent / "templates"


def as_html(page: Page) -> str:
    """The whole file.

    It loads nothing: scripts are those whose hashes its Content-Security-Policy lists, pictures and volumes are inside.
    Whatever a name holds is text: the templates escape it.
    """
    viewers = [block for section in page.sections for block in section.blocks if isinstance(block, Viewer)]
    script = viewer_script() if any(case.scan for viewer in viewers for case in viewer.cases.values()) else None
    scripts = [_asset("page.js"), *([script, _asset("viewer.js")] if script else [])]
    return str(
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            style=_asset("page.css"),
            scripts=scripts,
            policy=_policy(scripts),
            palette=[f"rgb({red} {green} {blue})" for red, green, blue in PALETTE],
            has_viewer=script is not None,
            how_to_add=HOW_TO_ADD,
            licences=_licences() if script else "",
            viewer_version=viewer_version(),
            version=package_version(),
        )
    )


def base_bytes() -> int:
    """What a page with the viewer takes before there is anything in it, about."""
    script = viewer_script()
    return len(script or "") + (len(_licences()) if script else 0) + 60_000


def viewer_data(viewer: Viewer) -> str:
    """What the viewer's script needs to know, as JSON that may stand between script tags."""
    cases = {key: json.loads(case.scan) for key, case in viewer.cases.items() if case.scan}
    text = json.dumps({"cases": cases, "classes": viewer.classes, "palette": PALETTE}, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: list[str]) -> str:
    """Nothing from anywhere; only these very scripts run."""
    hashes = " ".join(f"'sha256-{base64.b64encode(sha256(one.encode()).digest()).decode()}'" for one in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        "connect-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["viewer_data"] = viewer_data
    return environment


@cache
def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _licences() -> str:
    return (VENDOR / LICENCES).read_text(encoding="utf-8")
