"""Which slot starts: a case for every branch and boundary of the boot stage."""

from collections.abc import Callable

import pytest

from fleetward.features.updates.boot.pointer import (
    TRIES,
    BootPointer,
    Failure,
    Slot,
    Trial,
    begin_trial,
    confirm,
    give_up,
    take_try,
)
from fleetward.features.updates.boot.selection import (
    BootRules,
    Refusal,
    Refused,
    Selection,
    SlotContent,
    Verified,
    select,
    verify_slot,
)
from support.firmware import EMPTY, MODEL, PINNED, STRANGER, digest_of, make_envelope, slot_of

OLD, NEW = make_envelope(5, image=b"old"), make_envelope(6, image=b"new")
OLD_SLOT, NEW_SLOT = slot_of(OLD, b"old"), slot_of(NEW, b"new")


def rules(floor: int = 5) -> BootRules:
    return BootRules(PINNED, MODEL, floor)


def slots(a: SlotContent = EMPTY, b: SlotContent = EMPTY) -> Callable[[Slot], SlotContent]:
    return lambda slot: {Slot.A: a, Slot.B: b}[slot]


def refusals(selection: Selection) -> list[tuple[Slot, Refusal]]:
    return [(one.slot, one.refusal) for one in selection.refused]


def chosen(selection: Selection) -> Verified:
    assert selection.chosen is not None
    return selection.chosen


def refused(content: SlotContent, floor: int = 5) -> Refused:
    found = verify_slot(Slot.B, content, rules(floor))
    assert isinstance(found, Refused)
    assert found.slot is Slot.B
    assert found.message.startswith("slot b: ")
    return found


@pytest.mark.parametrize("floor", [4, 5])
def test_firmware_at_or_above_the_floor_starts(floor: int) -> None:
    found = verify_slot(Slot.A, OLD_SLOT, rules(floor))
    assert isinstance(found, Verified)
    assert (found.slot, found.envelope, found.manifest_sha256) == (Slot.A, OLD, digest_of(OLD))
    assert (found.manifest.version, found.manifest.security_counter) == ("1.5.0", 5)


def test_firmware_below_the_floor_does_not() -> None:
    found = refused(OLD_SLOT, floor=6)
    assert found.refusal is Refusal.ROLLED_BACK
    assert found.message == "slot b: expected security counter 6 or more, found 5"


def test_an_empty_slot_is_told_from_a_damaged_one() -> None:
    assert refused(EMPTY).refusal is Refusal.EMPTY
    assert refused(EMPTY).message == "slot b: expected firmware, found none"
    assert refused(slot_of(b"junk")).refusal is Refusal.MANIFEST_INVALID
    assert "expected a DSSE envelope" in refused(slot_of(b"junk")).message


def test_firmware_of_a_stranger_does_not_start() -> None:
    found = refused(slot_of(make_envelope(5, signer=STRANGER)))
    assert found.refusal is Refusal.MANIFEST_UNTRUSTED
    assert "expected signatures of 1 pinned keys, found 0" in found.message


def test_firmware_of_another_model_does_not_start() -> None:
    found = refused(slot_of(make_envelope(5, model="camera-2")))
    assert found.refusal is Refusal.WRONG_MODEL
    assert found.message == "slot b: expected firmware for camera-1, found it for camera-2"


@pytest.mark.parametrize("image", [None, b"", b"imag", b"imagf", b"image+"])
def test_another_image_than_the_manifest_names_does_not_start(image: bytes | None) -> None:
    found = refused(slot_of(make_envelope(5), image))
    assert found.refusal is Refusal.IMAGE_CHANGED
    assert found.message == "slot b: expected the image of version 1.5.0, found another or a changed one"


def test_an_image_with_the_right_digest_and_another_length_does_not_start() -> None:
    """Whoever measures may stop early; then digest and length must both be the manifest's."""
    digest = slot_of(OLD, b"old").measure_image(3)
    assert digest is not None
    found = refused(SlotContent(OLD, lambda _length: (digest[0], digest[1] + 1)))
    assert found.refusal is Refusal.IMAGE_CHANGED


def test_the_image_is_read_no_further_than_its_manifest_says() -> None:
    asked: list[int] = []

    def measure(length: int) -> None:
        asked.append(length)

    refused(SlotContent(OLD, measure))
    assert asked == [3]


def test_an_image_is_not_even_read_below_the_floor() -> None:
    def measure(_length: int) -> None:
        raise AssertionError("read")

    assert refused(SlotContent(OLD, measure), floor=6).refusal is Refusal.ROLLED_BACK


def test_the_active_slot_starts_and_the_other_is_not_looked_at() -> None:
    looked: list[Slot] = []

    def read(slot: Slot) -> SlotContent:
        looked.append(slot)
        return slots(OLD_SLOT, NEW_SLOT)(slot)

    pointer = BootPointer(Slot.A, None, Failure("f" * 64, "why"))
    selection = select(pointer, read, rules())
    assert chosen(selection).slot is Slot.A
    assert (selection.is_trial, selection.refused, selection.pointer) == (False, (), pointer)
    assert looked == [Slot.A]


