//! TPM mode, the server's part ([MS-HGSA] 3.1.5.1): a tunnel through which the server speaks to the TPM of a host.
//!
//! ```text
//! host                                      server
//! EK ──────────────────────────────────────▶ registered?            ◀── CreatePrimary (EK, SRK)
//! two public areas ────────────────────────▶                        ◀── StartAuthSession, salted to the EK, up to three
//! sessions ────────────────────────────────▶                        ◀── PCR_Read in each, all PCRs, again until two agree
//! values with HMAC, logs ──────────────────▶ replayed, judged       ◀── Create in a session, bound to the PCRs
//! public area with HMAC, logs ─────────────▶ replayed, judged again ◀── health certificate
//! ```
//!
//! The server is a pure function from (context in) to (context out, or verdict): its state travels with the host, sealed.
//! Only a response with the right HMAC of a session that is salted to the endorsement key proves anything. Section 11 of the
//! protocol profile has the rules.

mod context;
mod exchange;
mod identity_pcrs;
mod mode;
mod request;
mod sealed;

pub use context::{
    Blob, Context, ContextError, DeviceInfo, MAX_BLOBS, MAX_CONTEXT, MAX_PREIMAGES,
    MAX_SEALED_STATE,
};
pub(crate) use exchange::fuzz_state;
pub use exchange::{ExchangeError, MAX_READINGS};
pub use identity_pcrs::{IdentityPcrs, IdentityPcrsError};
pub use mode::{TpmMode, policy_digest};
pub use request::{MAX_REQUEST, credential_of_beginning};
pub use sealed::{CONTEXT_LIFETIME, CONTEXT_SKEW, ContextKey, SealedStateError};
