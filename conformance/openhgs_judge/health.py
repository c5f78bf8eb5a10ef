"""Health certificates and attestation signers (profile, section 8)."""

import datetime
import hashlib
import secrets
from dataclasses import dataclass

from . import Refused, certificate, der, suite
from .certificate import BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, KEY_USAGE, Certificate

SUBJECT = certificate.name("OpenHGS Health Certificate")
STATEMENT = "1.3.6.1.4.1.32473.7.2.1"
ENCRYPTION, SIGNING = 1, 2
PURPOSE = {ENCRYPTION: "1.3.6.1.4.1.32473.7.1.1", SIGNING: "1.3.6.1.4.1.32473.7.1.2"}
USAGE = {ENCRYPTION: certificate.KEY_ENCIPHERMENT, SIGNING: certificate.DIGITAL_SIGNATURE}
TPM_MODE, HOST_KEY_MODE = 1, 3
SUBJECT_KEY_ID, AUTHORITY_KEY_ID = "2.5.29.14", "2.5.29.35"

TOLERANCE = datetime.timedelta(minutes=5)
SKEW = datetime.timedelta(seconds=60)
SHORTEST, LONGEST = datetime.timedelta(minutes=5), datetime.timedelta(hours=24)
USUAL = datetime.timedelta(hours=8)


@dataclass(frozen=True)
class Statement:
    mode: int
    host_id: bytes
    issued_at: datetime.datetime
    policy_digest: bytes

    @classmethod
    def read(cls, octets):
        """HealthStatement in exact DER."""
        try:
            version, mode, host_id, issued_at, digest = der.parse(octets).sequence()
            found = cls(
                mode.integer(der.ENUMERATED),
                host_id.octets(),
                issued_at.expect(der.GENERALIZED_TIME).time(),
                digest.octets(),
            )
            version = version.integer()
        except (Refused, ValueError) as error:
            raise Refused("statement", str(error)) from error
        sizes = len(found.host_id), len(found.policy_digest)
        if version != 1 or found.mode not in (1, 2, 3) or sizes != (16, 32):
            raise Refused("statement", f"version {version}, mode {found.mode}, sizes {sizes}")
        return found

    def write(self):
        return der.sequence(
            der.integer(1),
            der.integer(self.mode, der.ENUMERATED),
            der.octet_string(self.host_id),
            der.generalized_time(self.issued_at),
            der.octet_string(self.policy_digest),
        )


def host_key_policy_digest(host_key):
    """policyDigest in host-key mode, of HostKeyPublicKey as the host sent it."""
    return hashlib.sha256(b"OpenHGS HostKey 1" + hashlib.sha256(host_key).digest()).digest()


def utc_now():
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


# What KPS checks, in the order of the page.


@dataclass(frozen=True)
class Policy:
    """What a KPS is configured with."""

    signers: tuple
    now: datetime.datetime
    skew: datetime.timedelta = SKEW
    longest: datetime.timedelta = LONGEST
    deny_before: datetime.datetime = None
    denied_serials: frozenset = frozenset()


def check(octets, policy, kind=ENCRYPTION):
    """Checks 1 to 8; gives the certificate and its statement. The ninth needs the list of hosts."""
    found = Certificate(octets)
    _check_issuer(found, policy)
    _check_constraints(found)
    _check_purpose(found, kind)
    if STATEMENT not in found.extensions:
        raise Refused("statement", "absent")
    statement = Statement.read(found.extensions[STATEMENT][1])
    _check_times(found, statement, policy)
    if policy.deny_before and statement.issued_at < policy.deny_before:
        raise Refused("denied", "issued before the deny-before date")
    if found.serial in policy.denied_serials:
        raise Refused("denied", "the serial number is on the deny list")
    return found, statement


def _check_issuer(found, policy):
    if any(found.spki == signer.spki for signer in policy.signers):
        raise Refused("is-signer")
    by_name = [signer for signer in policy.signers if signer.subject == found.issuer]
    issued = [
        signer for signer in by_name if suite.verify(signer, suite.RSA_SHA256, found.signature, found.tbs)
    ]
    if found.signature_algorithm != certificate.SHA256_WITH_RSA or not issued:
        raise Refused("issuer")
    if policy.now > issued[0].not_after:
        raise Refused("signer-expired")


def _check_constraints(found):
    if BASIC_CONSTRAINTS not in found.extensions or _is_authority(found):
        raise Refused("constraints", "basicConstraints absent, or of an authority")
    if found.version != 3:
        raise Refused("constraints", f"version {found.version}")
    critical = {name for name, (is_critical, _) in found.extensions.items() if is_critical}
    if critical - {BASIC_CONSTRAINTS, KEY_USAGE}:
        raise Refused("constraints", "an unknown critical extension")


def _is_authority(found):
    parts = der.parse(found.extensions[BASIC_CONSTRAINTS][1]).sequence()
    return bool(parts) and parts[0].tag == der.BOOLEAN and parts[0].boolean()


def _purposes(found):
    return [part.oid() for part in der.parse(found.extensions[EXTENDED_KEY_USAGE][1]).sequence()]


