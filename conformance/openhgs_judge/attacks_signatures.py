"""Refusals of section 4 that concern what is signed by whom, the MAC, and the transport key."""

import hashlib
import hmac
import re
from dataclasses import replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from lxml import etree

from . import certificate, protector, rsa, suite, xml
from .attacks import Specimen, replaced
from .attacks_chain import flipped

OAEP_SHA256 = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def specimens(kit):
    yield from _guardian_signatures(kit)
    yield from _only_opening_shows(kit)


# What GuardianSignature is over, and by whom.


def _guardian_signatures(kit):
    for name, octets in _signed_otherwise(kit):
        yield Specimen(name, octets, "4", reason="guardian-signature")
    for name, octets in _changed_afterwards(kit):
        yield Specimen(name, octets, "4", reason="guardian-signature")
    content = kit.draft()
    for name, identifier in (("nobody", "77"), ("wrapping-0", "0")):
        content.guardian_id = identifier
        yield Specimen(f"guardian-is-{name}", kit.write(content), "4", reason="guardian-wrapping")
    for name, octets in _signature_wrappings(kit):
        yield Specimen(name, octets, "4", reason="element")
    too_many = many_wrappings(kit, protector.MAX_WRAPPINGS + 1)
    yield Specimen("one-wrapping-too-many", too_many, "2", reason="limit-wrappings")


def with_guardian_signature(kit, value, algorithm=suite.RSA_SHA256):
    old = kit.plain[kit.plain.index("<GuardianSignature") :]
    new = (
        f'<GuardianSignature WrappingId="1"><Signature Algorithm="{algorithm}"><SignatureValue>'
        f"{xml.base64_text(value)}</SignatureValue></Signature></GuardianSignature></Protector>"
    )
    return replaced(kit.plain, old, new).encode()


def _signed_otherwise(kit):
    key, canonical = kit.owner.signing_key, protector.read(kit.plain.encode()).canonical
    wrappings = protector.wrappings_of(kit.plain.encode())
    right = suite.sign(key, suite.RSA_SHA256, canonical)
    raw = re.search("<Wrappings>.*</Wrappings>", kit.plain).group().encode()
    with_document = kit.plain[: kit.plain.index("<GuardianSignature")].encode()
    no_null = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20"
    pss = {
        "salt-of-20-octets": padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=20),
        "salt-of-0-octets": padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=0),
        "mgf-of-sha1": padding.PSS(mgf=padding.MGF1(hashes.SHA1()), salt_length=32),
    }
    signatures = {
        "altered": flipped(right),
        "value-empty": b"",
        "of-zeros": bytes(256),
        "of-one": bytes(255) + b"\1",
        "with-leading-zero": b"\0" + right,
        "with-trailing-zero": right + b"\0",
        "of-sha1": key.sign(canonical, padding.PKCS1v15(), hashes.SHA1()),
        "of-sha512": key.sign(canonical, padding.PKCS1v15(), hashes.SHA512()),
        "without-null-in-digest-info": rsa.bare(key).sign(canonical, no_null),
        "by-another-guardian": suite.sign(kit.stranger.signing_key, suite.RSA_SHA256, canonical),
        "by-encryption-key": suite.sign(kit.owner.encryption_key, suite.RSA_SHA256, canonical),
        "over-raw-text": suite.sign(key, suite.RSA_SHA256, raw),
        "over-document": suite.sign(key, suite.RSA_SHA256, with_document),
        "over-digest": suite.sign(key, suite.RSA_SHA256, hashlib.sha256(canonical).digest()),
        "over-first-wrapping": suite.sign(key, suite.RSA_SHA256, xml.canonical(wrappings[0])),
        "is-the-mac": protector.read(kit.plain.encode()).mac,
        "of-pss": suite.sign(key, suite.RSA_PSS, canonical),
    }
    for name, value in signatures.items():
        yield f"guardian-signature-{name}", with_guardian_signature(kit, value)
    for name, form in pss.items():
        value = key.sign(canonical, form, hashes.SHA256())
        yield f"guardian-pss-{name}", with_guardian_signature(kit, value, suite.RSA_PSS)
    sha512 = padding.PSS(mgf=padding.MGF1(hashes.SHA512()), salt_length=32)
    value = key.sign(canonical, sha512, hashes.SHA512())
    yield "guardian-pss-of-sha512", with_guardian_signature(kit, value, suite.RSA_PSS)
    yield "guardian-pss-is-not-pss", with_guardian_signature(kit, right, suite.RSA_PSS)
    yield "guardian-signature-over-inclusive-c14n", _over_inclusive(kit)


