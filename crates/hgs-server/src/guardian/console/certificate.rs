//! The certificate that the server makes for its console, where the configuration names none. It signs itself, so people
//! compare its fingerprint; it is renewed before it ends.

use std::path::PathBuf;

use hgs_crypto::CryptoError;
use hgs_crypto::random::System;
use hgs_custody::{CertifyError, pem, self_signed};
use hgs_files::{FileError, Readers};
use hgs_pki::issue::IssueError;
use hgs_pki::{Seconds, Time, TlsCertificate, Validity, profile};
use tracing::info;

use crate::config::{Config, ConsoleFiles};
use crate::guardian::KeySize;
use crate::http;

/// How long it is valid. Browsers take no certificate for much longer.
const VALIDITY: Seconds = Seconds::from_days(365);
/// How long before its end it is renewed.
const RENEWAL: Seconds = Seconds::from_days(30);

/// The console has no certificate, and none could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleCertificateError {
    /// The names of the machine can't stand in a certificate.
    #[error("no certificate could be made for the console")]
    Names(#[from] IssueError),
    /// There is no key.
    #[error("no key could be made for the console")]
    Key(#[from] CertifyError),
    /// The source of randomness has failed.
    #[error("no key could be written for the console")]
    Randomness(#[from] CryptoError),
    /// The state folder.
    #[error("the certificate of the console could not be written")]
    File(#[from] FileError),
}

/// The certificate that is made and renewed here.
#[derive(Debug)]
pub(crate) struct OwnCertificate {
    files: ConsoleFiles,
    key: PathBuf,
    names: Vec<String>,
}

impl OwnCertificate {
    /// That of `config`, if its console is to have one.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let files = config.console_files();
        let key = files.key.clone()?;
        (config.listen.console.enabled && files.is_own).then(|| Self {
            names: config.console_names(),
            key,
            files,
        })
    }

    /// Makes a certificate if there is none that can be used, for all names, for long enough. It blocks.
    pub(crate) fn renew_if_due(&self, now: Time) -> Result<(), ConsoleCertificateError> {
        if self.serves(now) {
            return Ok(());
        }
        let validity = Validity {
            not_before: now
                .checked_sub(Seconds::from_minutes(5))
                .unwrap_or(Time::MIN),
            not_after: now.checked_add(VALIDITY).unwrap_or(Time::MAX),
        };
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let template = profile::communications(&names, validity)?;
        let (certificate, key) = self_signed(template, KeySize::default().bits())?;
        let key = pem::write_private_key(&key, None, &mut System::new())?;
        hgs_files::replace(&self.key, key.as_bytes(), Readers::Owner)?;
        let file = &self.files.certificate;
        hgs_files::replace(file, certificate.to_pem().as_bytes(), Readers::Everybody)?;
        info!(
            fingerprint = %certificate.thumbprint(),
            until = %validity.not_after,
            "a certificate was made for the console"
        );
        Ok(())
    }

    fn serves(&self, now: Time) -> bool {
        let leaf = http::check_certificate(self.files.tls_files()).ok();
        let leaf = leaf.and_then(|leaf| TlsCertificate::from_der(&leaf).ok());
        leaf.is_some_and(|leaf| {
            let has = |name: &String| {
                name.parse::<std::net::IpAddr>().is_ok() || leaf.dns_names.contains(name)
            };
            let left = leaf.validity.not_after.since(now);
            leaf.validity.not_before <= now
                && left.is_some_and(|left| left > RENEWAL)
                && self.names.iter().all(has)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::config::Layout;

    const START: Time = Time::from_unix(1_800_000_000);

    fn own(folder: &Path, more: &str) -> OwnCertificate {
        let state = folder.display();
        let text = format!("server.state = \"{state}\"\nlisten.console.enabled = true\n{more}");
        let config = Config::parse(&text, "test.toml".as_ref(), Layout::system()).unwrap();
        OwnCertificate::of(&config).unwrap()
    }

    #[test]
    fn it_is_made_once_and_renewed_before_it_ends_and_for_new_names() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = || fs::read(folder.path().join("console.pem")).unwrap();
        let own_now = own(folder.path(), "");
        own_now.renew_if_due(START).unwrap();
        let first = certificate();
        let key = fs::metadata(folder.path().join("console.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        let after = |days| START.checked_add(Seconds::from_days(days)).unwrap();
        own_now.renew_if_due(after(334)).unwrap();
        assert_eq!(certificate(), first);
        own_now.renew_if_due(after(336)).unwrap();
        let second = certificate();
        assert_ne!(second, first);
        let public_url = "listen.console.public_url = \"https://console.example\"\n";
        own(folder.path(), public_url)
            .renew_if_due(after(336))
            .unwrap();
        assert_ne!(certificate(), second);
        let leaf = http::check_certificate(own(folder.path(), "").files.tls_files()).unwrap();
        let names = TlsCertificate::from_der(&leaf).unwrap().dns_names;
        assert!(names.contains(&"console.example".to_owned()), "{names:?}");
        assert!(names.contains(&"localhost".to_owned()), "{names:?}");
    }
}
