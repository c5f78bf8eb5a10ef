"""The roll (profile, sections 5 and 6): messages, the host's part, and the part of KPS."""

import base64
import datetime
import hashlib
import hmac
import re
import struct
from dataclasses import dataclass, field
from typing import Optional
from xml.sax.saxutils import escape

from . import Refused, health, protector, suite, xml
from .protector import Draft, DraftWrapping
from .xml import attributes, base64_binary, base64_text, sequence, text

V1, V2 = 1, 2
PATHS = {
    V1: "/KeyProtection/service/v1.0/rolltransportkey",
    V2: "/KeyProtection/service/v2.0/rolltransportkey",
}
METADATA_PATH = "/KeyProtection/service/metadata/2014-07/metadata.xml"
POLICY_ID, OFFLINE_POLICY, POLICY_OCTETS = 1, 6, 12


# Messages.


@dataclass(frozen=True)
class Request:
    ingress: bytes
    health_certificate: bytes
    transfer_algorithm: str = suite.RSA_OAEP
    wrapping_algorithm: str = suite.AES256_GCM
    keys_algorithm: str = suite.AES256_GCM

    def write(self):
        return _message(
            "RollTransportKeyRequest",
            IngressProtector=base64_text(self.ingress),
            HealthCertificate=base64_text(self.health_certificate),
            TransferKeyEncryptionAlgorithm=escape(self.transfer_algorithm),
            WrappingKeyEncryptionAlgorithm=escape(self.wrapping_algorithm),
            TransportKeysEncryptionAlgorithm=escape(self.keys_algorithm),
        )

    @classmethod
    def read(cls, octets):
        document = xml.root(octets, xml.MAX_MESSAGE, xml.SERVICE, "RollTransportKeyRequest")
        attributes(document)
        names = [
            "IngressProtector",
            "HealthCertificate",
            "TransferKeyEncryptionAlgorithm",
            "WrappingKeyEncryptionAlgorithm",
            "TransportKeysEncryptionAlgorithm",
        ]
        parts = [text(part) for part in sequence(document, names, namespace=xml.SERVICE)]
        request = cls(*map(base64_binary, parts[:2]), *map(xml.any_uri, parts[2:]))
        if not request.ingress or not request.health_certificate or not all(map(xml.any_uri, parts[2:])):
            raise Refused("element", "an empty one")
        return request

    def check_algorithms(self):
        suite.known(self.transfer_algorithm, suite.TRANSFER_KEY_ENCRYPTIONS)
        suite.known(self.wrapping_algorithm, suite.WRAPPING_KEY_ENCRYPTIONS)
        suite.known(self.keys_algorithm, suite.TRANSPORT_KEYS_ENCRYPTIONS)


@dataclass(frozen=True)
class Response:
    egress: bytes
    transfer_key: bytes
    wrapping_key: bytes
    transport_keys: bytes

    def write(self):
        return _message(
            "RollTransportKeyResponse",
            EgressProtector=base64_text(self.egress),
            EncryptedTransferKey=base64_text(self.transfer_key),
            EncryptedWrappingKey=base64_text(self.wrapping_key),
            EncryptedTransportKeys=base64_text(self.transport_keys),
        )

    @classmethod
    def read(cls, octets):
        document = xml.root(octets, xml.MAX_MESSAGE, xml.SERVICE, "RollTransportKeyResponse")
        attributes(document)
        names = ["EgressProtector", "EncryptedTransferKey", "EncryptedWrappingKey", "EncryptedTransportKeys"]
        parts = sequence(document, names, namespace=xml.SERVICE)
        return cls(*(base64_binary(text(part)) for part in parts))

    def open(self, request, health_key):
        """The transport key blob, by the private key of the health certificate."""
        transfer = suite.decrypt_with(health_key, request.transfer_algorithm, self.transfer_key)
        wrapping = suite.decrypt_under(transfer, request.wrapping_algorithm, self.wrapping_key)
        if (len(transfer), len(wrapping)) != (suite.KEY_OCTETS, suite.KEY_OCTETS):
            raise Refused("key-octets", f"{len(transfer)} and {len(wrapping)}")
        return suite.decrypt_under(wrapping, request.keys_algorithm, self.transport_keys)


def _message(name, **parts):
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in parts.items())
    return f'<{name} xmlns="{xml.SERVICE}">{inner}</{name}>'.encode()


def write_error(code, message):
    return _message("Error", Code=escape(code), Message=escape(message))


def read_error(octets):
    """(Code, Message)."""
    document = xml.root(octets, xml.MAX_MESSAGE, xml.SERVICE, "Error")
    attributes(document)
    return tuple(text(part) for part in sequence(document, ["Code", "Message"], namespace=xml.SERVICE))


# Transport key blob ([MS-KPS] 2.2.3.10).