def _over_inclusive(kit):
    """Inclusive canonicalisation keeps a namespace declaration that nothing uses."""
    template = replaced(kit.template, "<Protector ", '<Protector xmlns:unused="urn:example:unused" ')
    element = protector.wrappings_of(template.encode())
    inclusive = etree.tostring(element, method="c14n", exclusive=False, with_comments=False)
    signature = suite.sign(kit.owner.signing_key, suite.RSA_SHA256, inclusive)
    template = template.replace(protector.GUARDIAN_PLACE, xml.base64_text(signature))
    return kit.seal(template)


def _changed_afterwards(kit):
    """Wrappings that are right by themselves, but not those that were signed."""
    wrappings = re.findall("<Wrapping>.*?</Wrapping>", kit.plain)
    added = replaced(wrappings[-1], f"<Id>{kit.last}</Id>", "<Id>99</Id>")
    other_key = suite.encrypt_to(kit.stranger.encryption.public_key, suite.RSA_OAEP, bytes(32))
    cipher = re.findall("<CipherValue>(.*?)</CipherValue>", kit.plain)[-1]
    changes = {
        "wrapping-removed": (wrappings[-1], ""),
        "wrapping-added": ("</Wrappings>", added + "</Wrappings>"),
        "wrappings-reordered": ("".join(wrappings), "".join(reversed(wrappings))),
        "id-changed": (f"<Id>{kit.last}</Id>", "<Id>99</Id>"),
        "id-written-otherwise": ("<Id>1</Id>", "<Id>01</Id>"),
        "white-space-added": ("<Wrappings>", "<Wrappings> "),
        "white-space-in-certificate": ("<SigningCertificate>", "<SigningCertificate>\n"),
        "prefix-changed": ("<Id>1</Id>", f'<k:Id xmlns:k="{xml.KPS}">1</k:Id>'),
        "carriage-return-added": ("</Wrappings>", "&#13;</Wrappings>"),
        "transport-key-replaced": (cipher, xml.base64_text(other_key)),
    }
    for name, (old, new) in changes.items():
        yield f"{name}-after-signing", replaced(kit.plain, old, new).encode()
    other = kit.write(protector.draft(kit.owner, [kit.stranger], kit.transport_key)).decode()
    theirs = re.search("<TransportKeySignature>.*", kit.plain).group()
    yield "signatures-of-another-protector", re.sub("<TransportKeySignature>.*", theirs, other).encode()


def _signature_wrappings(kit):
    """What was signed is still there, but somewhere else."""
    genuine = re.search("<Wrappings>.*</Wrappings>", kit.plain).group()
    evil_draft = protector.draft(kit.stranger, [], kit.transport_key)
    evil = re.search("<Wrappings>.*</Wrappings>", protector.compose(evil_draft)).group()
    parameters = "<KeyDerivationMethod Algorithm"
    placed = {
        "first": genuine + evil,
        "second": evil + genuine,
        "in-extension": f"{evil}<Extension>{genuine}</Extension>",
        "inside": replaced(evil, "</Wrappings>", genuine + "</Wrappings>"),
    }
    for name, new in placed.items():
        yield f"wrapped-genuine-{name}", replaced(kit.plain, genuine, new).encode()
    forged = replaced(kit.plain, genuine, evil)
    yield "wrapped-genuine-last", replaced(forged, "</Protector>", genuine + "</Protector>").encode()
    hidden = replaced(forged, parameters, f"<Object>{genuine}</Object>{parameters}")
    yield "wrapped-genuine-in-object", hidden.encode()
    yield "wrapped-whole-protector", replaced(forged, "</Protector>", kit.plain + "</Protector>").encode()


