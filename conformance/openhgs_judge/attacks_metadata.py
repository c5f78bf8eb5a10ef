"""Metadata and exported guardians (section 9), refused and accepted."""

import re
from functools import partial

from . import certificate, metadata, rsa, suite, xml
from .attacks import VALID, Specimen, replaced

END = "</Metadata>"
KEY_INFO = "<ds:KeyInfo>"
METHOD = f'ds:SignatureMethod Algorithm="{suite.RSA_SHA256}"'
METHOD_OF_FORM = f'ds:CanonicalizationMethod Algorithm="{suite.EXCLUSIVE_C14N}"'
INCLUSIVE = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
FOREIGN = "urn:example:foreign"

# (reason, [(name, old, new), ...]); signed afterwards, so that only the defect is wrong.
_BEFORE_SIGNING = [
    (
        "attribute",
        [
            ("version-missing", ' Version="1"', ""),
            ("attribute-unknown", ' Version="1"', ' Version="1" Unknown="1"'),
            ("attribute-of-information", "<GuardianInformation>", '<GuardianInformation Id="1">'),
            ("reference-to-part", 'URI=""', 'URI="#xpointer(/)"'),
            ("reference-outside", 'URI=""', 'URI="http://192.0.2.1/"'),
            ("reference-without-uri", ' URI=""', ""),
        ],
    ),
    (
        "number",
        [
            ("version-2", ' Version="1"', ' Version="2"'),
            ("information-version-2", "<Version>1</Version>", "<Version>2</Version>"),
            ("information-version-empty", "<Version>1</Version>", "<Version/>"),
        ],
    ),
    (
        "element",
        [
            ("information-version-missing", "<Version>1</Version>", ""),
            ("element-in-information", "</GuardianInformation>", "<More/></GuardianInformation>"),
            ("element-before-signature", "<ds:Signature ", f'<f:More xmlns:f="{FOREIGN}"/><ds:Signature '),
            ("extension-unknown", END, f'<More xmlns="{metadata.EXTENSION}"/>{END}'),
            ("extension-of-kps", END, f"<More/>{END}"),
            ("extension-of-signature", END, f'<ds:Object xmlns:ds="{suite.DS}"/>{END}'),
            ("extension-of-no-namespace", END, f'<More xmlns=""/>{END}'),
            ("signature-twice", re.compile("(<ds:Signature .*</ds:Signature>)"), r"\1\1"),
            ("extension-twice", END, metadata.TRANSPORT_KEY_ENCRYPTION * 2 + END),
            ("key-info-missing", re.compile("<ds:KeyInfo>.*</ds:KeyInfo>"), ""),
            ("key-value-beside", KEY_INFO, KEY_INFO + "<ds:KeyName>k</ds:KeyName>"),
            ("object-in-signature", "</ds:KeyInfo>", "</ds:KeyInfo><ds:Object/>"),
            ("reference-twice", re.compile("(<ds:Reference.*</ds:Reference>)"), r"\1\1"),
            ("transform-missing", re.compile('<ds:Transform Algorithm="[^"]*enveloped-signature"/>'), ""),
            ("transforms-missing", re.compile("<ds:Transforms>.*</ds:Transforms>"), ""),
        ],
    ),
    (
        "algorithm",
        [
            ("extension-algorithm-unknown", END, replaced(metadata.TRANSPORT_KEY_ENCRYPTION, "mgf1p", "x") + END),
            ("signature-algorithm-sha1", METHOD, replaced(METHOD, suite.RSA_SHA256, suite.DS + "rsa-sha1")),
            ("signature-algorithm-mac", METHOD, replaced(METHOD, suite.RSA_SHA256, suite.HMAC_SHA256)),
            ("digest-sha1", f'DigestMethod Algorithm="{suite.SHA256}"', f'DigestMethod Algorithm="{suite.DS}sha1"'),
            ("transform-xslt", suite.ENVELOPED, "http://www.w3.org/TR/1999/REC-xslt-19991116"),
            ("transform-xpath", suite.ENVELOPED, "http://www.w3.org/TR/1999/REC-xpath-19991116"),
            ("canonicalisation-inclusive", METHOD_OF_FORM, replaced(METHOD_OF_FORM, suite.EXCLUSIVE_C14N, INCLUSIVE)),
            ("canonicalisation-with-comments", METHOD_OF_FORM, replaced(METHOD_OF_FORM, "c14n#", "c14n#WithComments")),
        ],
    ),
    ("certificate", [("signer-is-no-certificate", re.compile("(<ds:X509Certificate>)[^<]*"), r"\1AAAA")]),
    ("processing-instruction", [("instruction", "<GuardianInformation>", "<?p?><GuardianInformation>")]),
]  # fmt: skip

