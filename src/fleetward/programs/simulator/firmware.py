"""Firmware images of the demo camera and their bills of materials. The same input gives the same bytes."""

import io
import json
import uuid
import zipfile
from pathlib import Path

_EPOCH = (2020, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o644 << 16
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # of URLs, RFC 4122 appendix C


def build_firmware(version: str, *, is_healthy: bool = True) -> bytes:
    """Return an executable zip archive (PEP 441): the camera's application in this version.

    Without `is_healthy` it starts and then reports that it fails, so that its trial ends in a rollback.
    """
    release = {"version": version, "is_healthy": is_healthy}
    archive = io.BytesIO()
    archive.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(archive, "w") as image:
        _add(image, "__main__.py", Path(__file__).with_name("camera_app.py").read_bytes())
        _add(image, "release.json", json.dumps(release).encode())
    return archive.getvalue()


def build_sbom(version: str) -> bytes:
    """Return the CycloneDX 1.6 bill of materials (JSON) of the image in this version."""
    camera = {
        "type": "firmware",
        "bom-ref": "camera",
        "name": "fleetward-demo-camera",
        "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    interpreter = {
        "type": "platform",
        "bom-ref": "python",
        "name": "python",
        "version": "3.11",
        "cpe": "cpe:2.3:a:python:python:3.11:*:*:*:*:*:*:*",
        "licenses": [{"license": {"id": "Python-2.0"}}],
    }
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(_NAMESPACE, f"fleetward-demo-camera/{version}").urn,
        "version": 1,
        "metadata": {"component": camera},
        "components": [interpreter],
        "dependencies": [{"ref": "camera", "dependsOn": ["python"]}],
    }
    return json.dumps(document, indent=2).encode()


def _add(image: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = _PLAIN_FILE
    image.writestr(entry, content)
