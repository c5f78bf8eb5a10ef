"""Metadata and exported guardians (profile, section 9)."""

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from . import Refused, protector, suite, xml
from .certificate import Certificate
from .guardian import Guardian
from .xml import attributes, base64_binary, sequence, text, unsigned_int

EXTENSION = "urn:openhgs:metadata:1"
MAX_OTHER_CERTIFICATES = 64
DIGEST_PLACE, SIGNATURE_PLACE = "@DIGEST@", "@SIGNATURE@"


@dataclass(frozen=True)
class Metadata:
    encryption: Certificate
    signing: Certificate
    encryption_signature: protector.Signed
    others: tuple
    communications: Certificate
    key_algorithm: str

    @property
    def is_exported_guardian(self):
        return self.communications.der == self.signing.der

    def guardian(self, name="guardian"):
        signed = (self.encryption_signature.algorithm, self.encryption_signature.value)
        return Guardian(
            name, self.signing, self.encryption, encryption_signature=signed, key_algorithm=self.key_algorithm
        )


def check(octets):
    """The content of a metadata document, all three of whose signatures verify.

    That makes the document whole, not the guardian trusted.
    """
    document = xml.root(octets, xml.MAX_METADATA, xml.KPS, "Metadata")
    _version(attributes(document, ["Version"])["Version"])
    parts = xml.children(document)
    names = [part.tag for part in parts[:2]]
    if names != [f"{{{xml.KPS}}}GuardianInformation", f"{{{suite.DS}}}Signature"]:
        raise Refused("element", "not GuardianInformation and ds:Signature")
    information, key_algorithm = _read_information(parts[0]), _read_extensions(parts[2:])
    communications = _check_document_signature(document, parts[1])
    return Metadata(**information, communications=communications, key_algorithm=key_algorithm)


def _version(literal):
    if unsigned_int(literal) != 1:
        raise Refused("number", "Version is not 1")


def _read_information(element):
    attributes(element)
    version, encryption, signing, encryption_signature, self_signature, others = sequence(
        element,
        [
            "Version",
            "EncryptionCertificate",
            "SigningCertificate",
            "EncryptionCertificateSignature",
            "SigningCertificateSelfSignature",
            "OtherSigningCertificates",
        ],
        optional=["OtherSigningCertificates"],
    )
    _version(text(version))
    encryption, signing = (Certificate(base64_binary(text(part))) for part in (encryption, signing))
    encryption_signature = protector.read_signature(encryption_signature)
    for signed, certificate, reason in (
        (encryption_signature, encryption, "encryption-certificate-signature"),
        (protector.read_signature(self_signature), signing, "signing-certificate-signature"),
    ):
        if not suite.verify(signing, signed.algorithm, signed.value, certificate.der):
            raise Refused(reason)
    return {
        "encryption": encryption,
        "signing": signing,
        "encryption_signature": encryption_signature,
        "others": _read_others(others),
    }


def _read_others(element):
    if element is None:
        return ()
    attributes(element)
    count = len(xml.children(element))
    if count > MAX_OTHER_CERTIFICATES:
        raise Refused("limit-certificates", str(count))
    found = sequence(element, ["Certificate"] * count)
    return tuple(Certificate(base64_binary(text(part))) for part in found)


def _read_extensions(elements):
    """The algorithm that the guardian asks transport keys to be wrapped with."""
    known = (EXTENSION, xml.KPS, suite.DS, None)
    ours = [part for part in elements if etree.QName(part).namespace in known]
    if not ours:
        return suite.RSA_OAEP
    if len(ours) > 1 or ours[0].tag != f"{{{EXTENSION}}}TransportKeyEncryption" or xml.children(ours[0]):
        raise Refused("element", f"{ours[0].tag} after ds:Signature")
    return xml.algorithm(ours[0], {suite.RSA_OAEP_MGF1P})


def _check_document_signature(document, signature):
    """The enveloped XML signature over the whole document; gives the certificate it is by."""
    attributes(signature)
    signed_info, value, key_info = _ds(signature, "SignedInfo", "SignatureValue", "KeyInfo")
    attributes(signed_info)
    method, algorithm, reference = _ds(signed_info, "CanonicalizationMethod", "SignatureMethod", "Reference")
    _algorithm(method, suite.EXCLUSIVE_C14N)
    _algorithm(algorithm, suite.RSA_SHA256)
    if xml.any_uri(attributes(reference, ["URI"])["URI"]) != "":
        raise Refused("attribute", "a Reference to something else than the document")
    transforms, digest_method, digest = _ds(reference, "Transforms", "DigestMethod", "DigestValue")
    attributes(transforms)
    enveloped, canonicalisation = _ds(transforms, "Transform", "Transform")
    _algorithm(enveloped, suite.ENVELOPED)
    _algorithm(canonicalisation, suite.EXCLUSIVE_C14N)
    _algorithm(digest_method, suite.SHA256)
    if base64_binary(text(digest)) != document_digest(document):
        raise Refused("document-digest")
    certificate = _read_key_info(key_info)
    if not suite.verify(certificate, suite.RSA_SHA256, base64_binary(text(value)), xml.canonical(signed_info)):
        raise Refused("document-signature")
    return certificate


