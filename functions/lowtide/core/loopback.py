"""Names and addresses of this machine itself."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def is_loopback(host: str) -> bool:
    """Return whether a request to ``host`` stays on this machine.

    That is ``localhost``, a name below it (RFC 6761), 127.0.0.0/8, ``::1``, and these addresses mapped into IPv6.

    0.0.0.0 and ``::`` count as well: servers print them as their address, and a connection to them reaches this
    machine. ``host`` has no brackets and no port. Nothing is looked up.
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified
