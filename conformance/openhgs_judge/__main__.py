"""The command line. Exit status: 0 accepted or all well, 1 a check failed, 2 refused."""

import argparse
import json
import select
import ssl
import sys
import tempfile
from pathlib import Path

from . import Refused, attacks, certificate, client, drive, freshness, guardian, health, metadata, protector
from . import attestation, response, rsa, rtpm, selftest, server, suite, tpm, variants
from .guardian import Guardian


def main(arguments=None):
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except Refused as refused:
        print(f"refused {refused}", file=sys.stderr)
        return 2


def make_guardian(options):
    made = Guardian.generate(options.name)
    made.save(options.directory)
    (Path(options.directory) / "metadata.xml").write_bytes(metadata.write(made))
    print(made.signing.thumbprint)


def make_protector(options):
    owner = Guardian.load(options.owner)
    guardians = [metadata.read_guardian(source) for source in options.guardian]
    choices = {"signature": suite.RSA_PSS} if options.pss else {}
    if options.mgf1p:
        choices["key_algorithm"] = suite.RSA_OAEP_MGF1P
    offline = str(options.offline) if options.offline is not None else None
    octets, _ = protector.create(owner, guardians, _style(options), max_offline_unwraps=offline, **choices)
    protector.verify(protector.read(octets))
    Path(options.out).write_bytes(octets)


def _style(options):
    """The styles of the flags, one on top of the other."""
    base64 = {
        "lines": variants.in_lines("\n"),
        "cdata": variants.in_character_data,
        "references": variants.in_character_references,
    }
    return protector.Style(
        prefix="kps" if options.prefix else "",
        indent="  " if options.pretty else "",
        declaration=variants.CLEAN + "\n" if options.declaration else "",
        base64=base64.get(options.base64, str),
    )


def verify_protector(options):
    found = protector.verify(protector.read(Path(options.file).read_bytes()))
    print(f"verified {found.digest}; the MAC needs the transport key and was not checked")


def open_protector(options):
    found = protector.verify(protector.read(Path(options.file).read_bytes()))
    protector.open_with(found, Guardian.load(options.guardian))
    print("opened")


def write_attacks(options):
    owner = Guardian.load(options.owner)
    guardians = [metadata.read_guardian(source) for source in options.guardian]
    count = attacks.write(options.directory, attacks.everything(owner, guardians))
    print(f"{count} documents")


def check_metadata(options):
    found = metadata.check(Path(options.file).read_bytes())
    if options.thumbprint and found.signing.thumbprint != options.thumbprint.lower().replace(":", ""):
        raise Refused("thumbprint", found.signing.thumbprint)
    kind = "exported guardian" if found.is_exported_guardian else "metadata"
    print(f"whole {kind}, signing certificate {found.signing.thumbprint}")


def check_health_certificate(options):
    signers = tuple(health.check_signer(_der(path)) for path in options.signer)
    now = health.utc_now()
    if options.now:
        now = health.datetime.datetime.strptime(options.now, "%Y%m%d%H%M%SZ").replace(tzinfo=now.tzinfo)
    kind = {"encryption": health.ENCRYPTION, "signing": health.SIGNING}[options.kind]
    _, statement = health.check_issued(_der(options.file), health.Policy(signers, now), kind)
    print(f"issued {statement.issued_at:%Y-%m-%dT%H:%M:%SZ} to host {statement.host_id.hex()}")


def _der(path):
    octets = Path(path).read_bytes()
    if octets.startswith(b"-----BEGIN"):
        return ssl.PEM_cert_to_DER_cert(octets.decode("ascii"))
    return octets


def check_response(options):
    for file in options.file:
        response.Answer.from_json(json.loads(Path(file).read_text())).check()


def write_responses(options):
    """One line each: name, reason, and what a host has; tabs stand in none of it."""
    lines = ["\t".join(response.row(*specimen)) for specimen in response.specimens(options.now)]
    Path(options.file).write_text("".join(line + "\n" for line in lines))
    print(f"{len(lines)} responses")


