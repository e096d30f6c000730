import math

import torch

from moe_pipeline.model.details import PROMPT_DETAILS, clicked_cells, prompt_details, unpack
from moe_pipeline.model.likeness import KEYS, REFERENCES, likeness


def test_cells_are_compared_with_the_mean_of_the_clicked_ones() -> None:
    details = torch.zeros(1, 16, 4, 4, 4)
    details[0, 0] = torch.arange(4.0)  # the first key grows along z
    clicked = torch.zeros(2, REFERENCES, 4, 4, 4)
    clicked[0, 0, 0, 0, 1] = clicked[0, 0, 3, 3, 3] = 1.0  # the mean of 1 and 3
    clicked[1, 1, 2, 2, 0] = 0.5
    alike = likeness(details, clicked).reshape(2, REFERENCES, KEYS, 4, 4, 4)
    expected = [math.exp(-((z - 2) ** 2)) for z in range(4)]
    torch.testing.assert_close(alike[0, 0, 0, 1, 2], torch.tensor(expected))
    assert (alike[0, 0, 1:] == 1).all()  # the other keys are the same everywhere
    assert (alike[0, 1:] == 0).all()  # nobody clicked outside, nothing was answered
    torch.testing.assert_close(alike[1, 1, 0, 0, 0], torch.tensor([math.exp(-(z**2)) for z in range(4)]))
    assert (alike[1, [0, 2]] == 0).all()


def test_the_references_are_clicks_inside_outside_and_the_last_answer() -> None:
    clicks = torch.tensor([[[5.0, 5.0, 5.0], [13.0, 9.0, 3.0]]]), torch.tensor([[1, 0]])
    mask = torch.full((1, 1, 8, 8, 8), -3.0)
    mask[0, 0, 6, 6, 6] = 3.0
    told = unpack(prompt_details(clicks, mask, 1, 8, 2))
    assert told.shape[1] == PROMPT_DETAILS
    inside, outside, answered = clicked_cells(told)[0]
    assert inside.argmax() == (2 * 8 + 2) * 8 + 2
    assert outside.argmax() == (6 * 8 + 4) * 8 + 1
    assert answered.nonzero().tolist() == [[6, 6, 6]]
