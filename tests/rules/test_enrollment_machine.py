"""The device's enrollment machine against a small server that behaves, is absent, or is cut off anywhere."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import CorruptDataError
from fleetward.features.enrollment import device as d
from fleetward.features.enrollment.device.state import (
    LONGEST_PAUSE,
    Memory,
    parse_memory,
    pause_after,
    renewal_at,
)
from support.authority import LIFETIME, T0
from support.enrolling import Device, Disk, KilledError
from support.small_est import SmallServer

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def settings_for(server: SmallServer) -> d.Settings:
    return d.Settings(
        "cam-1", server.root.certificate.public_bytes(Encoding.PEM), earliest=T0 - 90 * 24 * HOUR
    )


def power_on(server: SmallServer, disk: Disk, now: datetime = T0, steps_left: int | None = None) -> Device:
    server.now = max(server.now, now) if now > T0 - 24 * HOUR else server.now
    return Device(settings_for(server), disk, server.answer, now, steps_left=steps_left)


def test_a_claim_becomes_a_certificate_and_is_forgotten() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    device = power_on(server, disk)
    assert device.machine.phase(T0) is d.Phase.ENROLLED
    assert device.in_use == "device-1"
    assert disk.certificates["device-1"].count(b"BEGIN CERTIFICATE") == 2
    assert disk.claim is None


def test_without_a_claim_it_asks_for_one_once_and_waits() -> None:
    device = power_on(SmallServer(), Disk())
    device.run_until(T0 + 24 * HOUR)
    assert device.log.count("claim_needed") == 1
    assert device.machine.wake_at is None
    assert device.machine.phase(T0) is d.Phase.NONE


def test_renewal_takes_a_new_key_and_keeps_the_old_until_the_new_one_connected() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    device = power_on(server, disk)
    device.tell(d.Connected("device-1"))
    device.run_until(T0 + LIFETIME * 0.61)
    assert device.in_use == "device-2"
    assert set(disk.keys) == set(disk.certificates) == {"device-1", "device-2"}
    device.tell(d.Connected("device-2"))
    assert set(disk.keys) == set(disk.certificates) == {"device-2"}


def test_a_new_certificate_that_never_connects_does_not_push_out_the_one_that_did() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    device = power_on(server, disk)
    device.tell(d.Connected("device-1"))
    device.run_until(T0 + LIFETIME * 0.62)
    server.now = device.now = T0 + LIFETIME * 0.63
    memory = device.machine.memory
    assert memory.current
    assert memory.previous
    device.now = renewal_at(memory.current, "cam-1")
    device.tell(d.Tick())
    assert "device-1" in disk.keys or device.now >= T0 + LIFETIME


def test_a_renewal_that_is_asked_for_does_not_wait_until_it_is_due() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    device = power_on(server, disk)
    device.tell(d.Connected("device-1"))
    device.tell(d.RenewalAsked())
    assert device.in_use == "device-2"
    assert set(disk.keys) == {"device-1", "device-2"}


def test_a_refused_new_certificate_gives_way_to_the_old_one() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    device = power_on(server, disk)
    device.tell(d.Connected("device-1"))
    device.run_until(T0 + LIFETIME * 0.61)
    device.tell(d.HandshakeRefused("device-2", "unknown ca"))
    assert device.in_use == "device-1"
    assert "device-2" not in disk.keys
    device.run_until(T0 + LIFETIME * 0.7)
    assert device.in_use == "device-3"


def test_it_never_gives_up_while_the_server_is_away_and_stays_polite() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    device = power_on(server, disk)
    device.tell(d.Connected("device-1"))
    server.is_absent = True
    server.requests.clear()
    device.run_until(T0 + 10 * LIFETIME)
    assert device.machine.phase(device.now) is d.Phase.EXPIRED
    assert device.machine.wake_at is not None
    assert device.machine.wake_at - device.now <= LONGEST_PAUSE
    hours = (device.now - T0) / HOUR
    assert hours < len(server.requests) < hours * 20


def test_an_expired_software_device_returns_by_a_new_claim_only() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    device = power_on(server, disk)
    server.is_absent = True
    device.run_until(T0 + 2 * LIFETIME)
    server.is_absent, server.now = False, device.now
    server.requests.clear()
    device.run_until(T0 + 2 * LIFETIME + HOUR)
    assert [request.path.partition("?")[0] for request in server.requests] == ["/v1/time"]
    server.claims["second-claim"] = None
    disk.claim = "second-claim"
    device.tell(d.ClaimOffered("second-claim"))
    assert device.machine.phase(device.now) is d.Phase.ENROLLED
    assert all(request.client_key is None for request in server.requests)


def test_a_device_without_a_clock_gets_signed_time_first() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    device = Device(settings_for(server), disk, server.answer, datetime(1970, 1, 1, tzinfo=T0.tzinfo))
    assert server.requests[0].is_time_unchecked
    assert device.now == T0
    assert device.machine.phase(device.now) is d.Phase.ENROLLED


def test_a_clock_that_leapt_ahead_is_corrected_before_anything_is_believed_expired() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")
    power_on(server, disk)
    device = Device(settings_for(server), disk, server.answer, T0 + 900 * 24 * HOUR)
    assert device.now == T0
    assert device.machine.phase(device.now) is d.Phase.ENROLLED


def test_a_time_for_another_nonce_is_not_taken() -> None:
    server, disk = SmallServer(), Disk(claim="good-claim")

    def replay(request: d.SendRequest, disk: Disk, now: datetime) -> d.ResponseReceived | d.RequestFailed:
        return server.answer(replace(request, path="/v1/time?nonce=somebody-elses-nonce"), disk, now)

    early = datetime(1970, 1, 1, tzinfo=T0.tzinfo)
    device = Device(settings_for(server), disk, replay, early)
    assert device.now == early
    assert "enrollment_attempt_failed" in device.log


def test_the_servers_retry_after_is_kept() -> None:
    server, disk = SmallServer(refuse_status=503), Disk(claim="good-claim")
    device = power_on(server, disk)
    assert device.machine.wake_at == T0 + 120 * SECOND


def test_a_factory_key_enrolls_without_a_claim_recovers_and_is_never_deleted() -> None:
    server, disk = SmallServer(), Disk(keys={"made-in-factory": ec.generate_private_key(ec.SECP256R1())})
    server.listed_keys.append(disk.keys["made-in-factory"].public_key())
    settings = replace(settings_for(server), factory_key="made-in-factory")
    device = Device(settings, disk, server.answer, T0)
    assert device.in_use == "made-in-factory"
    device.tell(d.Connected("made-in-factory"))
    device.run_until(T0 + LIFETIME * 0.61)
    device.tell(d.Connected("device-2"))
    assert set(disk.keys) == {"made-in-factory", "device-2"}
    server.is_absent = True
    device.run_until(T0 + 3 * LIFETIME)
    server.is_absent, server.now = False, device.now
    device.run_until(T0 + 3 * LIFETIME + HOUR)
    assert device.in_use == "made-in-factory"
    device.tell(d.Connected("made-in-factory"))
    assert set(disk.keys) == {"made-in-factory"}


@pytest.mark.parametrize("is_renewal", [False, True])
def test_a_kill_at_any_step_is_recovered_from(is_renewal: bool) -> None:
    """Kill after each step in turn, restart, and end with exactly one key, one certificate, one in use."""
    survived = 0
    for steps in range(200):
        server, disk, now = SmallServer(), Disk(claim="good-claim"), T0
        if is_renewal:
            device = power_on(server, disk)
            device.tell(d.Connected("device-1"))
            now = T0 + LIFETIME * 0.61
        try:
            device = power_on(server, disk, now, steps_left=steps)
            device.tell(d.Connected(str(device.in_use)))
            survived += 1
        except KilledError:
            device = power_on(server, disk, now + SECOND)
            device.run_until(now + 2 * SECOND)
        device.tell(d.Connected(str(device.in_use)))
        assert device.machine.phase(device.now) is d.Phase.ENROLLED
        assert list(disk.keys) == list(disk.certificates) == [device.in_use]
        assert disk.claim is None
        if survived > 1:
            return
    pytest.fail("expected the run to end within 200 steps")


@given(st.integers(0, 200), st.integers(1, 60))
def test_pauses_grow_to_a_bound_and_never_vanish(failures: int, made: int) -> None:
    pause = pause_after(Memory(made=made, failures=failures), "cam-1", T0)
    assert 2.5 * SECOND <= pause <= LONGEST_PAUSE


@given(st.text("abcdef0123456789", min_size=1, max_size=20), st.integers(30, 10**7))
def test_renewal_is_due_around_half_of_the_lifetime(label: str, lifetime_s: int) -> None:
    key = d.CertifiedKey(label, T0, T0 + lifetime_s * SECOND)
    share = (renewal_at(key, "cam-1") - T0) / (lifetime_s * SECOND)
    assert 0.4 - 1e-6 <= share <= 0.6 + 1e-6


@given(st.binary(max_size=300))
def test_a_state_file_of_junk_is_refused_by_name(content: bytes) -> None:
    try:
        parse_memory(content)
    except CorruptDataError:
        return
