//! Private keys in PKCS#11 tokens, behind the same [`PrivateKey`](hgs_custody::PrivateKey) as
//! software keys.
//!
//! ```text
//!  Tokens ── one per process
//!    └─ module ── a shared object; one keeper thread loads, initialises and recovers it
//!         └─ token ── a breaker, a queue, and workers that own one logged-in session each
//!              └─ key ── found by its URI when it is first needed, and again after a recovery
//! ```
//!
//! A caller that needs a key hands a job to its token and waits, for a bounded time. When the token
//! fails, its breaker opens: every key in it answers *unavailable* at once, with the reason, while
//! the keeper initialises the module anew until the token works again. No restart is needed.
//!
//! What this crate does *not* do: it loads no module that the settings don't name, never guesses a
//! PIN twice (a token would lock itself), and never takes a private key out of a token.
//!
//! ```no_run
//! use hgs_custody_pkcs11::{ModuleSettings, Settings, Tokens};
//!
//! let settings = Settings {
//!     modules: vec![ModuleSettings::new("/usr/lib/softhsm/libsofthsm2.so")],
//!     pin_source: Some("credential:token-pin".parse()?),
//! };
//! let tokens = Tokens::new(settings);
//! let key = tokens.open(&"pkcs11:token=hgs;object=signing".parse()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod examination;
mod findings;
mod generation;
mod keeper;
mod key;
mod module;
mod modules;
mod pin;
mod profile;
mod return_values;
mod search;
mod session;
mod settings;
mod status;
mod token;
mod tokens;
mod wake_up;
mod worker;

pub use error::{Code, PinError, TokenError};
pub use findings::{
    Examination, KeyFinding, MechanismFinding, ModuleFinding, OaepPlace, PinFinding,
    SessionFinding, Stage, TokenFinding,
};
pub use key::TokenKey;
pub use return_values::ReturnBlame;
pub use settings::{ModuleSettings, Oaep, Settings, UnknownOaep, Usage};
pub use status::{Breaker, ModuleStatus, TokenStatus};
pub use tokens::Tokens;
