//! What the services publish for everybody: who signs health certificates, and the guardian's metadata.

use hgs_pki::Certificate;

use crate::attestation;
use crate::error::Error;
use crate::host::{GuardedHost, ServiceFailures};
use crate::key_protection;
use crate::service::{ServiceFailure, Sides};

impl GuardedHost {
    /// The certificates of those who sign health certificates ([MS-HGSA] 3.2.4.3). Nothing vouches for them but the
    /// connection they came over.
    ///
    /// # Errors
    /// [`Error::Services`] when no service lists them, [`Error::LocalMode`] when none is configured.
    pub async fn signing_certificates(&self) -> Result<Vec<Certificate>, Error> {
        let mut failures = ServiceFailures::default();
        for (side, endpoints) in self.services(Sides::Both)? {
            let urls = &endpoints.attestation;
            let conversation = self.client().conversation();
            match attestation::signing_certificates(&conversation, urls).await {
                Ok(certificates) => return Ok(certificates),
                Err(cause) => failures.add(ServiceFailure::new(
                    side,
                    urls.first(),
                    &conversation,
                    cause,
                ))?,
            }
        }
        Err(failures.into_error())
    }

    /// The guardian's metadata ([MS-KPS] 3.2.4.2), as it came. It is not trusted before it is imported.
    ///
    /// # Errors
    /// [`Error::Services`] when no service gives it, [`Error::LocalMode`] when none is configured.
    pub async fn metadata(&self) -> Result<Vec<u8>, Error> {
        let mut failures = ServiceFailures::default();
        for (side, endpoints) in self.services(Sides::Both)? {
            let urls = &endpoints.key_protection;
            let conversation = self.client().conversation();
            match key_protection::metadata(&conversation, urls).await {
                Ok(metadata) => return Ok(metadata),
                Err(cause) => failures.add(ServiceFailure::new(
                    side,
                    urls.first(),
                    &conversation,
                    cause,
                ))?,
            }
        }
        Err(failures.into_error())
    }
}
