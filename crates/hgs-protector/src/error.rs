//! The errors, and who is at fault.

use hgs_crypto::CryptoError;
use hgs_pki::{CertificateError, KeyError, Thumbprint};

use crate::{TransportKeyProblem, WrappingId};

/// The party that a failure is the fault of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The sender of the message.
    Peer,
    /// The maker of the protector.
    Protector,
    /// The host, by its health or its registration.
    Host,
    /// The operator of this service, by its configuration.
    Operator,
    /// The place where a private key lives.
    KeyStore,
    /// This program.
    Ourselves,
}

/// Why an element does not have the form of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The XML, or its order of elements, is not as the schema says.
    #[error(transparent)]
    Xml(#[from] hgs_xml::Error),
    /// Not an `xs:unsignedInt`.
    #[error("{element} is not a number from 0 to 4294967295")]
    UnsignedInt {
        /// The element or attribute.
        element: &'static str,
    },
    /// A version other than the one that is known.
    #[error("{element} has version {found}; 1 is known")]
    Version {
        /// The element.
        element: &'static str,
        /// Its version.
        found: u32,
    },
    /// Not Base64.
    #[error("{element} is not canonical Base64")]
    Base64 {
        /// The element.
        element: &'static str,
    },
    /// Not an acceptable certificate.
    #[error("{element}: {error}")]
    Certificate {
        /// The element.
        element: &'static str,
        /// The reason.
        error: CertificateError,
    },
    /// An algorithm that is not in the suite for this use.
    #[error("{element} names the unknown algorithm `{identifier}`")]
    UnknownAlgorithm {
        /// The element that names it.
        element: &'static str,
        /// The identifier, escaped and cut short.
        identifier: String,
    },
    /// A value that its algorithm makes longer or shorter.
    #[error("{element} has {found} octets instead of {expected}")]
    Length {
        /// The element.
        element: &'static str,
        /// Octets that it should have.
        expected: usize,
        /// Octets that it has.
        found: usize,
    },
}

impl FormError {
    /// Whether a limit was passed, rather than a rule broken.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        match self {
            Self::Xml(error) => error.is_limit(),
            Self::Certificate { error, .. } => matches!(error, CertificateError::TooLarge(_)),
            _ => false,
        }
    }
}

/// Why octets are not a valid key protector. Their author is always at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtectorError {
    /// Not a document of the schema, outside its wrappings.
    #[error("not a key protector: {0}")]
    Form(#[from] FormError),
    /// A wrapping is not as the schema and the suite say.
    #[error("wrapping number {position} is malformed: {error}")]
    Wrapping {
        /// Its place in the document, from 1.
        position: usize,
        /// The reason.
        error: FormError,
    },
    /// More wrappings than a protector may have.
    #[error("the protector has {found} wrappings; {limit} are accepted")]
    TooManyWrappings {
        /// How many are accepted.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// The keys of its certificates are too large together.
    #[error("the keys of the protector's certificates have more than {limit} bits together")]
    TooManyKeyBits {
        /// How many are accepted.
        limit: usize,
    },
    /// Two wrappings have the same Id.
    #[error("two wrappings have the Id {id}")]
    DuplicateId {
        /// The Id.
        id: WrappingId,
    },
    /// No wrapping is its own parent.
    #[error("no wrapping is the owner's")]
    NoOwner,
    /// Two wrappings are their own parents.
    #[error("wrappings {first} and {second} both claim to be the owner's")]
    TwoOwners {
        /// The first.
        first: WrappingId,
        /// The second.
        second: WrappingId,
    },
    /// A wrapping names a parent that is not there.
    #[error("wrapping {id} names the parent {parent}, which is not there")]
    ParentMissing {
        /// The wrapping.
        id: WrappingId,
        /// The parent that it names.
        parent: WrappingId,
    },
    /// A wrapping's parents lead round in a circle.
    #[error("wrapping {id} does not reach the owner")]
    Cycle {
        /// The wrapping.
        id: WrappingId,
    },
    /// The signature over a signing certificate is not by the parent.
    #[error("the signing certificate of wrapping {id} is not signed by its parent {parent}")]
    SigningCertificateSignature {
        /// The wrapping.
        id: WrappingId,
        /// Its parent.
        parent: WrappingId,
    },
    /// The signature over an encryption certificate is not by the signing certificate beside it.
    #[error("the encryption certificate of wrapping {id} is not signed by its signing certificate")]
    EncryptionCertificateSignature {
        /// The wrapping.
        id: WrappingId,
    },
    /// The guardian signature names a wrapping that is not there.
    #[error("the guardian signature is by wrapping {id}, which is not there")]
    GuardianMissing {
        /// The wrapping that it names.
        id: WrappingId,
    },
    /// The guardian signature does not verify.
    #[error("the guardian signature does not verify under the certificate of wrapping {id}")]
    GuardianSignature {
        /// The wrapping that it names.
        id: WrappingId,
    },
}

/// The three kinds of [`ProtectorError`] that [MS-KPS] 3.1.5.1.1.3 and the protocol profile tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtectorErrorKind {
    /// Not a protector, or its signatures do not verify.
    InvalidProtector,
    /// A wrapping is malformed, not signed by its parent, or does not reach the owner.
    InvalidWrapping,
    /// Over a limit.
    LimitExceeded,
}

