"""Protectors that the profile allows, however odd, and every reader must accept and open."""

import datetime
import re

from . import attacks_keys, attacks_signatures, certificate, der, protector, rsa, suite, xml
from .attacks import VALID, Specimen, replaced
from .attacks_markup import PARAMETERS
from .protector import Style

ROOT = f'<Protector xmlns="{xml.KPS}">'
CLEAN = '<?xml version="1.0" encoding="utf-8"?>'


def in_lines(separator, width=64):
    return lambda encoded: separator.join(re.findall(f".{{1,{width}}}", encoded))


def in_character_data(encoded):
    half = len(encoded) // 2
    return f"<![CDATA[{encoded[:half]}]]>{encoded[half:]}"


def in_character_references(encoded):
    return f"&#x{ord(encoded[0]):x};&#{ord(encoded[1])};{encoded[2:]}"


STYLES = {
    "plain": Style(),
    "declaration": Style(declaration=CLEAN),
    "declaration-without-encoding": Style(declaration='<?xml version="1.0"?>'),
    "declaration-in-capitals": Style(declaration="<?xml version='1.0' encoding='UTF-8' ?>\r\n"),
    "pretty": Style(indent="  ", declaration=CLEAN + "\n"),
    "pretty-with-tabs-and-crlf": Style(indent="\t", newline="\r\n", declaration=CLEAN + "\r\n"),
    "prefixed": Style(prefix="kps"),
    "prefixed-pretty": Style(prefix="p", indent=" "),
    "base64-in-lines": Style(base64=in_lines("\n")),
    "base64-in-crlf-lines": Style(base64=in_lines("\r\n", 76)),
    "base64-in-indented-lines": Style(base64=lambda text: f"\n\t{in_lines(chr(10) + chr(9))(text)}\n"),
    "base64-in-spaced-characters": Style(base64=in_lines(" ", 1)),
    "base64-in-character-data": Style(base64=in_character_data),
    "base64-in-character-references": Style(base64=in_character_references),
}


def create(kit, style=protector.PLAIN, **choices):
    return protector.create(kit.owner, [*kit.guardians, kit.stranger], style, **choices)[0]


def specimens(kit):
    for name, style in STYLES.items():
        yield _valid(name, create(kit, style), "2")
    for name, old, new in _REWRITTEN:
        yield _valid(name, kit.seal(replaced(kit.template, old, new)), "2")
    yield from _suites(kit)
    yield from _chains(kit)
    yield from _keys(kit)
    yield from _containers(kit)
    yield from _limits(kit)


def _valid(name, octets, section):
    return Specimen(name, octets, section, outcome=VALID)


def _root(given):
    return f'<Protector xmlns="{xml.KPS}" {given}>'


_REWRITTEN = [
    ("unused-namespaces", ROOT, _root('xmlns:a="urn:example:a" xmlns:b="urn:example:b"')),
    ("unused-namespace-of-wrappings", "<Wrappings>", '<Wrappings xmlns:a="urn:example:a">'),
    ("namespace-again", "<Wrapping>", f'<Wrapping xmlns="{xml.KPS}">'),
    ("mixed-prefixes", "<Id>1</Id>", f'<k:Id xmlns:k="{xml.KPS}">1</k:Id>'),
    ("single-quotes", 'ParentWrappingId="1"', "ParentWrappingId='1'"),
    ("white-space-in-tags", ' ParentWrappingId="1">', '\n ParentWrappingId = "1"\t>'),
    ("white-space-in-end-tags", "</Wrappings>", "</Wrappings\n>"),
    ("white-space-around-id", "<Id>1</Id>", "<Id>\n 1\t</Id>"),
    ("leading-zeros-in-id", "<Id>1</Id>", "<Id>00000000000000000001</Id>"),
    ("plus-sign-in-id", "<Id>1</Id>", "<Id>+1</Id>"),
    ("standalone", ROOT, '<?xml version="1.0" encoding="utf-8" standalone="yes"?>' + ROOT),
    ("white-space-after-root", "</Protector>", "</Protector>\r\n \t\n"),
    ("white-space-before-root", ROOT, "\n" + ROOT),
    ("white-space-around-parent-id", 'ParentWrappingId="1"', 'ParentWrappingId=" 1 "'),
    ("character-reference-in-parent-id", 'ParentWrappingId="1"', 'ParentWrappingId="&#x31;"'),
    ("character-data-in-id", "<Id>1</Id>", "<Id><![CDATA[1]]></Id>"),
    ("character-reference-in-algorithm", f'"{suite.RSA_OAEP}"', f'"{suite.RSA_OAEP.replace("#", "&#35;")}"'),
    ("white-space-around-algorithm", f'"{suite.RSA_OAEP}"', f'"\n\t{suite.RSA_OAEP} "'),
    ("white-space-around-digest", f'"{suite.SHA256}"', f'" {suite.SHA256}"'),
    ("white-space-around-derivation", f'"{suite.HKDF}"', f'"&#13;{suite.HKDF}&#10;"'),
    ("carriage-return-in-wrappings", "<Wrappings>", "<Wrappings>&#13;"),
    ("white-space-between-wrappings", "</Wrapping><Wrapping>", "</Wrapping> \n\t<Wrapping>"),
    ("white-space-in-parameters", "<Parameters><DigestMethod", "<Parameters>\n <DigestMethod"),
    ("empty-derivation-with-end-tag", f'"{suite.HKDF}"/>', f'"{suite.HKDF}"></KeyDerivationMethod>'),
    ("prefixes-in-parameters", PARAMETERS, re.sub("<(DigestMethod|MGF) xmlns", r"<x:\1 xmlns:x", PARAMETERS)),
    ("offline-unwraps-0", ROOT, _root('MaxOfflineUnwraps="0"')),
    ("offline-unwraps-1", ROOT, _root('MaxOfflineUnwraps="1"')),
    ("offline-unwraps-largest", ROOT, _root('MaxOfflineUnwraps=" 04294967295 "')),
]  # fmt: skip


