"""Which remedy an error of a TPM gets."""

import pytest

from fleetward.outside.keys.tpm_errors import hint_of


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (0x921, "dictionarylockout"),
        (0x98E, "tpm2_changeauth"),  # of session 1
        (0x9A2, "tpm2_changeauth"),
        (0x185, "hierarchy is off"),  # of handle 1
        (0x922, "try again"),
        (0x920, "try again"),
        (0xB0902, "resource manager"),  # said by a resource manager
    ],
)
def test_the_hint_fits(code: int, word: str) -> None:
    assert word in hint_of(code)


@pytest.mark.parametrize("code", [None, 0x101, 0x1C4, 0xA000A, 0xA0921])
def test_what_has_no_remedy_gets_none(code: int | None) -> None:
    assert not hint_of(code)
