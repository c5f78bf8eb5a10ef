//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hgs_client::url::Url;

const ABOUT: &str = "The host's side of a Host Guardian Service: attest, unwrap key protectors";

const LONG_ABOUT: &str = "\
The host's side of a Host Guardian Service.

A guarded host proves its health to the attestation service, receives a short-lived health
certificate, and with it has the key protection service release the keys of shielded VMs. This
program configures that, shows how the host stands, and does it by hand.";

const AFTER_HELP: &str = "\
First steps:
  guarded-host configure --attestation-url https://hgs.example/Attestation \\
                         --key-protection-url https://hgs.example/KeyProtection
  guarded-host host-key new
  guarded-host host-key export --out host1.pem     (on the guardian: hgs host add host1 --host-key host1.pem)
  guarded-host attest

Exit status:
  0 done, 1 failed, 2 invalid or refused, 64 wrong usage";

/// Everything on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "guarded-host",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file [default: /etc/openhgs/guarded-host.toml, or below ~/.config]
    #[arg(long, global = true, value_name = "FILE", env = "HGS_HOST_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// State folder [default: /var/lib/openhgs/guarded-host, or below ~/.local/state]
    #[arg(long, global = true, value_name = "DIR", env = "HGS_HOST_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Print one JSON document, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Answer every question with yes
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Write the result to this new file instead of the standard output
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set the services that guard this host, or local mode
    #[command(after_help = CONFIGURE_HELP)]
    Configure(Box<Configure>),
    /// Show how this host stands
    Status,
    /// The key by which the attestation service knows this host
    #[command(subcommand)]
    HostKey(HostKey),
    /// Ask for a new health certificate now
    #[command(after_help = ATTEST_HELP)]
    Attest(Attest),
    /// Key protectors and the files that are sealed under them
    #[command(subcommand)]
    Protector(Protector),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all of them into the folder --out
    Man,
}

const CONFIGURE_HELP: &str = "\
The primary is asked first, always; the fallback when the primary can't be reached or fails, never
when it refuses. Each call replaces the whole configuration: a fallback that is not named is gone.

Examples:
  guarded-host configure --attestation-url http://hgs.example/Attestation \\
                         --key-protection-url http://hgs.example/KeyProtection
  guarded-host configure --local";

