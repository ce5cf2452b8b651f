"""Addresses that are never contacted: cloud metadata services, and link-local ones, however they are written.

A machine's metadata service hands out credentials to any process on it that asks. So no connection of ours goes there,
whatever a configuration, a redirect or a name says; an IPv6 address with an embedded IPv4 address counts as that one.

Sources: RFC 3927 and 4291 (link-local), 4291 2.5.5 (compatible, mapped), 6052 and 8215 (NAT64), 3056 (6to4), 4380
(Teredo), 5214 (ISATAP), 2765 (translated); the vendors' pages on instance metadata (AWS, Azure, Google Cloud, Alibaba,
Oracle, Scaleway; 2026).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv6Address

_LINK_LOCAL: Final = "169.254."
_METADATA_V4: Final = frozenset({"100.100.100.200", "168.63.129.16", "192.0.0.192"})
_METADATA_V6: Final = frozenset({"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe"})
_METADATA_HOSTS: Final = (
    *("metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"),
    "metadata.tencentyun.com",
)
_LOW_32: Final = 0xFFFF_FFFF
_NAT64: Final = 0x0064_FF9B
_NAT64_OF_A_NETWORK: Final = 0x0064_FF9B_0001
_6TO4: Final = 0x2002
_TEREDO: Final = 0x2001_0000
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)


def is_allowed(address: str) -> bool:
    """Return whether a numeric address may be asked; what is no address may not.

    >>> [is_allowed(address) for address in ("127.0.0.1", "169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1%eth0")]
    [True, False, False, False]
    """
    if ":" not in address:
        parts = address.split(".")
        is_address = len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts)
        return is_address and not (address.startswith(_LINK_LOCAL) or address in _METADATA_V4)
    from ipaddress import IPv6Address

    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return False
    if found.is_link_local or str(found) in _METADATA_V6:
        return False
    return all(is_allowed(inner) for inner in _list_carried(found))


def is_metadata_host(name: str) -> bool:
    """Return whether a host name is one by which a metadata service is asked."""
    return name.lower().rstrip(".") in _METADATA_HOSTS


def _list_carried(found: IPv6Address) -> Iterator[str]:
    """Yield the IPv4 addresses that an IPv6 one may stand for."""
    number = int(found)
    high, low = number >> 96, number & _LOW_32
    if number >> 64 == 0 or high == _NAT64:  # compatible, mapped, translated; NAT64
        yield _format_dotted(low)
    if number >> 80 == _NAT64_OF_A_NETWORK:  # with a prefix of 48, 56, 64 or 96 bits
        yield from (_format_dotted(_skip_u_byte(number, prefix)) for prefix in (48, 56, 64))
    if number >> 112 == _6TO4:
        yield _format_dotted(number >> 80 & _LOW_32)
    if high == _TEREDO:  # its server, and the client with all bits turned over
        yield _format_dotted(number >> 64 & _LOW_32)
        yield _format_dotted(low ^ _LOW_32)
    if number >> 32 & _LOW_32 in _ISATAP:
        yield _format_dotted(low)


def _skip_u_byte(number: int, prefix: int) -> int:
    """Return the address behind a prefix, without the byte in the middle that RFC 6052 leaves out."""
    behind = number & ((1 << 128 - prefix) - 1)
    kept = 64 - prefix
    before, after = behind >> 64, behind & ((1 << 56) - 1)
    return (before << 32 - kept | after >> 56 - 32 + kept) & _LOW_32


def _format_dotted(number: int) -> str:
    return ".".join(str(byte) for byte in number.to_bytes(4))
