//! What a transaction writes: records put and removed.

use std::fmt;

use hgs_pki::Thumbprint;

use crate::model::{
    AttestationSigner, CertificateRecord, Digest, Host, HostId, HostIdentity, SealedKey, Settings,
};
use crate::record::RecordKind;

/// One record put or removed. Everything that happens to a [`State`](crate::State) is a sequence
/// of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Record),
    Remove(RecordKey),
}

/// A record of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Settings(Settings),
    Certificate(CertificateRecord),
    PrivateKey(SealedKey),
    Host(Host),
    HostIdentity(HostIdentity),
    AttestationSigner(AttestationSigner),
}

/// A record's kind and name; `Display` is the name within its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordKey {
    Settings,
    Certificate(Thumbprint),
    PrivateKey(Digest),
    Host(HostId),
    HostIdentity(HostId, Digest),
    AttestationSigner(Thumbprint),
}

impl Change {
    pub(crate) fn key(&self) -> RecordKey {
        match self {
            Self::Put(record) => record.key(),
            Self::Remove(key) => *key,
        }
    }
}

impl Record {
    pub(crate) fn key(&self) -> RecordKey {
        match self {
            Self::Settings(_) => RecordKey::Settings,
            Self::Certificate(value) => RecordKey::Certificate(value.thumbprint()),
            Self::PrivateKey(value) => RecordKey::PrivateKey(value.public_key),
            Self::Host(value) => RecordKey::Host(value.id),
            Self::HostIdentity(value) => RecordKey::HostIdentity(value.host, value.public_key),
            Self::AttestationSigner(value) => RecordKey::AttestationSigner(value.thumbprint()),
        }
    }

    /// The record's value as it is kept.
    pub(crate) fn to_text(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Settings(value) => serde_json::to_string(value),
            Self::Certificate(value) => serde_json::to_string(value),
            Self::PrivateKey(value) => serde_json::to_string(value),
            Self::Host(value) => serde_json::to_string(value),
            Self::HostIdentity(value) => serde_json::to_string(value),
            Self::AttestationSigner(value) => serde_json::to_string(value),
        }
    }

    /// Reads a value back.
    pub(crate) fn from_text(kind: RecordKind, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            RecordKind::Settings => Self::Settings(serde_json::from_str(text)?),
            RecordKind::Certificate => Self::Certificate(serde_json::from_str(text)?),
            RecordKind::PrivateKey => Self::PrivateKey(serde_json::from_str(text)?),
            RecordKind::Host => Self::Host(serde_json::from_str(text)?),
            RecordKind::HostIdentity => Self::HostIdentity(serde_json::from_str(text)?),
            RecordKind::AttestationSigner => Self::AttestationSigner(serde_json::from_str(text)?),
        })
    }
}

impl RecordKey {
    pub(crate) fn kind(&self) -> RecordKind {
        match self {
            Self::Settings => RecordKind::Settings,
            Self::Certificate(_) => RecordKind::Certificate,
            Self::PrivateKey(_) => RecordKind::PrivateKey,
            Self::Host(_) => RecordKind::Host,
            Self::HostIdentity(..) => RecordKind::HostIdentity,
            Self::AttestationSigner(_) => RecordKind::AttestationSigner,
        }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => formatter.write_str("service"),
            Self::Certificate(thumbprint) | Self::AttestationSigner(thumbprint) => {
                write!(formatter, "{thumbprint}")
            }
            Self::PrivateKey(public_key) => write!(formatter, "{public_key}"),
            Self::Host(id) => write!(formatter, "{id}"),
            Self::HostIdentity(host, public_key) => write!(formatter, "{host}/{public_key}"),
        }
    }
}
