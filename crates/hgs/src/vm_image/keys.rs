//! The keys of a VM owner's, beside those of the guardian: the authority for the vTPMs' EK certificates, and Secure Boot.

use std::path::Path;
use std::sync::Arc;

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::{Bundle, HeldKeys, bundle, pem};
use hgs_pki::issue::Template;
use hgs_pki::{Certificate, Seconds, Time, Validity, profile};
use hgs_terminal::Failure;
use hgs_vm::image::ImageCertificates;

use crate::bits::Bits;
use crate::certified::CertifiedKey;
use crate::failures::OrFail as _;
use crate::guardian::{GuardianName, Home, self_signed};

/// How far back validity begins, so that machines whose clocks are late accept it at once.
const BACK: Seconds = Seconds::from_minutes(5);

/// The keys for images of VMs. They are made when they are needed for the first time, and kept as PKCS#8 under the
/// passphrase of the guardian.
#[derive(Debug)]
pub(crate) struct VmKeys {
    pub(crate) certificates: ImageCertificates,
    pub(crate) keys: HeldKeys,
}

impl VmKeys {
    /// Those of the guardian `name`. Whether they were made just now.
    pub(crate) fn open_or_make(
        home: &Home,
        name: &GuardianName,
        passphrase: &SecretBytes,
        now: Time,
    ) -> Result<(Self, bool), Failure> {
        let validity = Validity {
            not_before: now.checked_sub(BACK).unwrap_or(Time::MIN),
            not_after: now
                .checked_add(profile::GUARDIAN_VALIDITY)
                .unwrap_or(Time::MAX),
        };
        let files = [
            "endorsement-authority.pem",
            "platform-key.pem",
            "key-exchange-key.pem",
            "signature.pem",
        ];
        let folder = home.vm_keys(name);
        let made = !hgs_files::exists(&folder)?;
        if made {
            let templates = ImageCertificates::templates(name.as_str(), validity);
            make(&folder, files.into_iter().zip(templates), passphrase)?;
        }
        let mut keys = HeldKeys::default();
        let mut read = |file: &str| read(&folder.join(file), passphrase, &mut keys);
        let [authority, platform, exchange, signature] = files;
        let certificates = ImageCertificates::of([
            read(authority)?,
            read(platform)?,
            read(exchange)?,
            read(signature)?,
        ]);
        Ok((Self { certificates, keys }, made))
    }
}

fn make(
    folder: &Path,
    wanted: impl Iterator<Item = (&'static str, Template)>,
    passphrase: &SecretBytes,
) -> Result<(), Failure> {
    let mut files = Vec::new();
    for (file, template) in wanted {
        let CertifiedKey { certificate, key } = self_signed(template, Bits::default())?;
        let mut text = pem::write_private_key(&key, Some(passphrase), &mut System::new())?;
        text.push_str(&hgs_pki::pem::encode("CERTIFICATE", certificate.der()));
        files.push((file, text));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(file, text)| (*file, text.as_bytes()))
        .collect();
    Ok(hgs_files::create_folder(folder, &files)?)
}

fn read(
    path: &Path,
    passphrase: &SecretBytes,
    keys: &mut HeldKeys,
) -> Result<Certificate, Failure> {
    let text = hgs_files::read_secret(path, bundle::MAX_FILE_LENGTH)?;
    let read = || -> Result<Certificate, Failure> {
        let bundle = Bundle::read(text.expose(), Some(passphrase)).or_fail()?;
        let key = bundle.private_key(Some(passphrase)).or_fail()?;
        let certificates = bundle.certificates().or_fail()?;
        let certificate = certificates
            .first()
            .ok_or_else(|| Failure::failed("it has no certificate"))?;
        keys.hold(certificate, Arc::new(key));
        Ok(certificate.clone())
    };
    let mut read = read;
    read().map_err(|failure| failure.while_doing(path.display()))
}
