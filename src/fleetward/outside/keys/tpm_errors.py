"""What mends an error of a TPM (TPM 2.0 Library, part 2, section 6.6)."""

_LOCKED = "The chip is locked after failures or unclean stops: tpm2_dictionarylockout --clear-lockout"
_AUTH = "A password is set on this hierarchy or key, where none is expected: tpm2_changeauth takes it away."
_BUSY = "The chip is busy, or saves its memory; try again."
_FULL = "Another program fills the chip; reach it through its resource manager: device:/dev/tpmrm0"
_DISABLED = "The owner or endorsement hierarchy is off: switch it on in the firmware's settings."

_HINTS = {
    0x921: _LOCKED,
    0x8E: _AUTH,
    0xA2: _AUTH,
    0x85: _DISABLED,
    0x908: _BUSY,
    0x90A: _BUSY,
    0x920: _BUSY,
    0x922: _BUSY,
    0x902: _FULL,
    0x903: _FULL,
}
_FORMAT_ONE = 0x80
# The chip itself, and what a resource manager says for it.
_LAYERS = frozenset({0, 11, 12})


def hint_of(code: int | None) -> str:
    """Return how to mend what a TSS response code says; "" for those of others, or without a remedy."""
    if code is None or code >> 16 not in _LAYERS:
        return ""
    low = code & 0xFFFF
    # In format one the high bits say which handle, session or parameter it is about.
    return _HINTS.get(low & 0xBF if low & _FORMAT_ONE else low, "")
