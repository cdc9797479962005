"""URLs that lead inside and URLs that are none, a case of each answer.

tests/images/test_addresses.py has the addresses, test_source.py the spellings.
"""

from tests.hostile.cases import Case, of_url

INSIDE = (
    "127.0.0.1",
    "169.254.169.254",
    "[::ffff:a9fe:a9fe]",
    "LOCALHOST.",
    "[fe80::1%25eth0]",
    "127.0.0.1:1/\r\nX-Evil: 1",
)
NO_URL = {
    "number for an address": "http://2130706433/x.png",
    "NUL in the host": "http://127.0.0.1%00.example.com/x.png",
    "user that looks like a host": "http://example.com@127.0.0.1/",
    "port 0": "http://127.0.0.1:0/",
    "file": "file:///etc/passwd",
    "no scheme": "//127.0.0.1/x.png",
    "9 kB": "http://example.com/" + "x" * 9000,
    "backslashes": "http:\\\\127.0.0.1\\",
}
ADDRESSES = [
    *(Case(f"inside: {host}", of_url(f"http://{host}/x.png"), "image_fetch_failed") for host in INSIDE),
    *(Case(f"no URL: {name}", of_url(url), "invalid_image") for name, url in NO_URL.items()),
]
