"""A whole host over HTTP: every check is one line, `ok NAME` or `FAIL NAME: why`.

The server knows the host key; the owner's private keys are ours, so that protectors for the server, right
and wrong, can be made on the way.
"""

from .client import must
from .drive_attestation import AttestationDrive
from .drive_kps import KpsDrive


def run(client, host_key, owner, ingress, report, specimens=True):
    """All checks into `report`; `ingress` is a protector of `owner` for the server."""
    attestation = AttestationDrive(client, host_key, report)
    attestation.run()
    if not attestation.encryption or not attestation.signing:
        report.check("host-is-attested", must, False, "without a health certificate there is no roll to check")
        return
    KpsDrive(client, attestation, owner, ingress, report).run(specimens)
