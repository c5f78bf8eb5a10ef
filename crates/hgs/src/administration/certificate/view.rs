//! Certificates as they are shown.

use std::fmt;

use hgs_admin::types::{Certificate, CertificateDetail};
use hgs_terminal::Table;
use serde::Serialize;

use super::super::{or_dash, yes_or_no};

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct List(pub(super) Vec<Certificate>);

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Detail(pub(super) CertificateDetail);

/// What a certificate is, in a few words.
fn standing(certificate: &Certificate) -> String {
    let words: Vec<_> = [
        (certificate.primary, "primary"),
        (certificate.head && !certificate.primary, "head"),
        (certificate.retired.is_some(), "retired"),
        (!certificate.enabled, "disabled"),
        (certificate.compromised.is_some(), "COMPROMISED"),
        (!certificate.usable, "KEY AWAY"),
    ]
    .iter()
    .filter_map(|(is, word)| is.then_some(*word))
    .collect();
    match words.is_empty() {
        true => "enabled".to_owned(),
        false => words.join(", "),
    }
}

/// Where its key is, and in a cluster which nodes can use it.
fn key(certificate: &Certificate) -> String {
    match &certificate.nodes {
        Some(nodes) if nodes.is_empty() => format!("{}, on no node", certificate.key),
        Some(nodes) => format!("{}, on {}", certificate.key, nodes.join(" ")),
        None => certificate.key.clone(),
    }
}

impl fmt::Display for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = [
            "KIND",
            "STANDING",
            "LINEAGE",
            "LABEL",
            "SUBJECT",
            "EXPIRES",
            "KEY",
            "THUMBPRINT",
        ];
        let mut table = Table::new(headings);
        for certificate in &self.0 {
            table.row([
                certificate.kind.to_string(),
                standing(certificate),
                certificate.lineage.clone(),
                or_dash(certificate.label.as_ref()),
                certificate.subject.clone(),
                certificate.not_after.clone(),
                key(certificate),
                certificate.thumbprint.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(CertificateDetail {
            certificate,
            issuer,
            serial_number,
            sha1_thumbprint,
            pem,
        }) = self;
        Table::of_pairs([
            ("kind", certificate.kind.to_string()),
            ("label", or_dash(certificate.label.as_ref())),
            ("subject", certificate.subject.clone()),
            ("issuer", issuer.clone()),
            ("serial number", serial_number.clone()),
            ("SHA-256 thumbprint", certificate.thumbprint.clone()),
            ("SHA-1 thumbprint", sha1_thumbprint.clone()),
            ("lineage", certificate.lineage.clone()),
            ("enabled", yes_or_no(certificate.enabled)),
            ("primary", yes_or_no(certificate.primary)),
            ("head of its lineage", yes_or_no(certificate.head)),
            (
                "compromised since",
                or_dash(certificate.compromised.as_ref()),
            ),
            ("retired since", or_dash(certificate.retired.as_ref())),
            (
                "key",
                format!("{}, RSA, {} bits", certificate.key, certificate.key_bits),
            ),
            ("usable here", yes_or_no(certificate.usable)),
            (
                "valid",
                format!("{} to {}", certificate.not_before, certificate.not_after),
            ),
            ("added", certificate.added.clone()),
        ])
        .fmt(formatter)?;
        write!(formatter, "\n{pem}")
    }
}

/// A certificate after something was done about it, in one sentence.
#[derive(Serialize)]
pub(super) struct Changed {
    #[serde(skip)]
    pub(super) what: &'static str,
    #[serde(flatten)]
    pub(super) certificate: Certificate,
}

impl fmt::Display for Changed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, certificate } = self;
        let Certificate {
            kind,
            thumbprint,
            lineage,
            ..
        } = certificate;
        writeln!(
            formatter,
            "The {kind} certificate {thumbprint} ({lineage}) {what}."
        )
    }
}
