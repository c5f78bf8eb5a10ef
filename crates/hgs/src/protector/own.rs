//! A guardian whose private keys are on this machine and do the work.

use hgs_crypto::SecretBytes;
use hgs_custody::HeldKeys;
use hgs_protector::{HeldPair, Opened, VerifiedProtector, open};
use hgs_terminal::{AtFault, Failure, PassphraseSource, new_passphrase, passphrase};

use crate::failures::OrFail as _;
use crate::guardian::{GuardianName, Home, LocalGuardian};

/// Where the passphrase of private keys comes from.
#[derive(Debug, clap::Args)]
pub(crate) struct PassphraseOption {
    /// Where the passphrase of the private keys comes from: file:PATH, credential:NAME or env:NAME; otherwise it is
    /// asked for
    #[arg(long, value_name = "SOURCE", env = "HGS_PASSPHRASE_FROM")]
    passphrase_from: Option<PassphraseSource>,
}

/// A guardian with its unlocked private keys.
#[derive(Debug)]
pub(crate) struct OwnGuardian {
    pub(crate) guardian: LocalGuardian,
    pub(crate) keys: HeldKeys,
}

impl PassphraseOption {
    /// A passphrase for the guardian `name`, which is about to be made.
    pub(crate) fn new_passphrase(&self, name: &GuardianName) -> Result<SecretBytes, Failure> {
        new_passphrase(self.passphrase_from.as_ref(), &format!("guardian `{name}`"))
    }

    /// Gets the passphrase of the guardian `name`, and with it the keys.
    pub(crate) fn unlock(&self, home: &Home, name: &GuardianName) -> Result<OwnGuardian, Failure> {
        self.unlock_with_passphrase(home, name).map(|(own, _)| own)
    }

    /// As [`Self::unlock`]; the passphrase is for further keys of the same guardian.
    pub(crate) fn unlock_with_passphrase(
        &self,
        home: &Home,
        name: &GuardianName,
    ) -> Result<(OwnGuardian, SecretBytes), Failure> {
        let guardian = home.guardian(name)?;
        if !guardian.has_private_halves {
            return Err(Failure::failed(format!(
                "the private keys of guardian `{name}` are not here"
            ))
            .at_fault(AtFault::Operator)
            .remedy("see whose private keys are here with `hgs guardian list`"));
        }
        let passphrase = passphrase(self.passphrase_from.as_ref(), &format!("guardian `{name}`"))?;
        let keys = home.keys(&guardian, &passphrase)?;
        Ok((OwnGuardian { guardian, keys }, passphrase))
    }
}

impl OwnGuardian {
    /// Opens a protector and checks its MAC.
    pub(crate) fn open(&self, protector: &VerifiedProtector) -> Result<Opened, Failure> {
        let certificates = self.guardian.certificates();
        let pair = HeldPair {
            signing: certificates.signing_certificate().thumbprint(),
            encryption: certificates.encryption_certificate().thumbprint(),
            head: true,
        };
        open(protector, &[pair], &mut &self.keys).or_fail()
    }

    /// As [`Self::open`], for what only the owner may do.
    pub(crate) fn open_as_owner(&self, protector: &VerifiedProtector) -> Result<Opened, Failure> {
        let certificates = self.guardian.certificates();
        let (signing, encryption) = (
            certificates.signing_certificate(),
            certificates.encryption_certificate(),
        );
        if !protector.owner().is_for(signing, encryption) {
            let name = &self.guardian.name;
            return Err(
                Failure::refused(format!("`{name}` is not the owner of this protector"))
                    .at_fault(AtFault::Operator)
                    .remedy("see who is with `hgs protector show FILE`"),
            );
        }
        self.open(protector)
    }
}
