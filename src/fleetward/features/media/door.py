"""What others need to know of media."""

from fleetward.base.config import Section
from fleetward.base.events import Severity
from fleetward.base.feature import About, EventKind, Feature, Forget, Place, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.media import http, service, settings
from fleetward.features.media.relay import MediaContext

feature = Feature(
    name="media",
    context=MediaContext,
    routes=(
        Routes(http.router, Port.API),
        Routes(http.page_router, Port.PAGES),
        Routes(http.device_router, Port.DEVICES),
    ),
    forgets=(Forget("views", service.KEPT, service.forget_old),),
    events=(
        EventKind("view.opened", Severity.NOTICE, About.DEVICE, "someone watches a camera"),
        EventKind("view.closed", Severity.INFO, About.DEVICE, "and stopped"),
        EventKind(
            "media.refused", Severity.WARNING, About.DEVICE, "a camera or viewer was refused: `reason`"
        ),
    ),
    settings=(Section("media", settings.Media, settings.check),),
    places=(Place("/devices/$id?part=video", "video.view"),),
    permissions=(Permission("video.view", Reach.DEVICES, "watch live video"),),
)
