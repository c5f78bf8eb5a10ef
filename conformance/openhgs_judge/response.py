"""Signed responses (profile, section 10): both sides, and specimens of what a host must refuse."""

import base64
import hashlib
import os
import re
import struct
import time
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import Refused, suite
from .certificate import Certificate
from .guardian import Guardian

LABEL = b"OpenHGS response key 1"
COMPONENTS = '("@status" "content-digest" "content-digest";req)'
TAG = ';tag="openhgs-response"'
MAX_FIELD, DAY, SKEW = 2048, 24 * 60 * 60, 5 * 60
NAMES = ("content-digest", "signature-input", "signature", "openhgs-response-key")


def text_of(octets):
    return base64.b64encode(octets).decode()


def octets_of(text, length=None):
    """Canonical Base64, of so many octets."""
    try:
        octets = base64.b64decode(text, validate=True)
    except ValueError:
        octets = None
    if octets is None or text_of(octets) != text or (length is not None and len(octets) != length):
        raise Refused("form", "Base64")
    return octets


def content_digest(body):
    return f"sha-256=:{text_of(hashlib.sha256(body).digest())}:"


def parameters(created, nonce):
    return f'{COMPONENTS};created={created};nonce="{text_of(nonce)}"{TAG}'


def request_fields(body, nonce):
    """What a host sends beside the body."""
    accept = f'openhgs={COMPONENTS};created;nonce="{text_of(nonce)}"{TAG}'
    return {"Content-Digest": content_digest(body), "Accept-Signature": accept}


def read_request(values, body):
    """The nonce that a request asks with, or None; `values` gives all values of a field."""
    accept, digest = values("accept-signature"), values("content-digest")
    if not accept:
        return None
    form = re.escape(f'openhgs={COMPONENTS};created;nonce="') + r"([A-Za-z0-9+/=]{44})" + re.escape('"' + TAG)
    found = re.fullmatch(form, accept[0]) if len(accept) == 1 else None
    if found is None or digest != [content_digest(body)]:
        raise Refused("signature-request")
    return octets_of(found.group(1), 32)


def signature_base(status, body, request_body, created, nonce):
    return "\n".join(
        [
            f'"@status": {status}',
            f'"content-digest": {content_digest(body)}',
            f'"content-digest";req: {content_digest(request_body)}',
            f'"@signature-params": {parameters(created, nonce)}',
        ]
    ).encode()


@dataclass
class ResponseKey:
    """A response key, and what a guardian signs of it."""

    key: Ed25519PrivateKey
    octets: bytes
    signature: bytes

    @classmethod
    def delegate(cls, signing_key, not_before, not_after, label=LABEL, key=None):
        key = key or Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        octets = label + struct.pack(">QQ", not_before, not_after) + public
        return cls(key, octets, suite.sign(signing_key, suite.RSA_SHA256, octets))

    def field(self):
        return f"key=:{text_of(self.octets)}:, signature=:{text_of(self.signature)}:"

    def sign(self, status, body, request_body, created, nonce):
        """The fields of a response, in the order of the page."""
        signature = self.key.sign(signature_base(status, body, request_body, created, nonce))
        values = (
            content_digest(body),
            f"openhgs={parameters(created, nonce)}",
            f"openhgs=:{text_of(signature)}:",
            self.field(),
        )
        return list(zip(NAMES, values))


