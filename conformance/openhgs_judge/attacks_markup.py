"""Refusals of sections 2 and 3: encoding, mark-up, schema, lexical forms, identifiers, limits.

A table is a list of (reason, section, [(name, old, new), ...]): the text `old` of the right document is
replaced by `new`.
"""

import re

from . import suite, xml
from .attacks import Specimen, replaced

ROOT = f'<Protector xmlns="{xml.KPS}">'
END = "</Protector>"
KEY_SIGNATURE = "<TransportKeySignature>"
HKDF = f'<KeyDerivationMethod Algorithm="{suite.HKDF}"/>'
MAC = f'<Signature Algorithm="{suite.HMAC_SHA256}">'
GUARDIAN = '<GuardianSignature WrappingId="1">'
GUARDIAN_SIGNATURE = f'{GUARDIAN}<Signature Algorithm="{suite.RSA_SHA256}">'
PARAMETERS = (
    f'<Parameters><DigestMethod xmlns="{suite.DS}" Algorithm="{suite.SHA256}"/>'
    f'<MGF xmlns="{suite.XENC11}" Algorithm="{suite.MGF1_SHA256}"/></Parameters>'
)
CERTIFICATE = "<SigningCertificate>"
FOREIGN = "urn:example:foreign"
ALGORITHM = "http://www.w3.org/2001/04/xmldsig-more#"


def specimens(kit):
    yield from _octets(kit)
    for table in (_MARK_UP, _OUTER_SCHEMA, _OUTER_ALGORITHMS):
        for name, reason, section, old, new in _rows(table):
            yield Specimen(name, replaced(kit.plain, old, new).encode(), section, reason=reason)
    for table in (_INNER_SCHEMA, _INNER_ALGORITHMS):
        for name, reason, section, old, new in _rows(table):
            yield Specimen(name, kit.seal(replaced(kit.template, old, new)), section, reason=reason)
    yield from _whole_elements(kit)
    yield from _encoded_values(kit)
    yield from _limits(kit)


def _rows(table):
    for reason, section, rows in table:
        for name, old, new in rows:
            yield name, reason, section, old, new


def _octets(kit):
    """Defects of octets, not of text."""
    octets = kit.plain.encode()
    declared = '<?xml version="1.0" encoding="utf-16"?>' + kit.plain
    table = [
        ("empty", "not-well-formed", b""),
        ("white-space-only", "not-well-formed", b" \n"),
        ("byte-order-mark", "byte-order-mark", b"\xef\xbb\xbf" + octets),
        ("utf-16-with-mark", "encoding", declared.encode("utf-16")),
        ("utf-16-little-endian", "encoding", declared.encode("utf-16-le")),
        ("utf-16-big-endian", "encoding", declared.encode("utf-16-be")),
        ("utf-32", "encoding", b"\xff\xfe\0\0" + kit.plain.encode("utf-32-le")),
        ("trailing-nul", "encoding", octets + b"\0"),
        ("trailing-text", "not-well-formed", octets + b"x"),
        ("trailing-document", "not-well-formed", octets * 2),
        ("trailing-octet-not-utf-8", "encoding", octets + b"\xff"),
        ("overlong-utf-8", "encoding", octets.replace(b"</Protector>", b"\xc0\xbc/Protector>")),
        ("surrogate-in-utf-8", "encoding", octets.replace(b"<Id>1", b"<Id>1\xed\xa0\x80", 1)),
        ("cut-short", "not-well-formed", octets[:-1]),
    ]
    for name, reason, defect in table:
        yield Specimen(name, defect, "2", reason=reason)


def _root(given):
    return f'<Protector xmlns="{xml.KPS}" {given}>'


def _type(declarations):
    return f"<!DOCTYPE Protector [{declarations}]>{ROOT}"


_LAUGHS = '<!ENTITY a0 "1">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))

# Defects that signatures do not show: outside Wrappings, or dropped by canonicalisation.
_MARK_UP = [
    (
        "xml-declaration",
        "2",
        [
            ("declares-latin-1", ROOT, '<?xml version="1.0" encoding="ISO-8859-1"?>' + ROOT),
            ("declares-us-ascii", ROOT, '<?xml version="1.0" encoding="US-ASCII"?>' + ROOT),
            ("declares-utf-16", ROOT, '<?xml version="1.0" encoding="UTF-16"?>' + ROOT),
            ("declares-version-1.1", ROOT, '<?xml version="1.1"?>' + ROOT),
        ],
    ),
    (
        "carriage-return",
        "2",
        [
            ("carriage-return-between-elements", KEY_SIGNATURE, "\r" + KEY_SIGNATURE),
            ("carriage-return-before-crlf", KEY_SIGNATURE, "\r\r\n" + KEY_SIGNATURE),
            ("carriage-return-in-attribute", GUARDIAN, '<GuardianSignature WrappingId="1\r">'),
            ("carriage-return-in-value", MAC + "<SignatureValue>", MAC + "<SignatureValue>\r"),
            ("carriage-return-at-the-end", END, END + "\r"),
        ],
    ),
    (
        "document-type",
        "2",
        [
            ("document-type-empty", ROOT, "<!DOCTYPE Protector>" + ROOT),
            ("document-type-system", ROOT, '<!DOCTYPE Protector SYSTEM "file:///etc/hostname">' + ROOT),
            ("document-type-public", ROOT, '<!DOCTYPE Protector PUBLIC "p" "http://192.0.2.1/">' + ROOT),
            ("entity-internal", ROOT, _type('<!ENTITY one "1">')),
            ("entity-external", ROOT, _type('<!ENTITY one SYSTEM "file:///etc/hostname">')),
            ("entity-parameter", ROOT, _type('<!ENTITY % p SYSTEM "http://192.0.2.1/">%p;')),
            ("entity-billion-laughs", ROOT, _type(_LAUGHS)),
            ("attribute-default", ROOT, _type('<!ATTLIST Protector MaxOfflineUnwraps CDATA "9">')),
        ],
    ),
    (
        "comment",
        "2",
        [
            ("comment-before-root", ROOT, "<!-- -->" + ROOT),
            ("comment-after-root", END, END + "<!-- -->"),
            ("comment-between-elements", "<Wrappings>", "<!-- --><Wrappings>"),
            ("comment-in-wrappings", "<Wrappings>", "<Wrappings><!-- -->"),
            ("comment-in-id", "<Id>1</Id>", "<Id>1<!-- --></Id>"),
            ("comment-in-certificate", CERTIFICATE, CERTIFICATE + "<!-- -->"),
            ("comment-in-signature-value", MAC + "<SignatureValue>", MAC + "<SignatureValue><!-- -->"),
            ("comment-in-parameters", "<Parameters>", "<Parameters><!-- -->"),
        ],
    ),
    (
        "processing-instruction",
        "2",
        [
            ("instruction-before-root", ROOT, '<?xml-stylesheet href="x"?>' + ROOT),
            ("instruction-after-root", END, END + "<?p?>"),
            ("instruction-between-elements", KEY_SIGNATURE, "<?p?>" + KEY_SIGNATURE),
            ("instruction-in-signature-value", MAC + "<SignatureValue>", MAC + "<SignatureValue><?p?>"),
        ],
    ),
    (
        "not-well-formed",
        "2",
        [
            ("declaration-after-white-space", ROOT, ' <?xml version="1.0"?>' + ROOT),
            ("declaration-twice", ROOT, '<?xml version="1.0"?>' * 2 + ROOT),
            ("entity-undeclared", "<Id>1</Id>", "<Id>&one;</Id>"),
            ("prefix-undeclared-by-declaration", ROOT, _root('xmlns:p=""')),
            ("prefix-not-declared", KEY_SIGNATURE, '<TransportKeySignature p:a="1">'),
            ("prefix-xml-rebound", ROOT, _root(f'xmlns:xml="{FOREIGN}"')),
            ("prefix-xmlns-bound", ROOT, _root(f'xmlns:xmlns="{FOREIGN}"')),
            ("attribute-twice", GUARDIAN, '<GuardianSignature WrappingId="1" WrappingId="1">'),
            (
                "attribute-twice-by-prefix",
                ROOT,
                _root(f'xmlns:a="{FOREIGN}" xmlns:b="{FOREIGN}" a:c="1" b:c="1"'),
            ),
            ("attribute-without-quotes", GUARDIAN, "<GuardianSignature WrappingId=1>"),
            ("less-than-in-attribute", GUARDIAN, '<GuardianSignature WrappingId="<">'),
            ("control-character-reference", KEY_SIGNATURE, "&#0;" + KEY_SIGNATURE),
            ("control-character", KEY_SIGNATURE, "\x01" + KEY_SIGNATURE),
            ("not-a-character", KEY_SIGNATURE, "\uffff" + KEY_SIGNATURE),
            ("end-of-character-data-in-text", KEY_SIGNATURE, "]]>" + KEY_SIGNATURE),
            ("end-tag-of-another-element", "</TransportKeySignature>", "</TransportKeySignatur>"),
        ],
    ),
]

