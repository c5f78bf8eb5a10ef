//! Attestation signers are made before they are needed, and forgotten when nothing that they signed can be alive.

use std::sync::Arc;

use hgs_attest::signer::{self, NoRoomForSigner, check_room};
use hgs_custody::{CertifyError, KeyReference, SoftwareKey, self_signed};
use hgs_pki::{Thumbprint, Time};
use hgs_store::{Act, AttestationSigner, Failure, State, Transaction};
use tracing::info;

use super::certify::KeySize;
use super::observer::Observer;
use super::open_store::OpenStore;
use super::signers::Signers;

/// Who makes and forgets signers, in the audit log.
const ACTOR: &str = "openhgs";

/// The signers could not be brought up to date. What is there goes on signing as long as it may.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// No key or certificate could be made.
    #[error(transparent)]
    Certify(#[from] CertifyError),
    /// The list of signing certificates would not fit into one record of TLS.
    #[error(transparent)]
    NoRoom(#[from] NoRoomForSigner),
    /// It could not be recorded.
    #[error(transparent)]
    Record(#[from] Failure<hgs_store::Refusal>),
}

/// Renews our attestation signers.
pub(crate) struct SignerRotation {
    pub(crate) store: Arc<OpenStore>,
    pub(crate) observer: Arc<Observer>,
}

impl SignerRotation {
    /// Brings the attestation signers up to date. May make a key, which takes a while.
    pub(crate) fn rotate(&self, now: Time) -> Result<(), RotationError> {
        let state = self.store.state();
        let signers = Signers::at(&state, now);
        let mut transactions = Vec::new();
        if signers.new_one_is_due {
            let (signer, key) = new_signer(size_of_next(&signers), now)?;
            // The commit would refuse it too, and record that each time.
            check_room(&signers.schedule, &signer.certificate, now)?;
            transactions.push(Transaction::AddAttestationSigner { signer, key });
        }
        let outlived = outlived(&state, &signers);
        transactions
            .extend(outlived.map(|thumbprint| Transaction::RemoveAttestationSigner { thumbprint }));
        if !transactions.is_empty() {
            for transaction in &transactions {
                info!(action = %transaction.action(), "attestation signers change");
            }
            self.store.transact(transactions, Act::new(now, ACTOR))?;
        }
        let state = self.store.state();
        self.observer.generation(state.generation());
        Ok(())
    }
}

/// Our own signers whose health certificates have all expired. Their keys go with them.
fn outlived(state: &State, signers: &Signers<'_>) -> impl Iterator<Item = Thumbprint> {
    let believed: Vec<_> = signers
        .own()
        .iter()
        .map(|(signer, _)| signer.thumbprint())
        .collect();
    let own = state.attestation_signers().filter(|signer| signer.is_own());
    let outlived: Vec<_> = own
        .map(AttestationSigner::thumbprint)
        .filter(|thumbprint| !believed.contains(thumbprint))
        .collect();
    outlived.into_iter()
}

/// A signer's key has the size of the one before it.
fn size_of_next(signers: &Signers<'_>) -> KeySize {
    let newest = signers.newest();
    let size =
        newest.map(|newest| KeySize::at_least(newest.certificate.public_key().modulus_bits()));
    size.unwrap_or_default()
}

/// A new signer of ours, and its key.
pub(crate) fn new_signer(
    size: KeySize,
    now: Time,
) -> Result<(AttestationSigner, Option<Arc<SoftwareKey>>), CertifyError> {
    let (certificate, key) = self_signed(signer::template(now), size.bits())?;
    let signer = AttestationSigner {
        certificate,
        key: Some(KeyReference::Sealed),
        retired: false,
        deny_before: None,
        maximum_validity_seconds: None,
        label: None,
        deny_list: Arc::default(),
        added: now,
    };
    Ok((signer, Some(Arc::new(key))))
}