/// Set-HgsClientConfiguration.
#[derive(Debug, Args)]
pub(crate) struct Configure {
    /// URL of the attestation service
    #[arg(
        long,
        value_name = "URL",
        required_unless_present = "local",
        requires = "key_protection_url"
    )]
    pub(crate) attestation_url: Option<Url>,
    /// URL of the key protection service
    #[arg(long, value_name = "URL", requires = "attestation_url")]
    pub(crate) key_protection_url: Option<Url>,
    /// URL of the attestation service that is asked when the primary fails
    #[arg(
        long,
        value_name = "URL",
        requires = "attestation_url",
        requires = "fallback_key_protection_url"
    )]
    pub(crate) fallback_attestation_url: Option<Url>,
    /// URL of the key protection service that belongs to the fallback
    #[arg(long, value_name = "URL", requires = "fallback_attestation_url")]
    pub(crate) fallback_key_protection_url: Option<Url>,
    /// PEM file with the only certification authorities to trust for https [default: the system's]
    #[arg(long, value_name = "FILE", requires = "attestation_url")]
    pub(crate) ca: Option<PathBuf>,
    /// Be guarded by no service
    #[arg(long, conflicts_with_all = ["attestation_url", "key_protection_url"])]
    pub(crate) local: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostKey {
    /// Generate the host key; one that exists is never overwritten
    New {
        /// Bits of the RSA key
        #[arg(long, value_enum, default_value_t)]
        bits: Bits,
    },
    /// Print the public half, for `hgs host add NAME --host-key FILE`
    Export {
        /// As a self-signed certificate instead of a public key
        #[arg(long)]
        certificate: bool,
    },
    /// Remove the host key; the host can't attest until a new one is registered
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Bits {
    #[value(name = "2048")]
    Rsa2048,
    #[default]
    #[value(name = "3072")]
    Rsa3072,
}

const ATTEST_HELP: &str = "\
Certificates that the host holds are not used for this; a start of a VM uses them, and renews them
when two thirds of their validity are over.

A dry run sends no request for a certificate, because the guardian would record the identity key in
it. It says what would be sent where, and whether the service answers and is in host-key mode.

Examples:
  guarded-host attest
  guarded-host attest --dry-run --json
  guarded-host attest --use-fallback";

/// Test-HgsClientConfiguration.
#[derive(Debug, Args)]
pub(crate) struct Attest {
    /// Say what would be sent where, and ask for nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What the certificate is for; both unless given
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kind: Vec<Kind>,
    /// Ask the primary only
    #[arg(long, conflicts_with = "use_fallback")]
    pub(crate) use_primary: bool,
    /// Ask the fallback only
    #[arg(long)]
    pub(crate) use_fallback: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// What KPS releases is encrypted to it
    Encryption,
    /// It signs, for instance reports of enclaves
    Signing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Protector {
    /// Have the keys of a protector released, and open or re-seal a file with them
    #[command(after_help = UNWRAP_HELP)]
    Unwrap(Unwrap),
    /// Seal a file under the transport key of a protector
    #[command(after_help = SEAL_HELP)]
    Seal(Seal),
}

const UNWRAP_HELP: &str = "\
The keys themselves are never printed or written. With --reseal the file is sealed anew under the
rolled protector, and both replace the old ones together: whatever happens in between, the next
`protector unwrap` finds a pair that opens. Without --reseal nothing on disk changes, but for --out.

Examples:
  guarded-host protector unwrap vm.protector                                (are the keys released?)
  guarded-host protector unwrap vm.protector vm.state --out state.plain     (open)
  guarded-host protector unwrap vm.protector vm.state --reseal              (roll)
  guarded-host protector unwrap vm.protector vm.state --reseal --out state.plain    (power on)";

#[derive(Debug, Args)]
pub(crate) struct Unwrap {
    /// The key protector
    pub(crate) protector: PathBuf,
    /// A file that is sealed under it
    pub(crate) file: Option<PathBuf>,
    /// Seal the file under the rolled protector, and replace both
    #[arg(long, requires = "file")]
    pub(crate) reseal: bool,
    /// Version of the protocol
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol_version: ProtocolVersion,
}

const SEAL_HELP: &str = "\
The protector stays as it is; the sealed file opens with it until it is re-sealed.

Example:
  guarded-host protector seal vm.protector state.plain --out vm.state";

#[derive(Debug, Args)]
pub(crate) struct Seal {
    /// The key protector
    pub(crate) protector: PathBuf,
    /// The file to seal, at most 64 MiB
    pub(crate) file: PathBuf,
    /// Version of the protocol
    #[arg(long, value_enum, default_value_t)]
    pub(crate) protocol_version: ProtocolVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProtocolVersion {
    #[value(name = "v1.0")]
    V1,
    #[default]
    #[value(name = "v2.0")]
    V2,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_has_no_contradictions() {
        Arguments::command().debug_assert();
    }

    fn refused(arguments: &str) -> bool {
        let words = std::iter::once("guarded-host").chain(arguments.split(' '));
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
        assert!(refused("configure --attestation-url http://a/A"));
        assert!(refused("configure --key-protection-url http://a/K"));
        assert!(refused(&format!("configure {fallback}")));
        assert!(refused(&format!("configure --local {primary}")));
        assert!(refused(&format!(
            "configure {primary} --fallback-attestation-url http://b/A"
        )));
        assert!(refused(
            "configure --attestation-url hgs --key-protection-url http://a/K"
        ));
    }
}
