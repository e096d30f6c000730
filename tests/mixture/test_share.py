"""A model given away and taken in: whole, the same, and nothing that was not listed."""

import json
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from moe_pipeline.errors import CheckpointError, PipelineError, RecordError, StaleCacheError
from moe_pipeline.mixture.folder import check_replaceable
from moe_pipeline.mixture.model import load_mixture
from moe_pipeline.mixture.share import export_model, foundation_is_there, import_model
from moe_pipeline.records.moe import MANIFEST, ShareManifest
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.gate.add_expert import add_expert
from moe_pipeline.workspace import Workspace

ONE = "Dataset001_One"


@pytest.fixture(scope="module")
def exported(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model.zip"
    export_model(trained_workspace.model, out, trained_workspace.weights, with_foundation=True)
    return out


def rewritten(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same zip with other contents."""
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def listed(files: dict[str, bytes], name: str, content: bytes) -> None:
    """Put a file in and into the manifest, as somebody would who means harm."""
    from hashlib import sha256

    manifest = json.loads(files[MANIFEST])
    manifest["files"][name] = {"sha256": sha256(content).hexdigest(), "n_bytes": len(content)}
    files[MANIFEST] = json.dumps(manifest).encode()
    files[name] = content


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_an_imported_model_answers_like_the_first(
    trained_workspace: Workspace, exported: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "folder":
        exported = tmp_path / "folder"
        export_model(trained_workspace.model, exported, trained_workspace.weights, with_foundation=True)
    import_model(exported, tmp_path / "elsewhere" / "model")
    first = load_mixture(trained_workspace.model, weights_root=trained_workspace.weights)
    again = load_mixture(tmp_path / "elsewhere" / "model")  # its foundation came along
    features = torch.randn(9, 5 * 48)
    assert first.router is not None
    assert again.router is not None
    assert torch.equal(first.router.weights(features), again.router.weights(features))
    for mine, theirs in zip(first.experts, again.experts, strict=True):
        assert (mine.name, mine.view) == (theirs.name, theirs.view)
        for name, tensor in mine.decoder.state_dict().items():
            assert torch.equal(tensor, theirs.decoder.state_dict()[name])
    assert first.hashes == again.hashes


def test_the_same_model_gives_the_same_zip(trained_workspace: Workspace, exported: Path, tmp_path: Path) -> None:
    export_model(trained_workspace.model, tmp_path / "again.zip", trained_workspace.weights, with_foundation=True)
    assert (tmp_path / "again.zip").read_bytes() == exported.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.zip"]


def test_without_the_foundation_its_card_goes_along(trained_workspace: Workspace, tmp_path: Path) -> None:
    manifest = export_model(trained_workspace.model, tmp_path / "m.zip", trained_workspace.weights, with_features=False)
    assert "foundation/tiny.json" in manifest.files
    assert "foundation/tiny.safetensors" not in manifest.files
    assert not [name for name in manifest.files if name.startswith(("features/", "experts/Dataset001_One/checkpoint"))]
    import_model(tmp_path / "m.zip", tmp_path / "model")
    assert not foundation_is_there(tmp_path / "model")
    assert foundation_is_there(tmp_path / "model", trained_workspace.weights)
    assert load_mixture(tmp_path / "model", weights_root=trained_workspace.weights).experts[0].name == ONE


def test_an_expert_may_join_an_imported_model(
    place: Workspace, exported: Path, tmp_path: Path, cheap_claims: ClaimSettings
) -> None:
    shutil.rmtree(place.model)
    import_model(exported, place.model)
    add_expert(place, place.model, place.raw("Dataset003_Three"), claims=cheap_claims)
    assert len(load_mixture(place.model, weights_root=place.weights).experts) == 3
    export_model(place.model, tmp_path / "three.zip", place.weights)
    with zipfile.ZipFile(tmp_path / "three.zip") as archive:
        assert "added/Dataset003_Three/gate.safetensors" in archive.namelist()
    assert import_model(tmp_path / "three.zip", tmp_path / "three").foundation == "tiny"


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json",
        "/etc/outside.json",
        "experts/../../outside.json",
        "C:/outside.json",
        "a\\..\\b.json",
        ".x.json",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    evil = rewritten(exported, tmp_path / "evil.zip", lambda files: listed(files, name, b"{}"))
    with pytest.raises(PipelineError, match="could leave the model's folder"):
        import_model(evil, tmp_path / "in" / "model")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["evil.zip"]


def test_a_zip_that_was_packed_again_is_taken(exported: Path, tmp_path: Path) -> None:
    def on_a_mac(files: dict[str, bytes]) -> None:
        inside = {f"model/{name}": content for name, content in files.items()}
        files.clear()
        files |= inside
        files |= {"__MACOSX/model/._moe.json": b"mac", "model/.DS_Store": b"mac", "model/experts/._x": b"mac"}

    packed = rewritten(exported, tmp_path / "packed.zip", on_a_mac)
    manifest = import_model(packed, tmp_path / "model")
    found = [path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.*")]
    assert sorted([*manifest.files, MANIFEST]) == sorted(found)
    (tmp_path / "model" / MANIFEST).unlink()
    with pytest.raises(PipelineError, match=r"a model, but not an exported one.*--model"):
        import_model(tmp_path / "model", tmp_path / "again")


def test_what_could_be_run_or_unpickled_is_refused(exported: Path, tmp_path: Path) -> None:
    evil = rewritten(exported, tmp_path / "evil.zip", lambda files: listed(files, "gate.pth", b"\x80\x04."))
    with pytest.raises(PipelineError, match=r"refused, 'gate.pth' is no"):
        import_model(evil, tmp_path / "model")


def test_a_link_is_refused(exported: Path, trained_workspace: Workspace, tmp_path: Path) -> None:
    shutil.copy(exported, tmp_path / "evil.zip")
    with zipfile.ZipFile(tmp_path / "evil.zip", "a") as archive:
        entry = zipfile.ZipInfo("link.json")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/hostname")
    with pytest.raises(PipelineError, match=r"holds the link link.json"):
        import_model(tmp_path / "evil.zip", tmp_path / "model")
    export_model(trained_workspace.model, tmp_path / "folder", trained_workspace.weights)
    (tmp_path / "folder" / "extra.json").symlink_to(exported)
    with pytest.raises(PipelineError, match="is a link"):
        import_model(tmp_path / "folder", tmp_path / "model")


def test_a_file_twice_or_in_a_rare_compression_is_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported, tmp_path / "twice.zip")
    with zipfile.ZipFile(tmp_path / "twice.zip", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("gate.json", "{}")
    with pytest.raises(PipelineError, match=r"holds gate.json twice"):
        import_model(tmp_path / "twice.zip", tmp_path / "model")
    shutil.copy(exported, tmp_path / "rare.zip")
    with zipfile.ZipFile(tmp_path / "rare.zip", "a") as archive:
        archive.writestr("more.json", "{}", compress_type=zipfile.ZIP_LZMA)
    with pytest.raises(PipelineError, match="rare compression"):
        import_model(tmp_path / "rare.zip", tmp_path / "model")


def test_a_truncated_zip_is_named(exported: Path, tmp_path: Path) -> None:
    content = exported.read_bytes()
    (tmp_path / "short.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(PipelineError, match="no readable zip file"):
        import_model(tmp_path / "short.zip", tmp_path / "model")


def test_a_changed_byte_an_unlisted_and_a_missing_file_are_found(exported: Path, tmp_path: Path) -> None:
    def flip(files: dict[str, bytes]) -> None:
        content = bytearray(files["gate.safetensors"])
        content[-1] ^= 1
        files["gate.safetensors"] = bytes(content)

    def extend_windows(files: dict[str, bytes]) -> None:
        files["gate.safetensors"] += b"\0" * (3 << 20)

    for change, complaint in (
        (flip, r"gate.safetensors has .* bytes and sha256"),
        (extend_windows, r"gate.safetensors has .* bytes and sha256"),
        (lambda files: files.update({"more.json": b"{}"}), r"more.json: listed but missing, or there but not listed"),
        (lambda files: files.pop("gate.json"), r"gate.json: listed but missing"),
        (lambda files: files.pop(MANIFEST), "has no manifest.json"),
    ):
        evil = rewritten(exported, tmp_path / "evil.zip", change)
        with pytest.raises(PipelineError, match=complaint):
            import_model(evil, tmp_path / "model")
        assert not (tmp_path / "model").exists()


def test_an_expert_that_lies_in_the_background_is_refused(exported: Path, tmp_path: Path) -> None:
    def point_out(files: dict[str, bytes]) -> None:
        card = json.loads(files["moe.json"])
        card["experts"][0]["folder"] = "../../somebody/else"
        listed(files, "moe.json", json.dumps(card).encode())

    evil = rewritten(exported, tmp_path / "evil.zip", point_out)
    with pytest.raises(PipelineError, match="refused, its expert 'Dataset001_One' lies at"):
        import_model(evil, tmp_path / "model")


def test_what_is_no_export_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "empty").mkdir()
    for source, complaint in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "text.zip", "no readable zip file"),
        (tmp_path / "empty", "has no manifest.json"),
    ):
        with pytest.raises(PipelineError, match=complaint):
            import_model(source, tmp_path / "model")
    (tmp_path / "empty" / MANIFEST).write_text('{"files": 3}')
    with pytest.raises(RecordError, match=r"not a valid manifest.json"):
        import_model(tmp_path / "empty", tmp_path / "model")


def test_nothing_is_replaced_unasked(exported: Path, trained_workspace: Workspace, tmp_path: Path) -> None:
    import_model(exported, tmp_path / "model")
    with pytest.raises(PipelineError, match="exists already"):
        import_model(exported, tmp_path / "model")
    import_model(exported, tmp_path / "model", overwrite=True)
    (tmp_path / "model" / "notes.txt").write_text("theirs")
    with pytest.raises(PipelineError, match=r"notes\.txt: would be lost, but was not written by moe"):
        import_model(exported, tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "notes.txt").read_text() == "theirs"
    with pytest.raises(PipelineError, match="exists already"):
        export_model(trained_workspace.model, exported, trained_workspace.weights)
    with pytest.raises(PipelineError, match="lies inside the model"):
        export_model(trained_workspace.model, trained_workspace.model / "x.zip", trained_workspace.weights)


def test_a_model_that_does_not_fit_is_not_given_away(place: Workspace, tmp_path: Path) -> None:
    path = place.expert(ONE) / "expert.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises((CheckpointError, StaleCacheError), match="sha256"):
        export_model(place.model, tmp_path / "m.zip", place.weights)
    assert not (tmp_path / "m.zip").exists()


def test_the_manifest_lists_everything(exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        manifest = ShareManifest.model_validate_json(archive.read(MANIFEST))
        assert {*manifest.files, MANIFEST} == set(archive.namelist())


@pytest.mark.parametrize("name", ["out.zip", "out"])
def test_only_an_exported_model_is_replaced_by_one(trained_workspace: Workspace, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    give = partial(export_model, trained_workspace.model, out, trained_workspace.weights)
    give()
    give(overwrite=True)
    if out.is_dir():
        (out / "gate.json").write_text("{}")
    else:
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr("notes.txt", "theirs")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(PipelineError, match=r"not written by .*, or was changed since; give another"):
        give(overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    out.write_text("theirs")  # a file where a folder or an archive is to be
    with pytest.raises(PipelineError, match=r"not written by .*, or was changed since; give another"):
        give(overwrite=True)
    assert out.read_text() == "theirs"


def test_a_model_folder_that_holds_other_files_is_not_trained_over(
    trained_workspace: Workspace, tmp_path: Path
) -> None:
    model = shutil.copytree(trained_workspace.model, tmp_path / "model")
    check_replaceable(model)
    (model / "notes.txt").write_text("theirs")
    with pytest.raises(PipelineError, match=r"notes\.txt: would be lost"):
        check_replaceable(model)