_OUTER_SCHEMA = [
    # Canonical XML 1.0 section 1.3: there is no canonical form.
    (
        "canonical-form",
        "4",
        [
            ("relative-namespace", "<Wrappings>", '<Wrappings xmlns:r="relative">'),
            ("relative-namespace-of-root", ROOT, _root('xmlns:r="relative"')),
        ],
    ),
    (
        "root",
        "2",
        [
            ("root-in-no-namespace", f' xmlns="{xml.KPS}"', ""),
            ("root-in-service-namespace", f'"{xml.KPS}"', f'"{xml.SERVICE}"'),
            ("root-namespace-with-slash", f'"{xml.KPS}"', f'"{xml.KPS}/"'),
            ("root-namespace-wrong-case", f'"{xml.KPS}"', f'"{xml.KPS.replace("kps", "KPS")}"'),
        ],
    ),
    (
        "text",
        "2",
        [
            ("text-after-wrappings", "</Wrappings>", "</Wrappings>x"),
            ("no-break-space-after-wrappings", "</Wrappings>", "</Wrappings>\u00a0"),
            ("text-in-derivation", HKDF, HKDF.replace("/>", ">x</KeyDerivationMethod>")),
        ],
    ),
    (
        "attribute",
        "2",
        [
            ("attribute-unknown", ROOT, _root('Unknown="1"')),
            ("attribute-id", ROOT, _root('ID="p"')),
            ("attribute-foreign", ROOT, _root(f'xmlns:f="{FOREIGN}" f:a="1"')),
            ("attribute-xml-lang", ROOT, _root('xml:lang="en"')),
            ("attribute-xml-space", GUARDIAN, '<GuardianSignature xml:space="preserve" WrappingId="1">'),
            (
                "attribute-schema-location",
                ROOT,
                _root('xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:schemaLocation="a b"'),
            ),
            ("attribute-of-signature-value", MAC + "<SignatureValue>", MAC + '<SignatureValue a="1">'),
            ("attribute-of-transport-key-signature", KEY_SIGNATURE, '<TransportKeySignature WrappingId="1">'),
            ("attribute-in-kps-namespace", GUARDIAN, f'<GuardianSignature xmlns:k="{xml.KPS}" k:WrappingId="1">'),
            ("attribute-wrong-case", GUARDIAN, '<GuardianSignature wrappingId="1">'),
            ("wrapping-id-missing", GUARDIAN, "<GuardianSignature>"),
            ("mac-algorithm-missing", f' Algorithm="{suite.HMAC_SHA256}"', ""),
            ("derivation-algorithm-missing", f' Algorithm="{suite.HKDF}"', ""),
        ],
    ),
    (
        "element",
        "2",
        [
            ("element-after-guardian-signature", END, "<More/>" + END),
            ("element-before-wrappings", "<Wrappings>", "<More/><Wrappings>"),
            ("element-foreign", END, f'<f:More xmlns:f="{FOREIGN}"/>' + END),
            ("element-in-signature-value", MAC + "<SignatureValue>", MAC + "<SignatureValue><a/>"),
            ("element-in-key-info", GUARDIAN, GUARDIAN + f'<KeyInfo xmlns="{suite.DS}"/>'),
            ("derivation-missing", HKDF, ""),
            ("derivation-twice", HKDF, HKDF * 2),
        ],
    ),
    (
        "number",
        "2",
        [
            ("offline-unwraps-negative", ROOT, _root('MaxOfflineUnwraps="-1"')),
            ("offline-unwraps-over-32-bits", ROOT, _root('MaxOfflineUnwraps="4294967296"')),
            ("offline-unwraps-hexadecimal", ROOT, _root('MaxOfflineUnwraps="0x1"')),
            ("offline-unwraps-fraction", ROOT, _root('MaxOfflineUnwraps="1.0"')),
            ("offline-unwraps-empty", ROOT, _root('MaxOfflineUnwraps=""')),
            ("offline-unwraps-infinite", ROOT, _root('MaxOfflineUnwraps="INF"')),
            ("wrapping-id-empty", GUARDIAN, '<GuardianSignature WrappingId="">'),
            ("wrapping-id-two-numbers", GUARDIAN, '<GuardianSignature WrappingId="1 1">'),
            ("wrapping-id-two-signs", GUARDIAN, '<GuardianSignature WrappingId="++1">'),
            ("wrapping-id-wraps-around", GUARDIAN, '<GuardianSignature WrappingId="4294967297">'),
        ],
    ),
]

