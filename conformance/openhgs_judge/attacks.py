"""Documents that the profile refuses, each with one defect, and documents that it must accept.

Apart from its defect each document is right: where the defect lies inside what is signed, it was signed
with it. So a reader that overlooks the defect has nothing else to stop at.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

from . import protector, rsa
from .guardian import Guardian

VALID, INVALID = "valid", "invalid"

# What KPS answers (section 6), by reason; what is not here is InvalidProtectorException.
# Where the page does not tell a malformed wrapping from a malformed document, either code will do.
EITHER = ["InvalidProtectorException", "InvalidWrappingException"]
WRAPPING = ["InvalidWrappingException"]
CODES = {
    **dict.fromkeys(
        ["attribute", "element", "text", "number", "base64", "algorithm", "parameters", "duplicate-id", "owner"],
        EITHER,
    ),
    **dict.fromkeys(["certificate", "key-kind", "key-size", "key-exponent", "key-small-factor"], WRAPPING),
    **dict.fromkeys(["key-fermat", "key-roca", "parent", "cycle"], WRAPPING),
    **dict.fromkeys(["signing-certificate-signature", "encryption-certificate-signature"], WRAPPING),
}


@dataclass(frozen=True)
class Specimen:
    name: str
    octets: bytes
    section: str
    outcome: str = INVALID
    reason: str = ""
    # "verify": structure and signatures show the defect. "open": only the transport key does.
    stage: str = "verify"
    kind: str = "protector"

    @property
    def kps_answer(self):
        """(status, codes of which one comes), when it is the ingress protector of a roll."""
        if not self.octets:
            # IngressProtector has at least one octet: it is the request that is wrong.
            return 400, ["InvalidRequestException"]
        if self.reason.startswith("limit"):
            return 413, ["LimitExceededException"]
        return 400, CODES.get(self.reason, ["InvalidProtectorException"])

    def entry(self, file):
        entry = {
            "name": self.name,
            "kind": self.kind,
            "file": file,
            "outcome": self.outcome,
            "section": self.section,
        }
        if self.outcome == INVALID:
            entry.update(reason=self.reason, stage=self.stage)
            if self.kind == "protector":
                entry["kpsStatus"], entry["kpsCodes"] = self.kps_answer
        return entry


class Kit:
    """What specimens are made of: an owner, the given guardians, and a stranger whose keys we hold."""

    def __init__(self, owner, guardians):
        self.owner, self.guardians = owner, list(guardians)
        self.stranger = Guardian.generate("stranger")
        self.transport_key = protector.new_transport_key()
        members = [*self.guardians, self.stranger]
        self._draft = protector.draft(owner, members, self.transport_key)
        self.last = str(len(members) + 1)
        self.template = protector.compose(self._draft)
        self.plain = self.seal(self.template).decode()
        self._weak = {}

    def draft(self):
        """A right protector: the owner is wrapping 1, the stranger the last."""
        return copy.deepcopy(self._draft)

    def wrap(self, identifier, guardian, parent_id, parent, **choices):
        return protector.wrap(identifier, guardian, parent_id, parent.signing_key, self.transport_key, **choices)

    def write(self, content, signer=None):
        return protector.write(content, self.transport_key, (signer or self.owner).signing_key)

    def seal(self, template):
        return protector.seal(template, self.transport_key, self.owner.signing_key)

    def weak_key(self, make):
        """A key that `make` makes from the stranger's; made once."""
        if make not in self._weak:
            self._weak[make] = make(self.stranger.signing_key)
        return self._weak[make]


def replaced(text, old, new):
    """`text` with its first `old` replaced, which must be there."""
    if old not in text:
        raise ValueError(f"no {old!r} to replace")
    return text.replace(old, new, 1)


def protectors(kit):
    """All specimens of protectors, the refused ones first."""
    from . import attacks_chain, attacks_keys, attacks_markup, attacks_signatures, variants

    yield from attacks_markup.specimens(kit)
    yield from attacks_keys.specimens(kit)
    yield from attacks_chain.specimens(kit)
    yield from attacks_signatures.specimens(kit)
    yield from variants.specimens(kit)


def everything(owner, guardians, signer_key=None):
    """All specimens of all kinds."""
    from . import attacks_health, attacks_metadata

    yield from protectors(Kit(owner, guardians))
    yield from attacks_metadata.specimens(owner)
    yield from attacks_health.specimens(signer_key or rsa.generate())


SUFFIX = {"protector": "xml", "metadata": "xml", "health-certificate": "der", "attestation-signer": "der"}


def write(directory, specimens):
    """One file for each specimen, and index.json; gives the number of specimens."""
    directory, index = Path(directory), []
    for specimen in specimens:
        file = f"{specimen.kind}s/{specimen.outcome}-{specimen.name}.{SUFFIX[specimen.kind]}"
        path = directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(specimen.octets)
        index.append(specimen.entry(file))
    (directory / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    return len(index)
