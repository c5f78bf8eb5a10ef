//! `hgs guardian new`.

use std::fmt;
use std::sync::Arc;

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::{HeldKeys, SoftwareKey, pem};
use hgs_protector::GuardianCertificates;
use hgs_protector::metadata;
use hgs_protector::suite::KeyEncryption;
use hgs_terminal::{Exit, Failure, PassphraseSource, Terminal, new_passphrase};
use serde::Serialize;

use super::generate::generate;
use super::home::{EncryptedKeys, Home, TrustRecord, TrustedBy};
use super::name::GuardianName;
use crate::bits::Bits;
use crate::certified::{Pair, PairFileOptions};
use crate::clock::now;
use crate::failures::OrFail as _;

/// Make a guardian of one's own: keys and certificates, generated or from files
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs guardian new ann
  hgs guardian new ann --bits 4096 --passphrase-from file:ann.passphrase
  hgs guardian new ann --signing-certificate signing.pfx --encryption-certificate encryption.pfx")]
pub(crate) struct Arguments {
    /// Its name on this machine
    name: GuardianName,
    /// Bits of the keys that are generated
    #[arg(
        long,
        value_enum,
        default_value_t,
        conflicts_with = "signing_certificate"
    )]
    bits: Bits,
    /// Where the passphrase comes from under which the private keys are kept: file:PATH, credential:NAME or env:NAME;
    /// otherwise it is asked for
    #[arg(long, value_name = "SOURCE", env = "HGS_PASSPHRASE_FROM")]
    passphrase_from: Option<PassphraseSource>,
    #[command(flatten)]
    given: PairFileOptions,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let Self {
            name,
            bits,
            passphrase_from,
            given,
        } = self;
        home.expect_free(&name)?;
        let pair = match given.read(terminal)? {
            Some(pair) => pair,
            None => generate(name.as_str(), bits, now())?,
        };
        let passphrase = new_passphrase(passphrase_from.as_ref(), &format!("guardian `{name}`"))?;
        let made = keep(home, &name, pair, &passphrase)?;
        terminal.report(&made)?;
        Ok(Exit::Done)
    }
}

/// Makes a guardian of one's own with keys that are generated.
pub(crate) fn make(
    home: &Home,
    name: &GuardianName,
    passphrase: &SecretBytes,
) -> Result<(), Failure> {
    home.expect_free(name)?;
    let pair = generate(name.as_str(), Bits::default(), now())?;
    keep(home, name, pair, passphrase).map(drop)
}

/// Ties the certificates together, encrypts the keys, and keeps it all.
fn keep(
    home: &Home,
    name: &GuardianName,
    pair: Pair,
    passphrase: &SecretBytes,
) -> Result<NewGuardian, Failure> {
    let Pair {
        signing,
        encryption,
    } = pair;
    let encrypted = EncryptedKeys {
        signing: encrypt(&signing.key, passphrase)?,
        encryption: encrypt(&encryption.key, passphrase)?,
    };
    let mut keys = HeldKeys::default();
    keys.hold(&signing.certificate, Arc::new(signing.key));
    let signer = signing.certificate.clone();
    let keys = &mut &keys;
    let certificates = GuardianCertificates::certify(
        signing.certificate,
        encryption.certificate,
        KeyEncryption::RsaOaep,
        keys,
    )
    .or_fail()?;
    let document = metadata::write(&certificates, &[], &signer, keys).or_fail()?;
    let trust = TrustRecord {
        trusted_by: TrustedBy::Ourselves,
        thumbprint: signer.thumbprint().to_string(),
        since: now().to_string(),
    };
    home.add(name, &document, &trust, Some(&encrypted))?;
    Ok(NewGuardian {
        name: name.to_string(),
        thumbprint: trust.thumbprint,
    })
}

fn encrypt(key: &SoftwareKey, passphrase: &SecretBytes) -> Result<SecretBytes, Failure> {
    let text = pem::write_private_key(key, Some(passphrase), &mut System::new())?;
    Ok(text.as_bytes().into())
}

#[derive(Serialize)]
struct NewGuardian {
    name: String,
    thumbprint: String,
}

impl fmt::Display for NewGuardian {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, thumbprint } = self;
        writeln!(
            formatter,
            "Guardian `{name}` is made. The SHA-256 thumbprint of its signing certificate is"
        )?;
        writeln!(formatter, "  {thumbprint}")?;
        writeln!(
            formatter,
            "Give it to those who import `hgs guardian export {name}`, by another way than the file."
        )
    }
}