def write_proofs(options):
    """One line each: name, code, and what a server has; tabs stand in none of it."""
    lines = ["\t".join(freshness.row(*specimen)) for specimen in freshness.specimens(options.now)]
    Path(options.file).write_text("".join(line + "\n" for line in lines))
    print(f"{len(lines)} proofs")


def run_drive(options):
    report, there = client.Report(options.json), client.Client(options.base, options.ca, options.insecure)
    host_key, owner = guardian.read_private(options.host_key), Guardian.load(options.owner)
    ingress = Path(options.protector).read_bytes()
    drive.run(there, host_key, owner, ingress, report, specimens=not options.no_specimens)
    return report.finish()


def serve(options):
    """Serve until interrupted."""
    key = rsa.generate()
    communications = certificate.container("communications", key, certificate.DIGITAL_SIGNATURE), key
    host_keys = [_spki(path) for path in options.host_key]
    services = server.services_for(Guardian.load(options.guardian), communications, rsa.generate(), host_keys)
    _, base = server.start(services, options.port)
    print(base, flush=True)
    select.select([], [], [])


def rtpm_host(options):
    """Requests go to standard output, one a line; replies come from standard input, each after its status and a space."""
    kind = {"encryption": health.ENCRYPTION, "signing": health.SIGNING}[options.kind]
    log = Path(options.log).read_bytes() if options.log else b""
    identity = Path(options.identity).read_bytes() if options.identity else None
    claim = Path(options.next_boot).read_bytes() if options.next_boot else b""
    host = rtpm.Host(tpm.Tpm(options.tpm), log, kind, identity, claim=claim)
    try:
        request = host.request()
        while True:
            print(request.decode(), flush=True)
            status, reply = sys.stdin.readline().rstrip("\n").split(" ", 1)
            reply = reply.encode()
            if status != "200":
                print("refused", attestation.read_refusal(reply), flush=True)
                return 2
            if attestation.loads(reply)["__type"].startswith("HealthCertificateReply:"):
                print("attested", host.certificate(reply).hex(), flush=True)
                if host.created and options.out:
                    Path(options.out).write_bytes(host.created[1])
                return 0
            request = host.answer(reply)
    finally:
        host.flush()


def rtpm_server(options):
    """Requests come from standard input, one a line; replies go to standard output, each after its status and a space."""
    served = rtpm.Server(rsa.generate(), takes_claims=options.next_boot_claims)
    for path in options.endorsement_key:
        served.register(Path(path).read_bytes())
    Path(options.signer).write_bytes(served.signer.der)
    for request in sys.stdin:
        status, reply = served.attest(request.encode())
        print(status, reply.decode(), flush=True)


def _spki(path):
    """SubjectPublicKeyInfo from a PEM of a public key."""
    from cryptography.hazmat.primitives import serialization

    public = serialization.load_pem_public_key(Path(path).read_bytes())
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def self_test(options):
    with tempfile.TemporaryDirectory() as directory:
        return selftest.run(Path(directory), verbose=options.verbose)


