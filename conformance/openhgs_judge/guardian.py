"""A guardian: a signing and an encryption certificate, and the private keys if it is ours."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from . import certificate, rsa, suite
from .certificate import Certificate


@dataclass
class Guardian:
    name: str
    signing: Certificate
    encryption: Certificate
    signing_key: Any = field(default=None, repr=False)
    encryption_key: Any = field(default=None, repr=False)
    # (algorithm, value), where the private key is somebody else's.
    encryption_signature: Any = None
    key_algorithm: str = suite.RSA_OAEP

    @classmethod
    def generate(cls, name, signing_key=None, encryption_key=None):
        signing_key = signing_key or rsa.generate()
        encryption_key = encryption_key or rsa.generate()
        return cls(
            name,
            Certificate(certificate.container(f"{name} signing", signing_key, certificate.DIGITAL_SIGNATURE)),
            Certificate(certificate.container(f"{name} encryption", encryption_key, certificate.KEY_ENCIPHERMENT)),
            signing_key,
            encryption_key,
        )

    @property
    def pair(self):
        return self.signing.der, self.encryption.der

    def sign_encryption_certificate(self, algorithm):
        """(algorithm, value): made anew with our own key, or as the guardian gave it."""
        if self.signing_key is None:
            return self.encryption_signature
        return algorithm, suite.sign(self.signing_key, algorithm, self.encryption.der)

    def save(self, directory):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for kind, cert, key in self._kinds():
            (directory / f"{kind}.der").write_bytes(cert.der)
            _write_private(directory / f"{kind}.key.pem", key)

    @classmethod
    def load(cls, directory):
        directory = Path(directory)
        parts = {}
        for kind in ("signing", "encryption"):
            parts[kind] = Certificate((directory / f"{kind}.der").read_bytes())
            parts[f"{kind}_key"] = read_private(directory / f"{kind}.key.pem")
        return cls(directory.name, **parts)

    def _kinds(self):
        yield "signing", self.signing, self.signing_key
        yield "encryption", self.encryption, self.encryption_key


def read_private(path):
    return serialization.load_pem_private_key(Path(path).read_bytes(), password=None)


def _write_private(path, key):
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