def test_a_trial_starts_first_and_costs_a_try() -> None:
    pointer = begin_trial(BootPointer(Slot.A), Slot.B, digest_of(NEW))
    selection = select(pointer, slots(OLD_SLOT, NEW_SLOT), rules())
    assert chosen(selection).envelope == NEW
    assert (selection.is_trial, selection.refused) == (True, ())
    assert selection.pointer == BootPointer(Slot.A, Trial(Slot.B, TRIES - 1, digest_of(NEW)))


def test_a_trial_without_tries_left_is_over() -> None:
    pointer = BootPointer(Slot.A, Trial(Slot.B, 0, digest_of(NEW)))
    selection = select(pointer, slots(OLD_SLOT, NEW_SLOT), rules())
    assert chosen(selection).envelope == OLD
    assert selection.is_trial is False
    assert selection.pointer.trial is None
    assert selection.pointer.failed == Failure(
        digest_of(NEW), "it was started 3 times and never proved its health"
    )


def test_a_trial_is_pinned_to_the_manifest_it_began_with() -> None:
    """Signed, newer, unchanged: and still not what was verified before the pointer moved."""
    pointer = begin_trial(BootPointer(Slot.A), Slot.B, digest_of(make_envelope(7, image=b"newest")))
    selection = select(pointer, slots(OLD_SLOT, NEW_SLOT), rules())
    assert chosen(selection).envelope == OLD
    assert refusals(selection) == [(Slot.B, Refusal.IMAGE_CHANGED)]
    [found] = selection.refused
    assert found.message == "slot b: expected the firmware put on trial, found version 1.6.0"
    assert selection.pointer.failed == Failure(digest_of(make_envelope(7, image=b"newest")), found.message)


def test_a_trial_that_may_not_start_falls_back_and_says_why() -> None:
    pointer = begin_trial(BootPointer(Slot.A), Slot.B, digest_of(NEW))
    selection = select(pointer, slots(OLD_SLOT, slot_of(NEW, b"changed")), rules())
    assert chosen(selection).slot is Slot.A
    assert selection.is_trial is False
    assert refusals(selection) == [(Slot.B, Refusal.IMAGE_CHANGED)]
    [found] = selection.refused
    assert selection.pointer == BootPointer(Slot.A, None, Failure(digest_of(NEW), found.message))


def test_a_refused_trial_is_not_tried_as_the_other_slot() -> None:
    pointer = begin_trial(BootPointer(Slot.A), Slot.B, "f" * 64)
    selection = select(pointer, slots(EMPTY, NEW_SLOT), rules())
    assert selection.chosen is None
    assert refusals(selection) == [(Slot.B, Refusal.IMAGE_CHANGED), (Slot.A, Refusal.EMPTY)]


def test_a_trial_in_the_active_slot_leaves_the_other() -> None:
    """No code of ours writes such a pointer, but one may lie on the disk."""
    pointer = begin_trial(BootPointer(Slot.A), Slot.A, "f" * 64)
    selection = select(pointer, slots(OLD_SLOT, NEW_SLOT), rules())
    assert chosen(selection).envelope == NEW
    assert refusals(selection) == [(Slot.A, Refusal.IMAGE_CHANGED)]


def test_the_other_slot_starts_where_the_active_one_may_not() -> None:
    pointer = BootPointer(Slot.A, None, Failure("f" * 64, "why"))
    selection = select(pointer, slots(slot_of(OLD, b"changed"), NEW_SLOT), rules())
    assert chosen(selection).slot is Slot.B
    assert (selection.is_trial, refusals(selection)) == (False, [(Slot.A, Refusal.IMAGE_CHANGED)])
    assert selection.pointer == BootPointer(Slot.B, None, pointer.failed)


def test_firmware_that_failed_its_trial_never_starts_from_the_other_slot() -> None:
    pointer = BootPointer(Slot.A, None, Failure(digest_of(NEW), "crashed"))
    selection = select(pointer, slots(EMPTY, NEW_SLOT), rules())
    assert selection.chosen is None
    assert selection.is_trial is False
    assert refusals(selection) == [(Slot.A, Refusal.EMPTY), (Slot.B, Refusal.FAILED_BEFORE)]
    assert selection.refused[1].message == (
        "slot b: expected firmware that works, found version 1.6.0 that failed its trial"
    )
    assert selection.pointer == pointer


def test_other_firmware_than_what_failed_may_start_from_the_other_slot() -> None:
    pointer = BootPointer(Slot.A, None, Failure(digest_of(OLD), "crashed"))
    assert chosen(select(pointer, slots(EMPTY, NEW_SLOT), rules())).envelope == NEW


def test_confirmed_firmware_starts_though_it_bears_the_name_of_what_failed() -> None:
    """The pointer says it proved itself; a remembered failure of the same bytes is the older news."""
    pointer = BootPointer(Slot.A, None, Failure(digest_of(OLD), "crashed"))
    assert chosen(select(pointer, slots(OLD_SLOT), rules())).envelope == OLD


