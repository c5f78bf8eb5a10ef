//! The extension of a health certificate.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use der::asn1::{GeneralizedTime, OctetStringRef};
use der::{Decode, Encode, Enumerated, Sequence};
use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::random::{self, Random};
use hgs_crypto::{CryptoError, hex};

use crate::Time;

/// An attestation server's statement about a host, beside its key:
///
/// ```text
/// HealthStatement ::= SEQUENCE {
///     version       INTEGER (1),
///     mode          ENUMERATED { tpm(1), activeDirectory(2), hostKey(3) },
///     hostId        OCTET STRING (SIZE (16)),
///     issuedAt      GeneralizedTime,          -- YYYYMMDDHHMMSSZ
///     policyDigest  OCTET STRING (SIZE (32)) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthStatement {
    /// How the host attested.
    pub mode: AttestationMode,
    /// Which host it is.
    pub host_id: HostId,
    /// When the certificate was issued, from 1970 on.
    pub issued_at: Time,
    /// What the host was measured against.
    pub policy_digest: Sha256Digest,
}

/// How a host attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enumerated)]
#[asn1(type = "ENUMERATED")]
#[repr(u8)]
pub enum AttestationMode {
    /// By its TPM.
    Tpm = 1,
    /// By membership in a group of Active Directory.
    ActiveDirectory = 2,
    /// By a registered host key.
    HostKey = 3,
}

impl AttestationMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tpm, Self::ActiveDirectory, Self::HostKey];

    /// Its name in settings and listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::ActiveDirectory => "active-directory",
            Self::HostKey => "host-key",
        }
    }
}

impl fmt::Display for AttestationMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The text is not the name of a mode of attestation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("hosts attest by `tpm`, `active-directory` or `host-key`")]
pub struct AttestationModeError;

impl FromStr for AttestationMode {
    type Err = AttestationModeError;

    fn from_str(name: &str) -> Result<Self, AttestationModeError> {
        let mut modes = Self::ALL.into_iter();
        modes
            .find(|mode| mode.name() == name)
            .ok_or(AttestationModeError)
    }
}

/// The name of a host that stays when it is renamed: 128 random bits, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId([u8; 16]);

/// The text is not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host identifier has 32 hexadecimal digits")]
pub struct HostIdError;

/// Why octets are not a [`HealthStatement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not the DER of the structure, or octets follow it.
    #[error("not a health statement in DER: {0}")]
    Malformed(#[from] der::Error),
    /// Another version.
    #[error("health statement has version {0}; 1 is accepted")]
    Version(u8),
    /// The host's identifier has another size.
    #[error("host identifier of the health statement has {0} octets, not 16")]
    HostId(usize),
    /// The policy digest has another size.
    #[error("policy digest of the health statement has {0} octets, not 32")]
    PolicyDigest(usize),
}

#[derive(Sequence)]
struct Encoded<'a> {
    version: u8,
    mode: AttestationMode,
    host_id: &'a OctetStringRef,
    issued_at: GeneralizedTime,
    policy_digest: &'a OctetStringRef,
}

impl HealthStatement {
    const VERSION: u8 = 1;

    /// Reads DER, and nothing after it.
    pub fn from_der(der: &[u8]) -> Result<Self, StatementError> {
        let encoded = Encoded::from_der(der)?;
        if encoded.version != Self::VERSION {
            return Err(StatementError::Version(encoded.version));
        }
        let host_id = encoded.host_id.as_bytes();
        let policy_digest = encoded.policy_digest.as_bytes();
        let issued_at = encoded.issued_at.to_unix_duration().as_secs();
        Ok(Self {
            mode: encoded.mode,
            host_id: HostId(exactly(host_id).map_err(StatementError::HostId)?),
            issued_at: Time::from_unix(i64::try_from(issued_at).unwrap_or(i64::MAX)),
            policy_digest: exactly(policy_digest).map_err(StatementError::PolicyDigest)?,
        })
    }

    /// Writes DER.
    ///
    /// # Errors
    ///
    /// When it was issued before 1970.
    pub fn to_der(&self) -> Result<Vec<u8>, der::Error> {
        let seconds = u64::try_from(self.issued_at.unix()).map_err(|_| der::ErrorKind::DateTime)?;
        let encoded = Encoded {
            version: Self::VERSION,
            mode: self.mode,
            host_id: OctetStringRef::new(&self.host_id.0)?,
            issued_at: GeneralizedTime::from_unix_duration(Duration::from_secs(seconds))?,
            policy_digest: OctetStringRef::new(&self.policy_digest)?,
        };
        encoded.to_der()
    }
}

fn exactly<const N: usize>(octets: &[u8]) -> Result<[u8; N], usize> {
    octets.try_into().map_err(|_| octets.len())
}

impl HostId {
    /// Draws a new one.
    ///
    /// # Errors
    ///
    /// When the source of randomness fails.
    pub fn random(random: &mut dyn Random) -> Result<Self, CryptoError> {
        random::array(random).map(Self)
    }

    /// From its 16 octets.
    #[must_use]
    pub const fn from_bytes(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Its 16 octets.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HostId({self})")
    }
}

impl FromStr for HostId {
    type Err = HostIdError;

    fn from_str(text: &str) -> Result<Self, HostIdError> {
        let octets = hex::decode(text).ok_or(HostIdError)?;
        octets.try_into().map(Self).map_err(|_| HostIdError)
    }
}
