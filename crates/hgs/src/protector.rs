//! `hgs protector`: what owners do with key protectors, and what anybody can find out about one.

mod verify;

use std::path::Path;

use clap::Subcommand;
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::{MAX_WRAPPINGS, Protector, VerifiedProtector};
use hgs_terminal::{Exit, Failure, Terminal, read_given};
use hgs_xml::Limits;

use verify::Invalid;

/// The verbs of `hgs protector`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Verify(verify::Arguments),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Verify(arguments) => arguments.run(terminal),
        }
    }
}

/// Reads the protector in `path` and checks all that can be checked without a key.
///
/// # Errors
/// The outer one when the file can't be read, the inner one when it holds no valid protector.
fn read_verified(path: &Path) -> Result<Result<VerifiedProtector, Invalid>, Failure> {
    let given = read_given(path, Limits::DOCUMENT.bytes)?;
    if given.more {
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
