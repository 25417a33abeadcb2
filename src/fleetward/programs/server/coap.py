"""The CoAP port's application: hands each request to the resource that a feature's door offers for it."""

from collections.abc import Iterable

from fleetward.base.coap import CoapAnswer, CoapRequest, Code
from fleetward.base.errors import (
    FleetwardError,
    InvalidInputError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from fleetward.base.feature import CoapResource, House
from fleetward.outside.dtls.coap import refuse


class CoapApp:
    """Answers requests of authenticated clients."""

    def __init__(self, house: House, resources: Iterable[CoapResource]) -> None:
        self._house, self._resources = house, tuple(resources)

    async def __call__(self, request: CoapRequest) -> CoapAnswer:
        here = [one for one in self._resources if one.is_at(request.path)]
        if not here:
            return CoapAnswer(Code.NOT_FOUND)
        asked = next((one for one in here if one.method == request.method), None)
        if asked is None:
            return CoapAnswer(Code.METHOD_NOT_ALLOWED)
        try:
            return await asked.act(self._house, request)
        except FleetwardError as error:
            return refuse(error, _code_of(error))


def _code_of(error: FleetwardError) -> Code:
    for kind, code in (
        (TooLargeError, Code.TOO_LARGE),
        (InvalidInputError, Code.BAD_REQUEST),
        (UnauthenticatedError, Code.UNAUTHORIZED),
        (UnavailableError, Code.SERVICE_UNAVAILABLE),
    ):
        if isinstance(error, kind):
            return code
    return Code.FORBIDDEN