def _suites(kit):
    yield _valid("pss", create(kit, signature=suite.RSA_PSS), "3")
    yield _valid("oaep-mgf1p", create(kit, key_algorithm=suite.RSA_OAEP_MGF1P), "3")
    content = kit.draft()
    content.guardian_algorithm = suite.RSA_PSS
    yield _valid("pss-of-guardian-only", kit.write(content), "3")


def _chains(kit):
    yield _valid("owner-alone", protector.create(kit.owner, [])[0], "4")
    content = kit.draft()
    content.guardian_id = kit.last
    yield _valid("signed-by-a-guardian", kit.write(content, kit.stranger), "4")
    content.wrappings.append(kit.wrap(99, kit.owner, kit.last, kit.stranger))
    content.wrappings.append(kit.wrap(100, kit.stranger, 99, kit.owner))
    content.guardian_id = "100"
    yield _valid("signed-by-a-great-grandchild", kit.write(content, kit.stranger), "4")
    content = kit.draft()
    content.wrappings.reverse()
    yield _valid("owner-last", kit.write(content), "4")
    most = xml.MAX_UNSIGNED_INT
    content.wrappings = [
        kit.wrap(most, kit.stranger, 7, kit.owner),
        kit.wrap(7, kit.owner, 7, kit.owner),
        *[kit.wrap(number, guardian, most, kit.stranger) for number, guardian in enumerate(kit.guardians, 8)],
        kit.wrap(0, kit.stranger, most, kit.stranger),
    ]
    content.guardian_id = "0"
    yield _valid("ids-from-0-to-the-largest", kit.write(content, kit.stranger), "4")
    wrong_first = kit.draft()
    spoilt = wrong_first.wrappings[-1]
    spoilt.encrypted_key = bytes(256)
    wrong_first.wrappings.append(kit.wrap(99, kit.stranger, 1, kit.owner))
    yield _valid("second-wrapping-of-a-guardian-opens", kit.write(wrong_first), "5")


def _keys(kit):
    numbers = kit.stranger.encryption_key.private_numbers()
    signer = kit.stranger.signing_key
    other = rsa.generate().private_numbers()
    keys = {
        "largest-exponent": rsa.bare(kit.stranger.encryption_key, 2**32 - 5),
        "exponent-65539": rsa.bare(kit.stranger.encryption_key, 65539),
        "of-three-primes-and-odd-size": rsa.NumberKey([2**127 - 1, numbers.p, numbers.q]),
        "of-4096-bits": rsa.NumberKey([numbers.p, numbers.q, other.p, other.q]),
    }
    for name, key in keys.items():
        made = certificate.container("odd", key, certificate.KEY_ENCIPHERMENT, signer)
        public = certificate.Certificate(made).public_key
        yield _valid(f"encryption-key-{name}", attacks_keys.with_encryption(kit, made, public), "2")


def _containers(kit):
    """Inside a protector, certificates are containers of keys."""
    spki, signer, name = kit.stranger.encryption.spki, kit.stranger.signing_key, certificate.name("")
    past = datetime.datetime(1999, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc)
    future = datetime.datetime(2050, 1, 1, tzinfo=datetime.timezone.utc)
    unknown = certificate.extension("1.3.6.1.4.1.32473.9", der.null(), critical=True)
    usage = certificate.extension(certificate.KEY_USAGE, der.named_bits(certificate.KEY_CERT_SIGN), critical=True)
    tbs, algorithm, signature = (part.raw for part in der.parse(kit.stranger.encryption.der).parts)
    made = {
        "version-1": certificate.make_certificate(name, spki, signer),
        "expired": certificate.make_certificate(name, spki, signer, not_before=past, not_after=past),
        "not-yet-valid": certificate.make_certificate(name, spki, signer, not_before=future, not_after=future),
        "unknown-critical-extension": certificate.make_certificate(name, spki, signer, extensions=[unknown]),
        "other-key-usage": certificate.make_certificate(name, spki, signer, extensions=[usage]),
        "other-issuer": certificate.make_certificate(name, spki, signer, issuer=certificate.name("somebody")),
        "wrong-signature": der.sequence(tbs, algorithm, der.bit_string(bytes(256))),
        "largest": attacks_keys.sized_certificate(kit, certificate.MAX_OCTETS),
    }
    assert signature != made["wrong-signature"]
    for what, octets in made.items():
        public = kit.stranger.encryption.public_key
        yield _valid(f"certificate-{what}", attacks_keys.with_encryption(kit, octets, public), "2")


def _limits(kit):
    """Exactly at each limit of section 2 that a right document can reach."""
    padding = " " * (xml.MAX_PROTECTOR - len(kit.plain.encode()))
    yield _valid("most-octets", replaced(kit.plain, "</Wrappings>", "</Wrappings>" + padding).encode(), "2")
    # The root has one more, and so have the parameters inside, of the same prefix.
    given = " ".join(f'xmlns:p{number}="urn:example:{number}"' for number in range(xml.MAX_NAMESPACES - 2))
    yield _valid("most-namespaces", replaced(kit.plain, ROOT, _root(given)).encode(), "2")
    yield _valid("most-wrappings", attacks_signatures.many_wrappings(kit, protector.MAX_WRAPPINGS), "2")