@dataclass(frozen=True)
class Answer:
    """A response as a host sees it, with what it asked."""

    now: int
    status: int
    body: bytes
    request: bytes
    nonce: bytes
    fields: tuple
    guardian: bytes

    def to_json(self):
        return {
            "now": self.now,
            "status": self.status,
            "body": text_of(self.body),
            "request": text_of(self.request),
            "nonce": text_of(self.nonce),
            "fields": [list(field) for field in self.fields],
            "guardian": text_of(self.guardian),
        }

    @classmethod
    def from_json(cls, found):
        octets = {name: octets_of(found[name]) for name in ("body", "request", "nonce", "guardian")}
        fields = tuple((name.lower(), value) for name, value in found["fields"])
        return cls(now=found["now"], status=found["status"], fields=fields, **octets)

    def check(self):
        """The host's checks, in the order of the page."""
        found = {name: [value for given, value in self.fields if given == name] for name in NAMES}
        if not any(found[name] for name in NAMES[1:]):
            raise Refused("unsigned")
        for name, values in found.items():
            if len(values) != 1:
                raise Refused("field", f"{name} stands {len(values)} times")
            if len(values[0]) > MAX_FIELD:
                raise Refused("form", name)
        digest, signed, signature, delegation = (found[name][0] for name in NAMES)
        match = re.fullmatch(r"sha-256=:([A-Za-z0-9+/=]+):", digest)
        if match is None:
            raise Refused("form", "content-digest")
        if octets_of(match.group(1), 32) != hashlib.sha256(self.body).digest():
            raise Refused("content-digest")
        form = re.escape(f"openhgs={COMPONENTS};created=") + r'(0|[1-9][0-9]{0,11});nonce="([A-Za-z0-9+/=]+)"'
        match = re.fullmatch(form + re.escape(TAG), signed)
        if match is None:
            raise Refused("form", "signature-input")
        created = int(match.group(1))
        if octets_of(match.group(2), 32) != self.nonce:
            raise Refused("nonce")
        key, not_before, not_after = self._delegation(delegation)
        if not not_before <= created <= not_after:
            raise Refused("created")
        match = re.fullmatch(r"openhgs=:([A-Za-z0-9+/=]+):", signature)
        if match is None:
            raise Refused("form", "signature")
        base = signature_base(self.status, self.body, self.request, created, self.nonce)
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(octets_of(match.group(1), 64), base)
        except InvalidSignature:
            raise Refused("signature") from None

    def _delegation(self, field):
        match = re.fullmatch(r"key=:([A-Za-z0-9+/=]+):, signature=:([A-Za-z0-9+/=]+):", field)
        if match is None:
            raise Refused("form", "openhgs-response-key")
        octets, signature = octets_of(match.group(1)), octets_of(match.group(2))
        if not octets.startswith(LABEL):
            raise Refused("delegation-label")
        if len(octets) != len(LABEL) + 48:
            raise Refused("form", "delegation")
        not_before, not_after = struct.unpack_from(">QQ", octets, len(LABEL))
        guardian = Certificate(self.guardian)
        if not suite.verify(guardian, suite.RSA_SHA256, signature, octets):
            raise Refused("delegation-signature")
        if not not_before <= self.now <= not_after:
            raise Refused("delegation-validity")
        if not_after - not_before > DAY + 2 * SKEW:
            raise Refused("delegation-too-long")
        return octets[len(LABEL) + 16 :], not_before, not_after


