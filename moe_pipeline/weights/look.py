"""What a file is that should hold weights, by its first bytes."""

from pathlib import Path

from moe_pipeline.errors import CheckpointError

_LOOKED_AT = 4096
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")


def refuse_what_is_no_weights(path: Path) -> None:
    """Refuse files that stand where weights should be, as downloads and clones leave them.

    Raises:
        CheckpointError: if it is empty, a pointer of Git LFS or git-annex, or a web page; says how to get the weights.
    """
    with path.open("rb") as stream:
        start = stream.read(_LOOKED_AT)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise CheckpointError(f"{path}: an empty file, not weights; download or copy it again")
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: a pointer of Git LFS of {path.stat().st_size} bytes, not the weights themselves; run `git lfs "
            "pull` where it was cloned, or download the file itself"
        )
    if text.startswith((b"/annex/objects/", b"../.git/annex", b".git/annex")):
        raise CheckpointError(f"{path}: a pointer of git-annex, not the weights themselves; run `git annex get` there")
    if text.startswith(_MARKUP):
        raise CheckpointError(
            f"{path}: a web page, not weights: the download gave a page, such as one to sign in or to confirm a large "
            "file; open the link in a browser and save the file itself"
        )
