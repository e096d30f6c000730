import inspect
from pathlib import Path
from typing import Any

import pytest

from moe_pipeline.cli.prediction import predict as command
from moe_pipeline.errors import PipelineError
from moe_pipeline.inference.keywords import PredictKeywords, predict_options
from moe_pipeline.inference.options import ModelOptions, PredictOptions, PromptOptions, SearchOptions, SegmentOptions
from moe_pipeline.workspace import Workspace

NOWHERE = Path("nowhere")


def options(**given: Any) -> PredictOptions:
    return predict_options("images", "out", **given)


def test_every_option_has_one_name_on_the_command_line_in_the_records_and_in_python() -> None:
    of_the_command_alone = {"workspace", "report", "preset", "interactive_log"}  # around a prediction, or instead of it
    on_the_command_line = set(inspect.signature(command).parameters) - of_the_command_alone
    recorded = set(options().by_name())
    assert recorded - on_the_command_line == {"weights_root"}  # the command line has the workspace's
    assert on_the_command_line <= recorded
    assert set(PredictKeywords.__annotations__) == recorded - {"images", "out"}


def test_how_objects_are_answered_comes_from_model_and_outputs() -> None:
    given = options(zoom="in", max_crops=3, tta=True, uncertainty=True, save_probabilities=True)
    expected = SegmentOptions(zoom="in", max_crops=3, tta=True, uncertainty=True, keep_answers=True)
    assert given.segment == expected
    assert options().segment == SegmentOptions()


def test_all_paths_but_the_output_are_read() -> None:
    given = options(prompts="clicks.json", model="model", references="masks", weights_root="weights")
    assert {str(path) for path in given.reads} == {"images", "clicks.json", "model", "masks", "weights"}
    assert given.by_name()["model"] == str(Path("model").resolve())  # a run record holds text, and is read elsewhere


def test_a_search_is_what_is_left_without_prompts_and_labels() -> None:
    assert PromptOptions(classes=("liver",)).search == SearchOptions(classes=("liver",))
    assert PromptOptions(prompts=NOWHERE).search is None
    assert PromptOptions(labels=NOWHERE).search is None


def test_a_workspace_fills_in_its_model_and_weights() -> None:
    place = Workspace(NOWHERE)
    assert ModelOptions().within(place) == ModelOptions(model=place.model, weights_root=place.weights)
    assert ModelOptions(foundation="nano").within(place).model is None
    assert ModelOptions(model=Path("other")).within(place).model == Path("other")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompts": "a", "labels": "b"}, "give one source of clicks"),
        ({"prompts": "a", "classes": "liver"}, "--classes and --experts say what to search for"),
        ({"foundation": "nano", "model": "model"}, "a foundation alone has no model; leave out --model"),
        ({"foundation": "nano", "tau": 0.5}, "a foundation alone has no tau"),
        ({"selector": "loudest"}, "no selector 'loudest'; there are: weighted, specific, general"),
        ({"zoom": "both"}, "no zoom 'both'; there are: auto, in, out, off"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"tau": 1.5}, "tau: expected a number from 0 to 1, found 1.5"),
        ({"max_crops": 0}, "max_crops: expected at least 1, found 0"),
        ({"clicks": 0}, "clicks: expected at least 1, found 0"),
        ({"jobs": 0}, "jobs: expected at least 1, found 0"),
        ({"jobs": 2, "device": "cuda"}, "--jobs 2 is for the processor; cuda takes one case at a time"),
    ],
)
def test_options_that_contradict_each_other_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        options(**given)
