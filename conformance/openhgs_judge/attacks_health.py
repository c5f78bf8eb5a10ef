"""Health certificates and attestation signers (section 8), refused and accepted.

They are judged as for the encryption key of a host, by a KPS with the usual settings that trusts the one
signer, at the instant NOW.
"""

import datetime
from functools import partial

from . import certificate, der, health, rsa
from .attacks import VALID, Specimen
from .certificate import BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, KEY_USAGE, Certificate

NOW = datetime.datetime(2030, 1, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)
SECOND, MINUTE, HOUR = (datetime.timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours"))
ARC = "1.3.6.1.4.1.32473"


def policy(signer):
    return health.Policy((Certificate(signer),), NOW)


def specimens(signer_key):
    signer = Certificate(health.make_signer(signer_key))
    yield Specimen("signer", signer.der, "8", outcome=VALID, kind="attestation-signer")
    host_key = rsa.generate()
    spki = certificate.spki_of(host_key)
    digest = health.host_key_policy_digest(spki)

    def issue(issued_at=NOW, kind=health.ENCRYPTION, key=spki, by=(signer, signer_key), **choices):
        statement = health.Statement(health.HOST_KEY_MODE, bytes(16), issued_at, digest)
        return health.issue(*by, key, kind, statement, **choices)

    make = partial(Specimen, section="8", kind="health-certificate")
    for name, octets in _accepted(issue):
        yield make(name, octets, outcome=VALID)
    for name, reason, octets in [
        *_wrong_issuers(issue, signer, signer_key, host_key),
        *_wrong_parts(issue),
        *_wrong_statements(issue),
        *_wrong_times(issue),
        *_wrong_keys(issue, host_key),
    ]:
        yield make(name, octets, reason=reason)


def _accepted(issue):
    yield "plain", issue()
    yield "ends-now", issue(NOW - 8 * HOUR)
    yield "issued-60-seconds-ahead", issue(NOW + 60 * SECOND)
    yield "of-24-hours", issue(not_after=NOW + 24 * HOUR)
    yield "serial-number-1", issue(serial=1)
    yield "with-unknown-extension", issue(extensions={f"{ARC}.9": (der.null(), False)})
    both = der.named_bits(certificate.DIGITAL_SIGNATURE, certificate.KEY_ENCIPHERMENT)
    yield "with-two-key-usages", issue(extensions={KEY_USAGE: (both, True)})


def _wrong_issuers(issue, signer, signer_key, host_key):
    stranger = Certificate(health.make_signer(host_key))
    yield "signer-itself", "is-signer", signer.der
    of_signer = certificate.spki_of(signer_key)
    yield "over-the-key-of-the-signer", "is-signer", issue(key=of_signer)
    yield "of-same-name-and-other-key", "issuer", issue(by=(signer, host_key))
    yield "of-other-name-and-same-key", "issuer", issue(issuer=certificate.name("Somebody Else"))
    yield "of-another-signer", "issuer", issue(by=(stranger, host_key), issuer=certificate.name("Somebody Else"))
    yield "self-signed", "issuer", issue(by=(signer, host_key), issuer=health.SUBJECT)
    good = der.parse(issue()).parts
    tbs, algorithm, signature = (part.raw for part in good)
    yield "signature-altered", "issuer", der.sequence(tbs, algorithm, signature[:-1] + bytes([signature[-1] ^ 1]))
    yield "garbage", "certificate", b"garbage"
    yield "trailing-octet", "certificate", issue() + b"\0"
    large = der.octet_string(bytes(certificate.MAX_OCTETS))
    yield "too-large", "limit-certificate", issue(extensions={f"{ARC}.9": (large, False)})


def _wrong_parts(issue):
    def extended(identifier, value, critical=False):
        return issue(extensions={identifier: (value, critical)})

    def without(identifier):
        return issue(extensions={identifier: None})

    usages = [der.oid(health.PURPOSE[kind]) for kind in (health.ENCRYPTION, health.SIGNING)]
    any_purpose, signing = der.oid("2.5.29.37.0"), der.named_bits(certificate.DIGITAL_SIGNATURE)
    return [
        ("without-basic-constraints", "constraints", without(BASIC_CONSTRAINTS)),
        ("of-authority", "constraints", extended(BASIC_CONSTRAINTS, der.sequence(der.boolean(True)), True)),
        ("with-unknown-critical-extension", "constraints", extended(f"{ARC}.9", der.null(), True)),
        ("with-critical-statement", "constraints", _critical_statement(issue)),
        ("of-version-2", "constraints", issue(version=2)),
        ("for-signing", "purpose", issue(kind=health.SIGNING)),
        ("without-extended-key-usage", "purpose", without(EXTENDED_KEY_USAGE)),
        ("with-two-purposes", "purpose", extended(EXTENDED_KEY_USAGE, der.sequence(*usages))),
        ("with-any-purpose", "purpose", extended(EXTENDED_KEY_USAGE, der.sequence(any_purpose))),
        ("without-key-usage", "purpose", without(KEY_USAGE)),
        ("with-other-key-usage", "purpose", extended(KEY_USAGE, signing, True)),
    ]


def _critical_statement(issue):
    statement = health.Statement(health.HOST_KEY_MODE, bytes(16), NOW, bytes(32))
    return issue(extensions={health.STATEMENT: (statement.write(), True)})


def _wrong_statements(issue):
    def stated(*parts):
        return issue(extensions={health.STATEMENT: (der.sequence(*parts), False)})

    version, mode = der.integer(1), der.integer(3, der.ENUMERATED)
    host, at, digest = der.octet_string(bytes(16)), der.generalized_time(NOW), der.octet_string(bytes(32))
    fraction = der.tlv(der.GENERALIZED_TIME, b"20300101120000.0Z")
    offset = der.tlv(der.GENERALIZED_TIME, b"20300101120000+0000")
    table = {
        "absent": issue(extensions={health.STATEMENT: None}),
        "empty": issue(extensions={health.STATEMENT: (b"", False)}),
        "of-version-2": stated(der.integer(2), mode, host, at, digest),
        "of-mode-0": stated(version, der.integer(0, der.ENUMERATED), host, at, digest),
        "of-mode-4": stated(version, der.integer(4, der.ENUMERATED), host, at, digest),
        "with-integer-mode": stated(version, der.integer(3), host, at, digest),
        "with-host-id-of-15-octets": stated(version, mode, der.octet_string(bytes(15)), at, digest),
        "with-digest-of-20-octets": stated(version, mode, host, at, der.octet_string(bytes(20))),
        "with-utc-time": stated(version, mode, host, der.utc_time(NOW), digest),
        "with-fraction-of-second": stated(version, mode, host, fraction, digest),
        "with-offset": stated(version, mode, host, offset, digest),
        "with-month-13": stated(version, mode, host, der.tlv(der.GENERALIZED_TIME, b"20301301120000Z"), digest),
        "with-part-missing": stated(version, mode, host, at),
        "with-part-more": stated(version, mode, host, at, digest, der.null()),
        "with-trailing-octet": issue(
            extensions={health.STATEMENT: (der.sequence(version, mode, host, at, digest) + b"\0", False)}
        ),
    }
    return [(f"statement-{name}", "statement", octets) for name, octets in table.items()]


def _wrong_times(issue):
    return [
        ("ended-a-second-ago", "expired", issue(NOW - 8 * HOUR - SECOND)),
        ("issued-61-seconds-ahead", "not-yet-valid", issue(NOW + 61 * SECOND)),
        ("not-before-61-seconds-ahead", "not-yet-valid", issue(not_before=NOW + 61 * SECOND)),
        ("of-24-hours-and-a-second", "validity", issue(not_after=NOW + 24 * HOUR + SECOND)),
        ("of-a-day-by-statement", "validity", issue(NOW - 20 * HOUR, not_after=NOW + 5 * HOUR)),
    ]


def _wrong_keys(issue, host_key):
    weak = [
        ("key-of-1024-bits", "key-size", rsa.generate(1024)),
        ("key-of-close-primes", "key-fermat", rsa.close_primes_key(host_key)),
        ("key-of-exponent-65521", "key-exponent", rsa.bare(host_key, 65521)),
    ]
    return [(name, reason, issue(key=certificate.spki_of(key))) for name, reason, key in weak]
