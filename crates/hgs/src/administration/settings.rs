//! `hgs server show`, `set`: the settings in effect.

use std::fmt;
use std::time::Duration;

use hgs_admin::Administration as _;
use hgs_admin::types::{AttestationMode, ServerSettings, SetServer};
use hgs_store::{KeyCaching, KeyCachingError};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{ServerOption, for_people, or_dash, period, yes_or_no};
use crate::failures::OrFail as _;

/// Show the settings that are in effect in the running server
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

impl Arguments {
    pub(crate) fn run(self, server: ServerOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let settings = server.client()?.server().or_fail()?;
        terminal.report(&Settings(settings))?;
        Ok(Exit::Done)
    }
}

/// Change settings that are the same on every node and kept in the state; the others stand in the configuration file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs server set --communications-certificate THUMBPRINT
  hgs server set --rekey-window 24h
  hgs server set --attestation-mode tpm
  hgs server set --next-boot-claims accept
  hgs server set --key-caching 5,72

What the other mode needs stays and can be loaded beforehand. Health certificates that were issued before the mode changed stay valid \
until they end; `hgs signer set all --deny-before now` ends them at once.")]
#[group(required = true, multiple = true)]
pub(crate) struct SetArguments {
    /// Thumbprint of the certificate that shall sign the metadata
    #[arg(long, value_name = "THUMBPRINT")]
    communications_certificate: Option<String>,
    /// For how long from now protectors that a compromised guardian signed are accepted; `0s` ends that
    #[arg(long, value_name = "DURATION", value_parser = period)]
    rekey_window: Option<Duration>,
    /// How hosts attest from now on, on every node
    #[arg(long, value_enum, value_name = "MODE")]
    attestation_mode: Option<Mode>,
    /// Whether hosts with TPMs may add to their own records what they will boot next (`guarded-host baseline stage --send`)
    #[arg(long, value_enum, value_name = "WHETHER")]
    next_boot_claims: Option<NextBootClaims>,
    /// How often, and for how many hours after each release, hosts that attest by TPM may start a VM while no guardian can be
    /// reached: `off`, or COUNT,HOURS. A revocation reaches a host that is offline no sooner
    #[arg(long, value_name = "off|COUNT,HOURS", value_parser = key_caching)]
    key_caching: Option<String>,
}

fn key_caching(text: &str) -> Result<String, KeyCachingError> {
    KeyCaching::read_setting(text).map(|_| text.to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// By what their TPMs prove
    Tpm,
    /// By registered host keys
    HostKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NextBootClaims {
    /// Those of hosts that are healthy when they say so, for 30 days
    Accept,
    /// None: administrators add what hosts stage
    Refuse,
}

impl SetArguments {
    pub(crate) fn run(self, server: ServerOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let window = self.rekey_window.map(|window| window.as_secs());
        if window.is_some_and(|seconds| seconds > 0) {
            terminal.confirm(
                "Open the re-key window? Until it closes, whoever has a compromised key can have protectors opened \
                 that were made with it.",
            )?;
        }
        let mode = self.attestation_mode.map(|mode| match mode {
            Mode::Tpm => AttestationMode::Tpm,
            Mode::HostKey => AttestationMode::HostKey,
        });
        if let Some(mode) = mode {
            terminal.confirm(format!(
                "Have hosts attest by {mode} from now on? Those that are registered otherwise get no new health certificates."
            ))?;
        }
        let claims = self.next_boot_claims;
        if claims == Some(NextBootClaims::Accept) {
            terminal.confirm(
                "Accept what healthy hosts say of their next boot? Root on such a host then chooses its next initrd and grub.cfg.",
            )?;
        }
        if self
            .key_caching
            .as_deref()
            .is_some_and(|setting| setting != "off")
        {
            terminal.confirm(
                "Let hosts with TPMs keep keys, and start VMs while no guardian can be reached? A host that is revoked meanwhile can go on \
                 until the keys that it keeps expire.",
            )?;
        }
        let change = SetServer {
            communications_certificate: self.communications_certificate,
            rekey_window_seconds: window,
            attestation_mode: mode.map(|mode| mode.to_string()),
            accept_next_boot_claims: claims.map(|claims| claims == NextBootClaims::Accept),
            key_caching: self.key_caching,
        };
        let settings = server.client()?.set_server(&change).or_fail()?;
        terminal.report(&Settings(settings))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Settings(ServerSettings);

impl fmt::Display for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(settings) = self;
        let communications = settings.communications_certificate.as_ref();
        let caching = match &settings.key_caching {
            Some(caching) => format!(
                "those with TPMs, {} times within {} hours after a release",
                caching.unwraps, caching.hours
            ),
            None => yes_or_no(false),
        };
        Table::of_pairs([
            ("Name", settings.name.clone()),
            ("Node", settings.node.clone()),
            ("State folder", settings.state_folder.clone()),
            ("Master key", settings.master_key_file.clone()),
            ("Hosts attest by", settings.attestation_mode.to_string()),
            (
                "Hosts' claims of their next boot",
                match settings.accept_next_boot_claims {
                    true => "accepted".to_owned(),
                    false => "refused".to_owned(),
                },
            ),
            (
                "Health certificates",
                format!(
                    "valid for {}",
                    for_people(settings.health_certificate_seconds)
                ),
            ),
            ("Clock skew", for_people(settings.clock_skew_seconds)),
            ("Hosts may keep keys", caching),
            (
                "Superseded protectors refused",
                yes_or_no(settings.refuse_superseded_protectors),
            ),
            (
                "Re-key window open until",
                or_dash(settings.rekey_window_until.as_ref()),
            ),
            (
                "Communications certificate",
                communications.map_or_else(
                    || "none".to_owned(),
                    |certificate| certificate.thumbprint.clone(),
                ),
            ),
        ])
        .fmt(formatter)?;
        for listener in &settings.listeners {
            writeln!(
                formatter,
                "listens for {} at {}",
                listener.name, listener.address
            )?;
        }
        for setting in &settings.dangerous_settings {
            writeln!(formatter, "warning: {setting} weakens verification")?;
        }
        Ok(())
    }
}
