from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from gateway.images.addresses import AddressPolicy, is_public
from tests.each import each


@each(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.9",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "203.0.113.1",
        "198.51.100.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::1%lo",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "64:ff9b:1::7f00:1",
        "100::1",
        "2001:0:7f00:1::1",
        "2001:1::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_no_private_address_is_public_in_whatever_it_is_wrapped(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("said", [True, False])
def test_no_version_of_python_decides_what_is_public(monkeypatch: pytest.MonkeyPatch, said: bool) -> None:
    """`ipaddress` of Python 3.11.2 and of 3.14 differ about these."""
    for kind in (IPv4Address, IPv6Address):
        for name in ("is_global", "is_private", "is_reserved", "is_multicast", "is_link_local"):
            monkeypatch.setattr(kind, name, said)
    refused = ["192.0.0.9", "224.0.0.1", "64:ff9b:1::1", "2001:1::1", "2002:a00:1::", "3fff::1", "fec0::1"]
    admitted = ["192.31.196.1", "2002:808:808::", "2620:4f:8000::1", "::ffff:8.8.8.8"]
    assert [address for address in refused + admitted if is_public(ip_address(address))] == admitted


def test_the_setting_names_hosts_addresses_and_networks() -> None:
    policy = AddressPolicy.parse(("Pictures.internal", "10.1.0.0/16", "127.0.0.1", "fd00::/8"))
    admitted = [
        ("pictures.internal", "192.168.1.1"),
        ("PICTURES.internal.", "169.254.0.1"),
        ("other.example", "10.1.2.3"),
        ("other.example", "::ffff:10.1.2.3"),
        ("127.0.0.1", "127.0.0.1"),
        ("other.example", "fd12::1"),
        ("other.example", "1.1.1.1"),
    ]
    refused = [
        ("sub.pictures.internal", "192.168.1.1"),
        ("other.example", "10.2.0.1"),
        ("other.example", "127.0.0.2"),
        ("other.example", "fe80::1"),
    ]
    assert all(policy.admits(host, ip_address(address)) for host, address in admitted)
    assert not any(policy.admits(host, ip_address(address)) for host, address in refused)
