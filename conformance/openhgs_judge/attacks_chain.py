"""Refusals of section 4 that concern Ids, parents, and signatures over certificates."""

import hashlib

from . import certificate, suite, xml
from .attacks import Specimen


def specimens(kit):
    for reason, makers in _TABLES:
        for make in makers:
            name = make.__name__.strip("_").replace("_", "-")
            yield Specimen(name, make(kit), "4", reason=reason)


def _ids_of_two_guardians_alike(kit):
    content = kit.draft()
    content.wrappings.append(kit.wrap(kit.last, kit.stranger, 1, kit.owner))
    return kit.write(content)


def _id_of_a_guardian_is_the_owners(kit):
    content = kit.draft()
    content.wrappings[-1].id = "1"
    return kit.write(content)


def _ids_alike_but_for_leading_zero(kit):
    content = kit.draft()
    content.wrappings[-1].id = "01"
    return kit.write(content)


def _two_owners(kit):
    content = kit.draft()
    content.wrappings[-1] = kit.wrap(kit.last, kit.stranger, kit.last, kit.stranger)
    return kit.write(content)


def _owner_twice(kit):
    content = kit.draft()
    content.wrappings.append(kit.wrap(99, kit.owner, 99, kit.owner))
    return kit.write(content)


def _no_owner(kit):
    content = kit.draft()
    content.wrappings[0] = kit.wrap(1, kit.owner, kit.last, kit.stranger)
    return kit.write(content)


def _no_owner_but_foreign_parent(kit):
    content = kit.draft()
    content.wrappings[0].parent = "77"
    return kit.write(content)


def _parent_does_not_exist(kit):
    content = kit.draft()
    content.wrappings[-1].parent = "77"
    return kit.write(content)


def _cycle_of_two(kit):
    content = kit.draft()
    content.wrappings[-1] = kit.wrap(kit.last, kit.stranger, 99, kit.stranger)
    content.wrappings.append(kit.wrap(99, kit.stranger, kit.last, kit.stranger))
    return kit.write(content)


def _cycle_of_three_and_a_tail(kit):
    content = kit.draft()
    for identifier, parent in ((90, 91), (91, 92), (92, 90), (93, 90)):
        content.wrappings.append(kit.wrap(identifier, kit.stranger, parent, kit.stranger))
    return kit.write(content)


def _owner_not_signed_by_itself(kit):
    content = kit.draft()
    content.wrappings[0].signing_signature = suite.sign(
        kit.stranger.signing_key, suite.RSA_SHA256, kit.owner.signing.der
    )
    return kit.write(content)


def _guardian_signed_by_itself(kit):
    content = kit.draft()
    content.wrappings[-1] = kit.wrap(kit.last, kit.stranger, 1, kit.stranger)
    return kit.write(content)


def _guardian_signed_by_another_guardian(kit):
    """Its signature is by wrapping `last`, but it names the owner as its parent."""
    content = kit.draft()
    content.wrappings.append(kit.wrap(99, kit.stranger, 1, kit.stranger))
    return kit.write(content)


def _signing_certificate_signature_altered(kit):
    content = kit.draft()
    content.wrappings[-1].signing_signature = flipped(content.wrappings[-1].signing_signature)
    return kit.write(content)


def _signing_certificate_signature_value_empty(kit):
    content = kit.draft()
    content.wrappings[-1].signing_signature = b""
    return kit.write(content)


def _signing_certificate_signatures_swapped(kit):
    content = kit.draft()
    first, last = content.wrappings[0], content.wrappings[-1]
    first.signing_signature, last.signing_signature = last.signing_signature, first.signing_signature
    return kit.write(content)


def _signing_certificates_swapped(kit):
    content = kit.draft()
    first, last = content.wrappings[0], content.wrappings[-1]
    first.signing, last.signing = last.signing, first.signing
    return kit.write(content, kit.stranger)


def _signing_certificate_signature_over_encryption_certificate(kit):
    content = kit.draft()
    last = content.wrappings[-1]
    last.signing_signature = suite.sign(kit.owner.signing_key, suite.RSA_SHA256, last.encryption)
    return kit.write(content)


def _signing_certificate_signature_over_base64(kit):
    content = kit.draft()
    last = content.wrappings[-1]
    data = xml.base64_text(last.signing).encode()
    last.signing_signature = suite.sign(kit.owner.signing_key, suite.RSA_SHA256, data)
    return kit.write(content)


def _signing_certificate_signature_over_digest(kit):
    content = kit.draft()
    last = content.wrappings[-1]
    digest = hashlib.sha256(last.signing).digest()
    last.signing_signature = suite.sign(kit.owner.signing_key, suite.RSA_SHA256, digest)
    return kit.write(content)


def _signing_certificate_signature_over_key(kit):
    content = kit.draft()
    last = content.wrappings[-1]
    last.signing_signature = suite.sign(kit.owner.signing_key, suite.RSA_SHA256, kit.stranger.signing.spki)
    return kit.write(content)


def _encryption_certificates_swapped(kit):
    content = kit.draft()
    first, last = content.wrappings[0], content.wrappings[-1]
    first.encryption, last.encryption = last.encryption, first.encryption
    return kit.write(content)


def _encryption_certificate_of_an_attacker(kit):
    """The guardian's signing certificate is right; who wrote the document wants to read the key."""
    content = kit.draft()
    key = kit.stranger.signing_key
    content.wrappings[-1].encryption = certificate.container("attacker", key, certificate.KEY_ENCIPHERMENT)
    return kit.write(content)


def _encryption_certificate_signed_by_parent(kit):
    content = kit.draft()
    last = content.wrappings[-1]
    last.encryption_signature = suite.sign(kit.owner.signing_key, suite.RSA_SHA256, last.encryption)
    return kit.write(content)


def _encryption_certificate_signature_altered(kit):
    content = kit.draft()
    content.wrappings[-1].encryption_signature = flipped(content.wrappings[-1].encryption_signature)
    return kit.write(content)


def _encryption_certificate_signature_said_to_be_pss(kit):
    content = kit.draft()
    content.wrappings[-1].encryption_algorithm = suite.RSA_PSS
    return kit.write(content)


def flipped(octets):
    return octets[:-1] + bytes([octets[-1] ^ 1])


_TABLES = [
    (
        "duplicate-id",
        [_ids_of_two_guardians_alike, _id_of_a_guardian_is_the_owners, _ids_alike_but_for_leading_zero],
    ),
    ("owner", [_two_owners, _owner_twice, _no_owner, _no_owner_but_foreign_parent]),
    ("parent", [_parent_does_not_exist]),
    ("cycle", [_cycle_of_two, _cycle_of_three_and_a_tail]),
    (
        "signing-certificate-signature",
        [
            _owner_not_signed_by_itself,
            _guardian_signed_by_itself,
            _guardian_signed_by_another_guardian,
            _signing_certificate_signature_altered,
            _signing_certificate_signature_value_empty,
            _signing_certificate_signatures_swapped,
            _signing_certificates_swapped,
            _signing_certificate_signature_over_encryption_certificate,
            _signing_certificate_signature_over_base64,
            _signing_certificate_signature_over_digest,
            _signing_certificate_signature_over_key,
        ],
    ),
    (
        "encryption-certificate-signature",
        [
            _encryption_certificates_swapped,
            _encryption_certificate_of_an_attacker,
            _encryption_certificate_signed_by_parent,
            _encryption_certificate_signature_altered,
            _encryption_certificate_signature_said_to_be_pss,
        ],
    ),
]
