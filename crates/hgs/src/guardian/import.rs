//! `hgs guardian import`.

use std::fmt;
use std::path::{Path, PathBuf};

use hgs_client::Environment;
use hgs_client::configuration::Endpoints;
use hgs_client::probe::Probe;
use hgs_pki::{Certificate, Thumbprint};
use hgs_protector::metadata::{Expired, ImportError, Metadata, Trust};
use hgs_terminal::{AtFault, Exit, Failure, Terminal, read_input};
use hgs_xml::Limits;
use serde::Serialize;

use super::home::{Home, TrustRecord, TrustedBy, certificates_in, read_metadata};
use super::name::GuardianName;
use crate::clock::now;
use crate::failures::{IntoFailure as _, OrFail as _};

/// Import the guardian of others: the metadata of a Key Protection Service, or an exported guardian
///
/// The document says by itself only that it is whole. Whose it is must be known from elsewhere: by the SHA-256
/// thumbprint of the signing certificate, or by roots to which both certificates lead. Roots are the files given with
/// --root and all in HOME/roots.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs guardian import fabric https://hgs.example --thumbprint 5f:2c:…
  curl -o fabric.xml https://hgs.example/KeyProtection/service/metadata/2014-07/metadata.xml
  hgs guardian import fabric fabric.xml --thumbprint 5f:2c:…
  hgs guardian import fabric fabric.xml --root contoso-root.pem")]
pub(crate) struct Arguments {
    /// Its name on this machine
    name: GuardianName,
    /// The document; `-` is standard input. Or what the URLs of its service begin with, such as `https://hgs.example`
    file: PathBuf,
    /// PEM file with the only certification authorities to trust for https [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// SHA-256 thumbprint of its signing certificate, as its administrator told it
    #[arg(long, value_name = "SHA256")]
    thumbprint: Option<Thumbprint>,
    /// File with roots (PEM, DER or PKCS#7) to which its certificates may lead
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
    /// File with certificates between its own and a root
    #[arg(long, value_name = "FILE")]
    intermediate: Vec<PathBuf>,
    /// Take certificates that have expired
    #[arg(long)]
    allow_expired: bool,
    /// Do not verify it: the author of the document can then open what is protected for it
    #[arg(long, conflicts_with_all = ["thumbprint", "root"])]
    dangerously_trust_unverified: bool,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        home.expect_free(&self.name)?;
        let document = match self.url() {
            Some(url) => fetched(url, self.ca.as_deref())?,
            None => read_input(&self.file, Limits::DOCUMENT.bytes)?
                .complete(&self.file, "a guardian's document")?,
        };
        let metadata =
            read_metadata(&document).map_err(|failure| failure.while_doing(self.file.display()))?;
        let trusted_by = self.trust(home, &metadata)?;
        let trust = TrustRecord {
            trusted_by,
            thumbprint: thumbprint_of(&metadata).to_string(),
            since: now().to_string(),
        };
        home.add(&self.name, &document, &trust, None)?;
        terminal.report(&Imported {
            name: self.name.to_string(),
            thumbprint: trust.thumbprint,
            trusted_by,
        })?;
        Ok(Exit::Done)
    }

    /// The URL that was given in place of a file.
    fn url(&self) -> Option<&str> {
        let text = self.file.to_str()?;
        let is_url = text.starts_with("https://") || text.starts_with("http://");
        is_url.then_some(text)
    }

    /// Verifies the document by the thumbprint or roots that were given.
    fn trust(&self, home: &Home, metadata: &Metadata) -> Result<TrustedBy, Failure> {
        let expired = match self.allow_expired {
            true => Expired::Allow,
            false => Expired::Refuse,
        };
        let check = |trust: &Trust<'_>| metadata.clone().import(trust, expired, now());
        if let Some(thumbprint) = self.thumbprint {
            check(&Trust::Thumbprint(thumbprint)).or_fail()?;
            return Ok(TrustedBy::Thumbprint);
        }
        if self.dangerously_trust_unverified {
            check(&Trust::DangerousNone).or_fail()?;
            return Ok(TrustedBy::Nobody);
        }
        let mut roots = home.roots()?;
        roots.extend(all_certificates_in(&self.root)?);
        if roots.is_empty() {
            return Err(untrusted(
                metadata,
                "no root is configured and no thumbprint given",
            ));
        }
        let intermediates = all_certificates_in(&self.intermediate)?;
        match check(&Trust::Roots {
            roots: &roots,
            intermediates: &intermediates,
        }) {
            Ok(_) => Ok(TrustedBy::Root),
            Err(error @ ImportError::Chain(_)) => Err(untrusted(metadata, &error.to_string())),
            Err(error) => Err(error.into_failure()),
        }
    }
}

/// The metadata that the Key Protection Service below `url` publishes.
fn fetched(url: &str, authorities: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let endpoints = Endpoints::below(url).map_err(|error| Failure::usage(error.to_string()))?;
    let probe = Probe::new(authorities, Environment::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
    let document = runtime.block_on(probe.metadata_document(endpoints.key_protection.first()));
    document.map_err(|problem| {
        let failure = Failure::failed(problem.to_string()).at_fault(AtFault::Guardian);
        match problem.remedy {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    })
}

fn untrusted(metadata: &Metadata, why: &str) -> Failure {
    let thumbprint = thumbprint_of(metadata);
    Failure::refused(format!("nobody vouches for this guardian: {why}"))
        .at_fault(AtFault::Peer)
        .remedy(format!(
            "ask whoever runs it for the SHA-256 thumbprint of its signing certificate, by another way than this \
             document came, and give it with `--thumbprint`. The document claims {thumbprint}"
        ))
}

fn thumbprint_of(metadata: &Metadata) -> Thumbprint {
    metadata.unverified().signing_certificate().thumbprint()
}

fn all_certificates_in(files: &[PathBuf]) -> Result<Vec<Certificate>, Failure> {
    let mut all = Vec::new();
    for file in files {
        all.extend(certificates_in(file)?);
    }
    Ok(all)
}

#[derive(Serialize)]
struct Imported {
    name: String,
    thumbprint: String,
    trusted_by: TrustedBy,
}

impl fmt::Display for Imported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, trusted_by, ..
        } = self;
        writeln!(
            formatter,
            "Guardian `{name}` is here, trusted by {trusted_by}."
        )
    }
}