_INNER_SCHEMA = [
    (
        "processing-instruction",
        "2",
        [("instruction-in-wrappings", "<Wrappings>", "<Wrappings><?p?>")],
    ),
    (
        "text",
        "2",
        [
            ("text-in-wrappings", "<Wrappings>", "<Wrappings>x"),
            ("text-in-wrapping", "<Wrapping>", "<Wrapping>1"),
        ],
    ),
    (
        "attribute",
        "2",
        [
            ("attribute-of-wrappings", "<Wrappings>", '<Wrappings Id="1">'),
            ("attribute-of-wrapping", "<Wrapping>", '<Wrapping Id="1">'),
            ("attribute-of-id", "<Id>", '<Id a="1">'),
            ("attribute-of-certificate", CERTIFICATE, '<SigningCertificate Encoding="DER">'),
            ("attribute-xml-base-in-wrappings", "<Wrappings>", '<Wrappings xml:base="x">'),
            ("parent-wrapping-id-missing", ' ParentWrappingId="1"', ""),
            ("key-algorithm-missing", f' Algorithm="{suite.RSA_OAEP}"', ""),
            ("signature-algorithm-missing", f' Algorithm="{suite.RSA_SHA256}"', ""),
        ],
    ),
    (
        "element",
        "2",
        [
            ("element-in-wrapping", "</Wrapping>", "<More/></Wrapping>"),
            ("element-in-wrappings", "</Wrappings>", "<More/></Wrappings>"),
            ("element-in-id", "<Id>1</Id>", "<Id>1<a/></Id>"),
            ("element-in-certificate", CERTIFICATE, CERTIFICATE + "<a/>"),
            ("wrapping-in-no-namespace", "<Wrapping>", '<Wrapping xmlns="">'),
            ("wrapping-wrong-case", "<Wrappings><Wrapping>", "<Wrappings><wrapping/><Wrapping>"),
            ("id-in-foreign-namespace", "<Id>", f'<Id xmlns="{FOREIGN}">'),
            ("id-missing", "<Id>1</Id>", ""),
            ("id-twice", "<Id>1</Id>", "<Id>1</Id><Id>1</Id>"),
            ("parameters-after-value", "</CipherValue>", "</CipherValue><Parameters/>"),
            ("parameters-twice", PARAMETERS, PARAMETERS * 2),
        ],
    ),
    (
        "number",
        "2",
        [
            ("id-empty", "<Id>1</Id>", "<Id/>"),
            ("id-negative", "<Id>1</Id>", "<Id>-1</Id>"),
            ("id-over-32-bits", "<Id>1</Id>", "<Id>4294967297</Id>"),
            ("id-over-64-bits", "<Id>1</Id>", "<Id>18446744073709551617</Id>"),
            ("id-arabic-digit", "<Id>1</Id>", "<Id>\u0661</Id>"),
            ("id-full-width-digit", "<Id>1</Id>", "<Id>\uff11</Id>"),
            ("id-underscore", "<Id>1</Id>", "<Id>0_1</Id>"),
            ("id-exponent", "<Id>1</Id>", "<Id>1e0</Id>"),
            ("id-no-break-space", "<Id>1</Id>", "<Id>1\u00a0</Id>"),
            ("id-space-inside", "<Id>1</Id>", "<Id>0 1</Id>"),
            ("parent-id-over-32-bits", 'ParentWrappingId="1"', 'ParentWrappingId="4294967297"'),
        ],
    ),
    (
        "base64",
        "2",
        [
            ("base64-not-alphabet", CERTIFICATE, CERTIFICATE + "****"),
            ("base64-url-alphabet", CERTIFICATE, CERTIFICATE + "_-_-"),
            ("base64-no-break-space", CERTIFICATE, CERTIFICATE + "\u00a0"),
            ("base64-one-character-more", CERTIFICATE, CERTIFICATE + "A"),
            ("base64-padding-in-the-middle", CERTIFICATE, CERTIFICATE + "AA=="),
            ("base64-only-padding", CERTIFICATE, CERTIFICATE + "===="),
        ],
    ),
]


