"""The judge against itself: its verifier, its specimens, its host and its services must agree."""

import io
import json
import time
import xml.etree.ElementTree
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf import hkdf

from . import Refused, attacks, attacks_health, certificate, drive, freshness, health, kps, metadata, protector, rsa
from . import response, server, suite, variants
from .certificate import Certificate
from .client import Client, Report, must
from .guardian import Guardian


def run(directory, verbose=False):
    """Exit status: 0 if all checks hold."""
    started, report = time.monotonic(), Report(quiet=True)
    owner, guardian = Guardian.generate("owner"), Guardian.generate("guardian")
    report.check("known-answers", known_answers)
    report.check("guardian-saved-and-loaded", saved_and_loaded, directory / "owner", owner)
    _check_specimens(report, directory, owner, guardian)
    report.check("canonicalisation-agrees-with-another", canonicalisations, attacks.Kit(owner, [guardian]))
    report.check("health-certificate-denied", denied)
    for name, reason, answer in response.specimens():
        report.check(f"response-{name}", signed_response, reason, answer)
    for name, code, *given in freshness.specimens(1_800_000_000):
        report.check(f"proof-{name}", returned_nonce, code, *given)
    report.check("blob-round-trip", blobs)
    report.check("succession", succession, owner, guardian)
    _check_drive(report, owner, guardian)
    for result in report.results if verbose else report.failed:
        print(f"ok {result['name']}" if result["ok"] else f"FAIL {result['name']}: {result['why']}")
    count, seconds = len(report.results), time.monotonic() - started
    print(f"{count - len(report.failed)} of {count} checks hold, {seconds:.0f} s")
    return 1 if report.failed else 0


def signed_response(reason, answer):
    try:
        response.Answer.from_json(answer.to_json()).check()
    except Refused as refused:
        must(refused.reason == reason, f"{refused.reason}, not {reason}")
    else:
        must(reason is None, "accepted")


def known_answers():
    """From outside the judge: RFC 3394 section 4.6, and another implementation of HKDF."""
    key, plain = bytes(range(32)), bytes.fromhex("00112233445566778899aabbccddeeff") + bytes(range(16))
    wrapped = "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"
    must(suite.encrypt_under(key, suite.KW_AES256, plain).hex() == wrapped, "RFC 3394")
    other = hkdf.HKDF(hashes.SHA256(), 32, salt=None, info=suite.DERIVATION_INFO).derive(key)
    must(suite.derive_mac_key(key) == other, "HKDF")
    must(rsa.fermat_finds(101 * 103) and not rsa.has_roca_fingerprint(2**2048 - 1), "weak keys")


def saved_and_loaded(directory, owner):
    owner.save(directory)
    loaded = Guardian.load(directory)
    must(loaded.pair == owner.pair, "other certificates")
    octets, key = protector.create(loaded, [owner])
    must(protector.open_with(protector.verify(protector.read(octets)), owner) == key, "another key")


# Specimens.


def _check_specimens(report, directory, owner, guardian):
    count = attacks.write(directory, attacks.everything(owner, [guardian]))
    index = json.loads((directory / "index.json").read_text())
    report.check("index-is-whole", must, len({entry["file"] for entry in index}) == count, "two of one name")
    report.check("reasons-are-documented", documented, {entry["reason"] for entry in index if "reason" in entry})
    signer = next(directory / entry["file"] for entry in index if entry["kind"] == "attestation-signer")
    judge = Judge(owner, guardian, signer.read_bytes())
    for entry in index:
        octets = (directory / entry["file"]).read_bytes()
        report.check(f"{entry['kind']}-{entry['outcome']}-{entry['name']}", judge.decide, entry, octets)


def documented(reasons):
    """Against the list in README.md, where that is at hand."""
    readme = Path(__file__).parent.parent / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    missing = [reason for reason in sorted(reasons) if f"`{reason}`" not in text]
    must(not missing or not text, f"not in README.md: {missing}")


class Judge:
    """Decides about a specimen, and compares with its index."""

    def __init__(self, owner, guardian, signer):
        self.owner, self.guardian, self.signer = owner, guardian, signer

    def decide(self, entry, octets):
        stage, reason = getattr(self, entry["kind"].replace("-", "_"))(octets)
        if entry["outcome"] == attacks.VALID:
            must(reason is None, f"refused when told to {stage}: {reason}")
        else:
            must(reason is not None, "accepted")
            must((stage, reason) == (entry["stage"], entry["reason"]), f"{stage} {reason}")

    def protector(self, octets):
        try:
            found = protector.verify(protector.read(octets))
        except Refused as refused:
            return "verify", refused.reason
        try:
            pairs = [wrapping.pair for wrapping in found.wrappings]
            for guardian in (self.owner, self.guardian):
                if guardian.pair in pairs:
                    protector.open_with(found, guardian)
        except Refused as refused:
            return "open", refused.reason
        return "open", None

    def metadata(self, octets):
        return _verified(metadata.check, octets)

    def attestation_signer(self, octets):
        return _verified(health.check_signer, octets)

    def health_certificate(self, octets):
        return _verified(health.check, octets, attacks_health.policy(self.signer))


