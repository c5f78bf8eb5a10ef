"""The suite `openhgs-1` (profile, section 3): every identifier, and what it computes."""

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import Refused
from .rsa import NumberKey

RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
RSA_PSS = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"
HMAC_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"
HKDF = "http://www.w3.org/2021/04/xmldsig-more#hkdf"
RSA_OAEP = "http://www.w3.org/2009/xmlenc11#rsa-oaep"
RSA_OAEP_MGF1P = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
AES256_GCM = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
KW_AES256 = "http://www.w3.org/2001/04/xmlenc#kw-aes256"

# Inside Parameters of RSA_OAEP, and in the signature of metadata.
DS, XENC11 = "http://www.w3.org/2000/09/xmldsig#", "http://www.w3.org/2009/xmlenc11#"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
MGF1_SHA256 = "http://www.w3.org/2009/xmlenc11#mgf1sha256"
EXCLUSIVE_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"

SIGNATURES = {RSA_SHA256, RSA_PSS}
TRANSPORT_KEY_ENCRYPTIONS = {RSA_OAEP, RSA_OAEP_MGF1P}
TRANSFER_KEY_ENCRYPTIONS = {RSA_OAEP, RSA_OAEP_MGF1P}
WRAPPING_KEY_ENCRYPTIONS = {AES256_GCM, KW_AES256}
TRANSPORT_KEYS_ENCRYPTIONS = {AES256_GCM}

KEY_OCTETS = 32
MAC_OCTETS = 32
DERIVATION_INFO = b"OpenHGS TransportKeySignature"
IV_OCTETS, TAG_OCTETS = 12, 16


def looks_random(key):
    """Section 4: more than half of the octets are different, and they do not stand at one distance."""
    steps = {(after - before) % 256 for before, after in zip(key, key[1:])}
    return len(set(key)) > len(key) // 2 and len(steps) > 1


def known(identifier, allowed):
    if identifier not in allowed:
        raise Refused("algorithm", identifier)
    return identifier


def sign(private_key, algorithm, data):
    if isinstance(private_key, NumberKey):
        return private_key.sign(data)
    return private_key.sign(data, _signature_padding(algorithm), hashes.SHA256())


def verify(certificate, algorithm, signature, data):
    """Whether `signature` over `data` is by the key of `certificate`."""
    try:
        certificate.public_key.verify(signature, data, _signature_padding(algorithm), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _signature_padding(algorithm):
    if known(algorithm, SIGNATURES) == RSA_PSS:
        return padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    return padding.PKCS1v15()


def derive_mac_key(transport_key):
    """HKDF (RFC 5869) with an empty salt; 32 octets are one round of its expansion."""
    extracted = hmac.new(b"", transport_key, hashlib.sha256).digest()
    return hmac.new(extracted, DERIVATION_INFO + b"\x01", hashlib.sha256).digest()


def mac(transport_key, data):
    return hmac.new(derive_mac_key(transport_key), data, hashlib.sha256).digest()


def encrypt_to(public_key, algorithm, plain):
    return public_key.encrypt(plain, _oaep(algorithm))


def decrypt_with(private_key, algorithm, cipher):
    try:
        return private_key.decrypt(cipher, _oaep(algorithm))
    except ValueError:
        raise Refused("decryption", algorithm) from None


def _oaep(algorithm):
    digest = hashes.SHA256() if known(algorithm, TRANSPORT_KEY_ENCRYPTIONS) == RSA_OAEP else hashes.SHA1()
    return padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None)


def encrypt_under(key, algorithm, plain):
    if known(algorithm, WRAPPING_KEY_ENCRYPTIONS) == KW_AES256:
        return keywrap.aes_key_wrap(key, plain)
    iv = os.urandom(IV_OCTETS)
    return iv + AESGCM(key).encrypt(iv, plain, None)


def decrypt_under(key, algorithm, cipher):
    try:
        if known(algorithm, WRAPPING_KEY_ENCRYPTIONS) == KW_AES256:
            return keywrap.aes_key_unwrap(key, cipher)
        return AESGCM(key).decrypt(cipher[:IV_OCTETS], cipher[IV_OCTETS:], None)
    except (InvalidTag, ValueError, keywrap.InvalidUnwrap):
        raise Refused("decryption", algorithm) from None
