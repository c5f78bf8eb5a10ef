"""Nonces of the attestation service, and the proof by which a host returns one (profile, section 7)."""

import base64
import binascii
import hashlib
import hmac
import os
import struct
from email.message import Message

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa as library

from . import Refused, certificate, rsa, suite

NONCE_HEADER, PROOF_HEADER = "OpenHGS-Attestation-Nonce", "OpenHGS-Attestation-Proof"
LABEL, NONCE_LABEL = b"OpenHGS attestation freshness 1\0", b"OpenHGS attestation nonce 1\0"
LIFETIME, SKEW, MAX_NONCE = 300, 60, 64
INVALID, EXPIRED = "nonce-invalid", "nonce-expired"


def signed_octets(nonce, body):
    return LABEL + hashlib.sha256(nonce).digest() + hashlib.sha256(body).digest()


def prove(host_key, nonce, body):
    """The value of the header that returns `nonce` with `body`."""
    return written(nonce, suite.sign(host_key, suite.RSA_SHA256, signed_octets(nonce, body)))


def written(nonce, signature):
    return base64.b64encode(nonce).decode() + "." + base64.b64encode(signature).decode()


def read_nonce(values):
    """The nonce in the values of the header, of which there is one."""
    if len(values) != 1:
        raise Refused(INVALID, f"{len(values)} headers with a nonce")
    nonce = _decoded(values[0])
    if not 1 <= len(nonce) <= MAX_NONCE:
        raise Refused(INVALID, f"a nonce of {len(nonce)} octets")
    return nonce


def _decoded(text):
    try:
        octets = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Refused(INVALID, "not Base64") from error
    if base64.b64encode(octets).decode() != text:
        raise Refused(INVALID, "not canonical Base64")
    return octets


class NonceKey:
    """What a service makes and checks its nonces with. `now` is in Unix seconds."""

    def __init__(self, secret=None):
        self.secret = secret or os.urandom(32)

    def nonce(self, now, version=1):
        made = struct.pack(">q", now)
        return bytes([version]) + made + hmac.digest(self.secret, NONCE_LABEL + made, "sha256")

    def check(self, nonce, now):
        if len(nonce) != 41 or nonce[0] != 1 or not hmac.compare_digest(
            hmac.digest(self.secret, NONCE_LABEL + nonce[1:9], "sha256"), nonce[9:]
        ):
            raise Refused(INVALID, "not a nonce of this guardian")
        (made,) = struct.unpack(">q", nonce[1:9])
        if not -SKEW <= now - made <= LIFETIME:
            raise Refused(EXPIRED, f"made at {made}; it is {now}")

    def check_proof(self, proof, body, host_key, now):
        """`host_key` is a SubjectPublicKeyInfo."""
        if proof.count(".") != 1:
            raise Refused(INVALID, "not two parts")
        nonce, signature = proof.split(".")
        nonce, signature = read_nonce([nonce]), _decoded(signature)
        self.check(nonce, now)
        modulus, exponent = certificate.read_public_key(host_key)
        public = library.RSAPublicNumbers(exponent, modulus).public_key()
        try:
            public.verify(signature, signed_octets(nonce, body), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise Refused(INVALID, "the signature does not verify") from None


def headers(*proofs):
    """Header fields with each of `proofs`."""
    fields = Message()
    for proof in proofs:
        fields[PROOF_HEADER] = proof
    return fields


def spoilt_proofs(host_key, nonce, body):
    """{name: proof}: what no guardian may accept as returning `nonce` with `body`."""
    good, stranger = prove(host_key, nonce, body), rsa.generate()
    first, signature = good.split(".")
    octets = base64.b64decode(signature)
    flipped = nonce[:-1] + bytes([nonce[-1] ^ 1])
    return {
        "empty": "",
        "without-a-signature": first,
        "with-an-empty-signature": first + ".",
        "without-a-nonce": "." + signature,
        "with-three-parts": good + "." + signature,
        "with-a-comma": good.replace(".", ","),
        "with-white-space": good.replace(".", ". "),
        "in-base64url": good.replace("+", "-").replace("/", "_") + "-",
        "without-padding": first.rstrip("=") + "." + signature.rstrip("="),
        "by-another-key": prove(stranger, nonce, body),
        "for-another-body": prove(host_key, nonce, body + b" "),
        "with-a-signature-over-the-nonce-alone": written(nonce, suite.sign(host_key, suite.RSA_SHA256, nonce)),
        "without-its-label": written(
            nonce, suite.sign(host_key, suite.RSA_SHA256, signed_octets(nonce, body)[len(LABEL) :])
        ),
        "with-a-changed-signature": written(nonce, octets[:-1] + bytes([octets[-1] ^ 1])),
        "with-a-longer-signature": written(nonce, octets + b"\0"),
        "with-a-changed-nonce": prove(host_key, flipped, body),
        "with-a-shorter-nonce": prove(host_key, nonce[:-1], body),
        "with-a-nonce-of-65-octets": prove(host_key, bytes(65), body),
        "of-another-guardian": prove(host_key, NonceKey().nonce(0), body),
    }


def specimens(now):
    """(name, code or None, secret, now, SubjectPublicKeyInfo, proof, body): proofs to accept and to refuse."""
    host_key, key, body = rsa.generate(), NonceKey(), b'{"a body":"as it was sent"}'
    spki = certificate.spki_of(host_key)
    nonce = key.nonce(now)

    def at(moment, proof=None):
        return key.secret, moment, spki, prove(host_key, nonce, body) if proof is None else proof, body

    yield "good", None, *at(now)
    yield "at-its-end", None, *at(now + LIFETIME)
    yield "from-a-clock-ahead", None, *at(now - SKEW)
    yield "too-old", EXPIRED, *at(now + LIFETIME + 1)
    yield "of-the-future", EXPIRED, *at(now - SKEW - 1)
    yield "too-old-and-by-another-key", EXPIRED, *at(now + LIFETIME + 1, prove(rsa.generate(), nonce, body))
    yield "of-another-version", INVALID, *at(now, prove(host_key, key.nonce(now, version=2), body))
    for name, proof in spoilt_proofs(host_key, nonce, body).items():
        yield name, INVALID, *at(now, proof)


def row(name, code, secret, now, spki, proof, body):
    """A specimen as cells of text."""
    octets = [base64.b64encode(value).decode() for value in (secret, spki, body)]
    return [name, code or "", str(now), *octets, proof]
