"""The vocabulary of a text encoder: one file beside its weights, made once from what CLIP's authors publish."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moe_pipeline.errors import CheckpointError
from moe_pipeline.files import atomic_path

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEMPLATE = "A computerized tomography of a {}."
"""What SegVol's text encoder was shown of a class's name."""

_START, _END = "<|startoftext|>", "<|endoftext|>"
_SUFFIX = ".tokenizer"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_WHERE = "tokenizer.json, or vocab.json and merges.txt, of openai/clip-vit-base-patch32"


@dataclass(frozen=True, slots=True)
class Words:
    """A vocabulary in memory."""

    tokenizer: "Tokenizer"

    def encode(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Numbers of the words that name P classes.

        Args:
            names: such as liver; underscores are spaces.

        Returns:
            (P, n) numbers, and which of them are no padding, (P, n).
        """
        texts = [TEMPLATE.format(name.replace("_", " ").strip()) for name in names]
        start, end = (self.tokenizer.token_to_id(mark) for mark in (_START, _END))
        numbers = [[start, *self.tokenizer.encode(text, add_special_tokens=False).ids, end] for text in texts]
        longest = max(len(ids) for ids in numbers)
        padded = [ids + [end] * (longest - len(ids)) for ids in numbers]
        known = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in numbers]
        return torch.tensor(padded), torch.tensor(known)


def words_path(weights: Path) -> Path:
    """Vocabulary of a safetensors file."""
    return weights.with_suffix(_SUFFIX)


def import_words(source: Path, target: Path, vocab_size: int) -> None:
    """Write a vocabulary as one file.

    Args:
        source: tokenizer.json, or a folder with it or with vocab.json and merges.txt.
        target: file to write.
        vocab_size: words that the text encoder knows.

    Raises:
        CheckpointError: if the package tokenizers is missing, or the source is no vocabulary of that size.
    """
    found = _read_source(source)
    _check(found, source, vocab_size)
    with atomic_path(target) as temporary:
        temporary.write_text(found.to_str(), encoding="utf-8")


def copy_words(weights: Path, others: Path) -> None:
    """Give weights that were made from others their vocabulary, if they have one.

    Args:
        weights: safetensors file that may have one beside it.
        others: those made from them.
    """
    if words_path(weights).is_file():
        with atomic_path(words_path(others)) as temporary:
            shutil.copyfile(words_path(weights), temporary)


def read_words(weights: Path) -> Words:
    """The vocabulary beside a safetensors file.

    Raises:
        CheckpointError: if there is none, or the package tokenizers is missing; says how to get it.
    """
    path = words_path(weights)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file, so text prompts cannot be read; get {_WHERE}, and import the weights again with "
            "`moe weights import FILE --tokenizer FOLDER --overwrite`"
        )
    return Words(_from_file(path))


def _read_source(source: Path) -> "Tokenizer":
    whole = source / "tokenizer.json" if source.is_dir() else source
    if whole.is_file():
        return _from_file(whole)
    parts = source / "vocab.json", source / "merges.txt"
    if not all(part.is_file() for part in parts):
        raise CheckpointError(f"{source}: no vocabulary; expected {_WHERE}")
    tokenizers = _library()
    try:
        model = tokenizers.models.BPE.from_file(*map(str, parts), end_of_word_suffix="</w>", unk_token=_END)
    except Exception as error:
        raise CheckpointError(f"{source}: no readable vocabulary: {error}") from error
    made = tokenizers.Tokenizer(model)
    normal, split = tokenizers.normalizers, tokenizers.pre_tokenizers
    made.normalizer = normal.Sequence([normal.NFC(), normal.Replace(tokenizers.Regex(r"\s+"), " "), normal.Lowercase()])
    made.pre_tokenizer = split.Sequence(
        [
            split.Split(tokenizers.Regex(_WORDS), behavior="removed", invert=True),
            split.ByteLevel(add_prefix_space=False),
        ]
    )
    return made  # type: ignore[no-any-return]


def _from_file(path: Path) -> "Tokenizer":
    tokenizers = _library()
    try:
        return tokenizers.Tokenizer.from_file(str(path))  # type: ignore[no-any-return]
    except Exception as error:
        raise CheckpointError(f"{path}: no readable vocabulary: {error}; expected {_WHERE}") from error


def _check(found: "Tokenizer", source: Path, vocab_size: int) -> None:
    last = found.token_to_id(_END)
    if found.token_to_id(_START) is None or last is None or last != vocab_size - 1:
        raise CheckpointError(
            f"{source}: has {found.get_vocab_size()} words and {_END} as number {last}, but the text encoder knows "
            f"{vocab_size} and takes the last one for the end; expected {_WHERE}"
        )


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise CheckpointError("text prompts need the package tokenizers: pip install 'moe-pipeline[text]'") from error
    return tokenizers
