//! What the guardian service remembers, as types. [`State`](crate::State) holds them, a
//! [`Transaction`](crate::Transaction) changes them.

mod certificate;
mod endorsement_root;
mod host;
mod names;
mod policy;
mod settings;
mod signer;
pub(crate) mod text;

pub use certificate::{CertificateRecord, SealedKey};
pub use endorsement_root::EndorsementRoot;
pub use host::{Credential, DeniedHost, Host, HostIdentity, Platform, RemovedHost, Revocation};
pub(crate) use host::{HostAttestation, digest_of, policy_of};
pub use names::{Digest, HostName, NameError, ShortName};
pub use policy::{
    DEFAULT_GROUP, DocumentKind, HostGroup, HostMeasurementsRecord, MAX_DOCUMENT_OCTETS,
    PolicyDocument,
};
pub use settings::{KeyCaching, KeyCachingError, MAX_REKEY_WINDOW, Settings, SettingsError};
pub use signer::AttestationSigner;
