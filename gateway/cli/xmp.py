"""Reads and writes the description in an XMP packet (Adobe's XMP part 1); everything else in it stays."""

from typing import Final
from xml.etree import ElementTree as ET

X: Final = "adobe:ns:meta/"
RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC: Final = "http://purl.org/dc/elements/1.1/"
LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
DESCRIPTION: Final = f"{{{DC}}}description"
SUBJECT: Final = f"{{{RDF}}}Description"  # RDF's name for an element that describes something
ABOUT: Final = f"{{{RDF}}}about"
# The id is fixed by the specification.
HEAD: Final = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'.encode()
TAIL: Final = b'\n<?xpacket end="w"?>'

for _prefix, _uri in (("x", X), ("rdf", RDF), ("dc", DC)):
    ET.register_namespace(_prefix, _uri)


class MetadataError(ValueError):
    """The description cannot be read or written; the message says why."""


def read(packet: bytes) -> str | None:
    """Return the description, or None if there is none. Raises MetadataError."""
    found = _parsed(packet).find(f".//{DESCRIPTION}/{{{RDF}}}Alt/{{{RDF}}}li")
    return found.text if found is not None and found.text else None


def write(packet: bytes | None, text: str) -> bytes:
    """Return the packet, or a new one, with `text` as its description. Raises MetadataError."""
    root = _parsed(packet) if packet else ET.Element(f"{{{X}}}xmpmeta")
    rdf = next(root.iter(f"{{{RDF}}}RDF"), None)
    if rdf is None:
        rdf = ET.SubElement(root, f"{{{RDF}}}RDF")
    subjects = rdf.findall(SUBJECT) or [ET.SubElement(rdf, SUBJECT, {ABOUT: ""})]
    for subject in subjects:
        for old in subject.findall(DESCRIPTION):
            subject.remove(old)
    alternatives = ET.SubElement(ET.SubElement(subjects[0], DESCRIPTION), f"{{{RDF}}}Alt")
    ET.SubElement(alternatives, f"{{{RDF}}}li", {LANGUAGE: "x-default"}).text = text
    return HEAD + ET.tostring(root) + TAIL


class _Builder(ET.TreeBuilder):
    """Keeps the prefixes of namespaces, and refuses document types: they can hold entities that expand."""

    def start_ns(self, prefix: str, uri: str) -> None:
        """Write `uri` with the prefix that it has in the packet, in place of `ns0`."""
        if prefix and not (prefix.startswith("ns") and prefix[2:].isdigit()):
            ET.register_namespace(prefix, uri)

    def doctype(self, *_: str | None) -> None:
        raise MetadataError("its XMP has a document type, which XMP forbids")


def _parsed(packet: bytes) -> ET.Element:
    parser = ET.XMLParser(target=_Builder())  # noqa: S314  # It refuses document types.
    try:
        parser.feed(packet.strip(b"\0 \r\n"))
        root: ET.Element = parser.close()
    except (ET.ParseError, ValueError) as error:
        if isinstance(error, MetadataError):
            raise
        raise MetadataError(f"its XMP is damaged: {error}") from None
    return root
