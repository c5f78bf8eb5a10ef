use std::error::Error;
use std::fmt;

use hgs_crypto::CryptoError;
use hgs_files::FileError;
use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::Exit;

/// Why a command did not do what it says, who is at fault, and what can be done about it.
///
/// Shown to people as text on standard error, to programs as a document of the form
/// `{"error": {"message", "at_fault", "remedy", "status"}}`; what is not known is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
    at_fault: Option<AtFault>,
    remedy: Option<String>,
    request_id: Option<String>,
    exit: Exit,
}

/// The parties that can be at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtFault {
    /// The sender of the message, or the source of the file.
    Peer,
    /// The maker of the key protector.
    Protector,
    /// The Host Guardian Service that was asked, or its operator.
    Guardian,
    /// The host, by its health or its registration.
    Host,
    /// What lies between this machine and the service that was asked.
    Network,
    /// The operator of this program: its arguments, its configuration, its files.
    Operator,
    /// The place where a private key lives.
    KeyStore,
    /// This program, or the machine that it runs on.
    Ourselves,
}

impl Failure {
    /// Something failed: [`Exit::Failed`].
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(message, Exit::Failed)
    }

    /// Something is invalid, or was refused: [`Exit::Refused`].
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(message, Exit::Refused)
    }

    /// The command was called wrongly: [`Exit::Usage`].
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(message, Exit::Usage).at_fault(AtFault::Operator)
    }

    /// An error with all that caused it: [`Exit::Failed`].
    #[must_use]
    pub fn of(error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // Some messages name their cause already.
            let reason = error.to_string();
            if !message.contains(&reason) {
                message = format!("{message}: {reason}");
            }
            cause = error.source();
        }
        Self::failed(message)
    }

    fn new(message: impl fmt::Display, exit: Exit) -> Self {
        Self {
            message: message.to_string(),
            at_fault: None,
            remedy: None,
            request_id: None,
            exit,
        }
    }

    /// Says who is at fault.
    #[must_use]
    pub fn at_fault(self, party: AtFault) -> Self {
        Self {
            at_fault: Some(party),
            ..self
        }
    }

    /// Says what can be done about it.
    #[must_use]
    pub fn remedy(self, remedy: impl fmt::Display) -> Self {
        Self {
            remedy: Some(remedy.to_string()),
            ..self
        }
    }

    /// Names the request that a guardian answered so, by the id that the guardian gave it.
    #[must_use]
    pub fn request_id(self, id: impl fmt::Display) -> Self {
        Self {
            request_id: Some(id.to_string()),
            ..self
        }
    }

    /// Puts before the message what was being done.
    #[must_use]
    pub fn while_doing(self, what: impl fmt::Display) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }

    /// Ends with another status.
    #[must_use]
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// What happened, without who is at fault and what helps.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The status to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let failure = Self::of(&error).at_fault(AtFault::Operator);
        match error.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}

impl From<CryptoError> for Failure {
    fn from(error: CryptoError) -> Self {
        Self::of(&error).at_fault(AtFault::Ourselves)
    }
}

impl fmt::Display for AtFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Peer => "the source of the file or message",
            Self::Protector => "the maker of the key protector",
            Self::Guardian => "the guardian",
            Self::Host => "the host",
            Self::Network => "the network",
            Self::Operator => "the operator",
            Self::KeyStore => "the key store",
            Self::Ourselves => "this program or its machine",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "error: {}", self.message)?;
        if let Some(party) = self.at_fault {
            writeln!(formatter, "  at fault: {party}")?;
        }
        if let Some(remedy) = &self.remedy {
            writeln!(formatter, "  remedy: {remedy}")?;
        }
        if let Some(id) = &self.request_id {
            writeln!(
                formatter,
                "  request {id}: quote it to the guardian's administrator"
            )?;
        }
        Ok(())
    }
}

impl Serialize for Failure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Inner<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            at_fault: Option<AtFault>,
            #[serde(skip_serializing_if = "Option::is_none")]
            remedy: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
            status: u8,
        }
        let mut outer = serializer.serialize_struct("Failure", 1)?;
        outer.serialize_field(
            "error",
            &Inner {
                message: &self.message,
                at_fault: self.at_fault,
                remedy: self.remedy.as_deref(),
                request_id: self.request_id.as_deref(),
                status: self.exit as u8,
            },
        )?;
        outer.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] fmt::Error);

    #[test]
    fn the_whole_chain_is_shown_with_fault_remedy_and_request() {
        let failure = Failure::of(&Outer(fmt::Error))
            .at_fault(AtFault::KeyStore)
            .remedy("try again")
            .request_id("5e1c-1");
        let cause = fmt::Error.to_string();
        assert_eq!(
            failure.to_string(),
            format!(
                "error: outer: {cause}\n  at fault: the key store\n  remedy: try again\n  \
                 request 5e1c-1: quote it to the guardian's administrator\n"
            )
        );
        let document = serde_json::to_value(&failure).unwrap();
        let expected = serde_json::json!({"error": {
            "message": format!("outer: {cause}"),
            "at_fault": "key-store",
            "remedy": "try again",
            "request_id": "5e1c-1",
            "status": 1,
        }});
        assert_eq!(document, expected);
    }
}
