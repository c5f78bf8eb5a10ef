//! TPM mode, the server's part ([MS-HGSA] 3.1.5.1): a tunnel through which the server speaks to the TPM of a host.
//!
//! What is decided here stands in section 11 of the protocol profile.

mod context;
mod identity_pcrs;

pub use context::{
    Blob, Context, ContextError, DeviceInfo, MAX_BLOBS, MAX_CONTEXT, MAX_PREIMAGES,
    MAX_SEALED_STATE,
};
pub use identity_pcrs::{IdentityPcrs, IdentityPcrsError};
