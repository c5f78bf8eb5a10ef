//! Structures, commands and sessions of TPM 2.0 (TCG TPM 2.0 Library, parts 1 to 3), as far as attestation needs them.
//!
//! The verifier has the endorsement key's public area and nothing else. It starts a session whose salt only that key's TPM
//! can decrypt ([`StartingSession`]), and sends commands with an HMAC under the session's key ([`Session`]). A response that
//! has the right HMAC can only come from that TPM: what such a response says is a proof, and a type of its own
//! ([`ProvedPcrValues`], [`CreatedKey`]). Everything else that a TPM says is a claim of the host.
//!
//! The host parses every command that it is sent, and executes none but those of [`Command`]. The rest are its own: what it
//! asks its TPM for itself, and how it works with the key that it has attested ([`PolicySession`]).

mod command;
pub mod fuzzing;
mod host_command;
mod key_use;
pub mod manufacture;
mod policy;
mod public;
mod response;
mod response_code;
mod sealing;
mod session;
mod wire;

pub use command::{Authorization, Command, ForeignCommandError, Handle, Primary};
pub use host_command::{
    EK_CERTIFICATE_INDEX, clock, done, extend_pcr, flush_context, get_permanent_attributes,
    get_property, is_in_lockout, load, loaded, nv_octets, nv_read_public, nv_reads, nv_size,
    pcrs_read_without_session, property, read_clock, read_pcrs_without_session,
};
pub use key_use::{
    AwaitingPlaintext, AwaitingSignature, KeyUseError, PolicySession, StartingPolicySession,
};
pub use policy::{PcrSelection, PcrSelectionError, policy_pcr};
pub use public::{
    EndorsementKey, KeyPurpose, KeyTemplate, Name, Public, PublicError, StorageRootKey,
    TemplateError,
};
pub use response::{
    PrivateAndPublic, PublicAndHandle, ResponseError, created_key, created_primary, pcrs_read,
    public_read, started_session,
};
pub use response_code::ResponseCode;
pub use sealing::{
    AwaitingSealedObject, Counter, SealedObject, SealingSession, StartingSealingSession,
    load_sealed, sealed_loaded,
};
pub use session::{
    AwaitingKey, AwaitingPcrs, CreatedKey, ProvedPcrValues, Session, SessionError, SessionState,
    SessionStateError, StartingSession,
};
pub use wire::StructureError;

/// Octets of the largest command or response: what TPMs have buffers for.
pub const MAX_MESSAGE: usize = 4096;
