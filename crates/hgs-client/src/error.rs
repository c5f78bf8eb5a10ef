//! What can go wrong, whose fault it is, and what helps.

use std::fmt;

use hgs_files::FileError;
use hgs_protector::ProtectorError;

use crate::configuration::ConfigurationError;
use crate::host_key::HostKeyError;
use crate::identity::IdentityError;
use crate::kept_keys::KeptKeyError;
use crate::sealed_file::SealedFileError;
use crate::sealed_pair::SealedPairError;
use crate::service::{ServiceFailure, Side};
use crate::state::MasterKeyError;
use crate::tpm::HostTpmError;

/// Why a host could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not one.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no host key, or it can't be used.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The identity key can't be made, read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A key that was kept for offline use is not there, or does not open.
    #[error(transparent)]
    KeptKey(#[from] KeptKeyError),
    /// This host is in local mode: it attests to no service.
    #[error("this host is in local mode: no attestation and key protection service is configured")]
    LocalMode,
    /// The master key of the state folder can't be made or read.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The fallback alone was to be asked, and there is none.
    #[error("no fallback is configured")]
    NoFallback,
    /// No service gave what was asked for.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// The protector is not valid; no service was asked.
    #[error(transparent)]
    Protector(#[from] ProtectorError),
    /// The sealed file is not one, or does not open.
    #[error(transparent)]
    SealedFile(#[from] SealedFileError),
    /// The protector and the sealed file can't be opened or replaced.
    #[error(transparent)]
    SealedPair(#[from] SealedPairError),
    /// The TPM of this host, or what the machine says about its boot, can't be used.
    #[error(transparent)]
    Tpm(#[from] HostTpmError),
    /// The system ran out of randomness or of threads.
    #[error("the system fails: {0}")]
    System(String),
}

/// What each service answered that was asked, in that order. The last is the answer.
#[derive(Debug, Clone)]
pub struct ServicesError {
    earlier: Vec<ServiceFailure>,
    last: Box<ServiceFailure>,
}

/// The party that a failure is the fault of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The Host Guardian Service that was asked, or its operator.
    Guardian,
    /// This host: it is unknown, revoked, or not healthy.
    Host,
    /// What lies between this host and the services.
    Network,
    /// The operator of this host.
    Operator,
    /// This program, or the system below it.
    Ourselves,
    /// The maker of the protector or of the sealed file.
    Protector,
}

impl ServicesError {
    pub(crate) fn new(earlier: Vec<ServiceFailure>, last: ServiceFailure) -> Self {
        Self {
            earlier,
            last: Box::new(last),
        }
    }

    /// The failures of the services that were asked before, if any.
    #[must_use]
    pub fn earlier(&self) -> &[ServiceFailure] {
        &self.earlier
    }

    /// The failure or decision that ended it.
    #[must_use]
    pub fn last(&self) -> &ServiceFailure {
        &self.last
    }
}

impl fmt::Display for ServicesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.earlier {
            write!(formatter, "{failure}; ")?;
        }
        match self.last.side {
            Side::Fallback if !self.earlier.is_empty() => write!(formatter, "then the fallback, ")?,
            Side::Primary | Side::Fallback => {}
        }
        write!(formatter, "{}", self.last)
    }
}

impl std::error::Error for ServicesError {}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Guardian => "guardian",
            Self::Host => "host",
            Self::Network => "network",
            Self::Operator => "operator of this host",
            Self::Ourselves => "this program or system",
            Self::Protector => "protector",
        })
    }
}
