//! Images that firmware and loaders measure, and what files alone let us predict of a measured boot.
//!
//! [`PeImage`] reads PE/COFF files: the digest that Secure Boot and PCR 4 use, and their sections. [`Shim`] and
//! [`SystemdStub`] say what these two programs measure on their own account, [`grub`] and [`kernel`] what follows them.
//! [`VariableData`] and [`SignatureList`] are the structures of UEFI in which keys are measured.

mod authenticode;
mod error;
pub mod fuzzing;
pub mod grub;
pub mod kernel;
mod pe;
mod predicted;
mod sbat;
mod shim;
mod signature_list;
mod systemd_stub;
mod variable;

pub use crate::guid::Guid;
pub use authenticode::AuthenticodeDigests;
pub use error::ImageError;
pub use pe::{MAX_IMAGE_LENGTH, PeImage, Section, WinCertificate};
pub use predicted::PredictedEvent;
pub use sbat::SbatEntry;
pub use shim::{ORIGINAL_SBAT_LEVEL, OwnMokVariables, Shim, VendorAuthorized};
pub use signature_list::{SignatureData, SignatureList, SignatureListError};
pub use systemd_stub::SystemdStub;
pub use variable::{VariableData, VariableDataError};
