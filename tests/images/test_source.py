import base64
import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ImageError, ImageTooLarge
from gateway.images.source import DataURL, WebURL, decode_base64, parse
from tests.each import each

PARAM = "messages[0].content[1].image_url.url"


def parsed(url: str, max_bytes: int = 1000) -> DataURL | WebURL:
    return parse(url, param=PARAM, max_bytes=max_bytes)


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,aGVsbG8=",
        "DATA:;Base64,aGVsbG8=",
        "data:application/x;charset=utf-8;base64,aGVs\nbG8=\n",
        "data:;base64,aGVsbG8",
        "data:;base64,aGVsbG8%3D",
        "data:;base64,aGVs%0AbG8",
        " \r\n\tdata:image/png;base64,aGVsbG8= \n",
        "data: image/png ; charset=utf-8; base64 , aGVs bG8=",
        "data:image/png;\n base64,\naGVsbG8=",
        "Data\n:image/png;Base64,aGVsbG8=",
    ],
)
def test_base64_of_any_media_type_and_writing_is_read(url: str) -> None:
    source = parsed(url)
    assert isinstance(source, DataURL)
    assert decode_base64(source, max_bytes=5) == b"hello"


@each(
    ("url", "says"),
    [
        ("", "must begin with data:, http: or https:"),
        ("iVBORw0KGgo", "must begin with data:, http: or https:"),
        ("file:///etc/passwd", "must be data, http or https, not 'file'"),
        ("gopher://127.0.0.1:6379/_INFO", "must be data, http or https, not 'gopher'"),
        ("jar:http://127.0.0.1!/", "must be data, http or https, not 'jar'"),
        ("blob:http://127.0.0.1/x", "must be data, http or https, not 'blob'"),
        (" http://127.0.0.1/", "must be data, http or https, not ' http'"),
        ("//127.0.0.1/x.png", "must begin with data:, http: or https:"),
        ("/etc/passwd", "must begin with data:, http: or https:"),
        ("data:image/png,hello", "must have the form data:image/…;base64,…"),
        ("data:image/png;base64", "must have the form data:image/…;base64,…"),
        ("http:///a.png", "the URL has no host"),
        ("http:", "the URL has no host"),
        ("http:\\\\127.0.0.1\\", "the URL has no host"),
        ("http://example.com:65536/", "the URL is not valid"),
        ("http://127.0.0.1:x/", "the URL is not valid"),
        ("http://[::1/", "the URL is not valid"),
        ("http://::1/", "the URL is not valid"),
        ("http://[127.0.0.1]/", "the URL is not valid"),
        ("http://[]@/x.png", "the URL is not valid"),
        ("http://me:secret@example.com/", "must not contain a user name or password"),
        ("https://me@example.com/", "must not contain a user name or password"),
        ("http://exa mple.com/", "neither a name nor an IP address"),
        ("http://example.com/" + "a" * 9000, "the URL has 9019 characters; the limit is 8192"),
    ],
)
def test_what_is_no_picture_url_is_refused_by_name_before_any_io(url: str, says: str) -> None:
    with pytest.raises(ImageError, match=re.escape(says)) as caught:
        parsed(url)
    assert caught.value.param == PARAM
    assert caught.value.message.startswith(f"{PARAM}: ")


@each(
    "host",
    [
        *("0x7f.1", "0x7f.0.0.1", "0x7f000001", "127.0.0.0x1", "0x0", "2130706433", "127.1", "127.0.1", "0"),
        *("0177.0.0.1", "017700000001", "127.0.0.01", "127.0.0.1.", "127.0.0.256", "1.2.3.4.5"),
        *("127.0.0.1%00.example.com", "-example.com", "example-.com", "a..b", "*.example.com"),
        *("ex_ample.com%2f", "x" * 300),
    ],
)
def test_a_host_that_is_neither_a_name_nor_a_plainly_written_address_is_refused(host: str) -> None:
    with pytest.raises(ImageError, match="neither a name nor an IP address in its usual spelling"):
        parsed(f"http://{host}/a.png")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://EXAMPLE.com/a.png#part", "example.com"),
        ("http://example.com.:8080/a.png", "example.com."),
        ("http://münchen.example/a.png", "xn--mnchen-3ya.example"),
        ("http://93.184.215.14/", "93.184.215.14"),
        ("http://[2606:2800:21f::1]/", "2606:2800:21f::1"),
        ("http://127。0。0。1/", "127.0.0.1"),
    ],
)
def test_a_web_url_keeps_the_host_that_will_be_asked(url: str, host: str) -> None:
    source = parsed(url)
    assert isinstance(source, WebURL)
    assert source.url.raw_host == host
    assert source.url.fragment == ""


