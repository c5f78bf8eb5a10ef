//! The grammar of the command line, and who does what it asks for.

use clap::{CommandFactory as _, Parser, Subcommand};
use hgs_terminal::{CommonOptions, Completions, Exit, Failure, Man, Manual, Program, Terminal};

use crate::host_options::HostOptions;
use crate::{
    agent, attest, baseline, configure, first_page, host_key, identity, libvirt, protector, status,
    token, trace, vm,
};

/// The host's side of a Host Guardian Service: attest, and unwrap key protectors
///
/// A guarded host proves its health to the attestation service, receives a short-lived health certificate, and with it
/// has the key protection service release the keys of shielded VMs. This program configures that, shows how the host
/// stands, and does it by hand.
#[derive(Debug, Parser)]
#[command(
    name = "guarded-host",
    version = hgs_terminal::VERSION,
    propagate_version = true,
    after_help = "First steps:
  guarded-host configure https://hgs.example --ca tls.pem --host-key host1.pem
  hgs host add host1 --host-key host1.pem            (on the guardian)
  guarded-host attest
With a guardian in TPM mode:
  guarded-host identity export --out host1.json
  hgs host add host1 --identity host1.json           (on the guardian)

Exit status: 0 done, 1 failed, 2 invalid or refused, 64 wrong usage."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    noun: Option<Noun>,
    #[command(flatten)]
    host: HostOptions,
    #[command(flatten)]
    common: CommonOptions,
}

/// What every manual page says.
const MANUAL: &Manual = &Manual {
    files: &[
        (
            "/etc/openhgs/guarded-host.toml",
            "The configuration: where the services are, and whom to trust.",
        ),
        (
            "/var/lib/guarded-host",
            "The state folder, its owner's alone: the host key (host-key.pem), the identity keys and health certificates \
             (identity-encryption.json, identity-signing.json; in TPM mode tpm-identity-encryption.json, \
             tpm-identity-signing.json) with the key that seals them (master.key), the TPM that the host attests with \
             (endorsement-key), and what the last attempts to attest came to (status.json).",
        ),
        (
            "~/.config/openhgs, ~/.local/state/openhgs",
            "Both for users other than root.",
        ),
    ],
    environment: &[
        ("HGS_HOST_CONFIG", "The configuration file, as `--config`."),
        (
            "HGS_HOST_STATE",
            "The folder of keys and certificates, as `--state`.",
        ),
        (
            "HGS_LOG",
            "What is logged to standard error, such as `debug`; warnings by default.",
        ),
        (
            "NO_COLOR",
            "If it is set, the log has no colours on a terminal either.",
        ),
    ],
};

#[derive(Debug, Subcommand)]
enum Noun {
    Configure(Box<configure::Arguments>),
    /// Show how this host stands
    Status,
    Trace(trace::Arguments),
    /// The key by which the attestation service knows this host
    #[command(subcommand)]
    HostKey(host_key::Verb),
    /// Who this host is by its TPM
    #[command(subcommand)]
    Identity(identity::Verb),
    /// What this host has booted, as the guardian approves it
    #[command(subcommand)]
    Baseline(baseline::Verb),
    Attest(attest::Arguments),
    Token(token::Arguments),
    Agent(agent::Arguments),
    Vm(vm::Arguments),
    Libvirt(libvirt::Arguments),
    /// Key protectors, and files that are sealed under them
    #[command(subcommand)]
    Protector(protector::Verb),
    Completions(Completions),
    Man(Man),
}

impl Program for Arguments {
    fn common(&self) -> &CommonOptions {
        &self.common
    }

    fn default_log(&self) -> Option<&'static str> {
        Some(match self.noun {
            Some(Noun::Agent(_)) => "info",
            _ => "warn",
        })
    }

    fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let options = &self.host;
        let Some(noun) = self.noun else {
            return first_page::run(options, terminal);
        };
        match noun {
            Noun::Configure(arguments) => arguments.run(options, terminal),
            Noun::Status => status::run(options, terminal),
            Noun::Trace(arguments) => arguments.run(options, terminal),
            Noun::HostKey(verb) => verb.run(options, terminal),
            Noun::Identity(verb) => verb.run(options, terminal),
            Noun::Baseline(verb) => verb.run(options, terminal),
            Noun::Attest(arguments) => arguments.run(options, terminal),
            Noun::Token(arguments) => arguments.run(options, terminal),
            Noun::Agent(arguments) => arguments.run(options),
            Noun::Vm(arguments) => arguments.run(options, terminal),
            Noun::Libvirt(arguments) => arguments.run(options, terminal),
            Noun::Protector(verb) => verb.run(options, terminal),
            Noun::Completions(completions) => completions.run(Self::command(), terminal),
            Noun::Man(man) => man.run(Self::command(), MANUAL, terminal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    fn refused(arguments: &str) -> bool {
        let words = std::iter::once("guarded-host").chain(arguments.split_whitespace());
        Arguments::try_parse_from(words).is_err()
    }

    #[test]
    fn urls_come_in_pairs() {
        let primary = "--attestation-url http://a/A --key-protection-url http://a/K";
        let fallback =
            "--fallback-attestation-url http://b/A --fallback-key-protection-url http://b/K";
        assert!(!refused(&format!("configure {primary}")));
        assert!(!refused(&format!("configure {primary} {fallback}")));
        assert!(!refused("configure --local"));
        assert!(refused("configure"));
        assert!(refused("configure --attestation-url http://a/A"));
        assert!(refused("configure --key-protection-url http://a/K"));
        assert!(refused(&format!("configure {fallback}")));
        assert!(refused(&format!("configure --local {primary}")));
        assert!(refused(&format!("configure --local {fallback}")));
        assert!(refused("configure --local --ca ca.pem"));
        let half = "--fallback-attestation-url http://b/A";
        assert!(refused(&format!("configure {primary} {half}")));
        assert!(refused(
            "configure --attestation-url hgs --key-protection-url http://a/K"
        ));
    }
}
