"""Key protectors (profile, section 4): read, verify, open; and write them, well or badly."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field, replace
from typing import Optional

from lxml import etree

from . import Refused, suite, xml
from .certificate import Certificate
from .xml import attributes, base64_binary, sequence, text, unsigned_int

MAX_WRAPPINGS = 64
MAX_KEY_BITS = 393_216
MAX_DECRYPTIONS = 4


@dataclass(frozen=True)
class Signed:
    """A Signature element: an algorithm and a value."""

    algorithm: str
    value: bytes


@dataclass(frozen=True)
class Wrapping:
    id: int
    parent: int
    signing: Certificate
    signing_signature: Signed
    encryption: Certificate
    encryption_signature: Signed
    key_algorithm: str
    encrypted_key: bytes

    @property
    def pair(self):
        return self.signing.der, self.encryption.der


@dataclass(frozen=True)
class Protector:
    """A protector of the right structure; what it says is believed only after `verify`."""

    octets: bytes
    wrappings: tuple
    canonical: bytes
    mac: bytes
    guardian_id: int
    guardian_signature: Signed
    max_offline_unwraps: int

    @property
    def digest(self):
        return hashlib.sha256(self.canonical).hexdigest()

    def by_id(self, identifier):
        return next((wrapping for wrapping in self.wrappings if wrapping.id == identifier), None)

    @property
    def owner(self):
        return next(wrapping for wrapping in self.wrappings if wrapping.parent == wrapping.id)


# Structure.


def read(octets):
    """The structure of section 4 in a document of section 2, with algorithms of section 3."""
    document = xml.root(octets, xml.MAX_PROTECTOR, xml.KPS, "Protector")
    given = attributes(document, optional=["MaxOfflineUnwraps"])
    names = ["Wrappings", "TransportKeySignature", "GuardianSignature"]
    wrappings, key_signature, guardian_signature = sequence(document, names)
    return Protector(
        octets=octets,
        wrappings=_read_wrappings(wrappings),
        canonical=xml.canonical(wrappings),
        mac=_read_transport_key_signature(key_signature),
        guardian_id=unsigned_int(attributes(guardian_signature, ["WrappingId"])["WrappingId"]),
        guardian_signature=read_signature(*sequence(guardian_signature, ["Signature"])),
        max_offline_unwraps=unsigned_int(given.get("MaxOfflineUnwraps", "0")),
    )


def _read_wrappings(element):
    attributes(element)
    count = len(xml.children(element))
    if count > MAX_WRAPPINGS:
        raise Refused("limit-wrappings", str(count))
    wrappings = tuple(map(_read_wrapping, sequence(element, ["Wrapping"] * max(count, 1))))
    bits = sum(certificate.modulus.bit_length() for wrapping in wrappings for certificate in (wrapping.signing, wrapping.encryption))
    if bits > MAX_KEY_BITS:
        raise Refused("limit-key-bits", str(bits))
    return wrappings


def _read_wrapping(element):
    attributes(element)
    identifier, signing, signing_signature, encryption, encryption_signature, transport_key = sequence(
        element,
        [
            "Id",
            "SigningCertificate",
            "SigningCertificateSignature",
            "EncryptionCertificate",
            "EncryptionCertificateSignature",
            "TransportKey",
        ],
    )
    attributes(encryption_signature)
    attributes(transport_key)
    key_algorithm, encrypted_key = _read_encrypted_data(*sequence(transport_key, ["EncryptedData"]))
    return Wrapping(
        id=unsigned_int(text(identifier)),
        parent=unsigned_int(attributes(signing_signature, ["ParentWrappingId"])["ParentWrappingId"]),
        signing=Certificate(base64_binary(text(signing))),
        signing_signature=read_signature(*sequence(signing_signature, ["Signature"])),
        encryption=Certificate(base64_binary(text(encryption))),
        encryption_signature=read_signature(*sequence(encryption_signature, ["Signature"])),
        key_algorithm=key_algorithm,
        encrypted_key=encrypted_key,
    )


def read_signature(element, allowed=frozenset(suite.SIGNATURES)):
    algorithm = xml.algorithm(element, allowed)
    parameters, value = sequence(element, ["Parameters", "SignatureValue"], optional=["Parameters"])
    _no_parameters(parameters, algorithm)
    return Signed(algorithm, base64_binary(text(value)))


def _read_transport_key_signature(element):
    attributes(element)
    method, signature = sequence(element, ["KeyDerivationMethod", "Signature"])
    derivation = xml.algorithm(method, {suite.HKDF})
    _no_parameters(*sequence(method, ["Parameters"], optional=["Parameters"]), derivation)
    value = read_signature(signature, allowed={suite.HMAC_SHA256}).value
    if len(value) != suite.MAC_OCTETS:
        raise Refused("mac-length", f"{len(value)} octets")
    return value


def _read_encrypted_data(element):
    algorithm = xml.algorithm(element, suite.TRANSPORT_KEY_ENCRYPTIONS)
    parameters, value = sequence(element, ["Parameters", "CipherValue"], optional=["Parameters"])
    if algorithm == suite.RSA_OAEP:
        _check_oaep_parameters(parameters)
    else:
        _no_parameters(parameters, algorithm)
    return algorithm, base64_binary(text(value))


def _no_parameters(element, algorithm):
    if element is not None:
        raise Refused("parameters", f"{algorithm} has none")


def _check_oaep_parameters(element):
    expected = [
        (f"{{{suite.DS}}}DigestMethod", [("Algorithm", suite.SHA256)]),
        (f"{{{suite.XENC11}}}MGF", [("Algorithm", suite.MGF1_SHA256)]),
    ]
    found = [] if element is None else xml.children(element)
    given = [(child.tag, [(name, xml.any_uri(value)) for name, value in child.items()]) for child in found]
    if given != expected or element.attrib:
        raise Refused("parameters", "not those of rsa-oaep")
    if any(xml.children(child) for child in found):
        raise Refused("parameters", "with content")


# Chain and signatures.


def verify(protector):
    """Offline verification: the chain, then GuardianSignature. The MAC needs the transport key."""
    verify_chain(protector)
    guardian = protector.by_id(protector.guardian_id)
    if guardian is None:
        raise Refused("guardian-wrapping", f"no wrapping {protector.guardian_id}")
    if not _holds(guardian.signing, protector.guardian_signature, protector.canonical):
        raise Refused("guardian-signature")
    return protector


def verify_chain(protector):
    identifiers = [wrapping.id for wrapping in protector.wrappings]
    if len(set(identifiers)) != len(identifiers):
        raise Refused("duplicate-id")
    owners = [wrapping for wrapping in protector.wrappings if wrapping.parent == wrapping.id]
    if len(owners) != 1:
        raise Refused("owner", f"{len(owners)} owners")
    for wrapping in protector.wrappings:
        _verify_ancestry(protector, wrapping)
        parent = protector.by_id(wrapping.parent)
        if not _holds(parent.signing, wrapping.signing_signature, wrapping.signing.der):
            raise Refused("signing-certificate-signature", f"of wrapping {wrapping.id}")
        if not _holds(wrapping.signing, wrapping.encryption_signature, wrapping.encryption.der):
            raise Refused("encryption-certificate-signature", f"of wrapping {wrapping.id}")


def _verify_ancestry(protector, wrapping):
    seen = {wrapping.id}
    while wrapping.parent != wrapping.id:
        parent = protector.by_id(wrapping.parent)
        if parent is None:
            raise Refused("parent", f"no wrapping {wrapping.parent}")
        if parent.id in seen:
            raise Refused("cycle", f"through wrapping {parent.id}")
        seen.add(parent.id)
        wrapping = parent


def _holds(certificate, signed, data):
    return suite.verify(certificate, signed.algorithm, signed.value, data)


# Opening.


def open_with(protector, guardian):
    """The transport key, whose MAC matches, by the first wrapping of `guardian` that gives it."""
    candidates = [wrapping for wrapping in protector.wrappings if wrapping.pair == guardian.pair]
    if not candidates:
        raise Refused("no-wrapping", "for this guardian")
    for wrapping in candidates[:MAX_DECRYPTIONS]:
        try:
            key = suite.decrypt_with(guardian.encryption_key, wrapping.key_algorithm, wrapping.encrypted_key)
        except Refused:
            continue
        if len(key) == suite.KEY_OCTETS and mac_matches(protector, key):
            return key
    raise Refused("does-not-open")


def mac_matches(protector, transport_key):
    return hmac.compare_digest(suite.mac(transport_key, protector.canonical), protector.mac)


# Writing. A Draft is free to be wrong; `Style` is how a right one may look.


@dataclass
class DraftWrapping:
    id: str
    parent: str
    signing: bytes
    signing_signature: bytes
    encryption: bytes
    encryption_signature: bytes
    encrypted_key: bytes
    key_algorithm: str = suite.RSA_OAEP
    signing_algorithm: str = suite.RSA_SHA256
    encryption_algorithm: str = suite.RSA_SHA256


@dataclass
class Draft:
    wrappings: list
    guardian_id: str = "1"
    guardian_algorithm: str = suite.RSA_SHA256
    max_offline_unwraps: Optional[str] = None


@dataclass(frozen=True)
class Style:
    """Ways of writing the same document."""

    prefix: str = ""
    indent: str = ""
    newline: str = "\n"
    declaration: str = ""
    # How the text of a Base64 value is written: a function from text to mark-up.
    base64: object = field(default=lambda encoded: encoded)


PLAIN = Style()
MAC_PLACE, GUARDIAN_PLACE = "@MAC@", "@GUARDIAN@"


def new_transport_key():
    return secrets.token_bytes(suite.KEY_OCTETS)


def wrap(identifier, guardian, parent_id, parent_key, transport_key, **choices):
    """A wrapping of the transport key for `guardian`, its signing certificate signed by `parent_key`."""
    algorithm = choices.get("signature", suite.RSA_SHA256)
    key_algorithm = choices.get("key_algorithm") or guardian.key_algorithm
    encryption_algorithm, encryption_signature = guardian.sign_encryption_certificate(algorithm)
    return DraftWrapping(
        id=str(identifier),
        parent=str(parent_id),
        signing=guardian.signing.der,
        signing_signature=suite.sign(parent_key, algorithm, guardian.signing.der),
        encryption=guardian.encryption.der,
        encryption_signature=encryption_signature,
        encrypted_key=suite.encrypt_to(guardian.encryption.public_key, key_algorithm, transport_key),
        key_algorithm=key_algorithm,
        signing_algorithm=algorithm,
        encryption_algorithm=encryption_algorithm,
    )


def draft(owner, guardians, transport_key, **choices):
    """The owner's wrapping has Id 1; guardians follow from 2, with the owner as parent."""
    wrappings = [
        wrap(number, guardian, 1, owner.signing_key, transport_key, **choices)
        for number, guardian in enumerate([owner, *guardians], start=1)
    ]
    return Draft(wrappings, guardian_algorithm=choices.get("signature", suite.RSA_SHA256))


