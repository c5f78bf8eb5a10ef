"""TPM 2.0, as far as the profile has it (section 11): templates, commands, sessions, and a TPM behind a Unix socket."""

import hashlib
import hmac
import secrets
import socket
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa as library

from . import Refused, certificate, rsa

CREATE_PRIMARY, CREATE, READ_PUBLIC = 0x131, 0x153, 0x173
START_AUTH_SESSION, PCR_READ, FLUSH_CONTEXT = 0x176, 0x17E, 0x165
PLAIN, SESSIONS = 0x8001, 0x8002
OWNER, NULL, ENDORSEMENT = 0x40000001, 0x40000007, 0x4000000B
OUT_OF_SLOTS = range(0x902, 0x907)
AGAIN = (0x908, 0x909, 0x90A, 0x920, 0x922, 0x923)
AUDIT_AND_CONTINUE = 0x81
SELECT = bytes.fromhex("00000001000b03")

EK_FRONT = bytes.fromhex(
    "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
    "00060080004300100800" "00000000"
)
SRK_FRONT = bytes.fromhex("0001000b00030472000000060080004300100800" "00000000")
PASSWORD = bytes.fromhex("00000009400000090000000000")
UNSTABLE = (10, 16, 23)
FIRMWARE, OPTIONAL = tuple(range(8)), (8, 9, 11, 12, 13, 14)
OURS = FIRMWARE + (8, 9, 12, 13, 14)


def sized(octets):
    return struct.pack(">H", len(octets)) + octets


def identity_front(kind, policy):
    """The template of an identity key without `unique`; `kind` is 1 for encryption, 2 for signing."""
    attributes, scheme = {1: (0x000204B2, 0x0017), 2: (0x000404B2, 0x0014)}[kind]
    front = struct.pack(">HHI", 1, 0x000B, attributes) + sized(policy)
    return front + struct.pack(">HHHHI", 0x0010, scheme, 0x000B, 2048, 0)


def made_from(template, public):
    """The modulus of a public area that differs from the template in `unique` alone."""
    unique = public[len(template) :]
    if public[: len(template)] != template or unique[:2] != b"\1\0" or len(unique) != 258:
        raise Refused("template", public[:16].hex())
    modulus = int.from_bytes(unique[2:], "big")
    rsa.check_public_key(modulus, 65537)
    return modulus


def name(public):
    return b"\0\x0b" + hashlib.sha256(public).digest()


def spki(public, front):
    return certificate.public_key_info(made_from(front, public), 65537)


def selection(pcrs):
    mask = sum(1 << pcr for pcr in pcrs)
    return SELECT + mask.to_bytes(3, "little")


def policy_pcr(pcrs, values):
    digest = hashlib.sha256(b"".join(values[pcr] for pcr in sorted(pcrs))).digest()
    return hashlib.sha256(bytes(32) + bytes.fromhex("0000017f") + selection(pcrs) + digest).digest()


def bound_to(policy, values):
    """The PCRs that a policy is over, of the 64 sets that the page allows; None for others."""
    for bits in range(1 << len(OPTIONAL)):
        pcrs = FIRMWARE + tuple(pcr for place, pcr in enumerate(OPTIONAL) if bits >> place & 1)
        if all(pcr in values for pcr in pcrs) and policy_pcr(pcrs, values) == policy:
            return pcrs
    return None


def message(tag, code, body):
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def creation(template, outside_info=b""):
    return bytes.fromhex("000400000000") + sized(template) + sized(outside_info) + bytes(4)


def create_primary(hierarchy, front):
    return message(
        SESSIONS,
        CREATE_PRIMARY,
        struct.pack(">I", hierarchy) + PASSWORD + creation(front + sized(bytes(256))),
    )


class Reader:
    """Fields of a structure; what is left over is an error."""

    def __init__(self, octets):
        self.octets, self.at = octets, 0

    def take(self, count):
        taken = self.octets[self.at : self.at + count]
        if len(taken) != count:
            raise Refused("tpm-structure", "too short")
        self.at += count
        return taken

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def sized(self):
        return self.take(self.number(2))

    def end(self):
        if self.at != len(self.octets):
            raise Refused("tpm-structure", "octets are left over")


def response(octets, tag):
    """What follows the code of a response that reports success; a code is refused by its number."""
    reader = Reader(octets)
    found, size, code = reader.number(2), reader.number(4), reader.number(4)
    if size != len(octets):
        raise Refused("tpm-response-malformed", "size")
    if code:
        raise Refused("tpm-refused", f"{code:#x}")
    if found != tag:
        raise Refused("tpm-response-not-authentic" if found == PLAIN else "tpm-response-malformed", f"tag {found:#x}")
    return Reader(octets[10:])


def created_primary(octets):
    """(handle, public area), as the host says."""
    outer = response(octets, SESSIONS)
    handle = outer.number(4)
    reader = Reader(outer.take(outer.number(4)))
    public = reader.sized()
    return handle, public


