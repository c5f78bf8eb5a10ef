//! `hgs protector verify`: whether a protector holds, as far as anybody can tell without a key.

use std::fmt;
use std::path::PathBuf;

use hgs_protector::{
    ProtectorDigest, ProtectorError, ProtectorErrorKind, VerifiedProtector, Wrapping,
};
use hgs_terminal::{AtFault, Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::examine;

/// Check a protector: structure, chain and guardian signature
///
/// The status is 0 for a valid protector, 2 for an invalid one, whose defect is named, and 1 if the file can't be read.
/// The MAC under the transport key is not checked: that needs a guardian's private key.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs protector verify vm.xml
  hgs protector verify vm.xml --json | jq .valid")]
pub(crate) struct Arguments {
    /// The protector; `-` is standard input
    file: PathBuf,
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match examine(&self.file)? {
            Ok(protector) => {
                terminal.report(&Valid::new(&protector))?;
                Ok(Exit::Done)
            }
            Err(invalid) => {
                terminal.report(&invalid)?;
                Ok(Exit::Refused)
            }
        }
    }
}

/// The finding about a protector that holds.
#[derive(Serialize)]
struct Valid {
    valid: bool,
    digest: String,
    mac_checked: bool,
    owner: Named,
    guardian_signature: Named,
    wrappings: usize,
}

/// A wrapping by its number, and the guardian by the subject of the signing certificate.
#[derive(Serialize)]
struct Named {
    wrapping: u32,
    subject: String,
}

impl Valid {
    fn new(protector: &VerifiedProtector) -> Self {
        Self {
            valid: true,
            digest: protector.digest().to_string(),
            mac_checked: false,
            owner: Named::new(protector.owner()),
            guardian_signature: Named::new(protector.guardian()),
            wrappings: protector.wrappings().len(),
        }
    }
}

impl Named {
    fn new(wrapping: &Wrapping) -> Self {
        Self {
            wrapping: wrapping.id().number(),
            subject: wrapping.signing_certificate().subject().to_owned(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "wrapping {}, {}", self.wrapping, self.subject)
    }
}

impl fmt::Display for Valid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "valid")?;
        Table::of_pairs([
            ("digest", self.digest.clone()),
            ("owner", self.owner.to_string()),
            ("signed by", self.guardian_signature.to_string()),
            ("wrappings", self.wrappings.to_string()),
        ])
        .fmt(formatter)?;
        writeln!(
            formatter,
            "The MAC was not checked: that needs the transport key."
        )
    }
}

/// The finding about a protector that does not hold.
#[derive(Debug, Serialize)]
pub(super) struct Invalid {
    valid: bool,
    reason: Reason,
    /// If it was read far enough to have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    mac_checked: bool,
}

#[derive(Debug, Serialize)]
struct Reason {
    /// The code that KPS would answer with (protocol profile, section 6).
    code: &'static str,
    message: String,
    at_fault: AtFault,
}

impl Invalid {
    pub(super) fn new(error: &ProtectorError, digest: Option<ProtectorDigest>) -> Self {
        let code = match error.kind() {
            ProtectorErrorKind::InvalidProtector => "InvalidProtectorException",
            ProtectorErrorKind::InvalidWrapping => "InvalidWrappingException",
            ProtectorErrorKind::LimitExceeded => "LimitExceededException",
        };
        Self::because(code, error.to_string(), digest)
    }

    /// The file has more octets than a protector may have; how many was not found out.
    pub(super) fn too_long(limit: usize) -> Self {
        let message = format!("a protector has at most {limit} octets, and the file has more");
        Self::because("LimitExceededException", message, None)
    }

    /// For commands that need a valid protector.
    pub(super) fn into_failure(self) -> Failure {
        let Reason {
            code,
            message,
            at_fault,
        } = self.reason;
        Failure::refused(format!("the protector is not valid: {message} ({code})"))
            .at_fault(at_fault)
    }

    fn because(code: &'static str, message: String, digest: Option<ProtectorDigest>) -> Self {
        Self {
            valid: false,
            reason: Reason {
                code,
                message,
                at_fault: AtFault::Protector,
            },
            digest: digest.map(|digest| digest.to_string()),
            mac_checked: false,
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason { code, message, .. } = &self.reason;
        writeln!(formatter, "invalid: {message} ({code})")
    }
}
