//! Who has the keys of a VM proves it: pure functions.

use hgs_crypto::hash::{HmacKey, Sha256Digest, hkdf_sha256, hmac_sha256, sha256};
use hgs_crypto::{CryptoError, SecretBytes};
use hgs_protector::{ProtectorDigest, TransportKey};

/// Octets of a proof, and of what TLS exports for it.
pub(crate) const LENGTH: usize = 32;

/// The end of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Where the VM runs.
    Source,
    /// Where it is to run.
    Destination,
}

/// What both ends know of the one connection between them. A proof over it is of no use on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transcript {
    /// What TLS exports to both ends alone.
    pub(crate) exporter: [u8; LENGTH],
    /// SHA-256 of the source's certificate.
    pub(crate) source: Sha256Digest,
    /// SHA-256 of the destination's certificate.
    pub(crate) destination: Sha256Digest,
    /// The protector whose transport key is proved.
    pub(crate) protector: ProtectorDigest,
}

/// A key that is derived from the transport key of a VM's current protector. It opens nothing of the VM.
pub(crate) struct ProofKey(SecretBytes);

/// The other end does not have the transport key, or is not the end of this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other host does not prove that it has the VM's transport key")]
pub(crate) struct WrongProof;

impl ProofKey {
    /// Derives it.
    pub(crate) fn of_transport_key(key: &TransportKey) -> Result<Self, CryptoError> {
        hkdf_sha256(key.secret(), &[], b"OpenHGS migration", LENGTH).map(Self)
    }

    /// The proof of one end. That of the other end is another one, so none can be sent back.
    pub(crate) fn prove(&self, side: Side, transcript: &Transcript) -> [u8; LENGTH] {
        hmac_sha256(&self.0, &transcript.parts(&[side.octet()]))
    }

    /// Checks what the end `side` has sent.
    pub(crate) fn verify(
        &self,
        side: Side,
        transcript: &Transcript,
        proof: &[u8],
    ) -> Result<(), WrongProof> {
        let parts = [side.octet()];
        let key = HmacKey::new(&self.0);
        let verified = key.verify(&transcript.parts(&parts), proof);
        verified.map_err(|CryptoError| WrongProof)
    }
}

impl Side {
    fn octet(self) -> u8 {
        match self {
            Self::Source => 1,
            Self::Destination => 2,
        }
    }
}

impl Transcript {
    /// Of the certificates in DER.
    pub(crate) fn new(
        exporter: [u8; LENGTH],
        source: &[u8],
        destination: &[u8],
        protector: ProtectorDigest,
    ) -> Self {
        Self {
            exporter,
            source: sha256(source),
            destination: sha256(destination),
            protector,
        }
    }

    fn parts<'p>(&'p self, side: &'p [u8]) -> [&'p [u8]; 5] {
        [
            side,
            &self.exporter,
            &self.source,
            &self.destination,
            self.protector.as_bytes(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use hgs_crypto::hex;
    use hgs_testkit::tool;

    use super::*;

    fn key(octets: &[u8]) -> TransportKey {
        TransportKey::from_secret(SecretBytes::from(&sha256(octets)[..])).unwrap()
    }

    fn transcript() -> Transcript {
        let protector = ProtectorDigest::from_bytes(sha256(b"protector"));
        Transcript::new(sha256(b"exported"), b"source", b"destination", protector)
    }

    #[test]
    fn a_proof_is_for_one_key_one_end_and_one_connection() {
        let keys = ProofKey::of_transport_key(&key(b"key")).unwrap();
        let known = transcript();
        let proof = keys.prove(Side::Source, &known);
        keys.verify(Side::Source, &known, &proof).unwrap();
        // Sent back, it is the wrong end's.
        assert_eq!(
            keys.verify(Side::Destination, &known, &proof),
            Err(WrongProof)
        );
        let other_key = ProofKey::of_transport_key(&key(b"other")).unwrap();
        other_key.verify(Side::Source, &known, &proof).unwrap_err();
        let other = sha256(b"another");
        for changed in [
            Transcript {
                exporter: other,
                ..known
            },
            Transcript {
                source: other,
                ..known
            },
            Transcript {
                destination: other,
                ..known
            },
            Transcript {
                protector: ProtectorDigest::from_bytes(other),
                ..known
            },
            Transcript {
                source: known.destination,
                destination: known.source,
                ..known
            },
        ] {
            keys.verify(Side::Source, &changed, &proof).unwrap_err();
        }
        for wrong in [&proof[..31], &[proof[..].to_vec(), vec![0]].concat(), &[]] {
            keys.verify(Side::Source, &known, wrong).unwrap_err();
        }
    }

    /// openssl computes the same as the page says.
    #[test]
    fn the_proof_is_as_documented() {
        let key = key(b"key");
        let keys = ProofKey::of_transport_key(&key).unwrap();
        let derived = openssl(
            &[
                "kdf",
                "-keylen",
                "32",
                "-binary",
                "-kdfopt",
                "digest:SHA256",
                "-kdfopt",
                &format!("hexkey:{}", hex::encode(key.secret().expose())),
                "-kdfopt",
                "info:OpenHGS migration",
                "HKDF",
            ],
            &[],
        );
        let known = transcript();
        let mut message = vec![2];
        for part in [&known.exporter, &known.source, &known.destination] {
            message.extend(part);
        }
        message.extend(known.protector.as_bytes());
        let expected = openssl(
            &[
                "dgst",
                "-sha256",
                "-binary",
                "-mac",
                "HMAC",
                "-macopt",
                &format!("hexkey:{}", hex::encode(&derived)),
            ],
            &message,
        );
        assert_eq!(&keys.prove(Side::Destination, &known)[..], expected);
    }

    fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new(tool("openssl", "openssl"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }
}
