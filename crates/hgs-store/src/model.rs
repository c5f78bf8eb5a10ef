//! What the guardian service remembers, as types. [`State`](crate::State) holds them, a
//! [`Transaction`](crate::Transaction) changes them.

mod certificate;
mod host;
mod names;
mod settings;
mod signer;
pub(crate) mod text;

pub use certificate::{CertificateRecord, SealedKey};
pub use host::{Credential, DeniedHost, Host, HostIdentity, RemovedHost, Revocation};
pub(crate) use host::{HostAttestation, policy_of_key};
pub use names::{Digest, HostName, NameError};
pub use settings::{AttestationMode, MAX_REKEY_WINDOW, Settings, SettingsError};
pub use signer::AttestationSigner;
