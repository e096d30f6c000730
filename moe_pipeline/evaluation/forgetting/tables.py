"""What a comparison says of each set: who was asked, how often nothing changed, and what was lost or won."""

from collections.abc import Mapping, Sequence

import pandas as pd

from moe_pipeline.evaluation.forgetting.matrix import BEST, GENERAL, MOE
from moe_pipeline.evaluation.forgetting.score import Clicking
from moe_pipeline.records.comparison import CaseScores, Kind

_COLUMNS = ["model", "dataset", "case", "class_id", "class_name", "dice", "status", "voxels", "mask_sha256", "expert"]


def prompt_table(scores: Sequence[CaseScores], models: Sequence[str], clicking: Clicking) -> pd.DataFrame:
    """One row per model, set, case and class, with the columns that `forgetting_matrix` reads, and who answered."""
    rows = [
        {"model": model, "dataset": case.dataset, "case": case.case, "status": "ok", **prompt.model_dump()}
        for model in models
        for case in scores
        if (found := case.models.get(clicking.scores_key(model))) is not None
        for prompt in found.prompts
    ]
    table = pd.DataFrame(rows, columns=[*_COLUMNS, "weight", "in_distribution", "seconds"])
    return table.astype({"class_id": "Int64"})


def set_table(
    prompts: pd.DataFrame, matrix: pd.DataFrame, origins: Mapping[str, str], kinds: Mapping[str, Kind]
) -> pd.DataFrame:
    """One row per set.

    Returns:
        Columns dataset, kind, cases, prompts; right_expert (share of prompts that went to the set's own expert, or to
        the general one where it has none), unchanged (share of prompts whose mask is exactly the general expert's),
        general, moe, best (mean over the classes), gain (moe - general), to_best (best - moe), and origin of the cases.
    """
    key = ["dataset", "case", "class_id"]
    both = prompts[prompts["model"] == MOE].merge(
        prompts[prompts["model"] == GENERAL], on=key, suffixes=("", "_general")
    )
    means = matrix[matrix["class_id"].isna()].set_index("dataset")
    rows = []
    for name, part in both.groupby("dataset", sort=False):
        dataset = str(name)
        right = dataset if kinds[dataset] == "finetuned" else GENERAL
        general, moe, best = means.loc[[dataset], [GENERAL, MOE, BEST]].to_numpy(dtype=float)[0].tolist()
        rows.append(
            {
                "dataset": dataset,
                "kind": kinds[dataset],
                "cases": part["case"].nunique(),
                "prompts": len(part),
                "right_expert": float((part["expert"] == right).mean()),
                "unchanged": float((part["mask_sha256"] == part["mask_sha256_general"]).mean()),
                "general": general,
                "moe": moe,
                "best": best,
                "gain": moe - general,
                "to_best": best - moe,
                "origin": origins[dataset],
            }
        )
    return pd.DataFrame(rows)
