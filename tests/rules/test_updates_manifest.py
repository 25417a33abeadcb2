"""The signed manifest and the keys a device pins: every step of the verification, and junk."""

import base64
import hashlib
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from fleetward.base.errors import CorruptDataError, InvalidInputError, NotFoundError
from fleetward.features.updates.repository.keys import parse_root
from fleetward.wire import update_paths as paths
from fleetward.wire.manifest import (
    MAX_COUNTER,
    MAX_IMAGE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_PINNED_BYTES,
    PAYLOAD_TYPE,
    FirmwareManifest,
    UntrustedManifestError,
    digest_manifest,
    key_id,
    parse_manifest,
    parse_pinned_keys,
    render_manifest,
    render_pinned_keys,
    verify_manifest,
)
from support.firmware import KEY, PINNED, STRANGER, make_envelope, make_manifest

SECOND = Ed25519PrivateKey.from_private_bytes(b"2" * 32)
MANIFEST = make_manifest(6)
ENVELOPE = make_envelope(6)
BOTH = parse_pinned_keys(render_pinned_keys([KEY.public_key(), SECOND.public_key()], threshold=2))
DIGEST = "a" * 64


def envelope(**changes: Any) -> bytes:
    return json.dumps({**json.loads(ENVELOPE), **changes}).encode()


def payload(**changes: Any) -> bytes:
    fields = {name: value for name, value in msgspec.to_builtins(MANIFEST).items() if name not in changes}
    return json.dumps(
        {**fields, **{name: value for name, value in changes.items() if value is not None}}
    ).encode()


def signed(content: bytes, kind: str = PAYLOAD_TYPE) -> bytes:
    """Return an envelope around any payload and type, as the DSSE protocol signs it."""
    pae = f"DSSEv1 {len(kind)} {kind} {len(content)} ".encode() + content
    return json.dumps({
        "payload": base64.b64encode(content).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(KEY.sign(pae)).decode()}],
    }).encode()  # fmt: skip


def test_a_manifest_comes_back_as_it_was_signed() -> None:
    assert verify_manifest(ENVELOPE, PINNED) == MANIFEST
    assert verify_manifest(signed(payload()), PINNED) == MANIFEST, "as DSSE says it is signed"
    found = json.loads(make_envelope(6))
    assert found["payloadType"] == "application/vnd.fleetward.firmware+json"
    assert [one["keyid"] for one in found["signatures"]] == [key_id(KEY.public_key())]
    assert digest_manifest(ENVELOPE) == hashlib.sha256(ENVELOPE).digest()


def test_the_key_id_is_a_hint_and_decides_nothing() -> None:
    [one] = json.loads(ENVELOPE)["signatures"]
    for keyid in ("", key_id(STRANGER.public_key())):
        assert verify_manifest(envelope(signatures=[{**one, "keyid": keyid}]), PINNED) == MANIFEST


def test_a_stranger_signs_nothing() -> None:
    for content in (make_envelope(6, signer=STRANGER), envelope(signatures=[])):
        with pytest.raises(
            UntrustedManifestError,
            match=r"^firmware manifest: expected signatures of 1 pinned keys, found 0 "
            r"It was signed by a stranger, or changed after it was signed\.$",
        ):
            verify_manifest(content, PINNED)


def test_one_key_never_counts_as_two() -> None:
    twice = render_manifest(MANIFEST, [KEY, KEY])
    with pytest.raises(UntrustedManifestError, match="2 pinned keys, found 1"):
        verify_manifest(twice, BOTH)
    with pytest.raises(UntrustedManifestError, match="2 pinned keys, found 1"):
        verify_manifest(render_manifest(MANIFEST, [STRANGER, SECOND]), BOTH)
    for signers in ([KEY, SECOND], [SECOND, STRANGER, KEY]):
        assert verify_manifest(render_manifest(MANIFEST, signers), BOTH) == MANIFEST


def test_more_signatures_than_needed_do_no_harm() -> None:
    assert verify_manifest(render_manifest(MANIFEST, [STRANGER] * 15 + [KEY]), PINNED) == MANIFEST
    with pytest.raises(InvalidInputError, match="DSSE envelope"):
        verify_manifest(render_manifest(MANIFEST, [STRANGER] * 16 + [KEY]), PINNED)


def test_other_signed_json_is_no_manifest() -> None:
    with pytest.raises(
        InvalidInputError, match=r"^firmware manifest: expected type application/vnd.*, found 'text/x'$"
    ):
        verify_manifest(signed(payload(), "text/x"), PINNED)
    with pytest.raises(InvalidInputError, match=f"found '{'t' * 80}'$"):
        verify_manifest(signed(payload(), "t" * 81), PINNED)
    other = json.loads(signed(payload(), "text/x"))
    with pytest.raises(UntrustedManifestError):  # the type is part of what is signed
        verify_manifest(json.dumps({**other, "payloadType": PAYLOAD_TYPE}).encode(), PINNED)


