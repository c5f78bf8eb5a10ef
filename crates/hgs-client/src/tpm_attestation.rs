//! One attestation by TPM at one service: the server speaks to the TPM through this host.

use std::sync::Arc;

use bytes::Bytes;
use hgs_attest::client::rtpm::{AttestedByTpm, Measurements, RtpmExchange, Step};
use hgs_attest::client::{AttestationFailure, Attested};
use hgs_attest::wire::SessionId;
use hgs_custody_tpm::{AttestedKey, Tpm, TpmKey};
use hgs_pki::health::HealthKind;
use hgs_tcg::tpm::{
    Command, EndorsementKey, Primary, PrivateAndPublic, Public, StorageRootKey, created_primary,
};

use crate::attestation::JSON;
use crate::certify::blocking;
use crate::error::Error;
use crate::http::{Conversation, Request};
use crate::service::Answer;
use crate::tpm::{HostTpm, HostTpmError};
use crate::url::ServiceUrls;

/// A health certificate, and the key that it is over if that is a new one.
pub(crate) struct AttestedInTpm {
    pub(crate) attested: Attested,
    pub(crate) created: Option<Arc<TpmKey>>,
}

/// The exchange and the TPM that it is with. What it has loaded is flushed when this is dropped, whatever the end was.
struct Driver {
    host: HostTpm,
    tpm: Tpm,
    exchange: RtpmExchange,
    /// The parent of what is created, as the TPM said.
    storage_root_key: Option<Public>,
}

/// Attests at the service at `attestation`. `presented` is a key of an earlier exchange that still works, `next_boot` what the
/// host says that it will boot next.
pub(crate) async fn attest(
    conversation: &Conversation<'_>,
    attestation: &ServiceUrls,
    host: &HostTpm,
    kind: HealthKind,
    session: SessionId,
    presented: Option<Public>,
    next_boot: Option<Vec<u8>>,
) -> Result<Answer<AttestedInTpm>, Error> {
    let host = host.clone();
    let open = move || Driver::open(host, kind, session, presented, next_boot);
    let mut driver = blocking(open).await?;
    let urls = attestation.join(driver.exchange.endpoint().path());
    let mut body = driver.exchange.body();
    let attested = loop {
        let posted = Request::Post {
            urls: urls.clone(),
            content_type: JSON,
            fields: Vec::new(),
            body: Bytes::from(body),
        };
        let response = match conversation.send(&posted).await {
            Ok(response) => response,
            Err(error) => return Ok(Err(error.into())),
        };
        match driver.exchange.receive(response.status, &response.body) {
            Err(failure) => return Ok(Err(failure.into())),
            Ok(Step::Attested(attested)) => break *attested,
            Ok(Step::Execute) => {}
        }
        let (executed, answer) = blocking(move || driver.execute()).await?;
        driver = executed;
        body = match answer {
            Ok(body) => body,
            Err(failure) => return Ok(Err(failure.into())),
        };
    };
    Ok(Ok(driver.finish(attested)?))
}

impl Driver {
    fn open(
        host: HostTpm,
        kind: HealthKind,
        session: SessionId,
        presented: Option<Public>,
        next_boot: Option<Vec<u8>>,
    ) -> Result<Self, HostTpmError> {
        let mut tpm = host.open()?;
        let endorsement_key: EndorsementKey = host.endorsement_key(&mut tpm)?;
        // The exchange makes its own: a TPM has few slots.
        tpm.flush_all();
        let exchange = RtpmExchange::start(session, kind, endorsement_key, presented);
        Ok(Self {
            exchange: match next_boot {
                Some(claim) => exchange.with_next_boot(claim),
                None => exchange,
            },
            host,
            tpm,
            storage_root_key: None,
        })
    }

    /// Has the TPM execute what the server asks for, and returns the next request, or why there is none.
    fn execute(mut self) -> Result<(Self, Result<Vec<u8>, AttestationFailure>), HostTpmError> {
        while let Some(command) = self.exchange.next_command() {
            let is_root = *command == Command::CreatePrimary(Primary::StorageRootKey);
            let response = self.tpm.execute(&command.octets())?;
            if is_root {
                let created = created_primary(&response);
                self.storage_root_key = created.ok().map(|created| created.public);
            }
            if let Err(fault) = self.exchange.executed(response) {
                return Ok((self, Err(fault.into())));
            }
        }
        let measurements = match self.exchange.wants_measurements() {
            true => self.host.measurements()?,
            false => Measurements::default(),
        };
        let body = self.exchange.answer(&measurements);
        Ok((self, Ok(body)))
    }

    fn finish(self, attested: AttestedByTpm) -> Result<AttestedInTpm, Error> {
        let Some(created) = attested.created else {
            return Ok(AttestedInTpm {
                attested: attested.attested,
                created: None,
            });
        };
        let root = self.storage_root_key.as_ref().map(Public::octets);
        let storage_root_key = StorageRootKey::parse(root.unwrap_or_default())
            .map_err(|error| Error::System(format!("the storage root key of the TPM: {error}")))?;
        let key = AttestedKey {
            blob: PrivateAndPublic {
                private: created.private,
                public: created.public,
            },
            pcrs: created.pcrs.selection(),
            storage_root_key,
        };
        let key = self.host.key(key);
        let key = key.map_err(|error| Error::System(format!("the key that was made: {error}")))?;
        Ok(AttestedInTpm {
            attested: attested.attested,
            created: Some(Arc::new(key)),
        })
    }
}
