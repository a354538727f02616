"""The body of an event, opened for an operator who asks for it; that it was read goes into the event's timeline."""

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ops.cli.store import opening_keys, writing_store
from ops.console.bodies import images_of, shown
from ops.console.forms import Form
from ops.console.pages import event
from shared.blobs import BlobStore
from shared.errors import PenstockError, StoreAway
from shared.store import timeline
from shared.store.reading.connecting import reading
from shared.store.reading.events import body_of


if TYPE_CHECKING:
    from uuid import UUID

    from shared.settings import Settings


async def show(request: Request, form: Form) -> Response:
    """The event's page with its body."""
    del form
    content = await _read(request)
    return await event.render(request, request.path_params["event_id"], {"body": shown(content)})


async def download(request: Request, form: Form) -> Response:
    """The raw body, byte for byte, as a file: no browser shows it as a page."""
    del form
    content = await _read(request)
    name = f"{request.path_params['event_id']}.body"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


async def image(request: Request, form: Form) -> Response:
    """One image of the body."""
    del form
    found = images_of(await _read(request))
    number: int = request.path_params["number"]
    if number >= len(found):
        raise HTTPException(404, "There is no such image in this body.")
    content_type, data = found[number]
    return Response(data, media_type=content_type)


async def _read(request: Request) -> bytes:
    """The body; that it is read is written down first, so that nobody reads unseen."""
    event_id: UUID = request.path_params["event_id"]
    settings: Settings = request.app.state.settings
    async with reading(request.app.state.engine) as connection:
        kept = await body_of(connection, event_id)
    if kept is None:
        raise HTTPException(404, f"There is no event {event_id}.")
    if kept.sealed is None and kept.blob is None:
        raise HTTPException(404, "This body is not kept any more: its time of retention is over.")
    async with writing_store(settings) as connection:
        await timeline.write(connection, [(event_id, "body-read", f"by {request.state.visitor.name}, console")])
    try:
        keys = (await opening_keys(settings))()
        if kept.sealed is not None:
            return keys.unseal(kept.sealed, event_id)
        return await BlobStore.open(settings.blobs, keys).read(kept.blob or "", event_id)
    except StoreAway:
        raise
    except PenstockError as error:  # a seal that is broken, a key that is unknown, a blob that is gone
        raise HTTPException(409, f"The body cannot be opened: {error}.") from None