def test_an_envelope_is_read_up_to_its_limit() -> None:
    assert verify_manifest(ENVELOPE.ljust(MAX_MANIFEST_BYTES), PINNED) == MANIFEST
    with pytest.raises(
        InvalidInputError, match=r"^firmware manifest: expected at most 65536 bytes, found 65537$"
    ):
        verify_manifest(ENVELOPE.ljust(MAX_MANIFEST_BYTES + 1), PINNED)


@pytest.mark.parametrize("changes", [{"payload": "%"}, {"payload": "é"}, {"signatures": [{"sig": "%"}]}])
def test_what_is_not_base64_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidInputError, match=r"^firmware manifest: expected base64, found something else$"
    ):
        verify_manifest(envelope(**changes), PINNED)


@given(st.binary(max_size=300))
@example(b"[" * 60_000)
@example(b"\xff")
@example(b'{"payload":"","payloadType":"","signatures":[]}')
def test_an_envelope_of_junk_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"^firmware manifest: "):
        verify_manifest(content, PINNED)


@given(st.integers(0, len(ENVELOPE) - 1), st.integers(0, 255))
def test_an_envelope_with_a_byte_changed_says_the_same_or_nothing(at: int, byte: int) -> None:
    content = bytearray(ENVELOPE)
    content[at] = byte
    try:
        assert verify_manifest(bytes(content), PINNED) == MANIFEST
    except InvalidInputError:
        assert bytes(content) != ENVELOPE


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "1"}, {"version": "A" * 64}, {"security_counter": 1}, {"security_counter": MAX_COUNTER},
        {"length": 1}, {"length": MAX_IMAGE_BYTES}, {"created_at": "x" * 40}, {"model": "a"},
        {"later": "field"},
    ],
)  # fmt: skip
def test_a_payload_within_its_bounds_is_read(changes: dict[str, Any]) -> None:
    found = parse_manifest(payload(**changes))
    assert isinstance(found, FirmwareManifest)
    assert all(getattr(found, name, value) == value for name, value in changes.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"version": ""}, {"version": "A" * 65}, {"version": "../x"}, {"security_counter": 0},
        {"security_counter": MAX_COUNTER + 1}, {"security_counter": "1"}, {"length": 0},
        {"length": MAX_IMAGE_BYTES + 1}, {"created_at": "x" * 41}, {"sha256": "A" * 64}, {"sha256": "a" * 63},
        {"sbom_sha256": ""}, {"model": None}, {"sha256": None}, {"security_counter": None},
    ],
)  # fmt: skip
def test_a_payload_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"^firmware manifest: "):
        parse_manifest(payload(**changes))


def test_a_model_that_is_no_id_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"^model"):
        parse_manifest(payload(model="../x"))


@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b"\xff")
def test_a_payload_of_junk_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"^firmware manifest: "):
        parse_manifest(content)


def pinned(**changes: Any) -> bytes:
    return json.dumps({**json.loads(render_pinned_keys([KEY.public_key()])), **changes}).encode()


def pem(key: Any) -> str:
    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def test_the_same_keys_always_give_the_same_bytes() -> None:
    keys = [KEY.public_key(), SECOND.public_key()]
    content = render_pinned_keys(keys)
    assert content == render_pinned_keys(keys[::-1])
    assert content.endswith(b"}\n")
    assert b'\n  "threshold": 1' in content
    assert set(parse_pinned_keys(content).keys) == {pem(key) for key in keys}
    assert parse_pinned_keys(render_pinned_keys(keys, threshold=2)).threshold == 2


def test_a_threshold_that_no_signatures_meet_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"^pinned keys: expected at least 2 different keys, found 1$"
    ):
        parse_pinned_keys(pinned(threshold=2, keys=[pem(KEY.public_key())] * 2))


def test_pinned_keys_are_read_up_to_their_limit() -> None:
    assert parse_pinned_keys(pinned().ljust(MAX_PINNED_BYTES)) == PINNED
    with pytest.raises(InvalidInputError, match=r"^pinned keys: expected at most 65536 bytes, found 65537$"):
        parse_pinned_keys(pinned().ljust(MAX_PINNED_BYTES + 1))
    keys = [pem(Ed25519PrivateKey.generate().public_key()) for _ in range(17)]
    assert len(parse_pinned_keys(pinned(threshold=16, keys=keys[:16])).keys) == 16
    bad: list[dict[str, Any]] = [
        {"keys": keys}, {"threshold": 17, "keys": keys[:16]}, {"threshold": 0}, {"keys": []}, {"more": 1},
    ]  # fmt: skip
    for changes in bad:
        with pytest.raises(InvalidInputError, match=r"^pinned keys: "):
            parse_pinned_keys(pinned(**changes))


