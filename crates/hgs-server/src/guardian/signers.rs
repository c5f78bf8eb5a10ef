//! Attestation signers at one time: who signs, who is believed, what is published.

use hgs_attest::signer::{self, OwnSigner, OwnSignerStage, PublishedSigner};
use hgs_pki::health::TrustedSigners;
use hgs_pki::{Certificate, Time};
use hgs_store::{AttestationSigner, State};

/// The signers of a state, as they are at one time.
#[derive(Debug)]
pub(crate) struct Signers<'s> {
    own: Vec<(&'s AttestationSigner, OwnSignerStage)>,
    foreign: Vec<&'s AttestationSigner>,
    /// All of our own as the schedule sees them.
    pub(crate) schedule: Vec<OwnSigner>,
    /// Whether a new signer is to be made.
    pub(crate) new_one_is_due: bool,
}

impl<'s> Signers<'s> {
    pub(crate) fn at(state: &'s State, now: Time) -> Self {
        let (own, foreign): (Vec<_>, Vec<_>) = state
            .attestation_signers()
            .partition(|signer| signer.is_own());
        let schedule: Vec<_> = own.iter().map(|signer| signer.scheduled()).collect();
        let plan = signer::plan(&schedule, now);
        let published = plan.published.iter().filter_map(|published| {
            let PublishedSigner { thumbprint, stage } = published;
            Some((state.attestation_signer(thumbprint)?, *stage))
        });
        Self {
            own: published.collect(),
            foreign,
            schedule,
            new_one_is_due: plan.new_signer_due,
        }
    }

    /// The certificate under which health certificates are issued now.
    pub(crate) fn active(&self) -> Option<&'s Certificate> {
        let mut own = self.own.iter();
        let active = own.find(|(_, stage)| *stage == OwnSignerStage::Active);
        active.map(|(signer, _)| &signer.certificate)
    }

    /// Our own signers, oldest first, which are believed and published.
    pub(crate) fn own(&self) -> &[(&'s AttestationSigner, OwnSignerStage)] {
        &self.own
    }

    /// Those of other clusters.
    pub(crate) fn foreign(&self) -> &[&'s AttestationSigner] {
        &self.foreign
    }

    /// The newest of our own.
    pub(crate) fn newest(&self) -> Option<&'s AttestationSigner> {
        let own = self.own.iter().map(|(signer, _)| *signer);
        own.max_by_key(|signer| signer.certificate.validity().not_before)
    }

    /// What `signingCertificates` lists.
    pub(crate) fn published(&self) -> Vec<Certificate> {
        let own = self.own.iter();
        own.map(|(signer, _)| signer.certificate.clone()).collect()
    }

    /// Whose health certificates are believed.
    pub(crate) fn trusted(&self) -> TrustedSigners {
        let own = self.own.iter().map(|(signer, _)| *signer);
        let all = own.chain(self.foreign.iter().copied());
        TrustedSigners::new(all.map(AttestationSigner::trusted).collect())
    }
}
