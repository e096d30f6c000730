"""Cards that travel beside weight files."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import Field, PlainSerializer, PlainValidator

from moe_pipeline.records.base import Part, Record

Normalisation = Literal["zscore_positive", "zscore_clipped", "foreground"]
Sides = tuple[int, int, int]
"""Numbers of voxels along x, y and z."""
Spacing = tuple[float, float, float]
"""Edges of a voxel along x, y and z, in mm."""
SpacingRule = Literal["fitted", "native"]
"""Spacing that each image decides. fitted: the whole image is brought to the crop. native: the image's own voxels."""
_T = TypeVar("_T", int, float)


def in_short(values: Sequence[_T]) -> _T | list[_T]:
    """Numbers along x, y and z as files state them: one if all are the same."""
    return values[0] if len(set(values)) == 1 else list(values)


def _along_axes(value: Any, kind: type[_T], what: str) -> tuple[_T, _T, _T]:
    """Three positive numbers from three, or from one that holds for all axes."""
    given = value if isinstance(value, list | tuple) else [value] * 3
    wanted = (int, float) if kind is float else (int,)
    if len(given) != 3 or not all(isinstance(n, wanted) and not isinstance(n, bool) and n > 0 for n in given):
        raise ValueError(f"expected {what}, found {value!r}")
    x, y, z = (kind(n) for n in given)
    return x, y, z


def _as_spacing(value: Any) -> Spacing | SpacingRule:
    rules = get_args(SpacingRule)
    if isinstance(value, str) and value in rules:
        return value  # type: ignore[return-value]
    return _along_axes(value, float, f"a positive number of mm, three of them, or one of {', '.join(rules)}")


def _as_sides(value: Any) -> Sides:
    return _along_axes(value, int, "a positive number of voxels, or three of them")


def _spacing_in_short(spacing: Spacing | SpacingRule) -> float | list[float] | str:
    return spacing if isinstance(spacing, str) else in_short(spacing)


class View(Part):
    """One way of looking at a patient: RAS+ orientation, a spacing, a crop of voxels, an intensity rule.

    Files state one number where it is the same along all axes.
    """

    spacing_mm: Annotated[Spacing | SpacingRule, PlainValidator(_as_spacing), PlainSerializer(_spacing_in_short)]
    """Edges of a voxel along x, y and z in mm, or the rule by which each image decides them."""
    size_voxels: Annotated[Sides, PlainValidator(_as_sides), PlainSerializer(in_short)]
    """Voxels of the crop along x, y and z."""
    orientation: Literal["RAS"] = "RAS"
    """Index grows to the patient's right, anterior, superior."""
    normalisation: Normalisation = "zscore_positive"
    """zscore_positive: mean and std of the crop's voxels > 0, applied to all (SAM-Med3D; padding is 0 before it).
    zscore_clipped: clip to percentiles 0.5 and 99.5 of the voxels inside the image, z-score with their mean and
    std, padding takes the lowest value (nano).
    foreground: clip to percentiles 0.05 and 99.95 of the whole image's voxels above its mean, bring to 0 to 1; padding
    is 0 (SegVol)."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """The same view with other fields, which are validated: one number may stand for three."""
        return type(self).model_validate({**self.model_dump(), **(update or {})})

    def over(self, shape: Sides, spacing_mm: Spacing) -> "View":
        """The same view with the spacing that it has over an image.

        Args:
            shape: voxels of the image along R, A, S.
            spacing_mm: of the image, likewise.
        """
        if self.spacing_mm == "native":
            return self.model_copy(update={"spacing_mm": spacing_mm})
        if self.spacing_mm == "fitted":
            edges = [n * mm / size for n, mm, size in zip(shape, spacing_mm, self.size_voxels, strict=True)]
            return self.model_copy(update={"spacing_mm": edges})
        return self

    def with_finest(self, finest_mm: float) -> "View":
        """A view, of a spacing that no image decides, in which a voxel's shortest edge becomes so long.

        The others keep their proportion to it.
        """
        shortest = min(self.edges_mm)
        edges = [finest_mm if mm == shortest else finest_mm * (mm / shortest) for mm in self.edges_mm]
        return self.model_copy(update={"spacing_mm": edges})

    @property
    def edges_mm(self) -> Spacing:
        """Edges of a voxel, of a view whose spacing no image decides any more."""
        assert not isinstance(self.spacing_mm, str), f"{self.spacing_mm}: over which image?"
        return self.spacing_mm

    @property
    def extent_mm(self) -> Spacing:
        """Edges of the crop, likewise."""
        x, y, z = (mm * size for mm, size in zip(self.edges_mm, self.size_voxels, strict=True))
        return x, y, z

    @property
    def spacing_in_words(self) -> str:
        """Spacing for people: 1.5 mm, or 1 x 1 x 3 mm."""
        if isinstance(self.spacing_mm, str):
            return {"fitted": "fitted to the image", "native": "the image's own voxels"}[self.spacing_mm]
        return f"{by_axis(self.spacing_mm)} mm"

    @property
    def size_in_words(self) -> str:
        """Size for people: 64 voxels, or 256 x 256 x 32 voxels."""
        return f"{by_axis(self.size_voxels)} voxels"

    @property
    def in_words(self) -> str:
        """Both for people: 1.5 mm, 64 voxels; or the whole image as 256 x 256 x 32 voxels."""
        if self.spacing_mm == "fitted":
            return f"the whole image as {self.size_in_words}"
        if self.spacing_mm == "native":
            return f"{by_axis(self.size_voxels)} of the image's own voxels"
        return f"{self.spacing_in_words}, {self.size_in_words}"

    @property
    def short_name(self) -> str:
        """For names of folders: 1.5mm_64, or fitted_256x256x32."""
        spacing = self.spacing_mm if isinstance(self.spacing_mm, str) else f"{by_axis(self.spacing_mm, 'x')}mm"
        return f"{spacing}_{by_axis(self.size_voxels, 'x')}"


def by_axis(values: Sequence[float], separator: str = " x ") -> str:
    """Numbers along x, y and z for people: one if all are the same."""
    return separator.join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))


class FoundationCard(Record):
    """Where a foundation's weights come from and how to use them; `<name>.json` beside `<name>.safetensors`."""

    name: str
    """Name to load it by."""
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """sha256 of the safetensors file; checked at each load."""
    source: str
    """File or URL the weights were made from, or the command that made them."""
    source_sha256: str | None = None
    """sha256 of the imported file, if there was one."""
    licence: str
    """Licence of the weights as stated by their authors."""
    preset: str
    """Preset (plans/foundations) whose rules and costs hold when a dataset is planned for it."""
    view: View
    """The view the weights were trained for."""
    config: dict[str, Any]
    """Sizes of the network, in the form that `model.sizes.read_sizes` reads."""
    training: dict[str, Any] = Field(default_factory=dict)
    """How the weights were made and how well they do: commit, command, seed, hours, samples, validation curve."""