@pytest.mark.parametrize(("size", "refused"), [(1000, False), (1001, False), (1005, True)])
def test_base64_longer_than_the_limit_allows_is_refused_unread(size: int, refused: bool) -> None:
    url = "data:;base64," + "A" * (-(-size // 3) * 4)
    if refused:
        with pytest.raises(ImageTooLarge, match="the limit is 1000"):
            parsed(url)
    else:
        parsed(url)


def test_line_breaks_do_not_count_as_base64() -> None:
    source = parsed("data:;base64," + "AAAA\r\n" * 333, 999)
    assert isinstance(source, DataURL)
    assert decode_base64(source, max_bytes=999) == bytes(999)


def test_the_decoded_size_is_held_to_the_limit_to_the_byte() -> None:
    source = parsed("data:;base64,aGVsbG8=")
    assert isinstance(source, DataURL)
    with pytest.raises(ImageTooLarge, match="the image has 5 bytes; the limit is 4"):
        decode_base64(source, max_bytes=4)


def test_a_size_error_names_part_size_and_limit() -> None:
    url = "data:;base64," + "A" * (31 * 2**20 * 4 // 3)
    with pytest.raises(ImageTooLarge) as caught:
        parsed(url, 20 * 2**20)
    assert caught.value.message == f"{PARAM}: the image is 31 MB; the limit is 20 MB"


@pytest.mark.parametrize("text", ["+/+/-w==", "-_-_-w==", "-_-_-w", "+/+/%2Bw"])
def test_base64_of_either_alphabet_is_read(text: str) -> None:
    source = parsed(f"data:;base64,{text}")
    assert isinstance(source, DataURL)
    assert decode_base64(source, max_bytes=10) == b"\xfb\xff\xbf\xfb"


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "is empty"), ("a?b=", "valid base64"), ("a", "valid base64"), ("äöü=", "valid base64")],
)
def test_bad_base64_is_an_image_error(text: str, says: str) -> None:
    source = parsed(f"data:image/png;base64,{text}")
    assert isinstance(source, DataURL)
    with pytest.raises(ImageError, match=says):
        decode_base64(source, max_bytes=100)


def test_a_large_url_is_ascii() -> None:
    """One character of another kind would have Python keep all of it in four bytes a character."""
    with pytest.raises(ImageError, match="must consist of ASCII characters"):
        parse("data:image/png;base64," + "A" * 10_000 + "\U0001f600", param="url", max_bytes=10**6)


# A data URL, in the ways in which programs write one

heads = st.sampled_from(
    ["data:image/png;base64,", "DATA:;BASE64,", "\ndata:image/jpeg; charset=utf-8;\tbase64 ,"]
)
breaks = st.sampled_from(["", "\n", "\r\n", " ", "%0A", "%0d%0a", "%20"])


@st.composite
def written(draw: st.DrawFn, data: bytes) -> str:
    """Return a data URL of `data`: of either alphabet, wrapped or not, its padding encoded or left out."""
    text = base64.b64encode(data).decode()
    text = draw(st.sampled_from([text, text.replace("+", "-").replace("/", "_")]))
    width = draw(st.integers(1, 80))
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    pad = draw(st.sampled_from(["=", "%3D", "%3d", ""]))
    return draw(heads) + draw(breaks).join(lines).replace("=", pad)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_bytes_come_back_however_their_base64_is_written(data: bytes, chosen: st.DataObject) -> None:
    source = parsed(chosen.draw(written(data)), max_bytes=10_000)
    assert isinstance(source, DataURL)
    assert decode_base64(source, max_bytes=len(data)) == data
    assert source.at_most >= len(data)
    with pytest.raises(ImageTooLarge):
        decode_base64(source, max_bytes=len(data) - 1)


said = st.sampled_from(
    ["data:", "http://", "https://", "image/png", ";base64", ",", "=", "%3D", "%", "[", "@", "\ud800"]
)


@given(st.lists(said | st.text(max_size=8) | st.from_regex(r"[A-Za-z0-9+/]{0,12}"), max_size=12))
def test_any_text_is_a_source_or_an_image_error(parts: list[str]) -> None:
    with contextlib.suppress(ImageError):
        source = parsed("".join(parts), max_bytes=20)
        if isinstance(source, DataURL):
            assert 0 < len(decode_base64(source, max_bytes=20)) <= min(20, source.at_most)