impl ProtectorError {
    /// Which kind this is.
    #[must_use]
    pub fn kind(&self) -> ProtectorErrorKind {
        match self {
            Self::Form(error) | Self::Wrapping { error, .. } if error.is_limit() => {
                ProtectorErrorKind::LimitExceeded
            }
            Self::TooManyWrappings { .. } | Self::TooManyKeyBits { .. } => {
                ProtectorErrorKind::LimitExceeded
            }
            Self::Form(_) | Self::GuardianMissing { .. } | Self::GuardianSignature { .. } => {
                ProtectorErrorKind::InvalidProtector
            }
            Self::Wrapping { .. }
            | Self::DuplicateId { .. }
            | Self::NoOwner
            | Self::TwoOwners { .. }
            | Self::ParentMissing { .. }
            | Self::Cycle { .. }
            | Self::SigningCertificateSignature { .. }
            | Self::EncryptionCertificateSignature { .. } => ProtectorErrorKind::InvalidWrapping,
        }
    }

    /// Who is at fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Protector
    }
}

/// Nothing opened the protector. There is one error for every cause: which of decryption, length and MAC failed is
/// what a padding oracle asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the transport key of the protector can't be recovered")]
pub struct CannotOpen;

/// Why a protector was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No wrapping is for any of the pairs that are held.
    #[error("no wrapping of the protector is for a guardian whose keys are held")]
    NoWrapping,
    /// See [`CannotOpen`].
    #[error(transparent)]
    CannotOpen(#[from] CannotOpen),
    /// It opens, and its key could be guessed. Only who knows that key can have made the MAC that holds under it, so this
    /// answer tells nothing to others.
    #[error(transparent)]
    TransportKey(#[from] TransportKeyProblem),
    /// A private key that was to decrypt can't be used.
    #[error("the private key of certificate {certificate} can't be used: {error}")]
    Key {
        /// The thumbprint of its certificate.
        certificate: Thumbprint,
        /// Why.
        error: KeyError,
    },
}

/// Why a protector or a guardian's document was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The source of randomness or the cryptographic library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A private key that was to sign can't be used.
    #[error("the private key of certificate {certificate} can't be used: {error}")]
    Key {
        /// The thumbprint of its certificate.
        certificate: Thumbprint,
        /// Why.
        error: KeyError,
    },
    /// The key store's signature does not verify under the certificate that it was asked for.
    #[error("the signature made for the certificate {certificate} does not verify under it")]
    Signature {
        /// The thumbprint of the certificate.
        certificate: Thumbprint,
    },
    /// One more wrapping would be more than a protector may have.
    #[error("the protector has {limit} wrappings already, as many as there may be")]
    TooManyWrappings {
        /// How many there may be.
        limit: usize,
    },
    /// The document would be longer than its readers accept.
    #[error(
        "the document would have {found} octets; {limit} are accepted, so there is no room for all certificates"
    )]
    TooLong {
        /// Octets that are accepted.
        limit: usize,
        /// Octets that it would have.
        found: usize,
    },
    /// The keys of its certificates would be too large together for the readers of a protector.
    #[error(
        "the keys of the protector's certificates would have {found} bits together; {limit} are accepted"
    )]
    TooManyKeyBits {
        /// How many are accepted.
        limit: usize,
        /// How many there would be.
        found: usize,
    },
    /// The metadata would have more other signing certificates than its readers accept.
    #[error("the metadata would have {found} other signing certificates; {limit} are accepted")]
    TooManyCertificates {
        /// How many are accepted.
        limit: usize,
        /// How many it would have.
        found: usize,
    },
    /// The highest Id is the highest there is.
    #[error("the protector has a wrapping with the highest possible Id")]
    NoFreeId,
    /// The guardian has a wrapping already.
    #[error("wrapping {id} is for this guardian already")]
    DuplicateGuardian {
        /// The wrapping.
        id: WrappingId,
    },
    /// Only the owner's keys grant and revoke.
    #[error("wrapping {id} is not the owner's, whose keys alone grant and revoke")]
    NotOwner {
        /// The wrapping that opened the protector.
        id: WrappingId,
    },
    /// The protector has no such wrapping.
    #[error("the protector has no wrapping {id}")]
    NoSuchWrapping {
        /// The Id.
        id: WrappingId,
    },
    /// A roll was to be signed by a successor that it does not have.
    #[error("the roll has no successor that could sign it")]
    NoSuccessor,
    /// The owner's wrapping stays.
    #[error("the owner's wrapping can't be revoked")]
    OwnerStays,
}

impl SealError {
    /// Who is at fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Crypto(_) => Fault::Ourselves,
            Self::Key { .. } | Self::Signature { .. } => Fault::KeyStore,
            Self::TooManyWrappings { .. }
            | Self::TooManyKeyBits { .. }
            | Self::TooLong { .. }
            | Self::NoFreeId => Fault::Protector,
            Self::TooManyCertificates { .. }
            | Self::DuplicateGuardian { .. }
            | Self::NotOwner { .. }
            | Self::NoSuchWrapping { .. }
            | Self::NoSuccessor
            | Self::OwnerStays => Fault::Peer,
        }
    }
}
