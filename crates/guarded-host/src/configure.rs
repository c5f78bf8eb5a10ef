//! `guarded-host configure`: Set-HgsClientConfiguration.

use std::path::{Path, PathBuf, absolute};

use hgs_client::Error;
use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::host_key::{HostKeyError, HostKeySize, PublicForm};
use hgs_client::url::{ServiceUrls, Url, UrlError};
use hgs_files::Readers;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};

use crate::failure::failure;
use crate::host_options::HostOptions;
use crate::status;

/// Set the services that guard this host, or local mode
///
/// The primary is asked first, always; the fallback when the primary can't be reached or fails, never when it refuses. Where a
/// guardian runs on several nodes, give a URL of each: the host asks any of them, and the next within a second.
/// Each call replaces the whole configuration: a fallback that is not named is gone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guarded-host configure https://hgs.example --ca tls.pem --host-key host1.pem
  guarded-host configure --attestation-url https://hgs.example/Attestation \\
                         --key-protection-url https://hgs.example/KeyProtection
  guarded-host configure https://node1.example https://node2.example
  guarded-host configure --local")]
pub(crate) struct Arguments {
    /// What the URLs of both services begin with, such as `https://hgs.example`; several for several nodes of one guardian
    #[arg(value_name = "URL", conflicts_with_all = ["attestation_url", "local"])]
    url: Vec<String>,
    /// Write the public half of the host key to this file, for `hgs host add`; a key is made if there is none
    #[arg(long, value_name = "FILE", conflicts_with = "local")]
    host_key: Option<PathBuf>,
    /// URL of the attestation service; several for several nodes
    #[arg(
        long,
        value_name = "URL",
        required_unless_present_any = ["local", "url"],
        requires = "key_protection_url"
    )]
    attestation_url: Vec<Url>,
    /// URL of the key protection service; several for several nodes
    #[arg(long, value_name = "URL", requires = "attestation_url")]
    key_protection_url: Vec<Url>,
    /// URL of the attestation service that is asked when the primary fails: another guardian, and no node of the same
    #[arg(
        long,
        value_name = "URL",
        requires = "attestation_url",
        requires = "fallback_key_protection_url"
    )]
    fallback_attestation_url: Vec<Url>,
    /// URL of the key protection service that belongs to the fallback
    #[arg(long, value_name = "URL", requires = "fallback_attestation_url")]
    fallback_key_protection_url: Vec<Url>,
    /// PEM file with the only certification authorities to trust for https [default: the system's]
    #[arg(long, value_name = "FILE", conflicts_with = "local")]
    ca: Option<PathBuf>,
    /// Use keys whose release the guardian has not signed: an attacker on the way can then choose the next keys of a virtual
    /// machine; for guardians that can't sign, such as a Windows HGS
    #[arg(long, requires = "attestation_url")]
    dangerous_accept_unsigned_responses: bool,
    /// Be guarded by no service
    #[arg(
        long,
        conflicts_with_all = [
            "attestation_url",
            "key_protection_url",
            "fallback_attestation_url",
            "fallback_key_protection_url",
            "ca",
            "dangerous_accept_unsigned_responses",
        ]
    )]
    local: bool,
}

impl Arguments {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let host_key = self.host_key.clone();
        let configuration = self.configuration()?;
        configuration.check().map_err(failure)?;
        configuration
            .store(&options.folders()?.configuration)
            .map_err(failure)?;
        if let Some(file) = host_key {
            write_host_key(options, &file, terminal)?;
        }
        status::run(options, terminal)
    }

    fn configuration(self) -> Result<Configuration, Failure> {
        let primary = match &self.url[..] {
            [] => pair(self.attestation_url, self.key_protection_url),
            bases => Endpoints::below_each(bases).map(Some),
        };
        let Some(primary) = primary.map_err(misuse)? else {
            return Ok(Configuration::Local);
        };
        let fallback = pair(
            self.fallback_attestation_url,
            self.fallback_key_protection_url,
        );
        let fallback = fallback.map_err(misuse)?;
        let certificate_authorities = self.ca.map(absolute).transpose();
        Ok(Configuration::HostGuardianService(Services {
            primary,
            fallback,
            certificate_authorities: certificate_authorities
                .map_err(|error| Failure::of(&error).at_fault(AtFault::Operator))?,
            dangerous_accept_unsigned_responses: self.dangerous_accept_unsigned_responses,
        }))
    }
}

/// Writes the public half of the host key, which is made if there is none.
fn write_host_key(options: &HostOptions, file: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let host = options.open(terminal)?;
    let key = match host.host_key() {
        Err(Error::HostKey(HostKeyError::Missing)) => host.create_host_key(HostKeySize::default()),
        found => found,
    };
    let key = key.map_err(failure)?;
    let machine = rustix::system::uname();
    let name = machine.nodename().to_string_lossy();
    let form = PublicForm::SubjectPublicKeyInfo;
    let pem = key.export(form, &name, host.now()).map_err(failure)?;
    hgs_files::replace(file, pem.as_bytes(), Readers::Everybody)?;
    Ok(())
}

/// The grammar has seen to it that there are URLs of both or of neither.
fn pair(attestation: Vec<Url>, key_protection: Vec<Url>) -> Result<Option<Endpoints>, UrlError> {
    if attestation.is_empty() && key_protection.is_empty() {
        return Ok(None);
    }
    Ok(Some(Endpoints {
        attestation: ServiceUrls::new(attestation)?,
        key_protection: ServiceUrls::new(key_protection)?,
    }))
}

fn misuse(error: UrlError) -> Failure {
    Failure::usage(error.to_string())
}