def _algorithm(wrong, *, of):
    return f'"{of}"', f'"{wrong}"'


def _guardian(wrong):
    return GUARDIAN_SIGNATURE, f'{GUARDIAN}<Signature Algorithm="{wrong}">'


_OUTER_ALGORITHMS = [
    (
        "algorithm",
        "3",
        [
            ("mac-sha1", *_algorithm(suite.DS + "hmac-sha1", of=suite.HMAC_SHA256)),
            ("mac-sha512", *_algorithm(ALGORITHM + "hmac-sha512", of=suite.HMAC_SHA256)),
            ("mac-said-to-be-rsa", *_algorithm(suite.RSA_SHA256, of=suite.HMAC_SHA256)),
            ("derivation-pbkdf2", *_algorithm(suite.XENC11 + "pbkdf2", of=suite.HKDF)),
            ("derivation-concat", *_algorithm(suite.XENC11 + "ConcatKDF", of=suite.HKDF)),
            ("derivation-empty", *_algorithm("", of=suite.HKDF)),
            ("guardian-said-to-be-mac", GUARDIAN_SIGNATURE, f"{GUARDIAN}{MAC}"),
            ("guardian-rsa-sha1", *_guardian(suite.DS + "rsa-sha1")),
            ("guardian-rsa-sha512", *_guardian(ALGORITHM + "rsa-sha512")),
            ("guardian-ecdsa", *_guardian(ALGORITHM + "ecdsa-sha256")),
            ("guardian-none", *_guardian("none")),
            ("guardian-algorithm-wrong-case", *_guardian(ALGORITHM + "RSA-SHA256")),
        ],
    ),
    (
        "parameters",
        "3",
        [
            ("mac-parameters-empty", MAC, MAC + "<Parameters/>"),
            (
                "mac-parameters-output-length",
                MAC,
                f'{MAC}<Parameters><HMACOutputLength xmlns="{suite.DS}">128</HMACOutputLength></Parameters>',
            ),
            ("guardian-parameters-empty", GUARDIAN_SIGNATURE, GUARDIAN_SIGNATURE + "<Parameters/>"),
            (
                "derivation-parameters",
                HKDF,
                HKDF.replace("/>", f'><Parameters>{PARAMETERS[12:-13]}</Parameters></KeyDerivationMethod>'),
            ),
        ],
    ),
]