def many_wrappings(kit, count):
    """A protector of that many wrappings, with certificates as small as they get."""

    def small(part):
        name = certificate.name("s")
        return certificate.Certificate(certificate.make_certificate(name, part.spki, kit.stranger.signing_key))

    stranger = replace(
        kit.stranger, signing=small(kit.stranger.signing), encryption=small(kit.stranger.encryption)
    )
    content = protector.draft(kit.owner, [*kit.guardians, stranger], kit.transport_key)
    one = content.wrappings.pop()
    first = len(content.wrappings) + 1
    content.wrappings += [replace(one, id=str(number)) for number in range(first, count + 1)]
    return kit.write(content)


# What offline verification cannot see.


def _only_opening_shows(kit):
    for name, octets in [*_wrong_macs(kit), *_wrong_transport_keys(kit)]:
        yield Specimen(name, octets, "4", reason="does-not-open", stage="open")


def _wrong_macs(kit):
    right = protector.read(kit.plain.encode())
    key, canonical = kit.transport_key, right.canonical
    info = suite.DERIVATION_INFO

    def derived(info, salt=b""):
        extracted = hmac.new(salt, key, hashlib.sha256).digest()
        return hmac.new(extracted, info + b"\1", hashlib.sha256).digest()

    macs = {
        "altered": flipped(right.mac),
        "of-zeros": bytes(32),
        "by-another-transport-key": suite.mac(bytes(32), canonical),
        "by-underived-key": hmac.new(key, canonical, hashlib.sha256).digest(),
        "by-key-of-another-info": hmac.new(derived(info + b"\0"), canonical, hashlib.sha256).digest(),
        "by-key-of-another-salt": hmac.new(derived(info, b"salt"), canonical, hashlib.sha256).digest(),
        "over-digest": suite.mac(key, hashlib.sha256(canonical).digest()),
        "over-document": suite.mac(key, kit.plain.encode()),
        "is-unkeyed-digest": hashlib.sha256(canonical).digest(),
    }
    for name, value in macs.items():
        yield f"mac-{name}", replaced(kit.plain, xml.base64_text(right.mac), xml.base64_text(value)).encode()


def _wrong_transport_keys(kit):
    """All wrappings hold the same wrong thing; the MAC is right for what they hold."""

    def everywhere(encrypt, transport_key=kit.transport_key):
        content = kit.draft()
        for wrapping in content.wrappings:
            wrapping.encrypted_key = encrypt(certificate.Certificate(wrapping.encryption).public_key)
        return protector.write(content, transport_key, kit.owner.signing_key)

    def oaep(digest, mgf, label=None):
        form = padding.OAEP(mgf=padding.MGF1(mgf), algorithm=digest, label=label)
        return lambda public: public.encrypt(kit.transport_key, form)

    sha1, sha256 = hashes.SHA1(), hashes.SHA256()
    yield "key-wrapped-with-sha1", everywhere(oaep(sha1, sha1))
    yield "key-wrapped-with-mgf1-of-sha1", everywhere(oaep(sha256, sha1))
    yield "key-wrapped-with-label", everywhere(oaep(sha256, sha256, b"label"))
    pkcs1 = padding.PKCS1v15()
    yield "key-wrapped-with-pkcs1-padding", everywhere(lambda public: public.encrypt(kit.transport_key, pkcs1))
    yield "key-wrapped-without-padding", everywhere(lambda public: bytes(224) + kit.transport_key)
    yield "key-not-wrapped", everywhere(lambda public: kit.transport_key)
    yield "key-wrapped-is-empty", everywhere(lambda public: b"")
    right = oaep(sha256, sha256)
    yield "key-wrapped-with-leading-zero", everywhere(lambda public: b"\0" + right(public))
    for count in (0, 16, 31, 33, 64):
        key = bytes(range(count))
        yield f"key-of-{count}-octets", everywhere(lambda public: public.encrypt(key, OAEP_SHA256), key)
    yield "key-is-in-base64", everywhere(
        lambda public: public.encrypt(xml.base64_text(kit.transport_key).encode(), OAEP_SHA256)
    )
