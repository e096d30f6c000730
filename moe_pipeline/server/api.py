"""The JSON API: scans, sessions, prompts, objects, masks, accept."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from moe_pipeline.errors import PipelineError
from moe_pipeline.imaging.io.files import label_values
from moe_pipeline.imaging.io.native import read_native, write_native
from moe_pipeline.imaging.volume import Volume
from moe_pipeline.inference.session.accepted import ENDING
from moe_pipeline.inference.session.change import SessionChange
from moe_pipeline.inference.session.session import Session
from moe_pipeline.records.prompts import PromptFile
from moe_pipeline.server.bodies import (
    BoxBody,
    ChangeView,
    ClassBody,
    ClickBody,
    OpenBody,
    SessionView,
    StepsBody,
    change_view,
    object_view,
    scan_view,
)
from moe_pipeline.server.leases import Lease
from moe_pipeline.server.service import Service, TakenError

_NIFTI = "application/gzip"


def api_routes(service: Service) -> APIRouter:
    """Routes below /api."""
    router = APIRouter(prefix="/api", tags=["moe"])

    def lease_of(x_lease_token: Annotated[str | None, Header()] = None) -> Lease:
        return service.leases.get(x_lease_token, step=True)

    Leased = Annotated[Lease, Depends(lease_of)]

    def view(lease: Lease, session: Session) -> SessionView:
        return SessionView(
            case=lease.case,
            state=service.folder().state(lease.case),
            shape=session.native.shape,
            spacing_mm=session.native.spacing_mm,
            objects=tuple(object_view(one) for one in session.objects.values()),
            active=session.active,
            can_undo=session.can_undo,
            can_redo=session.can_redo,
            remaining_seconds=service.leases.remaining_seconds(lease),
        )

    async def changed(lease: Lease, step: Callable[[Session], SessionChange]) -> ChangeView:
        def stepping(session: Session) -> ChangeView:
            change = step(session)
            if change.answer is not None:
                service.metrics.prompt(change.seconds)
            return change_view(session, change, view(lease, session))

        return await service.ask(lease, stepping)

    @router.get("/model")
    def model() -> dict[str, Any]:
        """Who can answer, and the classes to choose from."""
        classes = service.folder().classes(service.model_classes) if service.scans else service.model_classes
        return {
            "experts": [expert.name for expert in service.mixture.experts],
            "classes": [{"class_id": class_id, "class_name": name} for class_id, name in classes.items()],
            "max_sessions": service.options.max_sessions,
            "sessions": len(service.leases),
        }

    @router.get("/scans")
    def scans() -> list[dict[str, Any]]:
        """Every scan with its state: untouched, begun or accepted."""
        return [scan_view(scan) for scan in service.folder().all()]

    @router.get("/next-commands")
    def next_commands() -> list[str]:
        """The commands that make an expert of the accepted scans, or let the one that is there learn from them, too."""
        dataset = service.folder().dataset
        if dataset.name in {expert.name for expert in service.mixture.experts}:
            return [f"moe finetune {dataset.name} --continue", f"moe experts update {dataset.name}"]
        return [f"moe plan {dataset}", f"moe finetune {dataset.name}", f"moe train-gate {dataset.name}"]

    @router.get("/scans/{case}/image", response_class=FileResponse)
    async def image(case: str) -> FileResponse:
        """The scan as .nii.gz."""
        path = service.folder().path(case)
        if path.name.lower().endswith(ENDING) and path.is_file():
            return FileResponse(path, media_type=_NIFTI, filename="image.nii.gz")
        return await asyncio.to_thread(lambda: _as_nifti(read_native(path)))

    @router.get("/scans/{case}/labels", response_class=FileResponse)
    def accepted_labels(case: str) -> FileResponse:
        """The label map of an accepted scan as .nii.gz."""
        service.folder().path(case)
        path = service.folder().label_path(case)
        if path is None:
            raise PipelineError(f"{case}: not accepted yet, so it has no label map")
        return FileResponse(path, media_type=_NIFTI, filename="labels.nii.gz")

    @router.post("/scans/{case}/session")
    async def open_scan(case: str, body: OpenBody | None = None) -> dict[str, Any]:
        """Open a scan; all steps of earlier sessions are there again. Show the token as X-Lease-Token from now on."""
        service.folder().path(case)
        other = service.leases.of_case(case)
        if other is not None and not (body is not None and body.take):
            raise TakenError(f"{case}: somebody works on it now; wait, or take it over")
        if other is not None:
            service.leases.release(other.token)
        lease = service.leases.claim()
        lease.case = case
        try:
            await service.open(lease, case)
            assert lease.session is not None
            return {"lease_token": lease.token, "session": view(lease, lease.session).model_dump(mode="json")}
        except BaseException:
            service.leases.release(lease.token)
            raise

    @router.get("/session")
    async def session(lease: Leased) -> SessionView:
        """The session as it is."""
        return await service.ask(lease, lambda held: view(lease, held))

    @router.post("/session/heartbeat")
    def heartbeat(x_lease_token: Annotated[str | None, Header()] = None) -> dict[str, float]:
        """Say that the client is still there; once a minute is enough."""
        lease = service.leases.get(x_lease_token, step=False)
        return {"remaining_seconds": service.leases.remaining_seconds(lease)}

    @router.delete("/session")
    def release(x_lease_token: Annotated[str | None, Header()] = None) -> dict[str, bool]:
        """End the session. Its steps are kept."""
        service.leases.release(x_lease_token)
        return {"released": True}

    @router.post("/session/click")
    async def click(body: ClickBody, lease: Leased) -> ChangeView:
        """A click at the active object."""
        return await changed(lease, lambda held: held.add_click(body.point, body.inside, space=body.space))

    @router.post("/session/box")
    async def box(body: BoxBody, lease: Leased) -> ChangeView:
        """A box around the active object."""
        return await changed(lease, lambda held: held.add_box(body.first, body.last, space=body.space))

    @router.post("/session/undo")
    async def undo(lease: Leased, body: StepsBody | None = None) -> ChangeView:
        """Take steps back."""
        return await changed(lease, lambda held: held.undo((body or StepsBody()).steps))

    @router.post("/session/redo")
    async def redo(lease: Leased, body: StepsBody | None = None) -> ChangeView:
        """Do steps again that were undone."""
        return await changed(lease, lambda held: held.redo((body or StepsBody()).steps))

    @router.post("/session/reset")
    async def reset(lease: Leased) -> ChangeView:
        """Take all prompts of the active object away."""
        return await changed(lease, lambda held: held.reset())

    @router.post("/session/objects")
    async def new_object(body: ClassBody, lease: Leased) -> SessionView:
        """Begin another object, which becomes the active one."""
        scans = service.folder()
        names = scans.classes(service.model_classes)
        if body.class_name is not None:
            class_id, name = scans.class_id(body.class_name, service.model_classes), body.class_name
        elif body.class_id in names:
            class_id, name = body.class_id, names[body.class_id]
        else:
            raise PipelineError(f"no class {body.class_id}; name a new one with class_name")

        def beginning(held: Session) -> SessionView:
            held.new_object(class_id, name)
            return view(lease, held)

        return await service.ask(lease, beginning)

    @router.post("/session/objects/{number}/select")
    async def select(number: int, lease: Leased) -> SessionView:
        """Make another object the active one."""

        def selecting(held: Session) -> SessionView:
            held.select(number)
            return view(lease, held)

        return await service.ask(lease, selecting)

    @router.delete("/session/objects/{number}")
    async def remove(number: int, lease: Leased) -> ChangeView:
        """Take an object away."""
        return await changed(lease, lambda held: held.remove(number))

    @router.post("/session/open-labels")
    async def open_labels(lease: Leased) -> SessionView:
        """Make an object of each class of the scan's existing label map, to be corrected."""
        scans = service.folder()

        def opening(held: Session) -> SessionView:
            existing = scans.existing_labels(lease.case)
            names = scans.classes(service.model_classes)
            for class_id in label_values(existing.array):
                if not class_id:
                    continue
                mask = Volume((existing.array == class_id).astype("uint8"), existing.geometry)
                name = names.get(class_id, f"class {class_id}")
                kept = scans.keep_mask(lease.case, mask)
                held.new_object(class_id, name)
                held.set_mask(mask, kept)
            return view(lease, held)

        return await service.ask(lease, opening)

    @router.get("/session/labels", response_class=FileResponse)
    async def labels(lease: Leased) -> FileResponse:
        """The label map as it is now, on the image's own grid, as .nii.gz."""
        volume = await service.ask(lease, lambda held: held.labels)
        return await asyncio.to_thread(_as_nifti, volume)

    @router.get("/session/prompts")
    async def prompts(lease: Leased) -> dict[str, Any]:
        """All prompts as a prompts.json."""
        objects = await service.ask(lease, lambda held: held.prompts())
        return PromptFile(space="voxel_xyz", cases={lease.case: objects}).model_dump(mode="json")

    @router.post("/session/accept")
    async def accept(lease: Leased) -> SessionView:
        """Write label map, prompts and journal into the dataset folder, all of it or nothing."""
        scans = service.folder()

        def accepting(held: Session) -> SessionView:
            held.accept(scans.dataset, image=scans.path(lease.case))
            return view(lease, held)

        return await service.ask(lease, accepting)

    return router


def _as_nifti(volume: Volume) -> FileResponse:
    descriptor, name = tempfile.mkstemp(suffix=ENDING)
    os.close(descriptor)
    path = Path(name)
    try:
        write_native(volume, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return FileResponse(path, media_type=_NIFTI, filename="volume.nii.gz", background=BackgroundTask(path.unlink))