_DIGEST, _MGF = re.findall("<(?:DigestMethod|MGF)[^>]*>", PARAMETERS)
_INNER_ALGORITHMS = [
    (
        "algorithm",
        "3",
        [
            ("key-rsa-1_5", *_algorithm("http://www.w3.org/2001/04/xmlenc#rsa-1_5", of=suite.RSA_OAEP)),
            ("key-aes", *_algorithm(suite.AES256_GCM, of=suite.RSA_OAEP)),
            ("key-unknown", *_algorithm("urn:example:cipher", of=suite.RSA_OAEP)),
            ("wrapping-signature-sha1", *_algorithm(suite.DS + "rsa-sha1", of=suite.RSA_SHA256)),
            ("wrapping-signature-mac", *_algorithm(suite.HMAC_SHA256, of=suite.RSA_SHA256)),
        ],
    ),
    (
        "parameters",
        "3",
        [
            ("oaep-parameters-missing", PARAMETERS, ""),
            ("oaep-parameters-empty", PARAMETERS, "<Parameters/>"),
            ("oaep-digest-missing", _DIGEST, ""),
            ("oaep-mgf-missing", _MGF, ""),
            ("oaep-digest-twice", _DIGEST, _DIGEST * 2),
            ("oaep-order-swapped", _DIGEST + _MGF, _MGF + _DIGEST),
            ("oaep-digest-sha1", *_algorithm(suite.DS + "sha1", of=suite.SHA256)),
            ("oaep-mgf-sha1", *_algorithm(suite.XENC11 + "mgf1sha1", of=suite.MGF1_SHA256)),
            ("oaep-label", _DIGEST, f'<OAEPparams xmlns="{suite.XENC11}">AA==</OAEPparams>{_DIGEST}'),
            ("oaep-foreign-parameter", _MGF, f'{_MGF}<a xmlns="{FOREIGN}"/>'),
            ("oaep-digest-attribute", "<DigestMethod ", '<DigestMethod a="1" '),
            ("oaep-digest-child", _DIGEST, _DIGEST.replace("/>", "><a/></DigestMethod>")),
            ("oaep-digest-in-xenc11", _DIGEST, _DIGEST.replace(suite.DS, suite.XENC11)),
            ("oaep-digest-without-algorithm", _DIGEST, f'<DigestMethod xmlns="{suite.DS}"/>'),
            ("oaep-parameters-attribute", "<Parameters>", '<Parameters a="1">'),
            ("mgf1p-with-parameters", *_algorithm(suite.RSA_OAEP_MGF1P, of=suite.RSA_OAEP)),
            (
                "wrapping-signature-parameters",
                f'<Signature Algorithm="{suite.RSA_SHA256}">',
                f'<Signature Algorithm="{suite.RSA_SHA256}"><Parameters/>',
            ),
        ],
    ),
    (
        "text",
        "3",
        [("oaep-parameters-text", "<Parameters>", "<Parameters>x")],
    ),
]


# Elements, and why one without content is refused; an empty CipherValue only does not open.
_ELEMENTS = {
    "Wrappings": "element",
    "TransportKeySignature": "element",
    "GuardianSignature": "attribute",
    "SigningCertificate": "certificate",
    "SigningCertificateSignature": "attribute",
    "EncryptionCertificate": "certificate",
    "EncryptionCertificateSignature": "element",
    "TransportKey": "element",
    "EncryptedData": "attribute",
    "CipherValue": None,
}


