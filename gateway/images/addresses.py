"""Which addresses a picture may be fetched from."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# What `ipaddress` takes for global and isn't, in some Python or other.
_NEVER_V4 = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments, RFC 6890; some clouds serve metadata there
    IPv4Network("192.88.99.0/24"),  # 6to4 relays, RFC 7526
    IPv4Network("168.63.129.16/32"),  # the host's own services on Azure, under a public address
)
_NEVER_V6 = (
    IPv6Network("2001::/23"),  # protocol assignments, Teredo among them
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)


def is_public(address: Address) -> bool:
    """Whether the address is globally reachable, and so is every IPv4 address wrapped in it."""
    if isinstance(address, IPv4Address):
        return (
            address.is_global
            and not address.is_multicast
            and not any(address in network for network in _NEVER_V4)
        )
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None and not is_public(address.sixtofour):
        return False
    return (
        address in _GLOBAL_UNICAST
        and address.is_global
        and not any(address in network for network in _NEVER_V6)
    )


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Public addresses, and those that the operator allowed by host name or by network."""

    names: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]

    @classmethod
    def of(cls, allowed: Iterable[str]) -> "AddressPolicy":
        """Read the setting `fetch_allow`: what isn't a network or an address is a host name."""
        names, networks = set(), []
        for entry in allowed:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                names.add(_plain(entry))
        return cls(frozenset(names), tuple(networks))

    def admits(self, host: str, address: Address) -> bool:
        """Whether a picture of `host` may be fetched from `address`."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if _plain(host) in self.names or any(address in network for network in self.networks):
            return True
        return is_public(address)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