def test_keys_of_other_kinds_are_refused() -> None:
    other = pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(
        InvalidInputError, match=r"^pinned keys: expected Ed25519, found another kind of key$"
    ):
        parse_pinned_keys(pinned(keys=[other]))
    for junk in ("", "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(
            InvalidInputError, match=r"^pinned keys: expected PEM public keys, found something else$"
        ):
            parse_pinned_keys(pinned(keys=[junk]))


@given(st.binary(max_size=300))
@example(b"[" * 60_000)
@example(b"\xff")
def test_pinned_keys_of_junk_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"^pinned keys: "):
        parse_pinned_keys(content)


@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b"\xff")
@example(b"{}")
@example(b'{"signed":{"_type":"root"},"signatures":[]}')
@example(b'{"signed":[],"signatures":{}}')
@example(b'{"signed":{"_type":"root","version":NaN},"signatures":[]}')
def test_a_root_of_junk_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptDataError, match=r"^TUF root: "):
        parse_root(content)


def test_the_current_manifest_is_named_by_its_channel() -> None:
    """Devices of every release so far ask for the name without a segment."""
    assert paths.DEFAULT_CHANNEL == "stable"
    assert paths.current_manifest("cam", "stable") == "cam/manifest.dsse.json"
    assert paths.current_manifest("cam", "beta") == "cam/channels/beta/manifest.dsse.json"
    assert paths.current_manifest("cam", "beta") != paths.manifest("cam", "beta")


def test_each_target_has_one_blob() -> None:
    for target in (
        paths.current_manifest("cam", "stable"), paths.current_manifest("cam", "beta"),
        paths.image("cam", "1.0"), paths.manifest("cam", "channels"), paths.sbom("cam", "1.0"),
    ):  # fmt: skip
        name = paths.consistent_name(target, DIGEST)
        assert paths.target_blob("cam", name) == (f"tuf/targets/{name}", DIGEST)
    assert paths.consistent_name("cam/1.0/image", DIGEST) == f"cam/1.0/{DIGEST}.image"
    assert (paths.metadata_url("cam"), paths.targets_url("cam")) == (
        "/v1/tuf/cam/metadata/",
        "/v1/tuf/cam/targets/",
    )


@pytest.mark.parametrize(
    "name",
    [
        "", f"{DIGEST}.image", f"other/1.0/{DIGEST}.image", f"cam/../{DIGEST}.image", f"cam/1.0/{DIGEST}.exe",
        f"cam/1.0/{DIGEST[1:]}.image", f"cam/channels/a/b/{DIGEST}.image", f"cam/1/2/{DIGEST}.image",
        f"cam/1.0/{DIGEST}.image\n", f"cam/channels//{DIGEST}.image",
        f"cam/channels/{'b' * 65}/{DIGEST}.image",
    ],
)  # fmt: skip
def test_other_names_lead_nowhere(name: str) -> None:
    with pytest.raises(
        NotFoundError, match=r"^update artifact .*: expected one of model cam, found another name$"
    ):
        paths.target_blob("cam", name)


def test_metadata_has_the_names_of_its_roles() -> None:
    assert paths.metadata_blob("cam", "timestamp.json") == "tuf/cam/timestamp.json"
    assert paths.metadata_blob("cam", "7.targets.json") == "tuf/cam/7.targets.json"
    assert paths.metadata_blob("cam", "7.root.json") == paths.root_blob(7) == "tuf/root/7.root.json"
    for name in (
        "",
        "0.root.json",
        "07.root.json",
        "root.json",
        "1.timestamp.json",
        "../1.root.json",
        "9" * 11 + ".root.json",
    ):
        with pytest.raises(
            NotFoundError, match=r"^update metadata .*: expected a TUF role's file, found another name$"
        ):
            paths.metadata_blob("cam", name)


def test_a_long_name_is_told_in_part() -> None:
    with pytest.raises(NotFoundError, match=rf"^update artifact '{'x' * 80}': "):
        paths.target_blob("cam", "x" * 81)
    with pytest.raises(NotFoundError, match=rf"^update metadata '{'x' * 80}': "):
        paths.metadata_blob("cam", "x" * 81)


@given(st.text(max_size=200))
def test_junk_names_lead_nowhere(name: str) -> None:
    for look in (paths.metadata_blob, paths.target_blob):
        try:
            found = look("cam", name)
        except NotFoundError:
            continue
        assert ".." not in str(found)
