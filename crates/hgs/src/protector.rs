//! `hgs protector`: what owners do with key protectors, and what anybody can find out about one.

mod new;
mod own;
mod seal;
mod share;
mod show;
mod verify;
mod view;

use std::path::Path;

use clap::Subcommand;
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::{MAX_WRAPPINGS, Protector, VerifiedProtector};
use hgs_terminal::{Exit, Failure, Terminal, read_input};
use hgs_xml::Limits;

use crate::guardian::HomeOption;
pub(crate) use new::ProtectOptions;
pub(crate) use own::PassphraseOption;
use verify::Invalid;

/// The verbs of `hgs protector`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    home: HomeOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(new::Arguments),
    Show(show::Arguments),
    Verify(verify::Arguments),
    Grant(share::Grant),
    Revoke(share::Revoke),
    Seal(seal::Seal),
    Open(seal::Open),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let home = || self.home.open();
        match self.verb {
            Verb::New(arguments) => arguments.run(&home()?, terminal),
            Verb::Show(arguments) => arguments.run(&home()?, terminal),
            Verb::Verify(arguments) => arguments.run(terminal),
            Verb::Grant(arguments) => arguments.run(&home()?, terminal),
            Verb::Revoke(arguments) => arguments.run(&home()?, terminal),
            Verb::Seal(arguments) => arguments.run(&home()?, terminal),
            Verb::Open(arguments) => arguments.run(&home()?, terminal),
        }
    }
}

/// Reads the protector in `path` and checks all that can be checked without a key.
///
/// # Errors
/// The outer one when the file can't be read, the inner one when it holds no valid protector.
fn examine(path: &Path) -> Result<Result<VerifiedProtector, Invalid>, Failure> {
    let given = read_input(path, Limits::DOCUMENT.bytes)?;
    if given.is_longer {
        return Ok(Err(Invalid::too_long(Limits::DOCUMENT.bytes)));
    }
    // Two certificates to a wrapping, and two signatures over them.
    let certificates = CertificateCache::new(2 * MAX_WRAPPINGS);
    let signatures = SignatureCache::new(2 * MAX_WRAPPINGS);
    Ok(match Protector::read(&given.octets, &certificates) {
        Err(error) => Err(Invalid::new(&error, None)),
        Ok(protector) => {
            let digest = protector.digest();
            protector
                .verify(&signatures)
                .map_err(|error| Invalid::new(&error, Some(digest)))
        }
    })
}

/// The protector in `path`, which has to be valid.
pub(crate) fn read_valid(path: &Path) -> Result<VerifiedProtector, Failure> {
    examine(path)?.map_err(|invalid| invalid.into_failure().while_doing(path.display()))
}
