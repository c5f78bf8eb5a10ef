//! The attestation protocol [MS-HGSA], both roles: messages, host keys, health certificates.
//!
//! A host that proved what it is gets a *health certificate*: a short-lived certificate over its *identity key*, with
//! which a key service releases keys to it. This crate has host-key mode, in which a host is known by a registered
//! key, and TPM mode, in which it is known by its TPM and judged by what it has booted.
//!
//! ```text
//!  host                                                server
//!  client::prepare -> (host key signs) -> body ----->  Mode::evaluate -> Verdict
//!                                                          Refused(Refusal) ------------------------> reply
//!                                                          Continue(Continuation) ------------------> reply, and again
//!                                                          Healthy(Grant) -> recorded durably
//!                                                            -> issue::issue -----------------------> reply
//!  SignedRequest::receive -> Attested  <-------------------------------------------------------------'
//! ```
//!
//! * [`wire`] has every message as a type, read within budgets.
//! * A [`Mode`] decides, as a pure function of request, registry and time; what it decides is one [`Verdict`], from which
//!   reply, audit record, metric and trace line are derived. [`host_key`] and [`rtpm`] are two.
//! * [`policy`] says what a host in TPM mode is judged by.
//! * [`HostIdentities`] says which identity keys a host may use, whatever the mode.
//! * [`freshness`] shows that a request was made now: a nonce of the server, returned under the host key's signature.
//! * [`issue`] makes the certificate; the signer's key signs through [`KeyWork`](hgs_pki::KeyWork), an argument.
//! * [`signer`] says when an attestation signer is made, signs and is forgotten; [`signing_certificates`] publishes it.
//! * [`health_token`] tells others than KPS what a host attested: signed tokens, and the keys that verify them.
//! * [`platform_identity`] is the file that tells an administrator which TPM a host has.
//! * [`client`] is the host's part, and [`AttestationState`] what a host shows of it.
//!
//! It does NOT keep hosts or keys, listen or connect, tell the time, or draw randomness of its own. Active
//! Directory mode is not offered: of it the crate knows the messages and the path, and sends hosts to the right one. What
//! the specification leaves open is decided in `docs/protocol-profile.md`, sections 7, 8 and 11.
//!
//! ```
//! use hgs_attest::freshness::NonceKey;
//! use hgs_attest::host_key::evaluate;
//! use hgs_attest::{Attempt, CredentialId, HostRegistry, RegisteredHost, Verdict};
//! use hgs_crypto::SecretBytes;
//! use hgs_pki::Time;
//!
//! struct NoHosts;
//!
//! impl HostRegistry for NoHosts {
//!     fn host_with(&self, _: &CredentialId) -> Option<RegisteredHost> {
//!         None
//!     }
//! }
//!
//! let attempt = Attempt {
//!     body: br#"{"SessionId":"AAAAAAAAAAAAAAAAAAAAAA==","RequestedContent":[1],"ProvidedContent":[]}"#,
//!     proof: None,
//!     nonces: &NonceKey::new(&SecretBytes::new((0..32).collect())),
//!     require_nonce: false,
//!     now: Time::from_unix(1_795_287_600),
//! };
//! let verdict = evaluate(&attempt, &NoHosts);
//! assert_eq!(verdict.outcome(), "missing-content");
//! let Verdict::Refused(refusal) = verdict else { unreachable!() };
//! assert_eq!(refusal.status(), 400);
//! assert!(refusal.reply().to_json().starts_with(br#"{"__type":"PayloadErrorReply:#"#));
//! ```

pub mod client;
mod facts;
pub mod freshness;
#[doc(hidden)]
pub mod fuzzing;
pub mod health_token;
pub mod host_key;
mod identities;
pub mod issue;
mod mode;
pub mod platform_identity;
pub mod policy;
mod refusal;
mod registry;
pub mod rtpm;
mod service_info;
pub mod signer;
pub mod signing_certificates;
mod status;
mod verdict;
pub mod wire;

pub use facts::{AttestationFacts, KnownHost};
pub use identities::{
    HostIdentities, IdentityRecord, IdentityRefusal, IdentityTransition, MANY_IDENTITY_KEYS,
    MAX_IDENTITY_KEY_AGE, MAX_IDENTITY_KEYS, MAX_NEW_IDENTITY_KEYS, NEW_IDENTITY_KEYS_PERIOD,
    SHARED_KEY_PERIOD,
};
pub use mode::{Attempt, Endpoint, Mode};
pub use refusal::{Code, Reason, Refusal};
pub use registry::{Credential, CredentialId, HostRegistry, RegisteredHost};
pub use service_info::{FUNCTIONAL_LEVEL, service_info};
pub use status::{AttestationState, AttestationStatus, AttestationSubstatus};
pub use verdict::{Continuation, Finding, Grant, RecordedGrant, Verdict};
