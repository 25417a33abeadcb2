from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.base.errors import InvalidInputError
from fleetward.features.devices.model import (
    AttestationPolicy,
    Device,
    DeviceState,
    KeyTier,
    KeyTierError,
    LifecycleError,
    Model,
    check_model,
    check_tier,
    check_transition,
    may_become,
    state_after_enrollment,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def device(state: DeviceState) -> Device:
    return Device("cam-1", "cam", "default", state, None, None, None, NOW, NOW, "")


def test_a_retired_device_stays_retired() -> None:
    assert not any(may_become(DeviceState.RETIRED, to) for to in DeviceState)


def test_a_revoked_device_can_only_be_retired() -> None:
    assert [to for to in DeviceState if may_become(DeviceState.REVOKED, to)] == [DeviceState.RETIRED]


def test_only_enrolled_and_released_devices_become_active() -> None:
    sources = {state for state in DeviceState if may_become(state, DeviceState.ACTIVE)}
    assert sources == {DeviceState.ENROLLED, DeviceState.QUARANTINED}


@given(st.lists(st.sampled_from(list(DeviceState)), max_size=12))
def test_no_walk_leads_back_from_revoked_or_retired_to_a_session(walk: list[DeviceState]) -> None:
    state, has_ended = DeviceState.REGISTERED, False
    for to in walk:
        if may_become(state, to):
            state = to
        has_ended = has_ended or state in {DeviceState.REVOKED, DeviceState.RETIRED}
        assert not (has_ended and state is DeviceState.ACTIVE)


def test_a_step_that_is_not_there_says_which_are() -> None:
    with pytest.raises(LifecycleError, match="enrolled"):
        check_transition(device(DeviceState.REGISTERED), DeviceState.ACTIVE)


def test_a_model_without_attestation_makes_devices_active_at_enrollment() -> None:
    plain = Model("m", attestation=AttestationPolicy.NONE)
    assert state_after_enrollment(device(DeviceState.REGISTERED), plain) is DeviceState.ACTIVE
    assert state_after_enrollment(device(DeviceState.REGISTERED), Model("m")) is DeviceState.ENROLLED
    assert state_after_enrollment(device(DeviceState.QUARANTINED), plain) is DeviceState.QUARANTINED


def test_a_key_below_the_models_floor_is_refused() -> None:
    with pytest.raises(KeyTierError):
        check_tier("d", Model("m", min_tier=KeyTier.TPM), None, KeyTier.PKCS11)


def test_a_device_may_not_move_to_a_worse_protected_key() -> None:
    with pytest.raises(KeyTierError):
        check_tier("d", Model("m"), KeyTier.TPM, KeyTier.SOFTWARE)
    check_tier("d", Model("m"), KeyTier.SOFTWARE, KeyTier.TPM)


@pytest.mark.parametrize("lifetime", [timedelta(seconds=1), timedelta(days=400)])
def test_lifetimes_out_of_bounds_are_refused(lifetime: timedelta) -> None:
    with pytest.raises(InvalidInputError):
        check_model(Model("m", cert_lifetime=lifetime))