@dataclass(frozen=True)
class Blob:
    ingress: bytes
    egress: bytes
    # (MaxOfflineUnwraps, expiry in Unix seconds) where caching is allowed.
    offline: Optional[tuple] = None

    def write(self, version):
        body = struct.pack("<III", version, 2, suite.KEY_OCTETS) + self.ingress + self.egress
        if version == V2:
            body += struct.pack("<I", 1 if self.offline else 0)
            if self.offline:
                body += struct.pack("<IIIIQ", POLICY_ID, OFFLINE_POLICY, POLICY_OCTETS, *self.offline)
        return struct.pack("<I", 4 + len(body)) + body

    @classmethod
    def read(cls, octets, version):
        sizes = {V1: (80,), V2: (84, 108)}[version]
        if len(octets) not in sizes:
            raise Refused("blob", f"{len(octets)} octets")
        if struct.unpack_from("<IIII", octets) != (len(octets), version, 2, suite.KEY_OCTETS):
            raise Refused("blob", "header")
        offline = None
        if version == V2:
            if struct.unpack_from("<I", octets, 80)[0] != (1 if len(octets) == 108 else 0):
                raise Refused("blob", "NumberOfPolicies")
            if len(octets) == 108:
                *policy, unwraps, expiry = struct.unpack_from("<IIIIQ", octets, 84)
                offline = (unwraps, expiry)
                if policy != [POLICY_ID, OFFLINE_POLICY, POLICY_OCTETS]:
                    raise Refused("blob", "policy")
        keys = octets[16:48], octets[48:80]
        if not all(map(suite.looks_random, keys)):
            raise Refused("blob", "a key that is not random")
        return cls(*keys, offline)


# The host.

REPORT = "OpenHGS-Offline-Unwraps"
REPORT_FORM = re.compile(r"([1-9][0-9]{0,9});mac=:[A-Za-z0-9+/]{43}=:")


def offline_report(count, transport_key, ingress, health_certificate):
    """The field OpenHGS-Offline-Unwraps (section 13)."""
    extracted = hmac.new(b"", transport_key, hashlib.sha256).digest()
    key = hmac.new(extracted, b"OpenHGS offline unwraps\x01", hashlib.sha256).digest()
    digest = hashlib.sha256(protector.read(ingress).canonical).digest()
    message = hashlib.sha256(health_certificate).digest() + digest + struct.pack(">I", count)
    mac = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
    return {REPORT: f"{count};mac=:{mac}:"}


def check_roll(request, response_octets, version, health_key):
    """All that a host checks before it re-seals anything, and rule 3 of the roll; (blob, egress)."""
    response = Response.read(response_octets)
    blob = Blob.read(response.open(request, health_key), version)
    ingress, egress = protector.read(request.ingress), protector.read(response.egress)
    if not protector.mac_matches(ingress, blob.ingress):
        raise Refused("mac", "of the ingress protector")
    protector.verify(egress)
    if not protector.mac_matches(egress, blob.egress):
        raise Refused("mac", "of the egress protector")
    if blob.ingress == blob.egress:
        raise Refused("same-key")
    if ingress.owner.pair != egress.owner.pair:
        raise Refused("owner", "another one")
    for wrapping in ingress.wrappings:
        _check_kept(wrapping, egress)
    return blob, egress


def _check_kept(wrapping, egress):
    kept = egress.by_id(wrapping.id)
    if kept is None or (kept.parent, kept.pair) != (wrapping.parent, wrapping.pair):
        raise Refused("wrapping-lost", f"wrapping {wrapping.id}")
    if kept.key_algorithm != wrapping.key_algorithm:
        raise Refused("wrapping-algorithm", f"wrapping {wrapping.id}")


# KPS. One lineage, no compromised pairs, nothing recorded: enough to drive a host against.


