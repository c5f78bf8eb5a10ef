"""X.509 certificates as the profile wants them (section 2): read by hand, and written by hand.

By hand, because the judge must be able to write certificates that no library would, and because a
library would accept more than the profile does.
"""

import datetime
import functools
import hashlib
import secrets

from cryptography.hazmat.primitives.asymmetric import rsa as library

from . import Refused, der, rsa, suite

MAX_OCTETS = 16_384
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
COMMON_NAME = "2.5.4.3"
BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE = "2.5.29.19", "2.5.29.15", "2.5.29.37"
DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, KEY_CERT_SIGN = 0, 2, 5


class Certificate:
    """A certificate with an acceptable RSA key, and the fields that the profile looks at."""

    def __init__(self, octets):
        if len(octets) > MAX_OCTETS:
            raise Refused("limit-certificate", f"{len(octets)} octets")
        self.der = octets
        try:
            tbs, algorithm, signature = der.parse(octets).sequence()
            self.tbs = tbs.raw
            self.signature_algorithm = algorithm.sequence()[0].oid()
            self.signature = signature.bits()
            self._read_tbs(tbs.sequence(), algorithm)
        except Refused as refused:
            if refused.reason == "der":
                raise Refused("certificate", refused.detail) from None
            raise
        except (ValueError, IndexError) as error:
            raise Refused("certificate", "not the structure of RFC 5280") from error

    def _read_tbs(self, fields, outer_algorithm):
        fields = list(fields)
        self.version = 1
        if fields[0].tag == 0xA0:
            self.version = fields.pop(0).parts[0].integer() + 1
        serial, algorithm, issuer, validity, subject, key, *rest = fields
        if algorithm.raw != outer_algorithm.raw or self.version not in (1, 2, 3):
            raise Refused("certificate", "two signature algorithms, or no such version")
        self.serial = serial.integer()
        self.issuer, self.subject = issuer.expect(der.SEQUENCE).raw, subject.expect(der.SEQUENCE).raw
        self.not_before, self.not_after = (part.time() for part in validity.sequence())
        self.spki = key.raw
        self.modulus, self.exponent = read_public_key(key.raw)
        self.extensions = {}
        for field in rest:
            if field.tag == 0xA3:
                self._read_extensions(field)

    def _read_extensions(self, field):
        for extension in field.parts[0].sequence():
            identifier, *middle, value = extension.sequence()
            critical = bool(middle) and middle[0].boolean()
            if identifier.oid() in self.extensions or (middle and not critical):
                raise Refused("certificate", "an extension twice, or an encoded default")
            self.extensions[identifier.oid()] = (critical, value.octets())

    @property
    def public_key(self):
        return _library_key(self.modulus, self.exponent)

    @property
    def thumbprint(self):
        return hashlib.sha256(self.der).hexdigest()


@functools.lru_cache(maxsize=None)
def _library_key(modulus, exponent):
    return library.RSAPublicNumbers(exponent, modulus).public_key()


def read_public_key(octets):
    """(modulus, exponent) of an acceptable key in an exact DER SubjectPublicKeyInfo."""
    algorithm, bits = der.parse(octets).sequence()
    if algorithm.raw != der.sequence(der.oid(RSA_ENCRYPTION), der.null()):
        raise Refused("key-kind", "not an RSA key")
    modulus, exponent = (number.integer() for number in der.parse(bits.bits()).sequence())
    if modulus <= 0 or exponent <= 0:
        raise Refused("certificate", "a number of the key is not positive")
    rsa.check_public_key(modulus, exponent)
    return modulus, exponent


# Writer.


def public_key_info(modulus, exponent):
    key = der.sequence(der.integer(modulus), der.integer(exponent))
    return der.sequence(der.sequence(der.oid(RSA_ENCRYPTION), der.null()), der.bit_string(key))


def spki_of(private_key):
    return public_key_info(*rsa.public_numbers(private_key))


def name(common_name):
    return der.sequence(der.set_of(der.sequence(der.oid(COMMON_NAME), der.utf8(common_name))))


def extension(identifier, value, critical=False):
    return der.sequence(der.oid(identifier), der.boolean(True) if critical else b"", der.octet_string(value))


def container(common_name, key, usage, signer=None):
    """A certificate for a guardian, self-signed unless there is another signer."""
    extensions = [extension(KEY_USAGE, der.named_bits(usage), critical=True)]
    return make_certificate(name(common_name), spki_of(key), signer or key, extensions=extensions)


def make_certificate(subject, spki, signer_key, **choices):
    """A certificate signed with sha256WithRSAEncryption; self-signed unless an `issuer` is given.

    Choices: issuer (a name's DER), not_before, not_after, serial, extensions, version.
    """
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    not_before = choices.get("not_before", now - datetime.timedelta(days=1))
    not_after = choices.get("not_after", now + datetime.timedelta(days=3650))
    extensions = choices.get("extensions", [])
    version = choices.get("version", 3 if extensions else 1)
    algorithm = der.sequence(der.oid(SHA256_WITH_RSA), der.null())
    tbs = der.sequence(
        der.context(0, der.integer(version - 1)) if version > 1 else b"",
        der.integer(choices.get("serial", secrets.randbits(127) | 1 << 127)),
        algorithm,
        choices.get("issuer", subject),
        der.sequence(*(_time(when) for when in (not_before, not_after))),
        subject,
        spki,
        der.context(3, der.sequence(*extensions)) if extensions else b"",
    )
    return der.sequence(tbs, algorithm, der.bit_string(suite.sign(signer_key, suite.RSA_SHA256, tbs)))


def _time(when):
    return der.utc_time(when) if when.year < 2050 else der.generalized_time(when)
