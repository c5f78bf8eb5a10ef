//! What the libraries' errors are at the command line: whose fault, which status, which remedy.

use hgs_client::sealed_file::{SealAnewError, SealedFileError};
use hgs_crypto::rsa::PrivateKeyError;
use hgs_custody::{CertifyError, KeyError};
use hgs_pki::issue::IssueError;
use hgs_protector::metadata::{ImportError, MetadataError};
use hgs_protector::{Fault, OpenError, SealError};
use hgs_terminal::{AtFault, Exit, Failure};

/// An error that a person can be told.
pub(crate) trait IntoFailure {
    fn into_failure(self) -> Failure;
}

/// Outcomes that end a command when they are errors.
pub(crate) trait OrFail<T> {
    fn or_fail(self) -> Result<T, Failure>;
}

impl<T, E: IntoFailure> OrFail<T> for Result<T, E> {
    fn or_fail(self) -> Result<T, Failure> {
        self.map_err(E::into_failure)
    }
}

impl IntoFailure for SealError {
    fn into_failure(self) -> Failure {
        let failure = match self.fault() {
            // Nothing came over a network: who asked for it is who runs this program.
            Fault::Peer => Failure::refused(&self).at_fault(AtFault::Operator),
            Fault::Protector => Failure::refused(&self).at_fault(AtFault::Protector),
            Fault::KeyStore => Failure::of(&self).at_fault(AtFault::KeyStore),
            Fault::Host | Fault::Operator | Fault::Ourselves => {
                Failure::of(&self).at_fault(AtFault::Ourselves)
            }
        };
        match self {
            Self::DuplicateGuardian { .. } => failure.remedy("name each guardian once"),
            Self::NotOwner { .. } => failure.remedy("use the keys of the owner"),
            Self::NoSuchWrapping { .. } => {
                failure.remedy("see the numbers of the wrappings with `hgs protector show FILE`")
            }
            Self::TooLong { .. } | Self::TooManyWrappings { .. } | Self::TooManyKeyBits { .. } => failure.remedy(
                "name fewer guardians, take out those that need the protector no longer (`hgs protector revoke`), or give \
                 guardians shorter certificates",
            ),
            Self::OwnerStays => {
                failure.remedy("make a new protector; the owner of one never changes")
            }
            _ => failure,
        }
    }
}

impl IntoFailure for OpenError {
    fn into_failure(self) -> Failure {
        if let Self::Key { .. } = &self {
            return Failure::of(&self).at_fault(AtFault::KeyStore);
        }
        let failure = Failure::refused(&self).at_fault(AtFault::Protector);
        match self {
            Self::NoWrapping => {
                failure.remedy("see who can open it with `hgs protector show FILE`")
            }
            Self::CannotOpen(_) => failure
                .remedy("use an older copy of the protector: this one was damaged, or forged by somebody in its chain"),
            Self::TransportKey(_) => failure.remedy(
                "the program that made this protector is faulty: make another protector with `hgs protector new`, and seal the VM's state under it anew",
            ),
            Self::Key { .. } => failure,
        }
    }
}

impl IntoFailure for KeyError {
    fn into_failure(self) -> Failure {
        Failure::of(&self).at_fault(AtFault::KeyStore)
    }
}

impl IntoFailure for PrivateKeyError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self);
        match self {
            Self::Generation(_) => failure.at_fault(AtFault::Ourselves),
            _ => failure.with_exit(Exit::Refused).at_fault(AtFault::Operator),
        }
    }
}

impl IntoFailure for CertifyError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Key(error) => error.into_failure(),
            Self::Signature(error) => error.into_failure(),
            Self::Randomness => Failure::of(&self).at_fault(AtFault::Ourselves),
            Self::Issue(error) => error.into_failure(),
        }
    }
}

impl IntoFailure for IssueError {
    fn into_failure(self) -> Failure {
        Failure::refused(self).at_fault(AtFault::Operator)
    }
}

impl IntoFailure for hgs_pki::PemError {
    fn into_failure(self) -> Failure {
        Failure::refused(self).at_fault(AtFault::Operator)
    }
}

impl IntoFailure for MetadataError {
    fn into_failure(self) -> Failure {
        Failure::refused(&self)
            .at_fault(AtFault::Peer)
            .remedy("get the document again from whoever runs the guardian")
    }
}

impl IntoFailure for ImportError {
    fn into_failure(self) -> Failure {
        let failure = Failure::refused(&self).at_fault(AtFault::Peer);
        match self {
            Self::Thumbprint { .. } => failure.remedy(
                "ask whoever runs the guardian for the thumbprint, and do not use this document if it stays another",
            ),
            Self::Chain(_) => failure.remedy(
                "configure the root with `--root FILE`, or give the thumbprint of the signing certificate, as its owner \
                 tells it to you, with `--thumbprint`",
            ),
            Self::Expired { .. } => failure.remedy("say `--allow-expired` if that is known and meant"),
            Self::NotYetValid { .. } => failure.remedy("check the clock of this machine"),
        }
    }
}

impl IntoFailure for SealAnewError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Crypto(error) => error.into(),
            Self::Protector(error) => error.into_failure(),
            Self::File(error) => error.into_failure(),
        }
    }
}

impl IntoFailure for SealedFileError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Random => Failure::of(&self).at_fault(AtFault::Ourselves),
            _ => Failure::refused(self).at_fault(AtFault::Operator),
        }
    }
}
