//! `hgs certificate rotate`.

use std::fmt;

use hgs_admin::types::{RotateCertificates, RotatedCertificates};
use hgs_admin::{Administration as _, Client};
use hgs_terminal::{Failure, Terminal};
use serde::Serialize;

use super::add::key_reference;
use crate::bits::Bits;
use crate::failures::OrFail as _;

/// Make a new signing and a new encryption key with their certificates, and make both primary
///
/// All of it is done in one step, or nothing. The former certificates stay enabled: they go on opening the protectors that
/// were made for them, and each roll hands the machine on to the new pair.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs certificate rotate --label 2027
  hgs certificate rotate --signing-key 'pkcs11:token=hgs;object=signing-2027' \\
      --encryption-key 'pkcs11:token=hgs;object=encryption-2027' --new-keys
  hgs certificate rotate --tenant Contoso

A half whose key is in a token gets its new key in a token too: it has to be named. With --new-keys it is made there.")]
pub(super) struct Rotate {
    /// Where the new signing key is: `software`, or its `pkcs11:` URI in a token [default: software, unless that of now is
    /// in a token]
    #[arg(long, value_name = "KEY")]
    signing_key: Option<String>,
    /// Where the new encryption key is, in the same way
    #[arg(long, value_name = "KEY")]
    encryption_key: Option<String>,
    /// Make the keys that are named in a token and are not there
    #[arg(long)]
    new_keys: bool,
    /// Bits of the keys that are made
    #[arg(long, value_enum, default_value_t)]
    bits: Bits,
    /// The tenant whose pair is renewed: it becomes the head of the tenant's lineage; the fabric's without this
    #[arg(long, value_name = "LABEL")]
    tenant: Option<String>,
    /// A label for both certificates
    #[arg(long)]
    label: Option<String>,
}

impl Rotate {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<(), Failure> {
        terminal.note("making a signing and an encryption key; this can take a minute");
        let rotated = client.rotate_certificates(&RotateCertificates {
            signing_key: self.signing_key.map(key_reference),
            encryption_key: self.encryption_key.map(key_reference),
            new_keys: self.new_keys,
            bits: Some(self.bits.number()),
            tenant: self.tenant,
            label: self.label,
        });
        terminal.report(&Rotated(rotated.or_fail()?))
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rotated(RotatedCertificates);

impl fmt::Display for Rotated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RotatedCertificates {
            signing,
            encryption,
            previous_signing,
            previous_encryption,
        } = &self.0;
        for added in [signing, encryption] {
            let certificate = &added.certificate;
            let standing = match certificate.primary {
                true => "primary",
                false => "the head of its lineage",
            };
            writeln!(
                formatter,
                "The {} certificate {} ({}) is {standing}.",
                certificate.kind, certificate.thumbprint, certificate.lineage
            )?;
        }
        for (kind, previous) in [
            ("signing", previous_signing),
            ("encryption", previous_encryption),
        ] {
            if let Some(previous) = previous {
                writeln!(
                    formatter,
                    "The former {kind} certificate {previous} stays enabled."
                )?;
            }
        }
        for finding in signing.findings.iter().chain(&encryption.findings) {
            writeln!(formatter, "{}: {}", finding.severity, finding.message)?;
        }
        writeln!(
            formatter,
            "\nNext: give owners the thumbprint of the new signing certificate, and see with `hgs certificate usage` when \
             the former pair is needed no longer."
        )
    }
}
