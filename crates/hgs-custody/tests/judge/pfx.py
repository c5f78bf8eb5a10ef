# Writes PFX files as programs do that are not at hand, from leaf.key and leaf.pem: RFC 7292 and RFC 9579 read anew.
import hashlib, hmac, os
from cryptography import x509
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

key = s.load_pem_private_key(open("leaf.key", "rb").read(), None)
certificate = x509.load_pem_x509_certificate(open("leaf.pem", "rb").read())
pkcs8 = key.private_bytes(s.Encoding.DER, s.PrivateFormat.PKCS8, s.NoEncryption())
x509_der = certificate.public_bytes(s.Encoding.DER)


def tlv(tag, *parts):
    content = b"".join(parts)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def open_ended(tag, *parts):
    return bytes([tag, 0x80]) + b"".join(parts) + b"\0\0"


def in_pieces(tag, octets, size=100):
    return open_ended(tag, *[tlv(4, octets[at : at + size]) for at in range(0, len(octets), size)])


def oid(text):
    numbers = [int(number) for number in text.split(".")]
    octets = bytes([40 * numbers[0] + numbers[1]])
    for number in numbers[2:]:
        groups = [number & 127]
        while number := number >> 7:
            groups.insert(0, number & 127 | 128)
        octets += bytes(groups)
    return tlv(6, octets)


def integer(number):
    return tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def sequence(*parts):
    return tlv(0x30, *parts)


DATA, ENCRYPTED = oid("1.2.840.113549.1.7.1"), oid("1.2.840.113549.1.7.6")
SHA256 = sequence(oid("2.16.840.1.101.3.4.2.1"), tlv(5))
HMAC_SHA256 = sequence(oid("1.2.840.113549.2.9"), tlv(5))


def pbkdf2(salt, rounds):
    return sequence(oid("1.2.840.113549.1.5.12"), sequence(tlv(4, salt), integer(rounds), integer(32), HMAC_SHA256))


def pbes2(plain, password):
    salt, iv = os.urandom(16), os.urandom(16)
    derived = hashlib.pbkdf2_hmac("sha256", password, salt, 2000, 32)
    missing = 16 - len(plain) % 16
    encryptor = Cipher(AES(derived), modes.CBC(iv)).encryptor()
    algorithm = sequence(
        oid("1.2.840.113549.1.5.13"),
        sequence(pbkdf2(salt, 2000), sequence(oid("2.16.840.1.101.3.4.1.42"), tlv(4, iv))),
    )
    return algorithm, encryptor.update(plain + bytes([missing]) * missing) + encryptor.finalize()


def pkcs12_kdf(password, salt, rounds, purpose, length):
    block = lambda octets: b"" if not octets else (octets * (64 // len(octets) + 1) * 2)[: 64 * -(-len(octets) // 64)]
    digest = bytes([purpose]) * 64 + block(salt) + block(password)
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    assert length <= 32
    return digest[:length]


def bags(password, seq=sequence):
    algorithm, shrouded = pbes2(pkcs8, password)
    key_bag = seq(oid("1.2.840.113549.1.12.10.1.2"), tlv(0xA0, sequence(algorithm, tlv(4, shrouded))))
    certificate_bag = seq(
        oid("1.2.840.113549.1.12.10.1.3"),
        tlv(0xA0, sequence(oid("1.2.840.113549.1.9.22.1"), tlv(0xA0, tlv(4, x509_der)))),
    )
    return seq(key_bag), seq(certificate_bag)


def pfx(authenticated, mac, seq=sequence, explicit=lambda *p: tlv(0xA0, *p), octets=lambda o: tlv(4, o)):
    return seq(integer(3), seq(DATA, explicit(octets(authenticated))), mac)


def traditional(authenticated, password):
    salt = os.urandom(8)
    digest = hmac.digest(pkcs12_kdf(password, salt, 2000, 3, 32), authenticated, "sha256")
    return sequence(sequence(SHA256, tlv(4, digest)), tlv(4, salt), integer(2000))


def bmp(text):
    return text.encode("utf-16-be") + b"\0\0"


# Open lengths and pieces at every level, within the encrypted part too.
ber = lambda *parts: open_ended(0x30, *parts)
keys, certificates = bags(b"secret", ber)
algorithm, ciphertext = pbes2(certificates, b"secret")
authenticated = ber(
    ber(DATA, open_ended(0xA0, in_pieces(0x24, keys))),
    ber(ENCRYPTED, open_ended(0xA0, ber(integer(0), ber(DATA, algorithm, in_pieces(0xA0, ciphertext))))),
)
whole = pfx(
    authenticated,
    traditional(authenticated, bmp("secret")),
    ber,
    lambda *parts: open_ended(0xA0, *parts),
    lambda octets: in_pieces(0x24, octets),
)
open("ber.pfx", "wb").write(whole)

keys, certificates = bags(b"secret")
algorithm, ciphertext = pbes2(certificates, b"secret")
authenticated = sequence(
    sequence(DATA, tlv(0xA0, tlv(4, keys))),
    sequence(ENCRYPTED, tlv(0xA0, sequence(integer(0), sequence(DATA, algorithm, tlv(0x80, ciphertext))))),
)
salt = os.urandom(8)
digest = hmac.digest(hashlib.pbkdf2_hmac("sha256", b"secret", salt, 2048, 32), authenticated, "sha256")
pbmac1 = sequence(oid("1.2.840.113549.1.5.14"), sequence(pbkdf2(salt, 2048), HMAC_SHA256))
mac = sequence(sequence(pbmac1, tlv(4, digest)), tlv(4, b"NOT USED"), integer(1))
open("pbmac1.pfx", "wb").write(pfx(authenticated, mac))

# No password at all: not even the two zeros that an empty one has.
keys, certificates = bags(b"")
authenticated = sequence(*[sequence(DATA, tlv(0xA0, tlv(4, part))) for part in (keys, certificates)])
open("null.pfx", "wb").write(pfx(authenticated, traditional(authenticated, b"")))
