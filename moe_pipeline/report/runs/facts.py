"""How a run was made, for the foot of its page."""

from pathlib import Path
from typing import Any

from moe_pipeline.paths import RUN_JSON
from moe_pipeline.records.run import RunRecord
from moe_pipeline.report.page.names import Names

_PATHS = ("images", "out", "references", "labels", "prompts", "model", "weights_root", "predictions")


def record_in(folder: Path, name: str = RUN_JSON) -> RunRecord | None:
    """How the run of a folder was made, if it says so."""
    path = folder / name
    return RunRecord.load(path) if path.is_file() else None


def facts_of(record: RunRecord | None, names: Names) -> tuple[tuple[str, str], ...]:
    """Command, settings that differ from nothing, versions, time and hashes."""
    if record is None:
        return ()
    facts = [("command", record.command), ("device", record.device), ("seconds", f"{record.seconds:g}")]
    facts += [(name, _told(name, value, names)) for name, value in record.settings.items() if _says_something(value)]
    facts += [(f"sha256 of {names.text(name)}", value[:16]) for name, value in record.inputs.items()]
    facts += [(f"version of {name}", value) for name, value in record.versions.items()]
    return tuple(facts)


def _says_something(value: Any) -> bool:
    return value is not None and value is not False and value not in ((), [], "", {})


def _told(name: str, value: Any, names: Names) -> str:
    if name in _PATHS:
        return names.path(str(value))
    return names.text(", ".join(map(str, value)) if isinstance(value, list) else str(value))