def test_nothing_starts_where_no_slot_may() -> None:
    selection = select(BootPointer(Slot.B), slots(), rules())
    assert selection.chosen is None
    assert selection.is_trial is False
    assert refusals(selection) == [(Slot.B, Refusal.EMPTY), (Slot.A, Refusal.EMPTY)]
    assert selection.pointer == BootPointer(Slot.B)


@pytest.mark.parametrize("is_new_in_a", [True, False])
def test_a_lost_pointer_starts_the_lower_counter(*, is_new_in_a: bool) -> None:
    """The floor moves only to what was confirmed: of two that may start, the lower has proved itself."""
    read = slots(NEW_SLOT, OLD_SLOT) if is_new_in_a else slots(OLD_SLOT, NEW_SLOT)
    selection = select(None, read, rules())
    assert chosen(selection).envelope == OLD
    assert (selection.is_trial, selection.refused) == (False, ())
    assert selection.pointer == BootPointer(Slot.B if is_new_in_a else Slot.A)


def test_a_lost_pointer_does_not_lower_the_floor() -> None:
    selection = select(None, slots(OLD_SLOT, NEW_SLOT), rules(floor=6))
    assert chosen(selection).envelope == NEW
    assert selection.pointer == BootPointer(Slot.B)
    assert refusals(selection) == [(Slot.A, Refusal.ROLLED_BACK)]


def test_a_lost_pointer_over_empty_slots_starts_nothing() -> None:
    selection = select(None, slots(), rules())
    assert (selection.chosen, selection.is_trial, selection.pointer) == (None, False, BootPointer(Slot.A))
    assert refusals(selection) == [(Slot.A, Refusal.EMPTY), (Slot.B, Refusal.EMPTY)]


def test_an_older_signed_image_put_back_does_not_start() -> None:
    """Written over the running slot, with the pointer set back, or in place of firmware on trial."""
    over = select(BootPointer(Slot.A), slots(OLD_SLOT, EMPTY), rules(floor=6))
    assert over.chosen is None
    assert refusals(over) == [(Slot.A, Refusal.ROLLED_BACK), (Slot.B, Refusal.EMPTY)]
    back = select(BootPointer(Slot.A), slots(OLD_SLOT, NEW_SLOT), rules(floor=6))
    assert chosen(back).envelope == NEW
    assert refusals(back) == [(Slot.A, Refusal.ROLLED_BACK)]
    trial = begin_trial(BootPointer(Slot.B), Slot.A, digest_of(OLD))
    on_trial = select(trial, slots(OLD_SLOT, NEW_SLOT), rules(floor=6))
    assert chosen(on_trial).envelope == NEW
    assert refusals(on_trial) == [(Slot.A, Refusal.ROLLED_BACK)]


def test_each_slot_is_the_other_of_the_other() -> None:
    assert (Slot.A.other, Slot.B.other) == (Slot.B, Slot.A)


def test_a_trial_keeps_what_failed_before_it() -> None:
    failed = Failure("e" * 64, "why")
    pointer = begin_trial(BootPointer(Slot.B, None, failed), Slot.A, "f" * 64)
    assert pointer == BootPointer(Slot.B, Trial(Slot.A, TRIES, "f" * 64), failed)


@pytest.mark.parametrize("left", [3, 2, 1])
def test_each_start_takes_one_try(left: int) -> None:
    failed = Failure("e" * 64, "why")
    pointer = BootPointer(Slot.A, Trial(Slot.B, left, "f" * 64), failed)
    assert take_try(pointer) == BootPointer(Slot.A, Trial(Slot.B, left - 1, "f" * 64), failed)


def test_three_starts_are_all_a_trial_gets() -> None:
    pointer, starts = begin_trial(BootPointer(Slot.A), Slot.B, digest_of(NEW)), 0
    while (selection := select(pointer, slots(OLD_SLOT, NEW_SLOT), rules())).is_trial:
        pointer, starts = selection.pointer, starts + 1
    assert starts == TRIES == 3


def test_without_a_trial_nothing_is_counted_confirmed_or_given_up() -> None:
    pointer = BootPointer(Slot.B, None, Failure("e" * 64, "why"))
    assert take_try(pointer) == confirm(pointer) == give_up(pointer, "other") == pointer


def test_confirming_makes_the_trial_active_and_forgets_failures() -> None:
    pointer = BootPointer(Slot.A, Trial(Slot.B, 1, "f" * 64), Failure("e" * 64, "why"))
    assert confirm(pointer) == BootPointer(Slot.B)


@pytest.mark.parametrize(("given", "kept"), [("x" * 200, "x" * 200), ("y" * 201, "y" * 200)])
def test_giving_up_remembers_what_and_why(given: str, kept: str) -> None:
    pointer = BootPointer(Slot.A, Trial(Slot.B, 1, "f" * 64), Failure("e" * 64, "earlier"))
    assert give_up(pointer, given) == BootPointer(Slot.A, None, Failure("f" * 64, kept))
