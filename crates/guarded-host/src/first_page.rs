//! What `guarded-host` says when it is called without a command: how this host stands, and what comes next.

use std::fmt;

use hgs_client::configuration::Configuration;
use hgs_client::status::Status;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};

use crate::failure::failure;
use crate::host_options::HostOptions;

/// A place on the way from a new host to one that is guarded.
enum Stage {
    Local,
    WithoutHostKey,
    NeverAttested,
    NotAttested {
        message: String,
        remedy: Option<String>,
    },
    NeedsCertificate,
    Guarded {
        until: String,
    },
}

pub(crate) fn run(options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
    if terminal.json() {
        return Err(Failure::usage("a command is missing")
            .at_fault(AtFault::Operator)
            .remedy("`guarded-host --help` has them all"));
    }
    let host = options.open(terminal)?;
    let folders = options.folders()?;
    let is_known = folders.host_key().exists() || folders.endorsement_key().exists();
    let stage = match host.configuration() {
        Configuration::Local => Stage::Local,
        Configuration::HostGuardianService(_) if !is_known => Stage::WithoutHostKey,
        Configuration::HostGuardianService(_) => stage(host.status().map_err(failure)?),
    };
    terminal.note(stage);
    Ok(Exit::Usage)
}

fn stage(status: Status) -> Stage {
    let mut certificates = status.health_certificates.iter();
    let certificate = certificates.rfind(|one| one.kind == "encryption");
    if let Some(certificate) = certificate {
        let until = certificate.expires.clone();
        return Stage::Guarded { until };
    }
    match status.last_attempt {
        None => Stage::NeverAttested,
        Some(attempt) => match attempt.message {
            Some(message) => Stage::NotAttested {
                message,
                remedy: attempt.remedy,
            },
            None => Stage::NeedsCertificate,
        },
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n", TITLE)?;
        match self {
            Self::Local => write!(formatter, "This host is guarded by no service.\n\n{SET_UP}")?,
            Self::WithoutHostKey => write!(
                formatter,
                "This host has no host key, and its TPM was not looked at: no guardian knows it.\n\n{NEW_KEY}"
            )?,
            Self::NeverAttested => {
                write!(formatter, "This host has never attested.\n\n{REGISTER}")?
            }
            Self::NotAttested { message, remedy } => {
                writeln!(
                    formatter,
                    "This host is not guarded. The last attempt to attest:"
                )?;
                for line in [Some(message), remedy.as_ref()].into_iter().flatten() {
                    writeln!(formatter, "  {line}")?;
                }
                write!(formatter, "\n{AGAIN}")?;
            }
            Self::NeedsCertificate => write!(
                formatter,
                "This host holds no valid health certificate. The next start of a virtual machine asks for one.\n\n{AGAIN}"
            )?,
            Self::Guarded { until } => writeln!(
                formatter,
                "This host is guarded: its health certificate is valid until {until}."
            )?,
        }
        write!(formatter, "\n{AFTER}")
    }
}

const TITLE: &str = "guarded-host: the host's side of a Host Guardian Service";

const SET_UP: &str = "\
First, on this host (--ca names the certificate of the guardian, unless the system trusts it):
  guarded-host configure https://hgs.example --ca tls.pem --host-key host1.pem
then on the guardian, with that file:
  hgs host add host1 --host-key host1.pem
then here:
  guarded-host attest
";

const NEW_KEY: &str = "\
Make one, and have it registered:
  guarded-host host-key new
  guarded-host host-key export --out host1.pem
  hgs host add host1 --host-key host1.pem            (on the guardian)
  guarded-host attest
With a guardian in TPM mode it is the TPM that is registered:
  guarded-host identity export --out host1.json
  hgs host add host1 --identity host1.json           (on the guardian)
  guarded-host attest
";

const REGISTER: &str = "\
Once the guardian knows its key:
  guarded-host host-key export --out host1.pem
  hgs host add host1 --host-key host1.pem            (on the guardian)
  guarded-host attest
or, in TPM mode, its TPM:
  guarded-host identity export --out host1.json
  hgs host add host1 --identity host1.json           (on the guardian)
  guarded-host attest
";

const AGAIN: &str = "\
  guarded-host trace     finds the cause, where something is wrong
  guarded-host attest    tries again
";

const AFTER: &str = "\
Every day:
  guarded-host status    how this host stands
  guarded-host trace     what is wrong, step by step
  guarded-host vm list   the shielded VMs of this host, which `guarded-host agent` or libvirt runs
  guarded-host protector unwrap vm.xml vm.state --reseal --out state    what the start of a virtual machine does

`guarded-host --help` has all commands, `guarded-host man COMMAND` the manual page of one.";
