"""The dataset.json of the Medical Segmentation Decathlon, which nnU-Net v1 took over."""

import json
from typing import Any

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from moe_pipeline.records.base import Part, Record
from moe_pipeline.records.dataset import DatasetJson

_KEPT = ("name", "description", "reference", "licence", "license", "release", "patients")


class DecathlonEntry(Part):
    """The files of one case, relative to the folder."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: str
    """3D or 4D image."""
    label: str | None = None
    """Label map; absent for test cases."""

    @field_validator("image", "label")
    @classmethod
    def _paths_of_windows(cls, path: str | None) -> str | None:
        return None if path is None else path.replace("\\", "/")


class DecathlonJson(Record):
    """Only what we need of it; the rest is not checked."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    modality: dict[str, str]
    """Channel number as text, to name."""
    labels: dict[str, str]
    """Value as text, to name."""
    training: tuple[DecathlonEntry, ...] = ()
    """Labelled cases."""
    test: tuple[DecathlonEntry, ...] = ()
    """Cases without label; in the file a path alone will do."""
    numTraining: int | None = None
    """How many training cases there are."""
    kept: dict[str, Any] = Field(default_factory=dict)
    """Name, licence and the like, for the new dataset.json."""

    @field_validator("labels", "modality", mode="before")
    @classmethod
    def _numbers_have_names(cls, given: Any, info: ValidationInfo) -> Any:
        named = {"0": "background", "1": "liver"} if info.field_name == "labels" else {"0": "CT"}
        if not isinstance(given, dict) or not all(isinstance(name, str) for name in given.values()):
            raise ValueError(f"expected a name for each number, such as {json.dumps(named)}, found {json.dumps(given)}")
        return given

    @field_validator("training", mode="before")
    @classmethod
    def _cases_have_both(cls, entries: Any) -> Any:
        if wrong := [entry for entry in entries if not isinstance(entry, dict)] if isinstance(entries, list) else []:
            expected = '{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}'
            raise ValueError(f"expected entries such as {expected}, found {json.dumps(wrong[0])}")
        return entries

    @field_validator("labels")
    @classmethod
    def _values_are_numbers(cls, labels: dict[str, str]) -> dict[str, str]:
        wrong = [value for value in labels if not value.isdecimal()]
        if wrong:
            raise ValueError(f"label values must be whole numbers, found {', '.join(wrong)}")
        return labels

    @field_validator("modality")
    @classmethod
    def _channels_are_numbers(cls, modality: dict[str, str]) -> dict[str, str]:
        wrong = [number for number in modality if not number.isdecimal()]
        if wrong:
            raise ValueError(f'channels must be numbers with a name, such as {{"0": "CT"}}, found {", ".join(wrong)}')
        return modality

    @field_validator("test", mode="before")
    @classmethod
    def _paths_are_entries(cls, entries: Any) -> Any:
        if not isinstance(entries, list):
            return entries
        return [{"image": entry} if isinstance(entry, str) else entry for entry in entries]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> "DecathlonJson":
        """Also put aside the keys that are kept."""
        kept = {key: obj[key] for key in _KEPT if key in obj} if isinstance(obj, dict) else {}
        return super().model_validate({**obj, "kept": kept} if isinstance(obj, dict) else obj, **options)

    @property
    def faults_of_labels(self) -> tuple[str, ...]:
        """Why its labels cannot be taken as they are: as nnU-Net's would be, by the same rule."""
        labels: dict[str, int | list[int]] = {}
        for text, name in sorted(self.labels.items(), key=lambda item: int(item[0])):
            labels[f"{name}_{text}" if name in labels else name] = int(text)
        described = DatasetJson(channel_names={"0": ""}, labels=labels, numTraining=0, file_ending=".nii.gz")
        return tuple(described.faults_of_labels())

    @property
    def channel_names(self) -> tuple[str, ...]:
        """In channel order."""
        return tuple(self.modality[key] for key in sorted(self.modality, key=int))

    @property
    def label_values(self) -> dict[str, int]:
        """Name to value; 0 is called background, and a name that is used twice gets its value appended."""
        names: dict[str, int] = {"background": 0}
        for text, name in sorted(self.labels.items(), key=lambda item: int(item[0])):
            if int(text) > 0:
                names[f"{name}_{text}" if name in names else name] = int(text)
        return names
