"""RSA keys: which ones the profile accepts (section 2), and bare numbers for those it does not."""

import functools
import hashlib
import math
import secrets

from cryptography.hazmat.primitives.asymmetric import rsa

from . import Refused

MIN_BITS, MAX_BITS = 2048, 8192
MIN_EXPONENT, MAX_EXPONENT = 65537, 2**32 - 1
LARGEST_SMALL_FACTOR = 751
FERMAT_ROUNDS = 100
DIGEST_INFO_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


def primes_to(limit):
    sieve = bytearray([1]) * (limit + 1)
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number in range(2, limit + 1) if sieve[number]]


SMALL_PRIMES = primes_to(LARGEST_SMALL_FACTOR)


@functools.lru_cache(maxsize=None)
def check_public_key(modulus, exponent):
    """Refuse a key outside section 2, and say why."""
    if not MIN_BITS <= modulus.bit_length() <= MAX_BITS:
        raise Refused("key-size", f"{modulus.bit_length()} bits")
    if exponent % 2 == 0 or not MIN_EXPONENT <= exponent <= MAX_EXPONENT:
        raise Refused("key-exponent", str(exponent))
    for prime in SMALL_PRIMES:
        if modulus % prime == 0:
            raise Refused("key-small-factor", str(prime))
    if has_roca_fingerprint(modulus):
        raise Refused("key-roca")
    if fermat_finds(modulus):
        raise Refused("key-fermat")


def has_roca_fingerprint(modulus):
    """CVE-2017-15361: modulo every small prime, the modulus is a power of 65537."""
    return all(modulus % prime in powers for prime, powers in _powers_of_65537())


@functools.lru_cache(maxsize=None)
def _powers_of_65537():
    return [(prime, {pow(65537, k, prime) for k in range(prime)}) for prime in primes_to(167)]


def fermat_finds(modulus):
    root = math.isqrt(modulus)
    start = root if root * root == modulus else root + 1
    for a in range(start, start + FERMAT_ROUNDS):
        difference = a * a - modulus
        if math.isqrt(difference) ** 2 == difference:
            return True
    return False


def generate(bits=2048, exponent=65537):
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


def public_numbers(private_key):
    """(modulus, exponent) of a private key, a library's or one of bare numbers."""
    if isinstance(private_key, NumberKey):
        return private_key.modulus, private_key.exponent
    numbers = private_key.public_key().public_numbers()
    return numbers.n, numbers.e


class NumberKey:
    """A private key as bare numbers: for keys that no library would make or use."""

    def __init__(self, primes, exponent=65537):
        self.modulus = math.prod(primes)
        self.exponent = exponent
        order = math.lcm(*(prime - 1 for prime in primes))
        # A key that cannot sign has no private exponent, and is good only for a certificate.
        self.private_exponent = pow(exponent, -1, order) if math.gcd(exponent, order) == 1 else None

    def sign(self, data, digest_info=DIGEST_INFO_SHA256):
        """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2.1)."""
        size = (self.modulus.bit_length() + 7) // 8
        tail = digest_info + hashlib.sha256(data).digest()
        message = b"\0\1" + b"\xff" * (size - 3 - len(tail)) + b"\0" + tail
        return pow(int.from_bytes(message, "big"), self.private_exponent, self.modulus).to_bytes(size, "big")


def bare(private_key, exponent=65537):
    """The same primes with any exponent."""
    numbers = private_key.private_numbers()
    return NumberKey([numbers.p, numbers.q], exponent)


def close_primes_key(private_key):
    """A key whose primes are neighbours: the first round of Fermat's method finds them."""
    prime = private_key.private_numbers().p
    return NumberKey([prime, next_prime(prime + 2)])


def roca_key():
    """A key of the form of CVE-2017-15361: each prime is k*M + (65537^a mod M)."""
    primorial = math.prod(primes_to(701))

    smallest, largest = (3 << 1022) // primorial + 1, (1 << 1024) // primorial - 1

    def prime():
        while True:
            k = smallest + secrets.randbelow(largest - smallest)
            candidate = k * primorial + pow(65537, secrets.randbits(64), primorial)
            if is_prime(candidate):
                return candidate

    while True:
        key = NumberKey([prime(), prime()])
        if all(key.modulus % small for small in SMALL_PRIMES):
            return key


def next_prime(start):
    candidate = start | 1
    while not is_prime(candidate):
        candidate += 2
    return candidate


def is_prime(number, rounds=12):
    """Miller and Rabin, after trial division."""
    if any(number % prime == 0 for prime in SMALL_PRIMES):
        return number in SMALL_PRIMES
    twos = ((number - 1) & -(number - 1)).bit_length() - 1
    odd = (number - 1) >> twos
    for _ in range(rounds):
        power = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