def _parser():
    parser = argparse.ArgumentParser(prog="openhgs_judge", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, description):
        added = commands.add_parser(name, help=description, description=description)
        added.set_defaults(run=run)
        return added

    made = command("make-guardian", make_guardian, "make keys, certificates and metadata of a guardian")
    made.add_argument("directory")
    made.add_argument("name")

    made = command("make-protector", make_protector, "make a protector, in many ways to write the same")
    _add_parties(made)
    made.add_argument("--out", required=True, metavar="FILE")
    for flag in ("--pss", "--mgf1p", "--pretty", "--prefix", "--declaration"):
        made.add_argument(flag, action="store_true")
    made.add_argument("--base64", choices=["plain", "lines", "cdata", "references"], default="plain")
    made.add_argument("--offline", type=int, metavar="N", help="MaxOfflineUnwraps")

    made = command("verify-protector", verify_protector, "check structure, chain and GuardianSignature")
    made.add_argument("file")

    made = command("open-protector", open_protector, "also decrypt the transport key and check its MAC")
    made.add_argument("file")
    made.add_argument("--guardian", required=True, metavar="DIR")

    made = command("attacks", write_attacks, "write specimens to refuse and to accept, with index.json")
    made.add_argument("directory")
    _add_parties(made)

    made = command("check-metadata", check_metadata, "check metadata or an exported guardian")
    made.add_argument("file")
    made.add_argument("--thumbprint", metavar="HEX", help="SHA-256 of the signing certificate")

    made = command("check-health-certificate", check_health_certificate, "check a health certificate")
    made.add_argument("file")
    made.add_argument("--signer", action="append", required=True, metavar="FILE")
    made.add_argument("--kind", choices=["encryption", "signing"], default="encryption")
    made.add_argument("--now", metavar="YYYYMMDDHHMMSSZ")

    made = command("check-response", check_response, "check the signature of a response, as a host does")
    made.add_argument("file", nargs="+", metavar="JSON")

    made = command("response-specimens", write_responses, "write signed responses to accept and to refuse")
    made.add_argument("file", metavar="TSV")
    made.add_argument("--now", type=int, metavar="UNIX")

    made = command("nonce-specimens", write_proofs, "write returned nonces to accept and to refuse")
    made.add_argument("file", metavar="TSV")
    made.add_argument("--now", type=int, required=True, metavar="UNIX")

    made = command("drive", run_drive, "be a host to a server, in all ways")
    made.add_argument("base", metavar="BASE_URL")
    made.add_argument("--host-key", required=True, metavar="PEM", help="private key of a registered host")
    made.add_argument("--protector", required=True, metavar="FILE")
    made.add_argument("--owner", required=True, metavar="DIR")
    made.add_argument("--ca", metavar="PEM")
    made.add_argument("--insecure", action="store_true", help="do not check the server's certificate")
    made.add_argument("--no-specimens", action="store_true", help="leave out the documents of `attacks`")
    made.add_argument("--json", action="store_true")

    made = command("serve-kps", serve, "be the server to a host")
    made.add_argument("port", type=int)
    made.add_argument("--guardian", required=True, metavar="DIR")
    made.add_argument("--host-key", action="append", required=True, metavar="PEM", help="public key of a host")

    made = command("rtpm-host", rtpm_host, "be a host in TPM mode, over standard input and output")
    made.add_argument("--tpm", required=True, metavar="SOCKET", help="of swtpm")
    made.add_argument("--log", metavar="FILE", help="event log")
    made.add_argument("--kind", choices=["encryption", "signing"], default="encryption")
    made.add_argument("--identity", metavar="FILE", help="public area of a key of an earlier exchange")
    made.add_argument("--out", metavar="FILE", help="for the public area of the new key")
    made.add_argument("--next-boot", metavar="FILE", help="claim of what the host will boot next")

    made = command("rtpm-server", rtpm_server, "be a server in TPM mode, over standard input and output")
    made.add_argument("--endorsement-key", action="append", default=[], metavar="FILE", help="TPMT_PUBLIC")
    made.add_argument("--signer", required=True, metavar="FILE", help="for the certificate of the signer")
    made.add_argument("--next-boot-claims", action="store_true", help="take claims of what hosts will boot next")

    made = command("self-test", self_test, "the judge against itself")
    made.add_argument("--verbose", action="store_true")
    return parser


def _add_parties(parser):
    parser.add_argument("--owner", required=True, metavar="DIR")
    parser.add_argument("--guardian", action="append", default=[], metavar="METADATA.xml|DIR")


if __name__ == "__main__":
    sys.exit(main())
