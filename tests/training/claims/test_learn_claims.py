"""What is drawn from general datasets, and what is refused."""

import pytest

from moe_pipeline.errors import PipelineError
from moe_pipeline.records.moe import GateCard
from moe_pipeline.training.claims.learn_claims import ClaimSettings
from moe_pipeline.training.gate.gate_run import GateOptions
from moe_pipeline.training.gate.train_gate import train_gate
from moe_pipeline.workspace import Workspace

ONE, THREE = "Dataset001_One", "Dataset003_Three"


def test_general_datasets_count_with_one_prompt_for_each_validation_case(
    place: Workspace, cheap_claims: ClaimSettings
) -> None:
    options = GateOptions(synthetic=0, background_clicks=False, claims=cheap_claims)
    card = train_gate(place, [place.raw(ONE)], [place.raw(THREE)], options)
    assert isinstance(card, GateCard)
    assert card.claims is not None
    assert card.claims.guarantee.synthetic == cheap_claims.scans == 4
    assert card.claims.guarantee.prompts > 4
    assert card.general_datasets == (THREE,)


@pytest.mark.parametrize(("risk", "confidence"), [(0.0, 0.95), (1.0, 0.95), (0.1, 1.0)])
def test_a_risk_or_confidence_that_is_none_is_refused(risk: float, confidence: float) -> None:
    with pytest.raises(PipelineError, match="lie between 0 and 1"):
        ClaimSettings(risk=risk, confidence=confidence)


def test_more_than_twice_the_scans_are_made_that_suffice_without_a_loss() -> None:
    assert ClaimSettings().scans == 3300
    assert ClaimSettings(risk=0.05, confidence=0.9).scans == 106  # 48 suffice: 1.05^48 = 10.4