_AFTER_SIGNING = [
    ("document-type", [("document-type", "<Metadata ", "<!DOCTYPE Metadata><Metadata ")]),
    (
        "comment",
        [
            ("comment", "<Version>1", "<Version>1<!-- -->"),
            ("comment-in-signature", KEY_INFO, KEY_INFO + "<!-- -->"),
        ],
    ),
    ("carriage-return", [("carriage-return", "<GuardianInformation>", "\r<GuardianInformation>")]),
    ("byte-order-mark", [("byte-order-mark", "<Metadata ", "\ufeff<Metadata ")]),
    (
        "document-digest",
        [
            ("white-space-added", "<GuardianInformation>", " <GuardianInformation>"),
            ("extension-added", END, metadata.TRANSPORT_KEY_ENCRYPTION + END),
            ("foreign-element-added", END, f'<f:More xmlns:f="{FOREIGN}"/>{END}'),
        ],
    ),
    ("document-signature", [("white-space-in-signed-info", "<ds:SignedInfo>", "<ds:SignedInfo> ")]),
    ("limit-octets", [("too-large", "<GuardianInformation>", " " * xml.MAX_METADATA + "<GuardianInformation>")]),
]  # fmt: skip

_ACCEPTED = [
    ("mgf1p-asked-for", END, metadata.TRANSPORT_KEY_ENCRYPTION + END),
    ("foreign-elements", END, f'<f:A xmlns:f="{FOREIGN}" b="c">text<f:D/></f:A><f:E xmlns:f="{FOREIGN}"/>{END}'),
    ("foreign-and-mgf1p", END, f'<f:A xmlns:f="{FOREIGN}"/>{metadata.TRANSPORT_KEY_ENCRYPTION}{END}'),
    ("pretty", re.compile("(>)(<)"), r"\1\n\t\2"),
    ("declaration", "<Metadata ", '<?xml version="1.0" encoding="utf-8"?>\n<Metadata '),
    ("white-space-around-algorithm", f'"{suite.SHA256}"', f'" {suite.SHA256} "'),
    ("white-space-in-version", "<Version>1</Version>", "<Version> 01\n</Version>"),
    ("default-namespace-in-signature", re.compile("(?<=</)ds:|(?<=<)ds:|(?<=xmlns):ds"), ""),
]  # fmt: skip


def specimens(owner):
    make = partial(Specimen, kind="metadata", section="9")
    template = metadata.compose(owner, owner.signing.der)
    sealed = metadata.seal(template, owner.signing_key).decode()
    for reason, rows in _BEFORE_SIGNING:
        for name, old, new in rows:
            yield make(name, _seal_loosely(_changed(template, old, new), owner), reason=reason)
    for reason, rows in _AFTER_SIGNING:
        for name, old, new in rows:
            yield make(name, _changed(sealed, old, new).encode(), reason=reason)
    for name, reason, octets in _wrong_signatures(owner):
        yield make(name, octets, reason=reason)
    for name, old, new in _ACCEPTED:
        yield make(name, metadata.seal(_changed(template, old, new), owner.signing_key), outcome=VALID)
    for name, octets in _right_signatures(owner):
        yield make(name, octets, outcome=VALID)


def _changed(text, old, new):
    if isinstance(old, str):
        return replaced(text, old, new)
    changed, count = old.subn(new, text)
    if not count:
        raise ValueError(f"nothing to replace for {old.pattern}")
    return changed


def _seal_loosely(template, owner):
    return metadata.seal(template, owner.signing_key)


def _wrong_signatures(owner):
    stranger = rsa.generate()
    certified = certificate.container("stranger", stranger, certificate.DIGITAL_SIGNATURE)
    template = metadata.compose(owner, owner.signing.der)
    yield "signed-by-another-key", "document-signature", metadata.seal(template, stranger)
    swapped = metadata.compose(owner, certified)
    yield "certificate-of-another-key", "document-signature", metadata.seal(swapped, owner.signing_key)
    values = re.findall("<SignatureValue>(.*?)</SignatureValue>", template)
    for name, value in (("encryption-certificate", values[0]), ("signing-certificate", values[1])):
        wrong = xml.base64_text(suite.sign(stranger, suite.RSA_SHA256, b"x"))
        octets = metadata.seal(replaced(template, value, wrong), owner.signing_key)
        yield f"{name}-signature-wrong", f"{name}-signature", octets
    both = template.replace(values[0], "~").replace(values[1], values[0]).replace("~", values[1])
    octets = metadata.seal(both, owner.signing_key)
    yield "certificate-signatures-swapped", "encryption-certificate-signature", octets
    weak = rsa.bare(stranger, 65521)
    made = certificate.container("weak", weak, certificate.DIGITAL_SIGNATURE)
    yield "communications-key-weak", "key-exponent", metadata.seal(metadata.compose(owner, made), weak)
    others = [owner.signing.der] * (metadata.MAX_OTHER_CERTIFICATES + 1)
    yield "too-many-others", "limit-certificates", metadata.write(owner, others=others)
    yield "other-is-no-certificate", "certificate", metadata.write(owner, others=[b"x"])


def _right_signatures(owner):
    stranger = rsa.generate()
    communications = certificate.container("communications", stranger, certificate.DIGITAL_SIGNATURE), stranger
    yield "exported", metadata.write(owner)
    yield "of-kps", metadata.write(owner, communications)
    yield "with-others", metadata.write(owner, communications, others=[owner.signing.der, communications[0]])
    yield "pss", metadata.write(owner, signature=suite.RSA_PSS)
