//! Who is trusted to vouch for TPMs.

use hgs_admin::AdminError;
use hgs_admin::types::{AddEkRoots, EkRoot, MAX_AT_ONCE};
use hgs_crypto::base64;
use hgs_pki::Thumbprint;
use hgs_pki::endorsement::{EndorsementAuthority, EndorsementRoots};
use hgs_store::{EndorsementRoot, State, Transaction};

use super::{AdminHandler, not_found, views};

/// The authorities that this state trusts.
pub(super) fn of(state: &State) -> EndorsementRoots {
    let certificates = |is_root| {
        let all = state.endorsement_roots();
        all.filter(move |root| root.is_root == is_root)
            .map(|root| root.certificate.clone())
    };
    EndorsementRoots::new(certificates(true), certificates(false))
}

impl AdminHandler<'_> {
    /// By subject.
    pub(super) fn ek_roots_now(&self) -> Vec<EkRoot> {
        let state = self.parts.store.state();
        let trusted = of(&state);
        let shown = state.endorsement_roots().map(|root| {
            let path = trusted.path_of_authority(&root.certificate);
            views::ek_root(root, path.err().map(|error| error.to_string()))
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort_by(|one, other| {
            let key = |root: &EkRoot| (root.subject.clone(), root.thumbprint.clone());
            key(one).cmp(&key(other))
        });
        shown
    }

    pub(super) fn trust_ek_roots(&self, given: &AddEkRoots) -> Result<Vec<EkRoot>, AdminError> {
        let mut authorities = read(&given.certificates)?;
        authorities.sort_by_key(EndorsementAuthority::thumbprint);
        authorities.dedup();
        if !(1..=MAX_AT_ONCE).contains(&authorities.len()) {
            return Err(AdminError::invalid(format_args!(
                "1 to {MAX_AT_ONCE} EK roots are added at once"
            )));
        }
        let state = self.parts.store.state();
        let new: Vec<_> = authorities
            .into_iter()
            .filter(|authority| state.endorsement_root(&authority.thumbprint()).is_none())
            .map(|authority| EndorsementRoot {
                is_root: given.root.unwrap_or_else(|| authority.is_self_issued()),
                certificate: authority,
                added: self.parts.clock.now(),
            })
            .collect();
        let names: Vec<_> = new
            .iter()
            .map(|root| root.thumbprint().to_string())
            .collect();
        let transactions = new.into_iter().map(Transaction::AddEndorsementRoot);
        self.transact_all(transactions.collect())?;
        let mut shown = self.ek_roots_now();
        shown.retain(|root| names.contains(&root.thumbprint));
        Ok(shown)
    }

    pub(super) fn distrust_ek_root(&self, thumbprint: &Thumbprint) -> Result<EkRoot, AdminError> {
        let name = thumbprint.to_string();
        let mut known = self.ek_roots_now();
        let found = known.iter().position(|root| root.thumbprint == name);
        let found = found.ok_or_else(|| {
            not_found(
                format_args!("there is no EK root {thumbprint}"),
                "hgs ek-root list",
            )
        })?;
        self.transact(Transaction::RemoveEndorsementRoot {
            thumbprint: *thumbprint,
        })?;
        Ok(known.swap_remove(found))
    }
}

/// Certificates in PEM, or one in the Base64 of its DER.
fn read(text: &str) -> Result<Vec<EndorsementAuthority>, AdminError> {
    let octets = base64::decode(text.trim()).unwrap_or_else(|_| text.as_bytes().to_vec());
    EndorsementAuthority::list_from_octets(&octets).map_err(|error| {
        AdminError::invalid(format_args!("EK root: {error}"))
            .with_remedy("give certificates of TPM makers, in PEM or DER")
    })
}
