"""Documents as the profile wants them (section 2).

Two parsers read each document. Expat sees what a tree no longer shows (declaration, comments, document
type, numbers of attributes) and refuses; libxml2, through lxml, then gives the tree and its canonical form.
"""

import base64
import binascii
import re
from xml.parsers import expat

from lxml import etree

from . import Refused

KPS = "http://schemas.microsoft.com/kps/2014/07"
SERVICE = "http://schemas.microsoft.com/kps/2014/07/service"

MAX_PROTECTOR, MAX_METADATA, MAX_MESSAGE = 262_144, 262_144, 524_288
MAX_DEPTH, MAX_ATTRIBUTES, MAX_NODES = 64, 32, 20_000
MAX_NAMESPACES, MAX_CANONICAL = 24, 1_048_576
MAX_UNSIGNED_INT = 2**32 - 1
WHITE = " \t\r\n"


def parse(octets, max_octets):
    """The root element of a document that is allowed at all."""
    if len(octets) > max_octets:
        raise Refused("limit-octets", f"{len(octets)}")
    if octets[:3] == b"\xef\xbb\xbf":
        raise Refused("byte-order-mark")
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("encoding", "not UTF-8") from error
    if b"\0" in octets:
        # UTF-16 without a mark passes for UTF-8 with many of these.
        raise Refused("encoding", "an octet zero")
    if re.search(b"\r(?!\n)", octets):
        raise Refused("carriage-return", "without a line feed")
    _Scan().run(octets)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_blank_text=False
    )
    try:
        return etree.fromstring(octets, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Refused("not-well-formed", str(error)) from error


class _Scan:
    """What must not occur anywhere, and the limits."""

    def __init__(self):
        self.depth = self.nodes = self.declarations = 0
        self.in_scope = 0
        self.in_text = False
        # The separator stands in no namespace name, since XML has no such character.
        parser = self.parser = expat.ParserCreate("utf-8", "\x01")
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.XmlDeclHandler = self.declaration
        parser.StartDoctypeDeclHandler = self.forbid("document-type")
        parser.CommentHandler = self.forbid("comment")
        parser.ProcessingInstructionHandler = self.forbid("processing-instruction")
        parser.StartNamespaceDeclHandler = self.namespace
        parser.EndNamespaceDeclHandler = self.end_namespace
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text

    def run(self, octets):
        try:
            self.parser.Parse(octets, True)
        except expat.ExpatError as error:
            raise Refused("not-well-formed", str(error)) from error

    @staticmethod
    def forbid(reason):
        def refuse(*_):
            raise Refused(reason)

        return refuse

    def declaration(self, version, encoding, _standalone):
        if version != "1.0" or (encoding or "utf-8").lower() != "utf-8":
            raise Refused("xml-declaration", f"{version} {encoding}")

    def namespace(self, _prefix, _uri):
        self.declarations += 1
        self.in_scope += 1

    def end_namespace(self, _prefix):
        self.in_scope -= 1

    def start(self, _name, attributes):
        self.depth += 1
        self.in_text = False
        self.count()
        if self.depth > MAX_DEPTH:
            raise Refused("limit-depth")
        if len(attributes) // 2 + self.declarations > MAX_ATTRIBUTES:
            raise Refused("limit-attributes")
        if self.in_scope > MAX_NAMESPACES:
            raise Refused("limit-namespaces")
        self.declarations = 0

    def end(self, _name):
        self.depth -= 1
        self.in_text = False

    def text(self, _data):
        if not self.in_text:
            self.in_text = True
            self.count()

    def count(self):
        """Elements and runs of text are nodes."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Refused("limit-nodes")


def canonical(element):
    """Exclusive C14N without comments of the element as it stands in its document."""
    names = {name for part in element.getroottree().iter() for name in part.nsmap.values() if name}
    if not all(re.match("[A-Za-z][A-Za-z0-9+.-]*:", name) for name in names):
        raise Refused("canonical-form", "a relative namespace name has none")
    octets = etree.tostring(element, method="c14n", exclusive=True, with_comments=False)
    if len(octets) > MAX_CANONICAL:
        raise Refused("limit-canonical", f"{len(octets)} octets")
    return octets


def root(octets, max_octets, namespace, name):
    element = parse(octets, max_octets)
    if element.tag != f"{{{namespace}}}{name}":
        raise Refused("root", element.tag)
    return element


def attributes(element, required=(), optional=()):
    """The attributes of `element`: all that are required, none that is not named."""
    for name in element.attrib:
        if name not in required and name not in optional:
            raise Refused("attribute", f"{name} of {element.tag}")
    for name in required:
        if name not in element.attrib:
            raise Refused("attribute", f"{element.tag} without {name}")
    return dict(element.attrib)


def sequence(element, names, optional=(), namespace=KPS):
    """The children of `element`, which are those of `names` in their order; None for an absent optional one."""
    rest, found = children(element), []
    for name in names:
        if rest and rest[0].tag == f"{{{namespace}}}{name}":
            found.append(rest.pop(0))
        elif name in optional:
            found.append(None)
        else:
            raise Refused("element", f"{rest[0].tag if rest else 'nothing'} where {name} belongs")
    if rest:
        raise Refused("element", f"{rest[0].tag} in {element.tag}")
    return found


def children(element):
    """Child elements, between which there is only white space."""
    for text in [element.text] + [child.tail for child in element]:
        if (text or "").strip(WHITE):
            raise Refused("text", f"in {element.tag}")
    return list(element)


def text(element):
    """The content of an element that has neither attributes nor child elements."""
    attributes(element)
    if len(element):
        raise Refused("element", f"{element[0].tag} in {element.tag}")
    return element.text or ""


def unsigned_int(literal):
    """xs:unsignedInt in its lexical forms: digits after an optional plus sign, with white space around."""
    digits = literal.strip(WHITE).removeprefix("+")
    if not re.fullmatch("[0-9]+", digits) or int(digits.lstrip("0")[:11] or "0") > MAX_UNSIGNED_INT:
        raise Refused("number", repr(literal))
    return int(digits)


def any_uri(literal):
    """xs:anyURI in its lexical forms: white space around it is none of it."""
    return re.sub(f"[{WHITE}]+", " ", literal).strip(" ")


def algorithm(element, allowed):
    """The identifier in the only attribute of `element`, which is one of `allowed`."""
    identifier = any_uri(attributes(element, ["Algorithm"])["Algorithm"])
    if identifier not in allowed:
        raise Refused("algorithm", identifier)
    return identifier


def base64_binary(literal):
    """xs:base64Binary in its lexical forms: white space anywhere, canonical padding and final bits."""
    compact = literal.translate({ord(white): None for white in WHITE})
    try:
        octets = base64.b64decode(compact.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Refused("base64", str(error)) from error
    if base64.b64encode(octets).decode() != compact:
        raise Refused("base64", "padding or final bits that are not canonical")
    return octets


def base64_text(octets):
    return base64.b64encode(octets).decode()
