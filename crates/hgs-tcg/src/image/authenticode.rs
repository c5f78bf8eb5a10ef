//! The digest of an image in Secure Boot and in PCR 4 (Windows Authenticode Portable Executable Signature Format).

use hgs_crypto::hash::{Sha256, Sha256Digest};

use super::{PeImage, PredictedEvent};

/// The Authenticode digests that one build of an image can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticodeDigests {
    /// Of the file as it is.
    pub as_it_is: Sha256Digest,
    /// Of the file once it is signed, if that is another one: signing programs pad a file with zeros to a multiple of 8
    /// octets, and these zeros are hashed.
    pub once_signed: Option<Sha256Digest>,
}

impl AuthenticodeDigests {
    /// All of them, each once.
    pub fn alternatives(&self) -> impl Iterator<Item = Sha256Digest> + use<> {
        [Some(self.as_it_is), self.once_signed]
            .into_iter()
            .flatten()
    }
}

impl PeImage<'_> {
    /// The SHA-256 digests, over everything but CheckSum, the data directory entry of the certificate table, and that
    /// table.
    #[must_use]
    pub fn authenticode_sha256(&self) -> AuthenticodeDigests {
        // Headers, sections in the order of their places, and what follows them lie side by side: the parser saw to it.
        let mut hash = Sha256::new();
        hash.update(&self.file[..self.check_sum]);
        hash.update(&self.file[self.check_sum + 4..self.certificate_entry]);
        hash.update(&self.file[self.certificate_entry + 8..self.certificate_table]);
        let padding = self.certificate_table.next_multiple_of(8) - self.certificate_table;
        let once_signed = (padding > 0).then(|| {
            let mut padded = hash.clone();
            padded.update(&[0; 8][..padding]);
            padded.finish()
        });
        AuthenticodeDigests {
            as_it_is: hash.finish(),
            once_signed,
        }
    }
}

/// The event of an image that the firmware, or shim for the firmware, starts (EV_EFI_BOOT_SERVICES_APPLICATION).
#[must_use]
pub(super) fn application(subject: &str, digest: Sha256Digest) -> PredictedEvent {
    PredictedEvent {
        pcr: 4,
        subject: subject.to_owned(),
        digest,
    }
}