def _ds(element, *names):
    return sequence(element, names, namespace=suite.DS)


def _algorithm(element, expected):
    xml.algorithm(element, {expected})
    if xml.children(element):
        raise Refused("parameters", f"{expected} has none")


def _read_key_info(element):
    attributes(element)
    (data,) = _ds(element, "X509Data")
    attributes(data)
    (certificate,) = _ds(data, "X509Certificate")
    return Certificate(base64_binary(text(certificate)))


def document_digest(document):
    """SHA-256 of the exclusive C14N of the document without its ds:Signature."""
    rest = copy.deepcopy(document)
    signature = rest.find(f"{{{suite.DS}}}Signature")
    before = signature.getprevious()
    # White space after the signature belongs to the document, not to the signature.
    if before is not None:
        before.tail = (before.tail or "") + (signature.tail or "")
    else:
        rest.text = (rest.text or "") + (signature.tail or "")
    rest.remove(signature)
    return hashlib.sha256(xml.canonical(rest)).digest()


def read_guardian(source):
    """A guardian from its own directory, or from its metadata document."""
    source = Path(source)
    if source.is_dir():
        return Guardian.load(source)
    return check(source.read_bytes()).guardian(source.stem)


# Writing.


def write(guardian, communications=None, others=(), extra="", signature=suite.RSA_SHA256):
    """A metadata document; an exported guardian if no communications (certificate, key) are given."""
    certificate, key = communications or (guardian.signing.der, guardian.signing_key)
    template = compose(guardian, certificate, others, extra, signature)
    return seal(template, key)


def seal(template, key):
    """Put digest and signature of the communications certificate into their places."""
    digest = document_digest(etree.fromstring(template.encode()))
    template = template.replace(DIGEST_PLACE, xml.base64_text(digest))
    signed_info = next(etree.fromstring(template.encode()).iter(f"{{{suite.DS}}}SignedInfo"))
    signature = suite.sign(key, suite.RSA_SHA256, xml.canonical(signed_info))
    return template.replace(SIGNATURE_PLACE, xml.base64_text(signature)).encode()


def compose(guardian, communications, others=(), extra="", signature=suite.RSA_SHA256):
    def signed(name, data):
        value = xml.base64_text(suite.sign(guardian.signing_key, signature, data))
        return f'<{name} Algorithm="{signature}"><SignatureValue>{value}</SignatureValue></{name}>'

    encoded = "".join(f"<Certificate>{xml.base64_text(other)}</Certificate>" for other in others)
    encoded = f"<OtherSigningCertificates>{encoded}</OtherSigningCertificates>" if others else ""
    return (
        f'<Metadata xmlns="{xml.KPS}" Version="1"><GuardianInformation><Version>1</Version>'
        f"<EncryptionCertificate>{xml.base64_text(guardian.encryption.der)}</EncryptionCertificate>"
        f"<SigningCertificate>{xml.base64_text(guardian.signing.der)}</SigningCertificate>"
        f"{signed('EncryptionCertificateSignature', guardian.encryption.der)}"
        f"{signed('SigningCertificateSelfSignature', guardian.signing.der)}"
        f"{encoded}</GuardianInformation>{_document_signature(communications)}{extra}</Metadata>"
    )


def _document_signature(certificate):
    return (
        f'<ds:Signature xmlns:ds="{suite.DS}"><ds:SignedInfo>'
        f'<ds:CanonicalizationMethod Algorithm="{suite.EXCLUSIVE_C14N}"/>'
        f'<ds:SignatureMethod Algorithm="{suite.RSA_SHA256}"/><ds:Reference URI=""><ds:Transforms>'
        f'<ds:Transform Algorithm="{suite.ENVELOPED}"/><ds:Transform Algorithm="{suite.EXCLUSIVE_C14N}"/>'
        f'</ds:Transforms><ds:DigestMethod Algorithm="{suite.SHA256}"/>'
        f"<ds:DigestValue>{DIGEST_PLACE}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
        f"<ds:SignatureValue>{SIGNATURE_PLACE}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>"
        f"<ds:X509Certificate>{xml.base64_text(certificate)}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
        "</ds:Signature>"
    )


TRANSPORT_KEY_ENCRYPTION = f'<TransportKeyEncryption xmlns="{EXTENSION}" Algorithm="{suite.RSA_OAEP_MGF1P}"/>'
