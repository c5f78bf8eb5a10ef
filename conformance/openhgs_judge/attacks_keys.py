"""Refusals of section 2 that concern keys and certificates."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from . import certificate, der, rsa, suite, xml
from .attacks import Specimen


def specimens(kit):
    yield from _weak_keys(kit)
    yield from _bad_certificates(kit)


def with_signing(kit, der_octets, key):
    """The stranger's signing certificate is another one, and all signatures are by its key."""
    content = kit.draft()
    last = content.wrappings[-1]
    last.signing = der_octets
    last.signing_signature = suite.sign(kit.owner.signing_key, suite.RSA_SHA256, der_octets)
    last.encryption_signature = suite.sign(key, suite.RSA_SHA256, last.encryption)
    return kit.write(content)


def with_encryption(kit, der_octets, public_key=None):
    """The stranger's encryption certificate is another one, rightly signed."""
    content = kit.draft()
    last = content.wrappings[-1]
    last.encryption = der_octets
    last.encryption_signature = suite.sign(kit.stranger.signing_key, suite.RSA_SHA256, der_octets)
    if public_key is not None:
        last.encrypted_key = suite.encrypt_to(public_key, suite.RSA_OAEP, kit.transport_key)
    return kit.write(content)


def of_1024_bits(_key):
    return rsa.generate(1024)


def of_2047_bits(_key):
    return rsa.generate(2047)


def of_more_than_8192_bits(key):
    numbers = key.private_numbers()
    return rsa.NumberKey([numbers.p, numbers.q] * 4 + [2**127 - 1])


def exponent_3(_key):
    return rsa.generate(exponent=3)


def exponent_65521(key):
    return rsa.bare(key, 65521)


def exponent_65538(key):
    return rsa.bare(key, 65538)


def exponent_over_32_bits(key):
    return rsa.bare(key, 2**32 + 15)


def small_factor_3(key):
    numbers = key.private_numbers()
    return rsa.NumberKey([3, numbers.p, numbers.q])


def small_factor_751(key):
    numbers = key.private_numbers()
    return rsa.NumberKey([751, numbers.p, numbers.q])


def roca(_key):
    return rsa.roca_key()


_WEAK = [
    ("key-size", [of_1024_bits, of_2047_bits, of_more_than_8192_bits]),
    ("key-exponent", [exponent_3, exponent_65521, exponent_65538, exponent_over_32_bits]),
    ("key-small-factor", [small_factor_3, small_factor_751]),
    ("key-fermat", [rsa.close_primes_key]),
    ("key-roca", [roca]),
]


def _weak_keys(kit):
    for reason, makers in _WEAK:
        for make in makers:
            name, key = make.__name__.replace("_", "-"), kit.weak_key(make)
            made = certificate.container("weak", key, certificate.KEY_ENCIPHERMENT, kit.stranger.signing_key)
            yield Specimen(f"encryption-key-{name}", with_encryption(kit, made), "2", reason=reason)
            if make not in (exponent_65538, of_more_than_8192_bits):
                yield Specimen(f"signing-key-{name}", with_signing(kit, made, key), "2", reason=reason)


def _bad_certificates(kit):
    """Each with the name of its certificate."""
    good = kit.stranger.encryption.der
    pem = b"-----BEGIN CERTIFICATE-----\n" + xml.base64_text(good).encode() + b"\n-----END CERTIFICATE-----\n"
    parts = [part.raw for part in der.parse(good).parts]
    body = good[4:]
    table = [
        ("garbage", "certificate", b"\x30\x03\x02\x01\x01"),
        ("of-zeros", "certificate", bytes(600)),
        ("in-pem", "certificate", pem),
        ("is-only-a-key", "certificate", kit.stranger.encryption.spki),
        ("cut-short", "certificate", good[:-1]),
        ("with-trailing-octet", "certificate", good + b"\0"),
        ("concatenated", "certificate", good * 2),
        ("of-indefinite-length", "certificate", b"\x30\x80" + body + b"\0\0"),
        ("of-long-length", "certificate", b"\x30\x83" + len(body).to_bytes(3, "big") + body),
        ("with-fourth-part", "certificate", der.sequence(*parts, der.null())),
        *_inexact(kit.stranger.encryption.der),
        *_bad_keys(kit),
        ("over-16384-octets", "limit-certificate", sized_certificate(kit, certificate.MAX_OCTETS + 1)),
    ]
    for name, reason, octets in table:
        yield Specimen(f"encryption-certificate-{name}", with_encryption(kit, octets), "2", reason=reason)
        signing = with_signing(kit, octets, kit.stranger.signing_key)
        yield Specimen(f"signing-certificate-{name}", signing, "2", reason=reason)


def _inexact(good):
    """Certificates in BER, though not in DER."""
    tbs, *rest = der.parse(good).parts
    fields = [field.raw for field in tbs.parts]
    serial = der.tlv(der.INTEGER, b"\0" + tbs.parts[1].contents)
    long_length = fields[3][:1] + b"\x81" + fields[3][1:]
    critical = der.oid(certificate.KEY_USAGE) + der.boolean(True)
    lax = good.replace(critical, critical[:-1] + b"\1")
    assert lax != good and len(fields[3]) < 0x80

    def rebuilt(number, field):
        tbs_of = der.sequence(*fields[:number], field, *fields[number + 1 :])
        return der.sequence(tbs_of, *(part.raw for part in rest))

    return [
        ("with-padded-serial-number", "certificate", rebuilt(1, serial)),
        ("with-long-length-inside", "certificate", rebuilt(3, long_length)),
        ("with-true-that-is-1", "certificate", lax),
    ]


def _bad_keys(kit):
    modulus, exponent = kit.stranger.signing.modulus, der.integer(kit.stranger.signing.exponent)
    octets = modulus.to_bytes(256, "big")

    def with_numbers(*numbers):
        rsa_key = der.sequence(der.oid(certificate.RSA_ENCRYPTION), der.null())
        return _certified(kit, der.sequence(rsa_key, der.bit_string(der.sequence(*numbers))))

    return [
        ("with-padded-modulus", "certificate", with_numbers(der.tlv(der.INTEGER, b"\0\0" + octets), exponent)),
        ("with-negative-modulus", "certificate", with_numbers(der.tlv(der.INTEGER, octets), exponent)),
        ("with-third-number", "certificate", with_numbers(der.integer(modulus), exponent, der.null())),
        ("of-elliptic-curve", "key-kind", _certified(kit, _spki(ec.generate_private_key(ec.SECP256R1())))),
        ("of-ed25519", "key-kind", _certified(kit, _spki(ed25519.Ed25519PrivateKey.generate()))),
    ]


def _spki(private_key):
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return private_key.public_key().public_bytes(encoding, form)


def _certified(kit, spki):
    return certificate.make_certificate(certificate.name("bad"), spki, kit.stranger.signing_key)


def sized_certificate(kit, octets):
    """A right certificate of exactly that many octets, by way of an extension."""
    filler = octets - 1000
    for _ in range(4):
        extension = certificate.extension("1.3.6.1.4.1.32473.9", der.octet_string(bytes(filler)))
        made = certificate.make_certificate(
            certificate.name("large"),
            kit.stranger.encryption.spki,
            kit.stranger.signing_key,
            extensions=[extension],
            serial=1 << 100,
        )
        filler += octets - len(made)
    assert len(made) == octets
    return made
