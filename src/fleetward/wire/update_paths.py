"""Where a model's update metadata and artifacts are, on the devices port and in the blob store alike.

Targets have consistent-snapshot names (TUF section 6.2): the file's SHA-256 stands before its last segment,
so what a name serves never changes and any cache may keep it.

A channel is a line of releases of one model: the manifest that is current is named by it. The default channel
has no segment in its name, for that is how devices in the field ask.
"""

import re

from fleetward.base.errors import NotFoundError

PREFIX = "/v1/tuf"
DEFAULT_CHANNEL = "stable"
_METADATA = re.compile(r"timestamp\.json|[1-9][0-9]{0,9}\.(root|targets|snapshot)\.json")
_TARGET = re.compile(
    r"(?P<model>[A-Za-z0-9_-]{1,64})/(?:channels/[A-Za-z0-9_-]{1,64}/|[A-Za-z0-9][A-Za-z0-9._+-]{0,63}/)?"
    r"(?P<sha256>[0-9a-f]{64})\.(?P<file>image|manifest\.dsse\.json|sbom\.cdx\.json)"
)


def metadata_url(model: str) -> str:
    """Return the path below which a model's metadata is, for devices."""
    return f"{PREFIX}/{model}/metadata/"


def targets_url(model: str) -> str:
    return f"{PREFIX}/{model}/targets/"


def current_manifest(model: str, channel: str) -> str:
    """Return the target that says which release a model's devices on this channel should run."""
    if channel == DEFAULT_CHANNEL:
        return f"{model}/manifest.dsse.json"
    return f"{model}/channels/{channel}/manifest.dsse.json"


def manifest(model: str, version: str) -> str:
    return f"{model}/{version}/manifest.dsse.json"


def image(model: str, version: str) -> str:
    return f"{model}/{version}/image"


def sbom(model: str, version: str) -> str:
    return f"{model}/{version}/sbom.cdx.json"


def consistent_name(target: str, sha256: str) -> str:
    """Return the name under which a target is stored and fetched."""
    folder, _, name = target.rpartition("/")
    return f"{folder}/{sha256}.{name}"


def metadata_blob(model: str, name: str) -> str:
    """Return the blob behind a metadata name; every model shares the root.

    Raises:
        NotFoundError: no metadata is ever called that.
    """
    if not _METADATA.fullmatch(name):
        raise NotFoundError(f"update metadata {name[:80]!r}: expected a TUF role's file, found another name")
    return f"tuf/root/{name}" if name.endswith(".root.json") else f"tuf/{model}/{name}"


def root_blob(version: int) -> str:
    return f"tuf/root/{version}.root.json"


def target_blob(model: str, name: str) -> tuple[str, str]:
    """Return the blob behind a target's consistent name, and its SHA-256 in hex.

    Raises:
        NotFoundError: no target of this model is ever called that.
    """
    match = _TARGET.fullmatch(name)
    if match is None or match["model"] != model:
        raise NotFoundError(
            f"update artifact {name[:80]!r}: expected one of model {model}, found another name"
        )
    return f"tuf/targets/{name}", match["sha256"]
