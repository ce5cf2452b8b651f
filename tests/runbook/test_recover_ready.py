"""What a recovery needs is looked at before anything is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from recovery_story import ASK, Night, recover
from values import replace

from backout.errors import Refused
from backout.model.objects.checks import PermissionLook

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("only", [(), ("objects",)])
def test_a_key_that_may_only_read_stops_nothing(quick_path: Path, only: tuple[str, ...]) -> None:
    """Else the application is closed for a restore that cannot change a single object."""
    night = Night(quick_path)
    why = (("write", "AccessDenied"),)
    night.look.permissions = PermissionLook(True, None, False, None, None, why)
    with pytest.raises(Refused, match=r"may not write in the bucket \(write: AccessDenied\)") as refused:
        recover(night.tools(), replace(ASK, only=only))
    assert "backout objects check" in refused.value.options[0]
    assert night.world.live.sole == night.bad.id
    assert night.world.queues["orders"].delivers
    assert night.server.write()


def test_a_key_that_may_not_remove_a_version_stops_nothing(quick_path: Path) -> None:
    """A deleted object comes back as its delete marker is removed, which S3 permits separately."""
    night = Night(quick_path)
    why = (("delete_version", "AccessDenied"),)
    night.look.permissions = PermissionLook(
        True, True, True, True, 0.0, why, read_version=True, copy_version=None, delete_version=False
    )
    with pytest.raises(Refused, match=r"may not delete versions in the bucket \(delete versions: AccessDenied\)"):
        recover(night.tools(), replace(ASK, only=("objects",)))
    assert night.world.live.sole == night.bad.id
    assert night.world.queues["orders"].delivers
