use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a request was not carried out. The code is for programs; the message and the remedy are for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// The kind of error.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Kinds of errors.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request is malformed.
    InvalidRequest,
    /// The caller does not have the permission.
    Forbidden,
    /// There is no such path, or no such thing.
    NotFound,
    /// The path has other methods; `Allow` names them.
    MethodNotAllowed,
    /// The present state forbids it: a name or a key is taken, a host is already revoked.
    Conflict,
    /// The caller has as much of it as one caller may have.
    TooMany,
    /// The state can't be read or written now, or the server does as much of it as it does at once.
    Unavailable,
    /// Anything else; the server's log has the reason.
    Internal,
    /// Made by the client: no server listens at the socket.
    NotRunning,
    /// Made by the client: the server gave no answer that the client understands.
    NoAnswer,
}

impl ErrorCode {
    /// The codes that a server sends, with what each means.
    pub const OF_SERVERS: &[(Self, &str)] = &[
        (Self::InvalidRequest, "the request is malformed"),
        (Self::Forbidden, "the caller lacks the permission"),
        (Self::NotFound, "no such path, or no such thing"),
        (
            Self::MethodNotAllowed,
            "the path has other methods; `Allow` names them",
        ),
        (
            Self::Conflict,
            "the present state forbids it: a name or key that is another host's, a host that is already revoked",
        ),
        (
            Self::TooMany,
            "the caller has as many event streams as one may have",
        ),
        (Self::Internal, "anything else; the log has the reason"),
        (
            Self::Unavailable,
            "the state can't be read or written now, or all event streams are in use",
        ),
    ];

    /// The HTTP status of an answer with this code.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable | Self::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal | Self::NoAnswer => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl AdminError {
    /// An error without a remedy.
    pub fn new(code: ErrorCode, message: impl ToString) -> Self {
        Self {
            code,
            message: message.to_string(),
            remedy: None,
        }
    }

    /// The request is malformed.
    pub fn invalid(message: impl ToString) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// The same error with what to do about it.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}
