"""Leases as the protocol has them, and what the server says that it can do."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header

from moe_pipeline.server.leases import Lease
from moe_pipeline.server.service import Service

VERSION = "2.6.0"

Shown = Annotated[str | None, Header()]


def lease_of(service: Service, *, step: bool) -> Callable[[str | None], Lease]:
    """What finds the lease of a request.

    Args:
        service: that has the leases.
        step: whether the request does something, not only gives a sign of life.
    """

    def found(x_lease_token: Shown = None) -> Lease:
        return service.leases.get(x_lease_token, step=step)

    return found


def lease_routes(service: Service) -> APIRouter:
    """Claim, keep and release a lease."""
    router = APIRouter()
    Alive = Annotated[Lease, Depends(lease_of(service, step=False))]

    @router.post("/claim")
    def claim() -> dict[str, Any]:
        """A lease."""
        lease = service.leases.claim()
        return {
            "lease_token": lease.token,
            "idle_timeout_seconds": service.options.idle_seconds,
            "liveness_timeout_seconds": service.options.liveness_seconds,
            "max_sessions": service.options.max_sessions,
        }

    @router.post("/release")
    def release(x_lease_token: Shown = None) -> dict[str, bool]:
        """End a lease."""
        service.leases.release(x_lease_token)
        return {"released": True}

    @router.post("/heartbeat")
    def heartbeat(lease: Alive) -> dict[str, float]:
        """A sign of life."""
        return {"remaining_seconds": service.leases.remaining_seconds(lease)}

    @router.get("/lease_status")
    def lease_status(lease: Alive) -> dict[str, float]:
        """How long a lease lasts."""
        idle = service.options.idle_seconds
        return {"remaining_seconds": service.leases.remaining_seconds(lease), "idle_timeout_seconds": idle}

    @router.get("/capabilities")
    def capabilities(_lease: Alive) -> dict[str, Any]:
        """Points and boxes."""
        return capabilities_of(service)

    return router


def capabilities_of(service: Service) -> dict[str, Any]:
    """What clients ask for before they show their buttons."""
    return {
        "supported_interactions": {"points": True, "bbox2d": True, "bbox3d": True, "lasso": False, "scribble": False},
        "channel_mapping": {"prev_seg": 0, "points": [1, 2], "bbox2d": [3, 4], "bbox3d": [3, 4]},
        "num_interaction_channels": 5,
        "supports_initial_label": True,
        "supports_zero_shot_label_refinement": False,
        "preferred_scribble_thickness": [1, 1, 1],
        "interaction_decay": 1.0,
        "patch_size": list(service.mixture.view.size_voxels),
        "do_autozoom": True,
        "inference_session_version": VERSION,
        "license": "that of the model's foundation; see `moe weights list`",
        "supports_undo": True,
    }
