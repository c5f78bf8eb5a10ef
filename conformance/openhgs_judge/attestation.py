"""Attestation in host-key mode (profile, section 7): requests, replies, and the part of the service."""

import base64
import binascii
import datetime
import hashlib
import json
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa as library

from . import Refused, certificate, der, freshness, health, suite
from .certificate import Certificate

TYPE_SUFFIX = ":#Microsoft.Windows.RemoteAttestation.Core"
IDENTITY_KEY, HOST_KEY, HOST_KEY_SIGNATURE = 1, 8, 9
HOST_KEY_MODE = 3
MAX_PROVIDED, MAX_LEVELS, MAX_VALUES, MAX_MEMBERS = 16, 16, 1024, 64
IDENTITY_KEY_LIFE = datetime.timedelta(days=30)
DATA, SIGNED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"


# JSON.


def loads(octets):
    """JSON in UTF-8 without doubled members; objects keep their order."""

    def members(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise Refused("malformed-request", "a doubled member")
        return dict(pairs)

    def constant(name):
        raise Refused("malformed-request", name)

    # A number with fraction or exponent stays apart from an integer: it becomes a float.
    try:
        return json.loads(octets.decode("utf-8"), object_pairs_hook=members, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Refused("malformed-request", str(error)) from error


def check_size(value, levels=MAX_LEVELS):
    """The number of values in `value`, which nests no deeper than `levels` arrays and objects."""
    if not isinstance(value, (dict, list)):
        return 1
    if levels == 0 or (isinstance(value, dict) and len(value) > MAX_MEMBERS):
        raise Refused("too-large", "levels or members")
    inner = value.values() if isinstance(value, dict) else value
    count = 1 + sum(check_size(part, levels - 1) for part in inner)
    if count > MAX_VALUES:
        raise Refused("too-large", "values")
    return count


def dumps(value):
    return json.dumps(value, separators=(",", ":")).encode()


def decode(literal):
    """Base64 of RFC 4648 section 4, exact."""
    if not isinstance(literal, str):
        raise Refused("malformed-request", "a value that is not a string")
    try:
        octets = base64.b64decode(literal.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Refused("malformed-request", "a value that is not Base64") from error
    if base64.b64encode(octets).decode() != literal:
        raise Refused("malformed-request", "a value that is not canonical Base64")
    return octets


def encode(octets):
    return base64.b64encode(octets).decode()


# The host.


def provided(kind, octets):
    return {"m_Item1": kind, "m_Item2": encode(octets)}


def signed_contents(host_key, identity):
    """The three contents that a host provides: `identity` is a SubjectPublicKeyInfo."""
    host = certificate.spki_of(host_key)
    signature = suite.sign(host_key, suite.RSA_SHA256, host + identity)
    return [provided(IDENTITY_KEY, identity), provided(HOST_KEY, host), provided(HOST_KEY_SIGNATURE, signature)]


def request(contents, requested, **members):
    """An AttestationRequest as a dictionary, for a caller to spoil."""
    session = encode(secrets.token_bytes(16))
    return {"SessionId": session, "RequestedContent": list(requested), "ProvidedContent": contents, **members}


def read_health_certificate(octets, kind):
    """DER of the one certificate in a HealthCertificateReply."""
    reply = read_reply(octets, "HealthCertificateReply")
    content = reply.get("Content")
    if not isinstance(content, list) or len(content) != 1 or content[0].get("m_Item1") != kind:
        raise Refused("reply", "not one Content of the type that was requested")
    return decode(content[0]["m_Item2"])


def read_reply(octets, name):
    reply = loads(octets)
    if not isinstance(reply, dict) or list(reply.items())[:1] != [("__type", name + TYPE_SUFFIX)]:
        raise Refused("reply", f"__type of {name} does not come first")
    return reply


def read_error(octets):
    """(name of the reply, Code, Retryable, all members); the members are in the order of the page."""
    reply = loads(octets)
    names = list(reply)
    own = {"OperationModeErrorReply": ["ExpectedOperationMode"]}
    kind = reply["__type"].removesuffix(TYPE_SUFFIX) if names[:1] == ["__type"] else "ErrorReply"
    expected = (["__type"] if "__type" in reply else []) + ["Retryable"] + own.get(kind, []) + ["OpenHgs"]
    if names != expected:
        raise Refused("reply", f"members {names}, not {expected}")
    ours = reply["OpenHgs"]
    if not isinstance(ours.get("Code"), str) or not isinstance(ours.get("Message"), str):
        raise Refused("reply", "OpenHgs without Code and Message")
    return kind, ours["Code"], reply["Retryable"], reply


def read_refusal(octets):
    """The Code of an error reply of either mode."""
    reply = loads(octets)
    if next(iter(reply), "") != "__type" or not isinstance(reply["Retryable"], bool):
        raise Refused("reply", "__type or Retryable")
    return reply["OpenHgs"]["Code"]


# signingCertificates.


def write_signing_certificates(certificates):
    """A compact JSON array of the octets of a certs-only PKCS#7."""
    signed = der.sequence(
        der.integer(1),
        der.set_of(),
        der.sequence(der.oid(DATA)),
        der.tlv(0xA0, *sorted(certificates)),
        der.set_of(),
    )
    octets = der.sequence(der.oid(SIGNED_DATA), der.context(0, signed))
    return dumps(list(octets))


def read_signing_certificates(body):
    """The signers in a body, whose form must be exact."""
    numbers = loads(body)
    if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n <= 255 for n in numbers):
        raise Refused("signing-certificates", "not an array of octets")
    if body != dumps(numbers):
        raise Refused("signing-certificates", "not compact")
    kind, content = der.parse(bytes(numbers)).sequence()
    version, digests, inner, certificates, signers = content.expect(0xA0).parts[0].sequence()
    if (kind.oid(), inner.sequence()[0].oid(), version.integer()) != (SIGNED_DATA, DATA, 1):
        raise Refused("signing-certificates", "not SignedData version 1 of id-data")
    if len(inner.parts) != 1 or digests.expect(der.SET).parts or signers.expect(der.SET).parts:
        raise Refused("signing-certificates", "not certificates only")
    return [health.check_signer(part.raw) for part in certificates.expect(0xA0).parts]


# The service. Hosts are in memory.


class Failure(Exception):
    """An error reply."""

    def __init__(self, status, reply, code, retryable=False, **members):
        super().__init__(code)
        self.status, self.reply, self.code = status, reply, code
        self.retryable, self.members = retryable, members

    def write(self):
        ours = {"Code": self.code, "Message": self.code}
        kind = {"__type": self.reply + TYPE_SUFFIX}
        return dumps({**kind, "Retryable": self.retryable, **self.members, "OpenHgs": ours})


def operation_mode_failure():
    return Failure(
        400, "OperationModeErrorReply", "operation-mode", True, ExpectedOperationMode=HOST_KEY_MODE
    )


@dataclass
class Host:
    id: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    revoked: bool = False
    returns_nonces: bool = False
    # Identity keys by kind, oldest first: [(digest, first seen)].
    keys: dict = field(default_factory=lambda: {health.ENCRYPTION: [], health.SIGNING: []})


class AttestationService:
    def __init__(self, signer_key, host_keys, clock=health.utc_now):
        self.signer_key, self.signer = signer_key, Certificate(health.make_signer(signer_key))
        self.hosts = {host_key: Host() for host_key in host_keys}
        self.clock, self.nonces = clock, freshness.NonceKey()

    def now(self):
        return int(self.clock().timestamp())

    def nonce(self):
        """The value of the header with the nonce of this second."""
        return encode(self.nonces.nonce(self.now()))

    def is_registered(self, host_id):
        return any(host.id == host_id and not host.revoked for host in self.hosts.values())

    def info(self):
        members = {"FunctionalLevel": 2, "OperationMode": HOST_KEY_MODE, "SupportedFunctionalLevels": [1, 2]}
        return dumps({"__type": "ServiceInfoReply" + TYPE_SUFFIX, **members})

    def signing_certificates(self):
        return write_signing_certificates([self.signer.der])

    def attest(self, octets, proofs=()):
        """The reply to an AttestationRequest, or a Failure. `proofs` are the headers that return a nonce."""
        contents, kind = _read_request(octets)
        identity, host_key = contents[IDENTITY_KEY], contents[HOST_KEY]
        host = self.hosts.get(host_key)
        if host is None:
            raise Failure(403, "UnauthorizedErrorReply", "host-not-registered")
        _check_host_signature(host_key, identity, contents[HOST_KEY_SIGNATURE])
        self._check_freshness(host, host_key, octets, proofs)
        if host.revoked:
            raise Failure(403, "UnauthorizedErrorReply", "host-revoked")
        _check_identity_key(identity, host_key)
        self._record(host, identity, kind)
        host.returns_nonces = host.returns_nonces or bool(proofs)
        statement = health.Statement(
            health.HOST_KEY_MODE, host.id, self.clock(), health.host_key_policy_digest(host_key)
        )
        issued = health.issue(self.signer, self.signer_key, identity, kind, statement)
        kind_name = "HealthCertificateReply" + TYPE_SUFFIX
        return dumps({"__type": kind_name, "Content": [{"m_Item1": kind, "m_Item2": encode(issued)}]})

    def _check_freshness(self, host, host_key, octets, proofs):
        if not proofs and host.returns_nonces:
            raise Failure(403, "UnauthorizedErrorReply", "nonce-required", True)
        if len(proofs) > 1:
            raise Failure(403, "UnauthorizedErrorReply", freshness.INVALID)
        try:
            for proof in proofs:
                self.nonces.check_proof(proof, octets, host_key, self.now())
        except Refused as refused:
            code = refused.reason
            raise Failure(403, "UnauthorizedErrorReply", code, code == freshness.EXPIRED) from refused

    def _record(self, host, identity, kind):
        digest = hashlib.sha256(identity).digest()
        other = health.SIGNING if kind == health.ENCRYPTION else health.ENCRYPTION
        known = [seen for seen, _ in host.keys[kind]]
        if digest in [seen for seen, _ in host.keys[other]]:
            raise Failure(403, "UnauthorizedErrorReply", "identity-key-of-other-kind")
        if digest in known[:-1]:
            raise Failure(403, "UnauthorizedErrorReply", "identity-key-superseded")
        if digest not in known:
            host.keys[kind].append((digest, self.clock()))
        elif self.clock() - host.keys[kind][-1][1] > IDENTITY_KEY_LIFE:
            raise Failure(403, "UnauthorizedErrorReply", "identity-key-expired")


def _payload(code):
    return Failure(400, "PayloadErrorReply", code)


def _read_request(octets):
    """({kind of content: octets}, kind of certificate)."""
    try:
        message = loads(octets)
        check_size(message)
        contents, requested = _read_members(message)
    except (Refused, AttributeError, KeyError, TypeError) as error:
        if getattr(error, "reason", "") == "too-large":
            raise Failure(413, "ErrorReply", "too-large") from error
        raise _payload("malformed-request") from error
    kinds = [kind for kind, _ in contents]
    if any(kinds.count(kind) != 1 for kind in (IDENTITY_KEY, HOST_KEY, HOST_KEY_SIGNATURE)):
        raise _payload("missing-content")
    if requested == [3]:
        raise _payload("ca-intermediate-not-offered")
    if requested not in ([health.ENCRYPTION], [health.SIGNING]):
        raise _payload("requested-content")
    return dict(contents), requested[0]


def _read_members(message):
    if "__type" in message and next(iter(message)) != "__type":
        raise Refused("malformed-request", "__type does not come first")
    if len(decode(message["SessionId"])) != 16:
        raise Refused("malformed-request", "SessionId is not a GUID")
    provided_contents, requested = message["ProvidedContent"], message["RequestedContent"]
    if len(provided_contents) > MAX_PROVIDED:
        raise Refused("too-large", "provided contents")
    contents = [(item["m_Item1"], decode(item["m_Item2"])) for item in provided_contents]
    if any(type(number) is not int for number in [kind for kind, _ in contents] + list(requested)):
        raise Refused("malformed-request", "an enumeration that is not a number")
    return contents, requested


def _check_host_signature(host_key, identity, signature):
    modulus, exponent = certificate.read_public_key(host_key)
    public = library.RSAPublicNumbers(exponent, modulus).public_key()
    try:
        public.verify(signature, host_key + identity, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise Failure(403, "UnauthorizedErrorReply", "host-key-signature") from None


def _check_identity_key(identity, host_key):
    invalid = Failure(400, "VirtualSecureModeErrorReply", "identity-key-invalid")
    try:
        certificate.read_public_key(identity)
    except (Refused, ValueError) as error:
        raise invalid from error
    if identity == host_key:
        raise invalid
