"""A plan whose dataset got more cases: the choices stay, so that an expert can go on with what it has learnt."""

from moe_pipeline.errors import DatasetError
from moe_pipeline.records.planning import Fingerprint, Plan


def refuse_changed(plan: Plan, before: Fingerprint, now: Fingerprint) -> None:
    """Look whether a dataset only grew.

    Args:
        plan: of the dataset.
        before: what it was like then.
        now: what it is like.

    Raises:
        DatasetError: if a case is gone, or a class of the plan has another name now.
    """
    gone = sorted({case.case_id for case in before.cases} - {case.case_id for case in now.cases})
    if gone:
        raise DatasetError(
            f"{plan.dataset}: cases that the plan knows are gone: {', '.join(gone[:5])}; put them back, or begin anew "
            f"with `moe plan {plan.dataset}` and `moe finetune {plan.dataset} --overwrite`"
        )
    for value, name in plan.classes.items():
        found = now.classes[value].name if value in now.classes else "none"
        if found != name:
            raise DatasetError(
                f"{plan.dataset}: class {value} was {name}, dataset.json now says {found}; an expert cannot go on with "
                f"another meaning: begin anew with `moe plan {plan.dataset}`"
            )


def grown_plan(plan: Plan, before: Fingerprint, now: Fingerprint, proposed: Plan) -> Plan:
    """The same choices for more cases; classes that nobody had before are learnt, too.

    Args:
        plan: perhaps edited.
        before: the fingerprint that it was made from.
        now: with the cases that were added.
        proposed: what would be chosen now.
    """
    known = {value for value, found in before.classes.items() if found.cases > 0} | set(plan.classes)
    new = {value: name for value, name in proposed.classes.items() if value not in known}
    ratio = sum(plan.class_weights.values()) / sum(proposed.class_weights.get(value, 1.0) for value in plan.classes)
    weights = {value: round(proposed.class_weights[value] * ratio, 3) for value in new}
    reasons = dict(plan.reasons)
    if new:
        reasons["classes"] = f"those of the plan before cases were added, and since then {', '.join(new.values())}"
    update = {
        "dataset_sha256": now.dataset_sha256,
        "fingerprint_sha256": now.sha256(),
        "classes": plan.classes | new,
        "class_weights": plan.class_weights | weights,
        "reasons": reasons,
    }
    return plan.model_copy(update=update)