def _verified(check, *arguments):
    try:
        check(*arguments)
    except Refused as refused:
        return "verify", refused.reason
    return "verify", None


def canonicalisations(kit):
    """The standard library has C14N 2.0, which is the same for documents such as these."""
    for style in variants.STYLES.values():
        octets = variants.create(kit, style)
        ours = variants.xml.canonical(variants.xml.parse(octets, variants.xml.MAX_PROTECTOR))
        theirs = io.StringIO()
        xml.etree.ElementTree.canonicalize(octets.decode(), out=theirs)
        must(ours.decode() == theirs.getvalue(), f"{style}")


def returned_nonce(code, secret, now, spki, proof, body):
    try:
        freshness.NonceKey(secret).check_proof(proof, body, spki, now)
    except Refused as refused:
        must(refused.reason == code, refused.reason)
    else:
        must(code is None, "accepted")


# The rest of sections 5 and 8.


def denied():
    signer_key, key, now = rsa.generate(), rsa.generate(), health.utc_now()
    signer = Certificate(health.make_signer(signer_key))
    statement = health.Statement(health.HOST_KEY_MODE, bytes(16), now, bytes(32))
    issued = health.issue(signer, signer_key, certificate.spki_of(key), health.ENCRYPTION, statement, serial=7)
    second = health.datetime.timedelta(seconds=1)
    health.check(issued, health.Policy((signer,), now, deny_before=now, denied_serials=frozenset([8])))
    for policy in (
        health.Policy((signer,), now, deny_before=now + second),
        health.Policy((signer,), now, denied_serials=frozenset([7])),
    ):
        must(_verified(health.check, issued, policy)[1] == "denied", "not denied")
    short = health.Policy((signer,), now, longest=health.datetime.timedelta(hours=1))
    must(_verified(health.check, issued, short)[1] == "validity", "longer than the signer may grant")


def blobs():
    for version, offline, size in ((kps.V1, None, 80), (kps.V2, None, 84), (kps.V2, (3, 2**33), 108)):
        blob = kps.Blob(protector.new_transport_key(), protector.new_transport_key(), offline)
        octets = blob.write(version)
        must(len(octets) == size and kps.Blob.read(octets, version) == blob, f"version {version}")
        for spoilt in (octets[:-1], octets + b"\0", b"\0" + octets[1:], octets[:4] + b"\3" + octets[5:], octets[:48] + b"e" * 32 + octets[80:]):
            must(_verified(kps.Blob.read, spoilt, version)[1] == "blob", "a wrong blob was read")


def succession(owner, old):
    """A pair that is no longer the head opens, and the head is appended below it (section 5, rule 4)."""
    head, signer_key, host = Guardian.generate("head"), rsa.generate(), rsa.generate()
    services = server.services_for(head, (head.signing.der, head.signing_key), signer_key, [])
    service = services.kps
    service.pairs, service.hosts, service.max_offline_unwraps = [head, old], None, 5
    signer = services.attester.signer

    def issue(mode):
        statement = health.Statement(mode, bytes(16), health.utc_now(), bytes(32))
        return health.issue(signer, signer_key, certificate.spki_of(host), health.ENCRYPTION, statement)

    issued = issue(health.TPM_MODE)
    request = kps.Request(protector.create(owner, [old])[0], issued)
    without_tpm = kps.Request(request.ingress, issue(health.HOST_KEY_MODE))
    blob, _ = kps.check_roll(without_tpm, service.roll(without_tpm.write(), kps.V2), kps.V2, host)
    must(blob.offline is None, "a host without a TPM may keep keys")
    blob, egress = kps.check_roll(request, service.roll(request.write(), kps.V2), kps.V2, host)
    must(blob.offline[0] == 5, "no policy")
    appended = egress.by_id(3)
    must(appended.parent == 2 and appended.pair == head.pair, "the head was not appended")
    must(egress.guardian_id == 2, "not signed by the pair that opened")
    request = kps.Request(egress.octets, issued)
    _, next_egress = kps.check_roll(request, service.roll(request.write(), kps.V1), kps.V1, host)
    must(next_egress.guardian_id == 3 and len(next_egress.wrappings) == 3, "the head does not open first")


# The host against the services.


def _check_drive(report, owner, guardian):
    host_key, communications_key = rsa.generate(), rsa.generate()
    communications = certificate.container("communications", communications_key, certificate.DIGITAL_SIGNATURE)
    services = server.services_for(
        guardian, (communications, communications_key), rsa.generate(), [certificate.spki_of(host_key)]
    )
    running, base = server.start(services)
    ingress = protector.create(owner, [guardian])[0]
    try:
        drive.run(Client(base), host_key, owner, ingress, report)
    finally:
        running.shutdown()
        running.server_close()
