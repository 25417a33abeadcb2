"""The console's types are those of the API it is served with."""

from support.harbour import Harbour
from support.openapi import digest, fetch_document, read_stamp, reduce


def test_the_types_were_made_from_this_api(harbour: Harbour) -> None:
    assert read_stamp() == digest(reduce(fetch_document(harbour.platform))), "run ./dev types"