def create(owner, guardians, style=PLAIN, max_offline_unwraps=None, **choices):
    """(document, transport key) of a new protector."""
    transport_key = new_transport_key()
    content = replace(
        draft(owner, guardians, transport_key, **choices), max_offline_unwraps=max_offline_unwraps
    )
    return write(content, transport_key, owner.signing_key, style), transport_key


def write(content, transport_key, guardian_key, style=PLAIN):
    """Compose, and sign what was composed."""
    return seal(compose(content, style), transport_key, guardian_key, content.guardian_algorithm, style)


def seal(template, transport_key, guardian_key, algorithm=suite.RSA_SHA256, style=PLAIN):
    """Put MAC and GuardianSignature over the Wrappings of `template` into their places."""
    signed = xml.canonical(wrappings_of(template.encode()))
    mac = suite.mac(transport_key, signed)
    signature = suite.sign(guardian_key, algorithm, signed)
    filled = template.replace(MAC_PLACE, style.base64(xml.base64_text(mac)))
    return filled.replace(GUARDIAN_PLACE, style.base64(xml.base64_text(signature))).encode()


def wrappings_of(octets):
    """The first Wrappings element of a document that may be anything."""
    document = etree.fromstring(octets, etree.XMLParser(no_network=True))
    return next(document.iter(f"{{{xml.KPS}}}Wrappings"))


