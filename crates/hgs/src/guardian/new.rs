//! `hgs guardian new`.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::{SoftwareKey, pem};
use hgs_protector::GuardianCertificates;
use hgs_protector::metadata;
use hgs_protector::suite::KeyEncryption;
use hgs_terminal::{AtFault, Exit, Failure, PassphraseSource, Terminal, new_passphrase};
use serde::Serialize;

use super::certified::CertifiedFile;
use super::generate::Pair;
use super::home::{EncryptedKeys, Home, TrustRecord, TrustedBy};
use super::name::GuardianName;
use super::now;
use crate::keys::HeldKeys;

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
    given: Given,
}

/// Certificates and keys that exist already.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Instead of new keys")]
struct Given {
    /// PFX or PEM file with the signing certificate and its private key
    #[arg(long, value_name = "FILE", requires = "encryption_certificate")]
    signing_certificate: Option<PathBuf>,
    /// PEM file with the signing key, if it stands alone
    #[arg(long, value_name = "FILE", requires = "signing_certificate")]
    signing_key: Option<PathBuf>,
    /// Where the passphrase of the signing key comes from
    #[arg(long, value_name = "SOURCE", requires = "signing_certificate")]
    signing_passphrase_from: Option<PassphraseSource>,
    /// PFX or PEM file with the encryption certificate and its private key
    #[arg(long, value_name = "FILE", requires = "signing_certificate")]
    encryption_certificate: Option<PathBuf>,
    /// PEM file with the encryption key, if it stands alone
    #[arg(long, value_name = "FILE", requires = "encryption_certificate")]
    encryption_key: Option<PathBuf>,
    /// Where the passphrase of the encryption key comes from
    #[arg(long, value_name = "SOURCE", requires = "encryption_certificate")]
    encryption_passphrase_from: Option<PassphraseSource>,
    /// Take certificates that have expired
    #[arg(long, requires = "signing_certificate")]
    allow_expired: bool,
}

/// Bits of an RSA key.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Bits {
    #[value(name = "2048")]
    Rsa2048,
    #[default]
    #[value(name = "3072")]
    Rsa3072,
    #[value(name = "4096")]
    Rsa4096,
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
        let pair = match given.read()? {
            Some(pair) => pair,
            None => Pair::generate(name.as_str(), bits.number(), now())?,
        };
        let passphrase = new_passphrase(passphrase_from.as_ref(), &format!("guardian `{name}`"))?;
        let made = keep(home, &name, pair, &passphrase)?;
        terminal.report(&made)?;
        Ok(Exit::Done)
    }
}

/// Ties the certificates together, encrypts the keys, and keeps it all.
fn keep(
    home: &Home,
    name: &GuardianName,
    pair: Pair,
    passphrase: &SecretBytes,
) -> Result<Made, Failure> {
    let Pair {
        signing,
        encryption,
    } = pair;
    let encrypted = EncryptedKeys {
        signing: encrypt(&signing.key, passphrase)?,
        encryption: encrypt(&encryption.key, passphrase)?,
    };
    let mut keys = HeldKeys::default();
    keys.hold(&signing.certificate, signing.key);
    let signer = signing.certificate.clone();
    let certificates = keys.drive(GuardianCertificates::certify(
        signing.certificate,
        encryption.certificate,
        KeyEncryption::RsaOaep,
    ))?;
    let document = keys.drive(metadata::write(&certificates, &[], &signer))?;
    let trust = TrustRecord {
        trusted_by: TrustedBy::Ourselves,
        thumbprint: signer.thumbprint().to_string(),
        since: now().to_string(),
    };
    home.add(name, &document, &trust, Some(&encrypted))?;
    Ok(Made {
        name: name.to_string(),
        thumbprint: trust.thumbprint,
    })
}

fn encrypt(key: &SoftwareKey, passphrase: &SecretBytes) -> Result<SecretBytes, Failure> {
    let text = pem::write_private_key(key, Some(passphrase), &mut System::new())?;
    Ok(text.as_bytes().into())
}

impl Bits {
    fn number(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }
}

impl Given {
    fn read(self) -> Result<Option<Pair>, Failure> {
        let (Some(signing), Some(encryption)) =
            (self.signing_certificate, self.encryption_certificate)
        else {
            return Ok(None);
        };
        let signing = CertifiedFile {
            certificate: signing,
            key: self.signing_key,
            passphrase: self.signing_passphrase_from,
        };
        let encryption = CertifiedFile {
            certificate: encryption,
            key: self.encryption_key,
            passphrase: self.encryption_passphrase_from,
        };
        let pair = Pair {
            signing: signing.read()?,
            encryption: encryption.read()?,
        };
        for certified in [&pair.signing, &pair.encryption] {
            let certificate = &certified.certificate;
            let not_after = certificate.validity().not_after;
            if not_after < now() && !self.allow_expired {
                let subject = certificate.subject();
                return Err(Failure::refused(format!(
                    "the certificate {subject} expired at {not_after}"
                ))
                .at_fault(AtFault::Operator)
                .remedy("say `--allow-expired` if that is known and meant"));
            }
        }
        Ok(Some(pair))
    }
}

#[derive(Serialize)]
struct Made {
    name: String,
    thumbprint: String,
}

impl fmt::Display for Made {
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
