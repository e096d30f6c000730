"""The forgetting matrix: what each model knows of each dataset, and what finetuning cost."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from moe_pipeline.records.evaluation import Forgetting

GENERAL, SFT, MOE, BEST = "general", "sft", "moe", "best"
"""Names of the columns that are no expert: the foundation alone, a wholly finetuned network (also "sft of <dataset>"),
the mixture, and the best possible choice between general and experts for each object."""

GENERAL_IN_EXPERT_VIEW = "general in expert's view"
"""The foundation alone, shown a finetuned dataset as its expert is: what the view alone changes."""

MEAN = "mean"
"""Class name of the row that holds the mean over a dataset's classes; its class_id is empty."""

KEYS = ("dataset", "class_id", "class_name", "n", "n_left_out")

_OBJECT = ["case", "class_id"]


def forgetting_matrix(tables: Mapping[str, Mapping[str, pd.DataFrame]], metric: str = "dice") -> pd.DataFrame:
    """Mean score of each model on each class of each dataset.

    The columns of a dataset are compared on the same objects: those (case and class) that every model evaluated on
    this dataset has a score for. Those that only some of them have one for are counted in n_left_out.

    Args:
        tables: by column and dataset, the tables of `evaluate_folder`. Columns are `general`, the names of the experts,
            `sft` and `moe`; a model need not have seen every dataset.
        metric: column of the tables; larger must be better.

    Returns:
        Rows are datasets and their classes, and a mean over the classes for each dataset. Columns are dataset,
        class_id, class_name, n (objects compared), n_left_out, then general, the experts, sft, moe, and best, the mean
        of the largest score of general and experts on each object.

    Raises:
        ValueError: if no model is given, or one is called `best`.
    """
    if not tables or BEST in tables:
        raise ValueError(f"expected models by name, none of them called {BEST!r}; got {list(tables)}")
    models = _in_order(tables)
    parts = [_dataset_rows(tables, models, dataset, metric) for dataset in _datasets(tables)]
    matrix = pd.concat(parts, ignore_index=True)
    return matrix.astype({"class_id": "Int64", "n": "int64", "n_left_out": "int64"})


def forgotten(matrix: pd.DataFrame, finetuned: Collection[str], model: str = MOE) -> Forgetting:
    """How much worse a model is than the general expert on the datasets that were not finetuned.

    Args:
        matrix: as `forgetting_matrix` returns it.
        finetuned: datasets that the model was finetuned on, which cannot be forgotten.
        model: the model that is judged.

    Raises:
        ValueError: if the matrix lacks the column or `general`.
    """
    classes = _class_rows(matrix, model)
    classes = classes[~classes["dataset"].isin(list(finetuned))]
    classes = classes.assign(drop=classes[GENERAL] - classes[model]).dropna(subset=["drop"])
    worst = classes.sort_values("drop").tail(1)
    return Forgetting(
        model=model,
        n_classes=len(classes),
        largest_drop=float(classes["drop"].max()),
        largest_drop_at="".join(_where(row) for _, row in worst.iterrows()),
        mean_drop=float(classes["drop"].mean()),
    )


def check_regression(matrix: pd.DataFrame, limit: float, model: str = MOE) -> list[str]:
    """One sentence per class on which a model is worse than the general expert by more than a limit; empty if none.

    Finetuned datasets are included: an expert that spoils its own dataset is a regression too. So is a class or a
    dataset on which the two cannot be compared, because one of them has no score there.

    Raises:
        ValueError: if the limit is negative, or the matrix lacks the column or `general`.
    """
    if not limit >= 0:
        raise ValueError(f"limit must be 0 or more, got {limit}")
    classes = _class_rows(matrix, model)
    unknown = matrix[matrix[GENERAL].isna() | matrix[model].isna()]
    worse = classes[classes[GENERAL] - classes[model] > limit]
    faults = [f"{_where(row)}: {model} and {GENERAL} have no object in common" for _, row in unknown.iterrows()]
    return faults + [
        f"{_where(row)}: {model} {row[model]:.4f} against {GENERAL} {row[GENERAL]:.4f}, a drop of "
        f"{row[GENERAL] - row[model]:.4f} over {row['n']} objects (limit {limit:g})"
        for _, row in worse.iterrows()
    ]


def _in_order(names: Iterable[str]) -> list[str]:
    names = list(names)
    sft = [name for name in names if is_sft(name)]
    experts = [name for name in names if is_expert(name)]
    return [name for name in (GENERAL, GENERAL_IN_EXPERT_VIEW, *experts, *sft, MOE) if name in names]


def is_sft(model: str) -> bool:
    """Whether a column is a wholly finetuned network."""
    return model == SFT or model.startswith(f"{SFT} of ")


def is_expert(model: str) -> bool:
    """Whether a column is an expert alone."""
    return not is_sft(model) and model not in (GENERAL, GENERAL_IN_EXPERT_VIEW, MOE)


def _datasets(tables: Mapping[str, Mapping[str, pd.DataFrame]]) -> list[str]:
    return list(dict.fromkeys(dataset for by_dataset in tables.values() for dataset in by_dataset))


def _dataset_rows(
    tables: Mapping[str, Mapping[str, pd.DataFrame]], models: list[str], dataset: str, metric: str
) -> pd.DataFrame:
    seen = [model for model in models if dataset in tables[model]]
    scored = {model: tables[model][dataset].query("status == 'ok'") for model in seen}
    names = pd.concat(list(scored.values())).drop_duplicates("class_id").set_index("class_id")["class_name"]
    scores = pd.DataFrame({model: table.set_index(_OBJECT)[metric] for model, table in scored.items()})
    shared = scores.dropna()  # (objects, models)
    choices = [name for name in seen if name == GENERAL or is_expert(name)]
    shared = shared.assign(**{BEST: shared[choices].max(axis=1)})
    means = shared.groupby(level="class_id").mean().reindex(names.index.sort_values())
    n_all = scores.groupby(level="class_id").size().reindex(means.index)
    n = shared.groupby(level="class_id").size().reindex(means.index, fill_value=0)
    rows = means.assign(class_name=names, n=n, n_left_out=n_all - n).reset_index()
    mean = means.mean().to_dict() | {"class_name": MEAN, "n": int(n.sum()), "n_left_out": int((n_all - n).sum())}
    rows = pd.concat([rows, pd.DataFrame([mean])], ignore_index=True).assign(dataset=dataset)
    return rows.reindex(columns=[*KEYS, *models, BEST])


def _class_rows(matrix: pd.DataFrame, model: str) -> pd.DataFrame:
    missing = [name for name in (GENERAL, model) if name not in matrix.columns]
    if missing:
        raise ValueError(f"the matrix lacks the columns {missing}; it has {list(matrix.columns)}")
    return matrix[matrix["class_id"].notna()]


def _where(row: "pd.Series[Any]") -> str:
    return f"{row['dataset']} {row['class_name']}"
