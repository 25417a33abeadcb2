"""What others need to know of media."""

from fleetward.base.feature import Feature, Forget, Port, Routes
from fleetward.base.permissions import Permission, Reach
from fleetward.features.media import http, service
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
    permissions=(Permission("video.view", Reach.DEVICES, "watch live video"),),
)
