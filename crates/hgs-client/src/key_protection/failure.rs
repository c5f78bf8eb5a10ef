//! What a key protection service answers instead of keys.

use hgs_kps::wire;
use hgs_kps::{ClientError, Code};
use hgs_protector::Fault;

/// Characters kept of what a service says for people, which ends up on screens and in logs.
const MAX_MESSAGE: usize = 500;

/// What a key protection service answered instead of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProtectionFailure {
    /// It refused.
    #[error("{message} ({name})")]
    Refused {
        /// The code, where it is one of the protocol profile, section 6.
        code: Option<Code>,
        /// The code as it was sent.
        name: String,
        /// For people.
        message: String,
    },
    /// The reply is not of this protocol: perhaps that of a proxy, or of another service.
    #[error("reply with HTTP status {status} is not one of a key protection service: {reason}")]
    Unintelligible {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body.
        reason: String,
    },
    /// It answered, but what it sent must not be used: nothing is sealed anew, and the protector and
    /// what is sealed under it stay as they are.
    #[error("the answer is not used: {0}")]
    NotUsed(#[from] ClientError),
}

impl KeyProtectionFailure {
    /// A reply with another status than 200.
    pub(super) fn of_reply(status: u16, body: &[u8]) -> Self {
        match wire::Error::from_xml(body) {
            Ok(error) => Self::Refused {
                code: Code::ALL.into_iter().find(|code| code.name() == error.code),
                name: plain(&error.code),
                message: plain(&error.message),
            },
            Err(error) => Self::Unintelligible {
                status,
                reason: error.to_string(),
            },
        }
    }

    /// Whether this is a decision about the host or the protector, and not a failure of the service.
    #[must_use]
    pub fn is_decision(&self) -> bool {
        let Self::Refused { code, .. } = self else {
            return false;
        };
        code.is_some_and(|code| matches!(code.fault(), Fault::Host | Fault::Protector))
    }
}

/// Text of strangers, made fit for a terminal.
fn plain(text: &str) -> String {
    let shown = text.chars().filter(|character| !character.is_control());
    shown.take(MAX_MESSAGE).collect()
}
