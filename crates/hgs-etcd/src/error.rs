//! Why etcd did not do what it was asked, and what is known of whether it did.

use std::time::Duration;

use crate::grpc::FrameError;

/// What a member answered instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code:?})")]
pub struct Status {
    /// Of which kind it is.
    pub code: Code,
    /// In the words of etcd.
    pub message: String,
}

/// The kinds of answers of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// Done.
    Ok,
    /// The caller went away.
    Cancelled,
    /// No more is known.
    Unknown,
    /// The request is not one.
    InvalidArgument,
    /// It took too long for the member.
    DeadlineExceeded,
    /// What is named is not there.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// This caller may not.
    PermissionDenied,
    /// There is no room.
    ResourceExhausted,
    /// Not in this state.
    FailedPrecondition,
    /// Beyond an end: a revision that is gone, or not yet there.
    OutOfRange,
    /// The member does not do that.
    Unimplemented,
    /// A fault of the member.
    Internal,
    /// Not now: no leader, or a leader that was lost.
    Unavailable,
    /// Another number.
    Other(u32),
}

impl Code {
    pub(crate) const fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::Cancelled,
            2 => Self::Unknown,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            other => Self::Other(other),
        }
    }
}

/// Why one member gave no answer that counts.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// It takes no connection, so nothing was asked.
    #[error("no connection: {0}")]
    Connect(String),
    /// Who answers there has no certificate that is good for it, so nothing was asked.
    #[error("it is not who it should be: {0}")]
    Stranger(String),
    /// It does not accept the certificate of this client, so nothing was asked.
    #[error("it does not accept the certificate of this machine: {0}")]
    NotAccepted(String),
    /// It does not answer at all, so nothing was asked.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// The connection broke before the answer was whole.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Its answer is not etcd's.
    #[error("an answer that is not etcd's: {0}")]
    Answer(#[from] FrameError),
    /// It has no leader, says so at once, and has done nothing.
    #[error("it has no leader: {0}")]
    NoLeader(Status),
    /// It can't do that now, says so at once, and has done nothing: it has no vote yet, or too much to do.
    #[error("not now: {0}")]
    NotNow(Status),
    /// It can't say whether it was done.
    #[error("it can't say whether it was done: {0}")]
    Uncertain(Status),
    /// It refuses.
    #[error("{0}")]
    Refused(Status),
}

impl MemberError {
    pub(crate) fn of(status: Status) -> Self {
        match status.code {
            _ if matches!(
                &*status.message,
                "etcdserver: rpc not supported for learner"
                    | "etcdserver: too many requests"
                    // Rights were changed meanwhile.
                    | "etcdserver: revision of auth store is old"
            ) =>
            {
                Self::NotNow(status)
            }
            // With the metadata `hasleader`, a member without a leader answers this at once and proposes nothing.
            Code::Unavailable if status.message == "etcdserver: no leader" => {
                Self::NoLeader(status)
            }
            // Proposed, and not known to be applied: a leader was lost, or the member's own patience has ended.
            Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled => {
                Self::Uncertain(status)
            }
            _ => Self::Refused(status),
        }
    }

    /// Whether what was asked may have been done all the same.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Stranger(_)
            | Self::NotAccepted(_)
            | Self::Unreachable(_)
            | Self::NoLeader(_)
            | Self::NotNow(_)
            | Self::Refused(_) => false,
            Self::Late(_) | Self::Broken(_) | Self::Answer(_) | Self::Uncertain(_) => true,
        }
    }

    /// Whether another member may answer.
    #[must_use]
    pub(crate) fn is_of_this_member(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

/// Why no member did what was asked: each that was asked, by its address, and its reason.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .members.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join("; "))]
pub struct Error {
    /// In the order in which they were asked.
    pub members: Vec<(String, MemberError)>,
}

impl Error {
    /// Whether what was asked may have been done all the same.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        self.members.iter().any(|(_, error)| error.may_be_done())
    }

    /// The answer of a member that refuses, which another one would repeat.
    #[must_use]
    pub fn refusal(&self) -> Option<&Status> {
        self.members.iter().find_map(|(_, error)| match error {
            MemberError::Refused(status) => Some(status),
            _ => None,
        })
    }

    /// Whether some member was reached, and none of them has a leader.
    #[must_use]
    pub fn lacks_leader(&self) -> bool {
        let reached = self.members.iter().filter(|(_, error)| {
            !matches!(
                error,
                MemberError::Connect(_)
                    | MemberError::Stranger(_)
                    | MemberError::NotAccepted(_)
                    | MemberError::Unreachable(_)
            )
        });
        let mut reached = reached.peekable();
        reached.peek().is_some()
            && reached.all(|(_, error)| matches!(error, MemberError::NoLeader(_)))
    }
}