class Failure(Exception):
    """An error of section 6."""

    def __init__(self, status, code, message=""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


WRAPPING_REASONS = {
    "certificate",
    "key-size",
    "key-exponent",
    "key-small-factor",
    "key-fermat",
    "key-roca",
    "key-kind",
    "parent",
    "cycle",
    "owner",
    "signing-certificate-signature",
    "encryption-certificate-signature",
}


@dataclass
class KeyProtectionService:
    """Pairs of the fabric, the head first."""

    pairs: list
    signers: list
    hosts: object = None
    max_offline_unwraps: int = 0
    clock: object = field(default=health.utc_now)

    def roll(self, octets, version, reports=()):
        """The response to a request, or a Failure; `reports` are the values of OpenHGS-Offline-Unwraps."""
        request = self._read(octets)
        count = self._reported(reports)
        try:
            certificate, statement = health.check(
                request.health_certificate, health.Policy(tuple(self.signers), self.clock())
            )
        except Refused as refused:
            raise Failure(403, "HealthCertificateException", str(refused)) from refused
        if self.hosts is not None and not self.hosts.is_registered(statement.host_id):
            raise Failure(403, "HostRevokedException", "the host is not registered")
        ingress = self._verify(request.ingress)
        wrapping, pair, ingress_key = self._open(ingress)
        proven = offline_report(count, ingress_key, request.ingress, request.health_certificate)
        if reports and reports != [proven[REPORT]]:
            raise Failure(400, "InvalidRequestException", "the report was not made with this key by this host")
        egress_key = protector.new_transport_key()
        egress = self._egress(ingress, wrapping, pair, egress_key)
        return self._respond(request, certificate, egress, Blob(ingress_key, egress_key, self._offline(statement)), version)

    @staticmethod
    def _reported(reports):
        """The number of uses that a host reports; 0 without a report."""
        if not reports:
            return 0
        form = REPORT_FORM.fullmatch(reports[0])
        if len(reports) > 1 or form is None or int(form[1]) > xml.MAX_UNSIGNED_INT:
            raise Failure(400, "InvalidRequestException", "not the form of a report")
        return int(form[1])

    def _read(self, octets):
        try:
            request = Request.read(octets)
        except Refused as refused:
            if refused.reason.startswith("limit"):
                raise Failure(413, "LimitExceededException", str(refused)) from refused
            raise Failure(400, "InvalidRequestException", str(refused)) from refused
        try:
            request.check_algorithms()
        except Refused as refused:
            raise Failure(400, "UnsupportedAlgorithmException", str(refused)) from refused
        return request

    def _verify(self, octets):
        try:
            return protector.verify(protector.read(octets))
        except Refused as refused:
            if refused.reason.startswith("limit"):
                raise Failure(413, "LimitExceededException", str(refused)) from refused
            part = "Wrapping" if refused.reason in WRAPPING_REASONS else "Protector"
            raise Failure(400, f"Invalid{part}Exception", str(refused)) from refused

    def _open(self, ingress):
        """(wrapping, pair, transport key) of the first wrapping that opens, the head's before others."""
        found = [
            (wrapping, pair)
            for head_only in (True, False)
            for wrapping in ingress.wrappings
            for pair in self.pairs
            if wrapping.pair == pair.pair and (pair is self.pairs[0]) == head_only
        ]
        if not found:
            raise Failure(403, "WrappingNotFoundException", "no wrapping is for this KPS")
        for wrapping, pair in found[: protector.MAX_DECRYPTIONS]:
            try:
                key = suite.decrypt_with(pair.encryption_key, wrapping.key_algorithm, wrapping.encrypted_key)
            except Refused:
                continue
            if len(key) == suite.KEY_OCTETS and protector.mac_matches(ingress, key):
                if not suite.looks_random(key):
                    raise Failure(400, "InvalidProtectorException", "the transport key is not random")
                return wrapping, pair, key
        raise Failure(400, "InvalidProtectorException", "no wrapping opens it")

    def _egress(self, ingress, opened, pair, key):
        head = self.pairs[0]
        wrappings = [_rewrap(wrapping, key) for wrapping in ingress.wrappings]
        if pair is not head and head.pair not in [wrapping.pair for wrapping in ingress.wrappings]:
            identifier = max(wrapping.id for wrapping in ingress.wrappings) + 1
            if identifier > xml.MAX_UNSIGNED_INT or len(wrappings) == protector.MAX_WRAPPINGS:
                raise Failure(413, "LimitExceededException", "no room for the head")
            wrappings.append(protector.wrap(identifier, head, opened.id, pair.signing_key, key))
        content = Draft(wrappings, guardian_id=str(opened.id))
        if ingress.max_offline_unwraps:
            content.max_offline_unwraps = str(ingress.max_offline_unwraps)
        egress = protector.write(content, key, pair.signing_key)
        if len(egress) > xml.MAX_PROTECTOR:
            raise Failure(413, "LimitExceededException", "the egress protector would be too long")
        return egress

    def _offline(self, statement):
        if not self.max_offline_unwraps or statement.mode != health.TPM_MODE:
            return None
        expiry = self.clock() + datetime.timedelta(hours=1)
        return self.max_offline_unwraps, int(expiry.timestamp())

    @staticmethod
    def _respond(request, certificate, egress, blob, version):
        transfer, wrapping = protector.new_transport_key(), protector.new_transport_key()
        return Response(
            egress=egress,
            transfer_key=suite.encrypt_to(certificate.public_key, request.transfer_algorithm, transfer),
            wrapping_key=suite.encrypt_under(transfer, request.wrapping_algorithm, wrapping),
            transport_keys=suite.encrypt_under(wrapping, request.keys_algorithm, blob.write(version)),
        ).write()


def _rewrap(wrapping, key):
    """The same wrapping around a new transport key."""
    return DraftWrapping(
        id=str(wrapping.id),
        parent=str(wrapping.parent),
        signing=wrapping.signing.der,
        signing_signature=wrapping.signing_signature.value,
        encryption=wrapping.encryption.der,
        encryption_signature=wrapping.encryption_signature.value,
        encrypted_key=suite.encrypt_to(wrapping.encryption.public_key, wrapping.key_algorithm, key),
        key_algorithm=wrapping.key_algorithm,
        signing_algorithm=wrapping.signing_signature.algorithm,
        encryption_algorithm=wrapping.encryption_signature.algorithm,
    )
