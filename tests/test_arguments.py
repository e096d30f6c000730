from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_pipeline.arguments import as_folder, as_names, as_number, as_several, as_whole
from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.keywords import predict_options


def test_one_name_is_one_name_and_not_its_letters() -> None:
    assert as_names("classes", "liver") == ("liver",)
    assert as_names("classes", 4) == ("4",)
    assert as_names("classes", ["liver", 4]) == ("liver", "4")
    assert as_names("classes", ()) == ()
    assert predict_options("images", "out", classes="liver", experts=("4",)).prompts.classes == ("liver",)


def test_numpys_numbers_are_numbers() -> None:
    assert as_whole("clicks", np.int64(3)) == 3
    assert as_number("tau", np.float32(0.5)) == 0.5
    assert as_several("clicks", np.array([1, 5]), as_whole) == (1, 5)
    assert as_several("clicks", 3, as_whole) == (3,)


def test_paths_may_be_text() -> None:
    given = predict_options("images", Path("out"), prompts="clicks.json", tau=1)
    assert (given.run.images, given.prompts.prompts) == (Path("images"), Path("clicks.json"))
    assert given.model.tau == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"out": 5}, "out: expected a path, found int 5"),
        ({"out": ""}, "out: expected a path, found str ''"),
        ({"prompts": b"clicks.json"}, "prompts: expected a path, found bytes"),
        ({"classes": b"liver"}, "classes: expected names or numbers, found bytes"),
        ({"classes": None}, "classes: expected names or numbers, found NoneType None"),
        ({"classes": [["liver"]]}, "classes: expected names or numbers, found list"),
        ({"classes": {"liver": 1}}, "classes: expected names or numbers, found dict"),
        ({"classes": True}, "classes: expected names or numbers, found bool True"),
        ({"tta": "no"}, "tta: expected True or False, found str 'no'"),
        ({"clicks": 1.5}, "clicks: expected a whole number, found float 1.5"),
        ({"clicks": True}, "clicks: expected a whole number, found bool True"),
        ({"tau": "high"}, "tau: expected a number, found str 'high'"),
        ({"tau": float("nan")}, "tau: expected a number, found float nan"),
        ({"device": 0}, "device: expected text, found int 0"),
        ({"max_windows": 3}, "predict: no argument 'max_windows'; there are: foundation, selector"),
    ],
)
def test_another_type_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        predict_options(**{"images": "images", "out": "out", **given})


def test_a_folder_must_be_there(tmp_path: Path) -> None:
    assert as_folder("folder", str(tmp_path), "a model") == tmp_path
    with pytest.raises(PipelineError, match="folder: nowhere: no such folder; expected a model"):
        as_folder("folder", "nowhere", "a model")