def compose(content, style=PLAIN):
    """The document as text, with places for MAC and GuardianSignature."""
    key_signature = (
        "TransportKeySignature",
        {},
        [
            ("KeyDerivationMethod", {"Algorithm": suite.HKDF}, []),
            _signature(suite.HMAC_SHA256, MAC_PLACE),
        ],
    )
    guardian_signature = (
        "GuardianSignature",
        {"WrappingId": content.guardian_id},
        [_signature(content.guardian_algorithm, GUARDIAN_PLACE)],
    )
    wrappings = ("Wrappings", {}, [_wrapping(wrapping, style) for wrapping in content.wrappings])
    given = {"xmlns" + (":" + style.prefix if style.prefix else ""): xml.KPS}
    if content.max_offline_unwraps is not None:
        given["MaxOfflineUnwraps"] = content.max_offline_unwraps
    document = ("Protector", given, [wrappings, key_signature, guardian_signature])
    return style.declaration + serialise(document, style)


def _wrapping(wrapping, style):
    def encoded(octets):
        return style.base64(xml.base64_text(octets))

    signing_signature = _signature(wrapping.signing_algorithm, encoded(wrapping.signing_signature))
    encryption_signature = _signature(wrapping.encryption_algorithm, encoded(wrapping.encryption_signature))
    parts = [("CipherValue", {}, encoded(wrapping.encrypted_key))]
    if wrapping.key_algorithm == suite.RSA_OAEP:
        parts.insert(0, ("Parameters", {}, OAEP_PARAMETERS))
    return (
        "Wrapping",
        {},
        [
            ("Id", {}, wrapping.id),
            ("SigningCertificate", {}, encoded(wrapping.signing)),
            ("SigningCertificateSignature", {"ParentWrappingId": wrapping.parent}, [signing_signature]),
            ("EncryptionCertificate", {}, encoded(wrapping.encryption)),
            ("EncryptionCertificateSignature", {}, [encryption_signature]),
            ("TransportKey", {}, [("EncryptedData", {"Algorithm": wrapping.key_algorithm}, parts)]),
        ],
    )


OAEP_PARAMETERS = [
    (":DigestMethod", {"xmlns": suite.DS, "Algorithm": suite.SHA256}, []),
    (":MGF", {"xmlns": suite.XENC11, "Algorithm": suite.MGF1_SHA256}, []),
]


def _signature(algorithm, encoded):
    return ("Signature", {"Algorithm": algorithm}, [("SignatureValue", {}, encoded)])


def serialise(node, style=PLAIN, level=0):
    """A (name, attributes, children or mark-up) node as text; a name with a leading colon gets no prefix."""
    name, given, content = node
    if name.startswith(":"):
        name = name[1:]
    elif style.prefix:
        name = f"{style.prefix}:{name}"
    start = name + "".join(f' {key}="{value}"' for key, value in given.items())
    if not content:
        return f"<{start}/>"
    if isinstance(content, str):
        return f"<{start}>{content}</{name}>"
    separator = style.newline + style.indent * (level + 1) if style.indent else ""
    end = style.newline + style.indent * level if style.indent else ""
    inner = "".join(separator + serialise(child, style, level + 1) for child in content)
    return f"<{start}>{inner}{end}</{name}>"
