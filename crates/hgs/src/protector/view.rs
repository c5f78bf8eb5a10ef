//! A protector as people and programs see it.

use std::fmt;

use hgs_protector::{VerifiedProtector, Wrapping};
use hgs_terminal::{Failure, Table};
use serde::Serialize;

use crate::guardian::{CertificateView, Home, LocalGuardian};

/// Who can open a protector, and what else it says.
#[derive(Serialize)]
pub(super) struct ProtectorView {
    digest: String,
    owner: u32,
    guardian_signature: u32,
    mac_checked: bool,
    /// No signature covers it, so nothing is granted because of it.
    unsigned_max_offline_unwraps: u32,
    wrappings: Vec<WrappingView>,
}

#[derive(Serialize)]
struct WrappingView {
    id: u32,
    parent: u32,
    /// Names of the guardian on this machine, if it is known here.
    known_as: Vec<String>,
    private_keys_here: bool,
    signing: CertificateView,
    encryption: CertificateView,
    algorithm: &'static str,
}

impl ProtectorView {
    pub(super) fn new(protector: &VerifiedProtector, home: &Home) -> Result<Self, Failure> {
        let known = home.list()?;
        let wrappings = protector.wrappings().iter();
        Ok(Self {
            digest: protector.digest().to_string(),
            owner: protector.owner().id().number(),
            guardian_signature: protector.guardian().id().number(),
            mac_checked: false,
            unsigned_max_offline_unwraps: protector.max_offline_unwraps(),
            wrappings: wrappings
                .map(|wrapping| WrappingView::new(wrapping, &known))
                .collect(),
        })
    }

    fn name(&self, id: u32) -> String {
        let wrapping = self.wrappings.iter().find(|wrapping| wrapping.id == id);
        let names = wrapping.map_or(&[][..], |wrapping| &wrapping.known_as);
        match names {
            [] => format!("wrapping {id}"),
            names => format!("wrapping {id}, {}", quoted(names)),
        }
    }
}

impl WrappingView {
    fn new(wrapping: &Wrapping, known: &[LocalGuardian]) -> Self {
        let (signing, encryption) = (
            wrapping.signing_certificate(),
            wrapping.encryption_certificate(),
        );
        let known: Vec<_> = known
            .iter()
            .filter(|guardian| {
                let certificates = guardian.certificates();
                wrapping.is_for(
                    certificates.signing_certificate(),
                    certificates.encryption_certificate(),
                )
            })
            .collect();
        Self {
            id: wrapping.id().number(),
            parent: wrapping.parent().number(),
            known_as: known
                .iter()
                .map(|guardian| guardian.name.to_string())
                .collect(),
            private_keys_here: known.iter().any(|guardian| guardian.has_private_halves),
            signing: CertificateView::new(signing),
            encryption: CertificateView::new(encryption),
            algorithm: wrapping.transport_key().encryption.identifier(),
        }
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

impl fmt::Display for ProtectorView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Table::of_pairs([
            ("digest", self.digest.clone()),
            ("owner", self.name(self.owner)),
            ("signed by", self.name(self.guardian_signature)),
            (
                "MaxOfflineUnwraps",
                format!(
                    "{} (not signed, not relied on)",
                    self.unsigned_max_offline_unwraps
                ),
            ),
        ])
        .fmt(formatter)?;
        writeln!(formatter, "\nWho can open it:")?;
        for wrapping in &self.wrappings {
            wrapping.fmt(formatter)?;
        }
        Ok(())
    }
}

impl fmt::Display for WrappingView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\nWrapping {}", self.id)?;
        match self.known_as.as_slice() {
            [] => {}
            names => write!(formatter, ", known here as {}", quoted(names))?,
        }
        if self.private_keys_here {
            write!(formatter, ", whose private keys are here")?;
        }
        match self.parent == self.id {
            true => writeln!(formatter, ": the owner")?,
            false => writeln!(formatter, ": let in by wrapping {}", self.parent)?,
        }
        Table::of_pairs([
            ("  signing", self.signing.subject.clone()),
            ("  thumbprint", self.signing.thumbprint.clone()),
            ("  encryption", self.encryption.subject.clone()),
            ("  thumbprint", self.encryption.thumbprint.clone()),
            ("  wrapped with", self.algorithm.to_owned()),
        ])
        .fmt(formatter)
    }
}
