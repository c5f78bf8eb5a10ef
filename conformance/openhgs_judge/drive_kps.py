"""The host and the key protection service (profile, sections 1, 5, 6 and 9)."""

import datetime
import os
import time

from . import attacks, certificate, health, kps, metadata, protector, response, rsa, suite, xml
from .certificate import Certificate
from .client import expect_allow, must
from .guardian import Guardian

XML_TYPE = "application/xml;charset=utf-8"


class KpsDrive:
    def __init__(self, client, attested, owner, ingress, report):
        self.client, self.attested, self.check = client, attested, report.check
        self.owner, self.ingress, self.guardian = owner, ingress, None
        self.health, self.health_key = attested.encryption

    def run(self, specimens):
        self.check_metadata()
        if self.guardian is None:
            self.check("server-is-known", must, False, "without its metadata there is no roll to check")
            return
        self.check_roll()
        self.check_algorithms()
        self.check_requests()
        self.check_health_certificates()
        self.check_protectors()
        if specimens:
            self.check_specimens()
        self.check_paths()

    # Section 9.

    def check_metadata(self):
        for name, method, path in (
            ("metadata-by-get", "GET", kps.METADATA_PATH),
            ("metadata-by-post", "POST", kps.METADATA_PATH),
            ("metadata-in-small-letters-with-slash", "GET", kps.METADATA_PATH.lower() + "/"),
        ):
            found = self.check(name, self.expect_metadata, method, path)
            self.guardian = found.guardian("server") if found else self.guardian
        if self.guardian is not None:
            self.check("ingress-protector-is-for-this-server", self.expect_ingress)

    def expect_metadata(self, method, path):
        found = metadata.check(self.client.send(method, path, b"" if method == "POST" else None).ok(XML_TYPE))
        must(not found.is_exported_guardian, "signed by the guardian, not by a communications certificate")
        return found

    def expect_ingress(self):
        pairs = [wrapping.pair for wrapping in protector.verify(protector.read(self.ingress)).wrappings]
        must(self.guardian.pair in pairs, "no wrapping for its primary pair")

    # Rolls that succeed.

    def request(self, ingress, **choices):
        return kps.Request(ingress, choices.pop("health_certificate", self.health), **choices)

    def roll(self, request, version=kps.V2):
        """(blob, egress) of a roll that must succeed."""
        asked, nonce = request.write(), os.urandom(32)
        reply = self.client.post(kps.PATHS[version], asked, headers=response.request_fields(asked, nonce))
        body = reply.ok(XML_TYPE)
        blob, egress = kps.check_roll(request, body, version, self.health_key)
        fields = tuple((name, value) for name, value in reply.headers.items())
        signing = egress.by_id(egress.guardian_id).signing.der
        response.Answer(int(time.time()), reply.status, body, asked, nonce, fields, signing).check()
        self.check_egress(request, blob, egress)
        return blob, egress

    def check_egress(self, request, blob, egress):
        """What only an owner sees: that the egress key is in the owner's wrapping too."""
        if egress.owner.pair == self.owner.pair:
            must(protector.open_with(egress, self.owner) == blob.egress, "the owner's wrapping has another key")
            ingress = protector.read(request.ingress)
            must(protector.open_with(ingress, self.owner) == blob.ingress, "another ingress key")
        must(egress.by_id(egress.guardian_id).pair == self.guardian.pair, "not signed by the primary pair")
        must(egress.guardian_signature.algorithm == suite.RSA_SHA256, "signed with an algorithm only read")

    def check_roll(self):
        rolled = self.check("roll-v1", self.roll, self.request(self.ingress), kps.V1)
        again = self.check("roll-v2", self.roll, self.request(self.ingress), kps.V2)
        if rolled and again:
            self.check("roll-draws-new-keys", must, rolled[0].egress != again[0].egress, "the same key twice")
            self.check("roll-gives-one-ingress-key", must, rolled[0].ingress == again[0].ingress, "another one")
            third = self.check("roll-the-egress", self.roll, self.request(again[1].octets))
            if third:
                same = third[0].ingress == again[0].egress
                self.check("roll-the-egress-gives-its-key", must, same, "another ingress key")
                self.check("roll-the-egress-of-the-egress", self.roll, self.request(third[1].octets), kps.V1)

        self.check("roll-unsigned-where-not-asked", self.roll_plain)
        asked = self.request(self.ingress).write()
        good = response.request_fields(asked, os.urandom(32))
        for name, fields in {
            "other-label": {**good, "Accept-Signature": good["Accept-Signature"].replace("openhgs=", "sig1=")},
            "other-components": {**good, "Accept-Signature": good["Accept-Signature"].replace(";req", "")},
            "no-digest": {"Accept-Signature": good["Accept-Signature"]},
            "digest-of-another-body": {**good, "Content-Digest": response.content_digest(b"another")},
        }.items():
            self.check(f"signature-{name}", self.expect_no_signature, asked, fields)

        if again:
            self.check_reports(again[0].ingress)

    def check_reports(self, key):
        """Section 13: what a host says about keys that it has used offline."""
        asked = self.request(self.ingress).write()
        good = kps.offline_report(3, key, self.ingress, self.health)
        self.check("offline-report", self.expect_release, asked, good)
        for name, report in {
            "by-another-key": kps.offline_report(3, protector.new_transport_key(), self.ingress, self.health),
            "of-another-host": kps.offline_report(3, key, self.ingress, self.health + b"\0"),
            "of-another-number": {name: value.replace("3;", "2;") for name, value in good.items()},
            "of-none": kps.offline_report(0, key, self.ingress, self.health),
            "without-mac": {name: "3" for name in good},
        }.items():
            self.check(f"offline-report-{name}", self.expect_no_signature, asked, report)

    def expect_release(self, asked, fields):
        self.client.post(kps.PATHS[kps.V2], asked, headers=fields).ok(XML_TYPE)

    def roll_plain(self):
        reply = self.client.post(kps.PATHS[kps.V2], self.request(self.ingress).write())
        reply.ok(XML_TYPE)
        must(not any(reply.header(name) for name in response.NAMES), "signed without being asked")

    def expect_no_signature(self, asked, fields):
        reply = self.client.post(kps.PATHS[kps.V2], asked, headers=fields)
        self.expect_error(reply, 400, ["InvalidRequestException"])

    def check_algorithms(self):
        for name, choices in {
            "transfer-mgf1p": {"transfer_algorithm": suite.RSA_OAEP_MGF1P},
            "wrapping-kw-aes256": {"wrapping_algorithm": suite.KW_AES256},
        }.items():
            self.check(f"roll-{name}", self.roll, self.request(self.protector(), **choices))
        ingress = self.protector(key_algorithm=suite.RSA_OAEP_MGF1P)
        self.check("roll-for-wrapping-with-mgf1p", self.roll, self.request(ingress))
        self.check("roll-path-in-small-letters", self.roll_at, kps.PATHS[kps.V1].lower() + "/?query")
        self.check("roll-request-pretty", self.roll_pretty)

    def roll_at(self, path):
        request = self.request(self.protector())
        kps.check_roll(request, self.client.post(path, request.write()).ok(XML_TYPE), kps.V1, self.health_key)

    def roll_pretty(self):
        request = self.request(self.protector())
        text = request.write().decode().replace("><", ">\n\t<").replace("AAAA", "AA\r\nAA")
        text = text.replace(suite.RSA_OAEP, f"\n {suite.RSA_OAEP}\t")
        body = ('<?xml version="1.0" encoding="utf-8"?>\n' + text).encode()
        reply = self.client.post(kps.PATHS[kps.V1], body, headers={"Content-Type": "text/plain"}).ok(XML_TYPE)
        kps.check_roll(request, reply, kps.V1, self.health_key)

    def protector(self, **choices):
        """A new protector of our owner for the server."""
        return protector.create(self.owner, [self.guardian], **choices)[0]

    # Refusals.

    def refused(self, name, status, code, body):
        """Check for one error of section 6."""
        self.check(name, lambda: self.expect_error(self.client.post(kps.PATHS[kps.V2], body), status, [code]))

    @staticmethod
    def expect_error(reply, status, codes):
        """(Code, Message) of an error that is one of `codes`."""
        must(reply.status != 200, f"accepted, where {codes} belongs")
        reply.content_type(XML_TYPE)
        code, message = kps.read_error(reply.body)
        must(code in codes, f"{code}, not {' or '.join(codes)} ({message})")
        must(reply.status == status, f"{code} with status {reply.status}, not {status}")
        return code, message

    def check_requests(self):
        for name, body in self.malformed_requests().items():
            body = body.encode() if isinstance(body, str) else body
            self.refused(f"request-{name}", 400, "InvalidRequestException", body)
        for name, choices in {
            "transfer-unknown": {"transfer_algorithm": "urn:example:unknown"},
            "transfer-rsa-1_5": {"transfer_algorithm": "http://www.w3.org/2001/04/xmlenc#rsa-1_5"},
            "transfer-symmetric": {"transfer_algorithm": suite.AES256_GCM},
            "wrapping-unknown": {"wrapping_algorithm": "http://www.w3.org/2001/04/xmlenc#aes256-cbc"},
            "wrapping-rsa": {"wrapping_algorithm": suite.RSA_OAEP},
            "keys-kw-aes256": {"keys_algorithm": suite.KW_AES256},
            "keys-aes128-gcm": {"keys_algorithm": "http://www.w3.org/2009/xmlenc11#aes128-gcm"},
        }.items():
            body = self.request(self.ingress, **choices).write()
            self.refused(f"request-{name}", 400, "UnsupportedAlgorithmException", body)
        self.check("request-body-over-512-KiB", self.expect_too_large)

    def malformed_requests(self):
        right = self.request(self.protector()).write().decode()
        end = "</RollTransportKeyRequest>"
        encoded = xml.base64_text(self.health)
        element = f"<HealthCertificate>{encoded}</HealthCertificate>"
        return {
            "empty": b"",
            "not-xml": b"not XML",
            "json": b"{}",
            "cut-short": right[:-1],
            "utf-16": right.encode("utf-16"),
            "with-mark": b"\xef\xbb\xbf" + right.encode(),
            "trailing-text": right + "x",
            "carriage-return": right.replace(element, "\r" + element),
            "comment": right.replace(element, "<!-- -->" + element),
            "instruction": "<?p?>" + right,
            "document-type": "<!DOCTYPE RollTransportKeyRequest>" + right,
            "root": right.replace("RollTransportKeyRequest", "Request"),
            "namespace": right.replace(xml.SERVICE, xml.KPS),
            "no-namespace": right.replace(f' xmlns="{xml.SERVICE}"', ""),
            "attribute": right.replace(" xmlns=", ' Version="1" xmlns=', 1),
            "element-more": right.replace(end, "<More/>" + end),
            "element-missing": right.replace(element, ""),
            "element-twice": right.replace(element, element * 2),
            "elements-out-of-order": right.replace(element, "").replace(end, element + end),
            "text-between": right.replace(element, "x" + element),
            "base64-of-health-certificate": right.replace(encoded, encoded[:-1]),
            "base64-of-protector": right.replace("<IngressProtector>", "<IngressProtector>*"),
            "protector-empty": self.request(b"").write(),
            "health-certificate-empty": self.request(self.ingress, health_certificate=b"").write(),
        }

    def expect_too_large(self):
        self.expect_error(self.client.send_too_much(kps.PATHS[kps.V2]), 413, ["LimitExceededException"])

    def check_health_certificates(self):
        code = "HealthCertificateException"
        for name, octets in self.wrong_health_certificates().items():
            body = self.request(self.ingress, health_certificate=octets).write()
            self.refused(f"health-certificate-{name}", 403, code, body)
        body = self.request(b"garbage", health_certificate=b"garbage").write()
        self.refused("health-certificate-before-protector", 403, code, body)

    def wrong_health_certificates(self):
        forger_key, now = rsa.generate(), health.utc_now()
        signer = self.attested.signers[0]
        forger = of_same_name(signer, forger_key)

        def forged(key=self.health_key, at=now):
            statement = health.Statement(health.HOST_KEY_MODE, bytes(16), at, bytes(32))
            return health.issue(forger, forger_key, certificate.spki_of(key), health.ENCRYPTION, statement)

        return {
            "garbage": b"garbage",
            "is-only-a-key": certificate.spki_of(self.health_key),
            "with-trailing-octet": self.health + b"\0",
            "altered": self.health[:-1] + bytes([self.health[-1] ^ 1]),
            "for-signing": self.attested.signing[0],
            "of-a-forged-signer": forged(),
            "of-a-forged-signer-and-expired": forged(at=now - datetime.timedelta(hours=9)),
            "of-a-forged-signer-over-a-weak-key": forged(key=rsa.generate(1024)),
            "is-a-signer": signer.der,
            "is-a-guardian": self.guardian.encryption.der,
        }

    def check_protectors(self):
        stranger = Guardian.generate("stranger")
        for name, octets in {
            "for-the-owner-alone": protector.create(self.owner, [])[0],
            "for-somebody-else": protector.create(self.owner, [stranger])[0],
            "for-half-of-the-pair": self.half_pair(stranger),
        }.items():
            self.refused(f"protector-{name}", 403, "WrappingNotFoundException", self.request(octets).write())
        invalid = "InvalidProtectorException"
        self.refused("protector-garbage", 400, invalid, self.request(b"garbage").write())
        self.check("protector-that-does-not-open-tells-no-cause", self.expect_one_cause)
        for name, key in {"equal-octets": b"\x5a" * 32, "counting": bytes(range(32)), "text": b"0123456789abcdef" * 2}.items():
            content = protector.draft(self.owner, [self.guardian], key)
            degenerate = protector.write(content, key, self.owner.signing_key)
            self.refused(f"transport-key-of-{name}", 400, invalid, self.request(degenerate).write())
        self.check("roll-for-a-wrapping-below-another-guardian", self.roll, self.request(self.below(stranger)))
        self.check("roll-where-the-second-wrapping-opens", self.roll, self.request(self.spoilt(1)))
        self.check("roll-where-the-fourth-wrapping-opens", self.roll, self.request(self.spoilt(3)))
        self.refused("protector-whose-fifth-wrapping-opens", 400, invalid, self.request(self.spoilt(4)).write())

    def half_pair(self, stranger):
        """The server's encryption certificate, below somebody else's signing certificate."""
        key = protector.new_transport_key()
        content = protector.draft(self.owner, [stranger], key)
        last = content.wrappings[-1]
        last.encryption = self.guardian.encryption.der
        last.encryption_signature = suite.sign(stranger.signing_key, suite.RSA_SHA256, last.encryption)
        return protector.write(content, key, self.owner.signing_key)

    def below(self, stranger):
        key = protector.new_transport_key()
        content = protector.draft(self.owner, [stranger], key)
        content.wrappings.append(protector.wrap(9, self.guardian, 2, stranger.signing_key, key))
        content.guardian_id = "2"
        return protector.write(content, key, stranger.signing_key)

    def spoilt(self, count):
        """So many wrappings for the server that do not open, and one that does."""
        key = protector.new_transport_key()
        content = protector.draft(self.owner, [self.guardian] * (count + 1), key)
        size = (self.guardian.encryption.modulus.bit_length() + 7) // 8
        for wrapping in content.wrappings[1:-1]:
            wrapping.encrypted_key = b"\0" + os.urandom(size - 1)
        return protector.write(content, key, self.owner.signing_key)

    def expect_one_cause(self):
        """A MAC that does not match, padding that is wrong, and a key of another size look alike."""

        def made(key, mac_key, cipher=None):
            content = protector.draft(self.owner, [self.guardian], key)
            content.wrappings[1].encrypted_key = cipher or content.wrappings[1].encrypted_key
            return self.request(protector.write(content, mac_key, self.owner.signing_key)).write()

        key = protector.new_transport_key()
        found = {
            self.expect_error(self.client.post(kps.PATHS[kps.V2], body), 400, ["InvalidProtectorException"])
            for body in (made(key, bytes(32)), made(key, key, bytes(256)), made(key[:31], key[:31]))
        }
        must(len(found) == 1, f"different errors: {found}")

    def check_specimens(self):
        """Every protector of `attacks`, made for this server, as ingress."""
        for specimen in attacks.protectors(attacks.Kit(self.owner, [self.guardian])):
            if specimen.outcome == attacks.INVALID:
                self.check(f"refuses-{specimen.name}", self.expect_refused, specimen)
            elif specimen.name != "owner-alone":
                self.check(f"accepts-{specimen.name}", self.roll, self.request(specimen.octets))

    def expect_refused(self, specimen):
        status, codes = specimen.kps_answer
        reply = self.client.post(kps.PATHS[kps.V2], self.request(specimen.octets).write())
        self.expect_error(reply, status, codes)

    def check_paths(self):
        roll = kps.PATHS[kps.V2]
        for name, path in {
            "version-3": roll.replace("v2.0", "v3.0"),
            "version-2.00": roll.replace("v2.0", "v2.00"),
            "no-version": roll.replace("v2.0/", ""),
            "percent": roll.replace("v2.0", "v2%2E0"),
            "empty-segment": roll.replace("/v2.0", "//v2.0"),
            "dot-dot": roll.replace("/v2.0", "/v1.0/../v2.0"),
            "other-date": kps.METADATA_PATH.replace("2014-07", "2015-07"),
        }.items():
            self.check(f"kps-404-{name}", self.expect_not_found, path)
        for name, method, path, allowed in (
            ("get-roll", "GET", roll, {"POST"}),
            ("put-roll", "PUT", kps.PATHS[kps.V1], {"POST"}),
            ("delete-metadata", "DELETE", kps.METADATA_PATH, {"GET", "POST"}),
        ):
            self.check(f"kps-405-{name}", self.expect_wrong_method, method, path, allowed)

    def expect_not_found(self, path):
        self.expect_error(self.client.post(path), 404, ["NotFoundException"])

    def expect_wrong_method(self, method, path, allowed):
        reply = self.client.send(method, path)
        self.expect_error(reply, 405, ["MethodNotAllowedException"])
        expect_allow(reply, allowed)


def of_same_name(signer, key):
    """A signer of the same name with another key."""
    extensions = [
        certificate.extension(name, value, critical) for name, (critical, value) in signer.extensions.items()
    ]
    spki = certificate.spki_of(key)
    return Certificate(certificate.make_certificate(signer.subject, spki, key, extensions=extensions))
