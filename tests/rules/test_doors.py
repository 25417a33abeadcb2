"""Every feature has a door in the list of doors, and what stands in a door belongs to it alone."""

from collections import Counter
from pathlib import Path

import fleetward.features
from fleetward.features.access.model.permissions import CATALOGUE
from fleetward.programs.server.doors import DOORS

FEATURES = Path(str(fleetward.features.__file__)).parent


def test_every_folder_of_a_feature_has_its_door_in_the_list() -> None:
    folders = {path.name for path in FEATURES.iterdir() if (path / "__init__.py").exists()}
    assert {door.name for door in DOORS} == folders


def test_each_permission_stands_in_one_door() -> None:
    named = Counter(one.name for door in DOORS for one in door.permissions)
    assert [name for name, times in named.items() if times > 1] == []
    assert {one.name: one for door in DOORS for one in door.permissions} == CATALOGUE
