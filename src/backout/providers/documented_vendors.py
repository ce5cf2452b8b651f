"""What vendors without a client here document about restores: quoted from their documentation, never measured.

Source: Supabase Management API reference (restore-pitr: `recovery_time_target_unix`; 2026-11); Amazon RDS API
reference, RestoreDBInstanceToPointInTime, and "Restoring a DB instance to a specified time" (2026-11).
"""

from __future__ import annotations

from typing import Final

from backout.model.database.capability import Granularity, VendorState, VendorWay

_WAYS: Final = {
    "supabase": (
        VendorWay(
            "PITR (Supabase)",
            Granularity.SECOND,
            in_place=True,
            keeps_old=False,
            has_client=False,
            note="documented: a paid add-on, in place; the project is unreachable during the restore",
        ),
        VendorWay(
            "daily backup (Supabase)",
            Granularity.SNAPSHOT,
            in_place=True,
            keeps_old=False,
            has_client=False,
            note="documented: 7, 14 or 30 days by plan; objects in storage are not part of it",
        ),
    ),
    "rds": (
        VendorWay(
            "restore to point in time (RDS)",
            Granularity.SECOND,
            in_place=False,
            keeps_old=True,
            has_client=False,
            note="documented: a new instance, 5 minutes behind at best, with default security and parameter groups",
        ),
        VendorWay(
            "DB snapshot (RDS)",
            Granularity.SNAPSHOT,
            in_place=False,
            keeps_old=True,
            has_client=False,
            note="documented: always a new instance",
        ),
    ),
}


def describe_vendor(vendor: str) -> VendorState:
    """Return what a vendor documents; its API is not asked."""
    notes = (f"backout has no client for {vendor}: restore there, then rescue the rows from what it made",)
    return VendorState(vendor, answers=False, problem="not asked: no client here", ways=_WAYS[vendor], notes=notes)