def _usages(found):
    return der.parse(found.extensions[KEY_USAGE][1]).named_bits() if KEY_USAGE in found.extensions else set()


def _check_purpose(found, kind):
    if EXTENDED_KEY_USAGE not in found.extensions or _purposes(found) != [PURPOSE[kind]]:
        raise Refused("purpose", "extendedKeyUsage")
    if USAGE[kind] not in _usages(found):
        raise Refused("purpose", "keyUsage")


def _check_times(found, statement, policy):
    if policy.now > found.not_after:
        raise Refused("expired")
    if max(found.not_before, statement.issued_at) > policy.now + policy.skew:
        raise Refused("not-yet-valid")
    if found.not_after - statement.issued_at > policy.longest:
        raise Refused("validity", "longer than the signer may grant")


# What an attestation service must issue.


def check_issued(octets, policy, kind):
    """The certificate is accepted, and has every feature of the table."""
    found, statement = check(octets, policy, kind)
    expectations = {
        "subject": found.subject == SUBJECT,
        "serial number": found.serial.bit_length() == 127 and found.serial > 0,
        "notBefore": found.not_before == statement.issued_at - TOLERANCE,
        "validity": SHORTEST <= found.not_after - statement.issued_at <= LONGEST,
        "basicConstraints critical": found.extensions[BASIC_CONSTRAINTS] == (True, der.sequence()),
        "keyUsage critical": found.extensions[KEY_USAGE] == (True, der.named_bits(USAGE[kind])),
        "extendedKeyUsage not critical": not found.extensions[EXTENDED_KEY_USAGE][0],
        "HealthStatement not critical": not found.extensions[STATEMENT][0],
        "subjectKeyIdentifier": found.extensions.get(SUBJECT_KEY_ID, (True,))[0] is False,
        "authorityKeyIdentifier": found.extensions.get(AUTHORITY_KEY_ID, (True,))[0] is False,
    }
    for what, holds in expectations.items():
        if not holds:
            raise Refused("issued-form", what)
    return found, statement


def check_signer(octets):
    """An attestation signer."""
    found = Certificate(octets)
    if found.subject != found.issuer or not suite.verify(found, suite.RSA_SHA256, found.signature, found.tbs):
        raise Refused("signer", "not self-signed")
    constraints = found.extensions.get(BASIC_CONSTRAINTS, (False, b""))[1]
    if constraints != der.sequence(der.boolean(True), der.integer(0)):
        raise Refused("signer", "basicConstraints")
    if _usages(found) != {certificate.DIGITAL_SIGNATURE, certificate.KEY_CERT_SIGN}:
        raise Refused("signer", "keyUsage")
    if EXTENDED_KEY_USAGE in found.extensions:
        raise Refused("signer", "extendedKeyUsage")
    return found


# Writing.


def make_signer(key, common_name="Judge Attestation Signer"):
    spki = certificate.spki_of(key)
    extensions = [
        certificate.extension(SUBJECT_KEY_ID, der.octet_string(key_identifier(spki))),
        certificate.extension(BASIC_CONSTRAINTS, der.sequence(der.boolean(True), der.integer(0)), True),
        certificate.extension(
            KEY_USAGE, der.named_bits(certificate.DIGITAL_SIGNATURE, certificate.KEY_CERT_SIGN), True
        ),
    ]
    return certificate.make_certificate(certificate.name(common_name), spki, key, extensions=extensions)


def key_identifier(spki):
    """RFC 7093 section 2 method 1: the leftmost 160 bits of SHA-256 of the key."""
    key = der.parse(spki).parts[1].contents[1:]
    return hashlib.sha256(key).digest()[:20]


def extensions_for(kind, statement):
    """The four extensions of the table, by their identifiers, for a caller to spoil."""
    return {
        BASIC_CONSTRAINTS: (der.sequence(), True),
        KEY_USAGE: (der.named_bits(USAGE[kind]), True),
        EXTENDED_KEY_USAGE: (der.sequence(der.oid(PURPOSE[kind])), False),
        STATEMENT: (statement.write(), False),
    }


def issue(signer, signer_key, spki, kind, statement, **choices):
    """A health certificate. Choices replace parts of it, rightly or wrongly."""
    identifiers = {
        SUBJECT_KEY_ID: (der.octet_string(key_identifier(spki)), False),
        AUTHORITY_KEY_ID: (der.sequence(der.tlv(0x80, key_identifier(signer.spki))), False),
    }
    extensions = {**identifiers, **extensions_for(kind, statement), **choices.pop("extensions", {})}
    written = [
        certificate.extension(name, value, critical)
        for name, (value, critical) in ((name, chosen) for name, chosen in extensions.items() if chosen)
    ]
    usual = {
        "issuer": signer.subject,
        "not_before": statement.issued_at - TOLERANCE,
        "not_after": statement.issued_at + USUAL,
        "serial": 1 << 126 | secrets.randbits(126),
    }
    subject = choices.pop("subject", SUBJECT)
    return certificate.make_certificate(
        subject, spki, signer_key, extensions=written, **{**usual, **choices}
    )
