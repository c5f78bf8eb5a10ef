use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// Why something was not done. The code is for programs, the message and the remedy are for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// What kind of error it is.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// What was asked for is not well formed.
    InvalidRequest,
    /// Whoever asks may not have it.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// What is there already forbids it.
    Conflict,
    /// The state can't be read or written now.
    Unavailable,
    /// Anything else; the server's log has the reason.
    Internal,
    /// The client found no server at the socket.
    NotRunning,
    /// The client got no answer that it understands.
    NoAnswer,
}

impl ErrorCode {
    /// The HTTP status of an answer with this code.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Unavailable | Self::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::NoAnswer => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl AdminError {
    pub(super) fn new(code: ErrorCode, message: impl ToString) -> Self {
        Self {
            code,
            message: message.to_string(),
            remedy: None,
        }
    }

    pub(super) fn invalid(message: impl ToString) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    pub(super) fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}
