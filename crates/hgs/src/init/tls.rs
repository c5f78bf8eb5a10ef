//! A certificate for HTTPS, for a first trial.

use std::path::{Path, PathBuf};

use hgs_crypto::random::System;
use hgs_custody::pem;
use hgs_files::Readers;
use hgs_pki::{Seconds, Time, Validity, profile};
use hgs_server::config::{OWN_TLS_CERTIFICATE, OWN_TLS_KEY};
use hgs_terminal::Failure;

use crate::bits::Bits;
use crate::certified::CertifiedKey;
use crate::clock::now;
use crate::failures::OrFail as _;
use crate::guardian::self_signed;

/// For how long it is valid: long enough to get one from an authority.
const VALIDITY: Seconds = Seconds::from_days(365);

/// A certificate that signs itself and is no authority, so that TLS libraries take it for a server's.
pub(super) struct TrialCertificate(CertifiedKey);

impl TrialCertificate {
    pub(super) fn make(names: &[String]) -> Result<Self, Failure> {
        let validity = Validity {
            not_before: now()
                .checked_sub(Seconds::from_minutes(5))
                .unwrap_or(Time::MIN),
            not_after: now().checked_add(VALIDITY).unwrap_or(Time::MAX),
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let template = profile::communications(&names, validity).or_fail()?;
        self_signed(template, Bits::default()).map(Self)
    }

    /// Writes it into the state folder. The path of the certificate.
    pub(super) fn keep(self, state: &Path) -> Result<PathBuf, Failure> {
        let key = pem::write_private_key(&self.0.key, None, &mut System::new())?;
        hgs_files::create(&state.join(OWN_TLS_KEY), key.as_bytes(), Readers::Owner)?;
        let certificate = state.join(OWN_TLS_CERTIFICATE);
        let text = self.0.certificate.to_pem();
        hgs_files::create(&certificate, text.as_bytes(), Readers::Everybody)?;
        Ok(certificate)
    }
}
