"""Which rules are tried together, and by which tests."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Area:
    """Attributes: sources: globs below `src/fleetward`. tests: globs of the tests that hold them."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]


AREAS = {
    "boot": Area(("features/updates/boot/*",), ("tests/rules/test_updates_boot*.py",)),
    "manifest": Area(("wire/manifest.py", "wire/update_paths.py"), ("tests/rules/test_updates_manifest.py",)),
    "releases": Area(
        ("features/updates/model.py", "features/updates/http/ranges.py", "features/updates/http/form.py"),
        (
            "tests/rules/test_updates_model.py",
            "tests/rules/test_updates_ranges.py",
            "tests/rules/test_updates_form.py",
        ),
    ),
    "device": Area(("features/updates/device/*",), ("tests/rules/test_updates_machine.py",)),
}