def started(octets):
    """(handle, nonceTPM)."""
    reader = response(octets, PLAIN)
    handle, nonce = reader.number(4), reader.sized()
    reader.end()
    return handle, nonce


def created_key(octets):
    """(private, public area), as a host reads what its TPM made."""
    outer = response(octets, SESSIONS)
    reader = Reader(outer.take(outer.number(4)))
    return reader.sized(), reader.sized()


def pcrs_in(parameters):
    """{PCR: value} of the parameters of TPM2_PCR_Read, and the selection in octets."""
    reader = Reader(parameters)
    reader.number(4)
    selected = reader.take(len(SELECT) + 3)
    mask = int.from_bytes(selected[-3:], "little")
    pcrs = [pcr for pcr in range(24) if mask >> pcr & 1]
    count = reader.number(4)
    if count != len(pcrs):
        raise Refused("tpm-pcr-bank", f"{count} values")
    values = {pcr: reader.sized() for pcr in pcrs}
    reader.end()
    return values, selected


class Session:
    """The verifier's side of a session that is salted to an EK."""

    def __init__(self, salt, nonce_caller, key=None, handle=None, nonce_tpm=None):
        self.salt, self.nonce_caller = salt, nonce_caller
        self.key, self.handle, self.nonce_tpm = key, handle, nonce_tpm

    @classmethod
    def start(cls, ek_public, ek_handle):
        """A session, and the command that starts it."""
        session = cls(secrets.token_bytes(32), secrets.token_bytes(32))
        public = library.RSAPublicNumbers(65537, made_from(EK_FRONT, ek_public)).public_key()
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"SECRET\0")
        encrypted = public.encrypt(session.salt, oaep)
        body = struct.pack(">II", ek_handle, NULL) + sized(session.nonce_caller) + sized(encrypted)
        return session, message(PLAIN, START_AUTH_SESSION, body + bytes.fromhex("000010000b"))

    def take_start(self, octets):
        self.handle, self.nonce_tpm = started(octets)
        context = b"ATH\0" + self.nonce_tpm + self.nonce_caller + bytes.fromhex("00000100")
        self.key = hmac.digest(self.salt, bytes.fromhex("00000001") + context, "sha256")

    def _authorization(self, code, names, parameters):
        self.nonce_caller = secrets.token_bytes(32)
        digest = hashlib.sha256(struct.pack(">I", code) + names + parameters).digest()
        signed = digest + self.nonce_caller + self.nonce_tpm + bytes([AUDIT_AND_CONTINUE])
        tag = hmac.digest(self.key, signed, "sha256")
        area = struct.pack(">I", self.handle) + sized(self.nonce_caller) + bytes([AUDIT_AND_CONTINUE]) + sized(tag)
        return struct.pack(">I", len(area)) + area

    def read_pcrs(self, pcrs):
        parameters = selection(pcrs)
        return message(SESSIONS, PCR_READ, self._authorization(PCR_READ, b"", parameters) + parameters)

    def create(self, srk_public, srk_handle, template, outside_info):
        parameters = creation(template, outside_info)
        area = self._authorization(CREATE, name(srk_public), parameters)
        return message(SESSIONS, CREATE, struct.pack(">I", srk_handle) + area + parameters)

    def verify(self, code, octets):
        """The parameters of an authentic response."""
        reader = response(octets, SESSIONS)
        parameters, nonce = reader.take(reader.number(4)), reader.sized()
        attributes, tag = reader.number(1), reader.sized()
        reader.end()
        if nonce == self.nonce_tpm:
            raise Refused("tpm-response-replayed")
        digest = hashlib.sha256(bytes(4) + struct.pack(">I", code) + parameters).digest()
        signed = digest + nonce + self.nonce_caller + bytes([attributes])
        if not hmac.compare_digest(hmac.digest(self.key, signed, "sha256"), tag):
            raise Refused("tpm-response-not-authentic", "HMAC")
        if attributes & AUDIT_AND_CONTINUE != AUDIT_AND_CONTINUE:
            raise Refused("tpm-response-not-authentic", f"attributes {attributes:#x}")
        self.nonce_tpm = nonce
        return parameters

    def to_json(self):
        return {key: value.hex() if isinstance(value, bytes) else value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, members):
        return cls(**{key: bytes.fromhex(v) if isinstance(v, str) else v for key, v in members.items()})


class Tpm:
    """A TPM behind a Unix socket."""

    def __init__(self, path):
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(path)

    def send(self, command):
        for _ in range(20):
            self.connection.sendall(command)
            head = self._receive(10)
            answer = head + self._receive(int.from_bytes(head[2:6], "big") - 10)
            if int.from_bytes(answer[6:10], "big") not in AGAIN:
                return answer
        raise Refused("tpm-refused", "the TPM stays busy")

    def _receive(self, count):
        octets = b""
        while len(octets) < count:
            part = self.connection.recv(count - len(octets))
            if not part:
                raise Refused("tpm-refused", "the TPM is gone")
            octets += part
        return octets

    def flush(self, handle):
        self.send(message(PLAIN, FLUSH_CONTEXT, struct.pack(">I", handle)))