def specimens(now=None):
    """(name, reason or None, Answer): one good one, and hostile ones with one defect each."""
    now = int(time.time()) if now is None else now
    guardian, stranger = Guardian.generate("guardian"), Guardian.generate("stranger")
    body, request, nonce = b"<RollTransportKeyResponse/>", b"<RollTransportKeyRequest/>", os.urandom(32)

    def delegate(owner=guardian, start=now - SKEW, end=now + DAY + SKEW, **choices):
        return ResponseKey.delegate(owner.signing_key, start, end, **choices)

    key = delegate()

    def answer(by=key, created=now, **changes):
        good = Answer(now, 200, body, request, nonce, (), guardian.signing.der)
        made = replace(good, **{name: value for name, value in changes.items() if name != "fields"})
        fields = tuple(by.sign(200, body, request, created, nonce))
        return replace(made, fields=changes.get("fields", fields))

    good = answer()
    yield "good", None, good
    yield "good-to-the-end-of-the-delegation", None, answer(now=now + DAY + SKEW)
    yield "good-beside-other-fields", None, replace(good, fields=good.fields + (("date", "x"), ("x-signature", "y")))

    def field(name, change):
        return replace(good, fields=tuple((n, change(v) if n == name else v) for n, v in good.fields))

    yield "unsigned", "unsigned", replace(good, fields=())
    yield "content-digest-alone", "unsigned", replace(good, fields=good.fields[:1])
    for name in NAMES:
        yield f"without-{name}", "field", replace(good, fields=tuple(f for f in good.fields if f[0] != name))
        yield f"twice-{name}", "field", replace(good, fields=good.fields + tuple(f for f in good.fields if f[0] == name))
        yield f"empty-{name}", "form", field(name, lambda _: "")
        yield f"cut-{name}", "form", field(name, lambda value: value[:-1])
        yield f"longer-{name}", "form", field(name, lambda value: value + " ")
        yield f"too-long-{name}", "form", field(name, lambda value: value + ";" * MAX_FIELD)
    yield "another-body", "content-digest", replace(good, body=body + b" ")
    yield "another-status", "signature", replace(good, status=201)
    yield "another-request", "signature", replace(good, request=request + b" ")
    yield "another-nonce", "nonce", replace(good, nonce=os.urandom(32))
    yield "recorded-earlier", "nonce", replace(good, fields=tuple(key.sign(200, body, request, now, os.urandom(32))))
    yield "another-guardian", "delegation-signature", replace(good, guardian=stranger.signing.der)
    yield "delegated-by-a-stranger", "delegation-signature", answer(by=delegate(owner=stranger))
    yield "delegated-for-something-else", "delegation-label", answer(by=delegate(label=b"OpenHGS response key 2"))
    yield "delegated-without-a-label", "delegation-label", answer(by=delegate(label=b""))
    yield "delegated-as-der", "delegation-label", answer(by=delegate(label=b"0" + LABEL[1:]))
    yield "delegation-over", "delegation-validity", answer(now=now + DAY + SKEW + 1)
    yield "delegation-not-yet", "delegation-validity", answer(now=now - SKEW - 1)
    yield "delegation-too-long", "delegation-too-long", answer(by=delegate(end=now + DAY + SKEW + 1))
    yield "delegation-backwards", "delegation-validity", answer(by=delegate(start=now + 1, end=now - 1))
    yield "created-before-the-key", "created", answer(created=now - SKEW - 1)
    yield "created-after-the-key", "created", answer(created=now + DAY + SKEW + 1)
    other = delegate()
    yield "another-key-of-the-guardian", "signature", field(NAMES[3], lambda _: other.field())
    changed = bytearray(key.octets)
    changed[-1] ^= 1
    tampered = replace_octets(key, bytes(changed))
    yield "delegation-tampered", "delegation-signature", field(NAMES[3], lambda _: tampered)
    yield "delegation-longer", "form", field(NAMES[3], lambda _: replace_octets(key, key.octets + b"\0"))
    for name, old, new in (
        ("fewer-components", '"content-digest" "content-digest";req', '"content-digest"'),
        ("request-digest-left-out", ' "content-digest";req', ""),
        ("another-tag", "openhgs-response", "openhgs"),
        ("with-a-key-id", ";created", ';keyid="x";created'),
        ("created-with-a-sign", "created=", "created=+"),
        ("created-with-zeros", "created=", "created=0"),
        ("another-order", "openhgs=", "sig=1, openhgs="),
        ("capitals", "nonce", "Nonce"),
    ):
        yield f"input-{name}", "form", field(NAMES[1], lambda value, old=old, new=new: value.replace(old, new, 1))
    yield "digest-sha-512", "form", field(NAMES[0], lambda value: value.replace("256", "512"))
    yield "digest-of-two", "form", field(NAMES[0], lambda value: f"{value}, {value}")
    flipped = text_of(bytes(64))
    yield "signature-of-zeros", "signature", field(NAMES[2], lambda _: f"openhgs=:{flipped}:")
    yield "signature-of-another-label", "form", field(NAMES[2], lambda value: value.replace("openhgs", "sig1"))


def replace_octets(key, octets):
    return f"key=:{text_of(octets)}:, signature=:{text_of(key.signature)}:"


def row(name, reason, answer):
    """A specimen as cells of text."""
    cells = [name, reason or "", str(answer.now), str(answer.status), text_of(answer.body), text_of(answer.request)]
    cells += [request_fields(answer.request, answer.nonce)["Accept-Signature"], text_of(answer.guardian)]
    return cells + [cell for field in answer.fields for cell in field]
