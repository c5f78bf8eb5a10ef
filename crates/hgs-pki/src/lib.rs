//! Certificates as the guardian service uses them: read, compared, chained, issued.
//!
//! A [`Certificate`] is parsed once, with an RSA key that was checked once; after that every
//! accessor is free and cloning shares the contents. Parsing proves the form and the strength of
//! the key, *not* that it can be trusted: that is what [`Certificate::verify_issued_by`] (one
//! pinned issuer) and [`chain::verify`] (a path to configured roots) are for.
//!
//! Issuing is split where the private key is, because that may be a token elsewhere:
//!
//! ```text
//! issue::prepare(template, subject key, issuer, serial) -> Prepared
//!     Prepared::to_be_signed()  --->  the holder of the key signs  --->  signature
//! Prepared::assemble(signature) -> Certificate     (verified, and compared with the template)
//! ```
//!
//! Protocols that need a private key in the middle of a computation take [`KeyWork`] as an argument.
//!
//! [`health`] says what a health certificate is and what makes one believable. [`CertificateCache`]
//! and [`SignatureCache`] are values that a service owns and passes on, so that no key is checked
//! and no signature verified twice.
//!
//! [`endorsement`] reads the certificate that a TPM's maker issued for its endorsement key, and
//! says which makers are trusted.
//!
//! What this crate does not do: revocation lists and OCSP, subjects' keys other than RSA, certificate
//! requests, private keys, and telling the time, which is an argument ([`Time`]).

mod cache;
mod certificate;
mod certificate_error;
pub mod chain;
pub mod endorsement;
mod extension;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod issue;
mod key_usage;
mod key_work;
mod name_constraints;
pub mod pem;
pub mod pkcs7;
pub mod profile;
mod serial_number;
mod structure;
mod thumbprint;
mod time;

pub use cache::{CertificateCache, SignatureCache};
pub use certificate::{
    Certificate, EXPIRY_NOTICE, TlsCertificate, Validity, ValidityStatus, Version,
};
pub use certificate_error::{CertificateError, MAX_CERTIFICATE_OCTETS, NotIssued};
pub use const_oid::ObjectIdentifier;
pub use extension::Extension;
pub use key_usage::KeyUsage;
pub use key_work::{KeyError, KeyWork};
pub use name_constraints::NameForm;
pub use pem::PemError;
pub use serial_number::{SerialNumber, SerialNumberError};
pub use thumbprint::{Thumbprint, ThumbprintError};
pub use time::{Seconds, Time, TimeError};
