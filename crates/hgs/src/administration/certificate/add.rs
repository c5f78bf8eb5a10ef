//! `hgs certificate new`, `add`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hgs_admin::types::{AddCertificate, AddedCertificate, CertificateKind, NewCertificate};
use hgs_admin::{Administration as _, Client, WithKey};
use hgs_custody::{SoftwareKey, pkcs11_uri};
use hgs_pki::Certificate;
use hgs_terminal::{Failure, PassphraseSource, Terminal};
use serde::Serialize;

use super::kinds;
use crate::bits::Bits;
use crate::certified::{CertifiedFile, CertifiedKey, certificate_file, read_bundle};
use crate::failures::OrFail as _;

/// What names a key that the guardian keeps itself.
const SOFTWARE: &str = "software";

/// How the administrators' API names a key.
pub(super) fn key_reference(key: String) -> String {
    match key.as_str() {
        SOFTWARE => "sealed".to_owned(),
        _ => key,
    }
}

/// Make a key, and a certificate over it that signs itself
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs certificate new --type encryption --primary
  hgs certificate new --type signing --tenant Contoso
  hgs certificate new --type signing --key 'pkcs11:token=hgs;object=signing-2' --new-key")]
pub(super) struct New {
    /// What it is for
    #[arg(long = "type", value_name = "TYPE", value_parser = kinds())]
    kind: CertificateKind,
    /// Its common name [default: by type and guardian]
    #[arg(long)]
    subject: Option<String>,
    /// Bits of the key
    #[arg(long, value_enum, default_value_t)]
    bits: Bits,
    /// Where the key is: `software`, or its `pkcs11:` URI in a token [default: software, where the guardian's own is]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Make the key in the token if it is not there
    #[arg(long, requires = "key")]
    new_key: bool,
    #[command(flatten)]
    lineage: LineageOptions,
}

/// Add a certificate that was made elsewhere, with its private key
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs certificate add --type encryption --pfx encryption.pfx --primary
  hgs certificate add --type signing --certificate signing.pem --key signing-key.pem
  hgs certificate add --type signing --certificate signing.pem --key 'pkcs11:token=hgs;object=signing' --tenant Contoso")]
pub(super) struct Add {
    /// What it is for
    #[arg(long = "type", value_name = "TYPE", value_parser = kinds())]
    kind: CertificateKind,
    /// File with the certificate (PEM, DER, PKCS#7 or PFX); its private key may be in it too
    #[arg(long, value_name = "FILE", required_unless_present = "pfx")]
    certificate: Option<PathBuf>,
    /// File with the private key (PEM, DER or PFX), or its `pkcs11:` URI in a token (two, with a space between, if it
    /// is in two)
    #[arg(long, value_name = "FILE|URI", requires = "certificate")]
    key: Option<String>,
    /// PFX file with both
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate", "key"])]
    pfx: Option<PathBuf>,
    /// Where the passphrase of the private key comes from: file:PATH, credential:NAME or env:NAME; otherwise it is
    /// asked for
    #[arg(long, value_name = "SOURCE")]
    passphrase_from: Option<PassphraseSource>,
    #[command(flatten)]
    lineage: LineageOptions,
}

/// What the certificate is to the guardian.
#[derive(Debug, clap::Args)]
struct LineageOptions {
    /// Whose it is: a tenant's who brings keys; the fabric's without this
    #[arg(long, value_name = "LABEL")]
    tenant: Option<String>,
    /// A label for people
    #[arg(long)]
    label: Option<String>,
    /// Make it the one of its type that the metadata names, and that rolls append
    #[arg(long)]
    primary: bool,
}

impl New {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<(), Failure> {
        let added = client.new_certificate(&NewCertificate {
            kind: self.kind,
            subject: self.subject,
            bits: Some(self.bits.number()),
            key: self.key.map(key_reference),
            new_key: self.new_key,
            tenant: self.lineage.tenant,
            label: self.lineage.label,
            primary: self.lineage.primary,
        });
        terminal.report(&Added(added.or_fail()?))
    }
}

impl Add {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<(), Failure> {
        let supplied = self.read(terminal)?;
        let added = client.add_certificate(&WithKey {
            request: AddCertificate {
                kind: self.kind,
                certificate: supplied.certificate.to_pem(),
                key: supplied.token_key,
                tenant: self.lineage.tenant,
                label: self.lineage.label,
                primary: self.lineage.primary,
            },
            key: supplied.key,
        });
        terminal.report(&Added(added.or_fail()?))
    }

    fn read(&self, terminal: &Terminal) -> Result<SuppliedCertificate, Failure> {
        let with_key = |file: &Path, key: Option<&str>| {
            let file = CertifiedFile {
                certificate: file.to_owned(),
                key: key.map(PathBuf::from),
                passphrase: self.passphrase_from.clone(),
            };
            file.read(terminal).map(SuppliedCertificate::from)
        };
        match (&self.pfx, &self.certificate, self.key.as_deref()) {
            (Some(pfx), ..) => with_key(pfx, None),
            (None, Some(file), Some(uri)) if pkcs11_uri::is_uri(uri) => Ok(SuppliedCertificate {
                token_key: Some(uri.to_owned()),
                ..SuppliedCertificate::without_key(certificate_file(file)?)
            }),
            (None, Some(file), Some(key)) => with_key(file, Some(key)),
            (None, Some(file), None) => {
                let (bundle, _) = read_bundle(&[file], self.passphrase_from.as_ref())?;
                if bundle.has_private_key() {
                    with_key(file, None)
                } else {
                    // Renewed over a key that the guardian holds already.
                    let certificate = bundle.certificate().or_fail();
                    let certificate =
                        certificate.map_err(|failure| failure.while_doing(file.display()));
                    certificate.map(SuppliedCertificate::without_key)
                }
            }
            (None, None, _) => Err(Failure::usage("name the file of the certificate")),
        }
    }
}

/// A certificate, and where its key is.
struct SuppliedCertificate {
    certificate: Certificate,
    key: Option<Arc<SoftwareKey>>,
    token_key: Option<String>,
}

impl SuppliedCertificate {
    fn without_key(certificate: Certificate) -> Self {
        Self {
            certificate,
            key: None,
            token_key: None,
        }
    }
}

impl From<CertifiedKey> for SuppliedCertificate {
    fn from(certified: CertifiedKey) -> Self {
        Self {
            key: Some(Arc::new(certified.key)),
            ..Self::without_key(certified.certificate)
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Added(AddedCertificate);

impl fmt::Display for Added {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddedCertificate {
            certificate,
            findings,
        } = &self.0;
        let standing = match () {
            () if certificate.primary => ", and primary",
            () if certificate.head => ", and the head of its lineage",
            () => "",
        };
        writeln!(
            formatter,
            "The {} certificate {} ({}) is added{standing}.",
            certificate.kind, certificate.thumbprint, certificate.lineage
        )?;
        for finding in findings {
            writeln!(formatter, "{}: {}", finding.severity, finding.message)?;
        }
        Ok(())
    }
}
