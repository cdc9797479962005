"""Decides which addresses images may be fetched from."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address

# IANA's registries of special-purpose addresses, https://www.iana.org/assignments/iana-ipv4-special-registry
# and …/iana-ipv6-special-registry. Not `is_global`: its answer about 192.0.0.0/24, 64:ff9b:1::/48, 2001::/23,
# 2002::/16, 3fff::/20, fec0::/10 and multicast depends on the version of Python.
_NEVER_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by a provider's customers, RFC 6598
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the host's own services on Azure, under a public address
        "169.254.0.0/16",  # link-local, including cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, RFC 6890; some clouds serve metadata there
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# The block assigned for use on the internet, and its special-purpose networks.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NEVER_V6 = (
    IPv6Network("2001::/23"),  # protocol assignments, including Teredo and ORCHID
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Return whether the address is globally reachable, and so is any IPv4 address embedded in it.

    An IPv4 address may be mapped, behind the well-known NAT64 prefix, or that of a 6to4 router (2002::/16).
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NEVER_V4)
    for wrapped in (address.ipv4_mapped, _behind_nat64(address), address.sixtofour):
        if wrapped is not None:
            return is_public(wrapped)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NEVER_V6)


def _behind_nat64(address: IPv6Address) -> IPv4Address | None:
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Allows public addresses, and those that the operator allowed by host name or by network."""

    names: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]

    @classmethod
    def parse(cls, allowed: Iterable[str]) -> "AddressPolicy":
        """Parse the setting `fetch_allow`: an entry that is no network or address is a host name."""
        names, networks = set(), []
        for entry in allowed:
            try:
                networks.append(ip_network(entry))
            except ValueError:
                names.add(_plain(entry))
        return cls(frozenset(names), tuple(networks))

    def admits(self, host: str, address: Address) -> bool:
        """Return whether an image of `host` may be fetched from `address`."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if _plain(host) in self.names or any(address in network for network in self.networks):
            return True
        return is_public(address)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
