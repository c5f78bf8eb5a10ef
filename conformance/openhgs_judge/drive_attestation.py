"""The host and the attestation service (profile, sections 1, 7 and 8)."""

import json

from . import attestation, certificate, drive_requests, freshness, health, rsa
from .client import expect_allow, must

JSON_TYPE = "application/json;charset=utf-8"
ATTEST = "/Attestation/v2.0/hostkeyattest"
SIGNING_CERTIFICATES = "/Attestation/v2.0/signingCertificates"
GETINFO = "/Attestation/getinfo"
SERVICE_FILE = "/attestation/AttestationService.svc/"
RETRYABLE = {
    "operation-mode",
    "unavailable",
    "timeout",
    "internal",
    "nonce-required",
    "nonce-expired",
    "too-many-new-identity-keys",
}
CLOCK_DIFFERENCE = 120  # seconds between the server and us


class AttestationDrive:
    """Afterwards, `signers`, and (certificate, private key) for `encryption` and for `signing`."""

    def __init__(self, client, host_key, report):
        self.client, self.host_key, self.check = client, host_key, report.check
        self.signers, self.encryption, self.signing = [], None, None

    def run(self):
        self.check_information()
        self.check_paths()
        self.check_signing_certificates()
        self.check_attestation()
        self.check_errors()
        self.check_identity_keys()
        self.check_freshness()

    # Requests without body.

    def check_information(self):
        for name, path in {
            "getinfo": GETINFO,
            "getinfo-in-capitals": GETINFO.upper(),
            "getinfo-in-small-letters": GETINFO.lower(),
            "getinfo-with-slash": GETINFO + "/",
            "getinfo-with-query": GETINFO + "?a=%2F&b",
            "getinfo-of-service-file": "/Attestation/attestationservice.svc/getinfo",
            "getinfo-of-service-file-in-other-case": SERVICE_FILE + "GetInfo/",
        }.items():
            self.check(name, self.expect_information, path)
        self.check("getinfo-by-http-1.0", self.expect_information, GETINFO, http_1_0=True)

    def expect_information(self, path, **options):
        reply = attestation.read_reply(self.client.get(path, **options).ok(JSON_TYPE), "ServiceInfoReply")
        found = {name: value for name, value in reply.items() if name != "__type"}
        expected = {"FunctionalLevel": 2, "OperationMode": 3, "SupportedFunctionalLevels": [1, 2]}
        must(found == expected, str(found))

    def check_paths(self):
        for name, method, path in (
            ("percent", "GET", "/Attestation/get%69nfo"),
            ("empty-segment", "GET", "/Attestation//getinfo"),
            ("two-slashes", "GET", GETINFO + "//"),
            ("dot", "GET", "/Attestation/./getinfo"),
            ("dot-dot", "GET", "/Attestation/v2.0/../getinfo"),
            ("unknown", "GET", "/Attestation/nothing"),
            ("getinfo-of-version", "GET", "/Attestation/v2.0/getinfo"),
            ("version-1-of-signing-certificates", "GET", "/Attestation/v1.0/signingCertificates"),
            ("version-1-of-hostkeyattest", "POST", "/Attestation/v1.0/hostkeyattest"),
            ("version-3", "POST", "/Attestation/v3.0/hostkeyattest"),
        ):
            self.refused(f"attestation-404-{name}", 404, "not-found", method=method, path=path)
        for name, method, path, allowed in (
            ("post-getinfo", "POST", GETINFO, {"GET"}),
            ("get-hostkeyattest", "GET", ATTEST, {"POST"}),
            ("put-hostkeyattest", "PUT", ATTEST, {"POST"}),
            ("post-signing-certificates", "POST", SIGNING_CERTIFICATES, {"GET"}),
            ("get-attest", "GET", "/Attestation/v2.0/attest", {"POST"}),
        ):
            name = f"attestation-405-{name}"
            reply = self.refused(name, 405, "method-not-allowed", method=method, path=path)
            if reply:
                self.check(name + "-tells-others", expect_allow, reply, allowed)

    def check_signing_certificates(self):
        for name, path in {
            "signing-certificates": SIGNING_CERTIFICATES,
            "signing-certificates-with-slash": SIGNING_CERTIFICATES + "/",
            "signing-certificates-of-service-file": SERVICE_FILE + "v2.0/signingcertificates",
        }.items():
            self.signers = self.check(name, self.expect_signing_certificates, path) or self.signers

    def expect_signing_certificates(self, path):
        reply = self.client.get(path)
        body = reply.ok(JSON_TYPE)
        must(reply.header("Content-Length") == str(len(body)), "Content-Length")
        must(not reply.header("Transfer-Encoding"), "Transfer-Encoding")
        signers = attestation.read_signing_certificates(body)
        must(signers, "no signer")
        return signers

    # Health certificates.

    def check_attestation(self):
        for kind, name in ((health.ENCRYPTION, "encryption"), (health.SIGNING, "signing")):
            key = rsa.generate()
            self.check(f"attest-{name}", self.attest, key, kind)
            # The same certificate or a new one: section 8 allows both within a minute.
            again = self.check(f"attest-{name}-again-with-the-same-key", self.attest, key, kind)
            setattr(self, name, again and (again, key))
        key = rsa.generate()
        self.check("attest-with-type-and-unknown-members", self.attest_oddly, key)
        self.check("attest-with-16-contents", self.attest_with_other_kinds, key)
        self.check("attest-at-service-file", self.attest, key, health.SIGNING, SERVICE_FILE + "v2.0/HostKeyAttest/")

    def contents(self, key):
        return attestation.signed_contents(self.host_key, certificate.spki_of(key))

    def attest(self, key, kind, path=ATTEST):
        body = attestation.dumps(attestation.request(self.contents(key), [kind]))
        return self.expect_certificate(body, key, kind, path)

    def expect_certificate(self, body, key, kind, path=ATTEST, **options):
        """DER of the certificate that a request gets, checked in all that section 8 says."""
        issued = attestation.read_health_certificate(self.client.post(path, body, **options).ok(JSON_TYPE), kind)
        policy = health.Policy(tuple(self.signers), health.utc_now())
        found, statement = health.check_issued(issued, policy, kind)
        must(found.spki == certificate.spki_of(key), "not over the identity key")
        must(statement.mode == health.HOST_KEY_MODE, "mode")
        digest = health.host_key_policy_digest(certificate.spki_of(self.host_key))
        must(statement.policy_digest == digest, "policyDigest")
        difference = abs((statement.issued_at - policy.now).total_seconds())
        must(difference < CLOCK_DIFFERENCE, f"issuedAt is {difference} s from now")
        return issued

    def attest_oddly(self, key):
        """White space, members and values that nobody knows, up to the limits of section 7."""
        contents = [{**item, "More": [None, {}]} for item in reversed(self.contents(key))]
        nested = []
        for _ in range(attestation.MAX_LEVELS - 3):
            nested = [nested]
        unknown = {str(number): number / 2 for number in range(attestation.MAX_MEMBERS - 1)}
        message = {
            "__type": "AttestationRequest" + attestation.TYPE_SUFFIX,
            **attestation.request(contents, [health.SIGNING]),
            "Unknown": {"nested": nested, **unknown},
        }
        return self.expect_certificate(json.dumps(message, indent=1).encode(), key, health.SIGNING)

    def attest_with_other_kinds(self, key):
        kinds = (2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6, 7, 2)
        contents = [attestation.provided(kind, b"x") for kind in kinds] + self.contents(key)
        body = attestation.dumps(attestation.request(contents, [health.SIGNING]))
        return self.expect_certificate(body, key, health.SIGNING)

    # Refusals.

    def check_errors(self):
        for name, body, kind, code, status in drive_requests.refused(self.host_key):
            body = attestation.dumps(body) if isinstance(body, dict) else body
            self.refused(f"attest-error-{name}", status, code, kind, body)
        kind, code = "OperationModeErrorReply", "operation-mode"
        for path in ("v1.0/attest", "v2.0/attest", "v1.0/domainattest", "v2.0/domainattest"):
            name = f"other-mode-{path.replace('/', '-')}"
            self.refused(name, 400, code, kind, path="/Attestation/" + path)
            self.refused(name + "-of-service-file", 400, code, kind, b"*", path=SERVICE_FILE + path)
        self.check("attest-body-over-512-KiB", self.expect_too_large)

    def refused(self, name, status, code, kind="ErrorReply", body=b"{}", method="POST", path=ATTEST):
        """Check for one error reply; gives the reply."""

        def expect():
            reply = self.client.send(method, path, None if method == "GET" else body)
            self.expect_error(reply, status, code, kind)
            return reply

        return self.check(name, expect)

    @staticmethod
    def expect_error(reply, status, code, kind="ErrorReply"):
        must(reply.status == status, f"status {reply.status}: {reply.body[:300]!r}")
        reply.content_type(JSON_TYPE)
        found_kind, found_code, retryable, members = attestation.read_error(reply.body)
        must((found_kind, found_code) == (kind, code), f"{found_kind} {found_code}, not {kind} {code}")
        must(retryable is (code in RETRYABLE), f"Retryable {retryable}")
        if code == "operation-mode":
            must(members["ExpectedOperationMode"] == 3, "ExpectedOperationMode")

    def expect_too_large(self):
        self.expect_error(self.client.send_too_much(ATTEST), 413, "too-large")

    def check_identity_keys(self):
        first, second = rsa.generate(), rsa.generate()
        self.check("identity-key-first", self.attest, first, health.SIGNING)
        self.check("identity-key-second", self.attest, second, health.SIGNING)
        for name, key, kind in (
            ("identity-key-superseded", first, health.SIGNING),
            ("identity-key-of-other-kind", second, health.ENCRYPTION),
        ):
            body = attestation.dumps(attestation.request(self.contents(key), [kind]))
            self.refused(name, 403, name, "UnauthorizedErrorReply", body)
        self.check("identity-key-second-still-good", self.attest, second, health.SIGNING)

    # Freshness. From here on the host has returned a nonce, and has to.

    def check_freshness(self):
        key = rsa.generate()
        body = attestation.dumps(attestation.request(self.contents(key), [health.SIGNING]))
        captured = self.check("captured-before-any-nonce", self.expect_certificate, body, key, health.SIGNING)
        nonce = self.check("getinfo-hands-out-a-nonce", self.nonce, lambda: self.client.get(GETINFO))
        if not captured or not nonce:
            return
        self.check("certificate-comes-without-a-nonce", self.expect_no_nonce, body)
        self.refused_with_nonce("host-not-registered", self.of_a_stranger())
        for name, proof in freshness.spoilt_proofs(self.host_key, nonce, body).items():
            self.refused_with_nonce(freshness.INVALID, body, proof, name=f"proof-{name}")
        good = freshness.prove(self.host_key, nonce, body)
        self.refused_with_nonce(freshness.INVALID, body, good, good, name="proof-twice")
        self.check("plain-request-before-any-nonce", self.expect_certificate, body, key, health.SIGNING)
        self.check("attest-with-nonce", self.expect_proved, body, key, nonce)
        self.check("attest-with-the-same-nonce-again", self.expect_proved, body, key, nonce)
        reply = self.refused_with_nonce("nonce-required", body, name="captured-request-is-worth-nothing")
        if reply:
            newest = freshness.read_nonce(reply.all(freshness.NONCE_HEADER))
            self.check("attest-with-the-nonce-of-the-refusal", self.expect_proved, body, key, newest)

    @staticmethod
    def nonce(ask):
        return freshness.read_nonce(ask().all(freshness.NONCE_HEADER))

    def of_a_stranger(self):
        contents = attestation.signed_contents(rsa.generate(), certificate.spki_of(rsa.generate()))
        return attestation.dumps(attestation.request(contents, [health.SIGNING]))

    def refused_with_nonce(self, code, body, *proofs, name=None):
        def expect():
            reply = self.client.post(ATTEST, body, headers=freshness.headers(*proofs))
            self.expect_error(reply, 403, code, "UnauthorizedErrorReply")
            self.nonce(lambda: reply)
            return reply

        return self.check(name or f"{code}-hands-out-a-nonce", expect)

    def expect_proved(self, body, key, nonce):
        headers = freshness.headers(freshness.prove(self.host_key, nonce, body))
        return self.expect_certificate(body, key, health.SIGNING, headers=headers)

    def expect_no_nonce(self, body):
        reply = self.client.post(ATTEST, body)
        must(reply.status == 200 and not reply.all(freshness.NONCE_HEADER), "a nonce beside a certificate")