def _whole_elements(kit):
    """Elements left out, doubled, emptied, or in another order."""
    pieces = {name: re.search(f"<{name}[ >].*?</{name}>", kit.plain).group() for name in _ELEMENTS}
    for name, when_empty in _ELEMENTS.items():
        piece = pieces[name]
        for what, new, reason in (
            ("missing", "", "element"),
            ("twice", piece * 2, "element"),
            ("empty", f"<{name}/>", when_empty),
        ):
            if reason:
                yield Specimen(f"{_hyphens(name)}-{what}", _with_piece(kit, piece, new), "2", reason=reason)
    key, guardian = pieces["TransportKeySignature"], pieces["GuardianSignature"]
    swapped = replaced(kit.plain, key + guardian, guardian + key).encode()
    yield Specimen("signatures-swapped", swapped, "2", reason="element")
    signing, encryption = pieces["SigningCertificate"], pieces["EncryptionCertificate"]
    template = replaced(replaced(kit.template, encryption, ""), signing, encryption + signing)
    yield Specimen("certificates-out-of-order", kit.seal(template), "2", reason="element")
    renamed = kit.plain.replace("<Protector ", "<Protectors ").replace(END, "</Protectors>").encode()
    yield Specimen("root-of-another-name", renamed, "2", reason="root")
    bare = pieces["Wrappings"].replace("<Wrappings>", f'<Wrappings xmlns="{xml.KPS}">')
    yield Specimen("root-is-wrappings", bare.encode(), "2", reason="root")


def _with_piece(kit, piece, new):
    """Signed with the change, where the change is inside what is signed."""
    if piece in kit.template and not piece.startswith("<Wrappings>"):
        return kit.seal(replaced(kit.template, piece, new))
    return replaced(kit.plain, piece, new).encode()


def _hyphens(name):
    return re.sub("(?<!^)([A-Z])", r"-\1", name).lower()


def _encoded_values(kit):
    """Base64 with stray final bits or padding, and the length of the MAC."""
    value = re.search(f"{re.escape(MAC)}<SignatureValue>(.*?)</SignatureValue>", kit.plain).group(1)
    mac = xml.base64_binary(value)
    # 32 octets end in one padding character: the character before it carries two bits that must be zero.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = value[:-2] + alphabet[alphabet.index(value[-2]) | 1] + "="
    table = [
        ("mac-base64-stray-bits", "base64", stray),
        ("mac-base64-without-padding", "base64", value[:-1]),
        ("mac-base64-padding-twice", "base64", value + "="),
        ("mac-base64-text-after-padding", "base64", value + "AAAA"),
        ("mac-hexadecimal", "mac-length", mac.hex()),
        ("mac-empty", "mac-length", ""),
        ("mac-truncated-to-128-bits", "mac-length", xml.base64_text(mac[:16])),
        ("mac-one-octet-short", "mac-length", xml.base64_text(mac[:31])),
        ("mac-one-octet-long", "mac-length", xml.base64_text(mac + b"\0")),
    ]
    for name, reason, new in table:
        section = "3" if reason == "mac-length" else "2"
        yield Specimen(name, replaced(kit.plain, value, new).encode(), section, reason=reason)


def _limits(kit):
    """One more than each limit of section 2 that mark-up alone reaches."""
    padding = " " * (xml.MAX_PROTECTOR + 1 - len(kit.plain.encode()))
    octets = replaced(kit.plain, "</Wrappings>", "</Wrappings>" + padding).encode()
    yield Specimen("one-octet-too-many", octets, "2", reason="limit-octets")
    given = " ".join(f'a{number}=""' for number in range(xml.MAX_ATTRIBUTES))
    octets = replaced(kit.plain, ROOT, _root(given)).encode()
    yield Specimen("one-attribute-too-many", octets, "2", reason="limit-attributes")
    # The root has one more, and so have the parameters inside, of the same prefix.
    given = " ".join(f'xmlns:p{number}="urn:example:{number}"' for number in range(xml.MAX_NAMESPACES - 1))
    octets = replaced(kit.plain, ROOT, _root(given)).encode()
    yield Specimen("one-namespace-too-many", octets, "2", reason="limit-namespaces")
    deep = "<a>" * xml.MAX_DEPTH + "</a>" * xml.MAX_DEPTH
    octets = replaced(kit.plain, END, deep + END).encode()
    yield Specimen("one-element-too-deep", octets, "2", reason="limit-depth")
    octets = replaced(kit.plain, END, "<a/>" * xml.MAX_NODES + END).encode()
    yield Specimen("too-many-nodes", octets, "2", reason="limit-nodes")
