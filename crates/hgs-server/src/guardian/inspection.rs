//! What is shown of a guardian beside its records.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use hgs_admin::types::Warning;
use hgs_attest::{MANY_IDENTITY_KEYS, MAX_IDENTITY_KEYS};
use hgs_custody_pkcs11::{Breaker, ModuleStatus, Tokens};
use hgs_kps::CertificateKind;
use hgs_pki::health::{AttestationMode, HealthKind};
use hgs_pki::{Time, Validity, ValidityStatus};
use hgs_store::{AttestationSigner, CertificateRecord, ShortName, State, StoreError};
use hgs_trace::guardian::MANY_AUDIT_RECORDS;
use hgs_trace::guardian::{Disk, DiskSpace};

use super::expiry::CertificateInUse;
use super::keys::{Holdings, Snapshots};
use super::open_store::OpenStore;
use super::signers::Signers;
use super::trace::disk;
use crate::config::Config;
use crate::http::{Addresses, PinnedClients};
use hgs_clock::Clock;

/// Shows administrators, monitoring and diagnostics how a guardian is.
pub(crate) struct Inspection {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<OpenStore>,
    pub(crate) tokens: Tokens,
    pub(crate) snapshots: Arc<Snapshots>,
    /// Where it listens, once it does.
    pub(crate) addresses: OnceLock<Addresses>,
    /// Whose certificates are taken, for each listener that asks for one, once it listens.
    pub(crate) clients: OnceLock<Vec<Arc<PinnedClients>>>,
}

impl Inspection {
    /// Where it listens: nowhere, until it does.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses.get().cloned().unwrap_or_default()
    }

    /// The first_transactions of the URLs under which hosts reach it, HTTPS first.
    pub(crate) fn urls(&self) -> Vec<String> {
        let Addresses { https, http, .. } = self.addresses();
        self.config.public_urls(https, http)
    }

    /// The URL of its `[listen.api]`, where it listens there.
    pub(super) fn api_url(&self) -> Option<String> {
        self.addresses().api.map(|at| self.config.api_url(at))
    }

    /// The room on the disk of the state folder.
    pub(super) fn disk(&self) -> Option<Disk> {
        disk(&self.config.state_folder())
    }

    fn disk_warning(&self) -> Option<Warning> {
        if let Err(failure) = self.store.check()
            && failure != StoreError::Busy
        {
            let remedy = failure.remedy().unwrap_or_default();
            let message = format!("nothing can be recorded, so nothing is released: {failure}");
            return Some(warning("state-not-writable", message, &remedy));
        }
        let disk = self
            .disk()
            .filter(|disk| disk.space() != DiskSpace::Enough)?;
        Some(warning(
            "disk-almost-full",
            format!("the disk of the state folder is almost full: {disk}"),
            "make room: nothing is released that can't be recorded",
        ))
    }

    fn audit_warning(&self) -> Option<Warning> {
        let extent = self.store.audit_extent().ok()?;
        let records = (extent.last + 1).saturating_sub(extent.first);
        (records > MANY_AUDIT_RECORDS).then(|| {
            warning(
                "audit-log-large",
                format!("the audit log in the database has {records} records; each is read at every start"),
                "move old records to archives: `hgs audit archive --keep 90d`",
            )
        })
    }

    /// What needs attention.
    pub(crate) fn warnings(&self, state: &State, holdings: &Holdings, now: Time) -> Vec<Warning> {
        let mut warnings = Vec::new();
        warnings.extend(self.disk_warning());
        warnings.extend(self.audit_warning());
        for kind in [
            CertificateKind::Signing,
            CertificateKind::Encryption,
            CertificateKind::Communications,
        ] {
            let mut records = state.certificates();
            if !records.any(|record| record.kind == kind && record.is_primary()) {
                warnings.push(warning(
                    "no-primary-certificate",
                    format!("there is no primary certificate of kind {kind}"),
                    "add one and make it primary",
                ));
            }
        }
        for record in state.certificates().filter(|record| record.enabled) {
            if !holdings.has_key_of(record) {
                warnings.push(warning(
                    "key-not-usable",
                    format!(
                        "this node can't use the private key of certificate {}",
                        record.thumbprint()
                    ),
                    "see the server's log for the reason",
                ));
            }
            warnings.extend(expiry_warning(record, now));
        }
        let clients = self.certificates_of_clients();
        warnings.extend(
            clients
                .iter()
                .filter_map(|client| client_warning(client, now)),
        );
        warnings.extend(self.tokens.status().iter().flat_map(token_warnings));
        if Signers::at(state, now).active().is_none() {
            warnings.push(warning(
                "no-attestation-signer",
                "no attestation signer can sign now".to_owned(),
                "see the server's log for why none was made",
            ));
        }
        warnings.extend(host_warnings(state, now));
        warnings.extend(policy_warnings(state));
        warnings.extend(
            Signers::at(state, now)
                .foreign()
                .iter()
                .filter_map(|signer| signer_warning(signer, now)),
        );
        if let Some(until) = state
            .settings()
            .rekey_window_until
            .filter(|until| now < *until)
        {
            warnings.push(warning(
                "rekey-window-open",
                format!(
                    "until {until}, protectors that a compromised guardian signed are accepted unseen"
                ),
                "close it with `hgs server set --rekey-window 0s` as soon as every VM was powered on",
            ));
        }
        warnings.extend(self.config.dangerous_settings().into_iter().map(|setting| {
            warning(
                "dangerous-setting",
                format!("{setting} weakens verification"),
                "set it back as soon as what made it necessary is over",
            )
        }));
        warnings
    }
}

/// The expiry of guardians' certificates is not looked at in a protector; people want to know it all the same.
fn expiry_warning(record: &CertificateRecord, now: Time) -> Option<Warning> {
    let expires = end(record.certificate.validity(), now, ("expired", "expires"))?;
    Some(warning(
        "certificate-expiry",
        format!("certificate {} {expires}", record.thumbprint()),
        "add a new certificate; the old one goes on opening protectors",
    ))
}

/// The certificate of a client.
fn client_warning(client: &CertificateInUse, now: Time) -> Option<Warning> {
    let expires = end(client.validity, now, ("expired", "expires"))?;
    Some(warning(
        "client-certificate-expiry",
        format!("the certificate of the client {} {expires}", client.name),
        "put a new certificate into the file that `clients` names in [listen.api] or [listen.console.client_certificates], or remove the client from it",
    ))
}

/// Groups whose hosts can't be healthy, where hosts attest by their TPMs.
pub(super) fn policy_warnings(state: &State) -> Vec<Warning> {
    if state.settings().attestation_mode != AttestationMode::Tpm {
        return Vec::new();
    }
    let default = ShortName::of_default_group();
    let groups: BTreeSet<_> = state
        .hosts()
        .map(|host| host.group.unwrap_or(default))
        .collect();
    let problems = groups.into_iter().filter_map(|group| {
        let problem = state.policy_set(Some(&group)).err()?;
        Some(warning(
            "no-host-can-be-healthy",
            format!("hosts of the group {group} are refused: {problem}"),
            "add what is missing with `hgs baseline add`, or enable it with `hgs policy enable`",
        ))
    });
    problems.collect()
}

/// Hosts that use up identity keys, and host keys that two machines have.
pub(super) fn host_warnings(state: &State, now: Time) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for host in state.hosts().filter(|host| host.revoked.is_none()) {
        let identities = state.identities(&host.id);
        if let Some(time) = identities.host_key_shared(now) {
            warnings.push(warning(
                "host-key-shared",
                format!(
                    "two machines use the host key of {}: superseded identity keys were presented again, last at {time}",
                    host.name
                ),
                "find the clone or the restored copy, make a host key of its own there with `guarded-host host-key remove` and `guarded-host host-key new`, and register it",
            ));
        }
        let kinds = [HealthKind::Encryption, HealthKind::Signing];
        let most = kinds
            .map(|kind| identities.count(kind))
            .into_iter()
            .max()
            .unwrap_or_default();
        if most >= MANY_IDENTITY_KEYS && !host.returns_nonces {
            warnings.push(warning(
                "many-identity-keys",
                format!(
                    "host {} has used {most} identity keys of one kind; at {MAX_IDENTITY_KEYS} it is refused",
                    host.name
                ),
                "look why it makes so many (a wrong clock, a clone) and update guarded-host, which then needs no bound; or make a new host key there with `guarded-host host-key remove` and `guarded-host host-key new`, and register it",
            ));
        }
    }
    warnings
}

/// A signer of another cluster ends with its certificate.
fn signer_warning(signer: &AttestationSigner, now: Time) -> Option<Warning> {
    let ends = end(signer.certificate.validity(), now, ("ended", "ends"))?;
    Some(warning(
        "signer-expiry",
        format!(
            "the certificate of the trusted signer {} {ends}; nothing that it signed is accepted after that",
            signer.thumbprint()
        ),
        "add the other cluster's new signer with `hgs signer add`, and remove this one",
    ))
}

/// That a certificate has ended, or ends soon, and when; the verbs are those for the two.
fn end(
    validity: Validity,
    now: Time,
    (past, present): (&'static str, &'static str),
) -> Option<String> {
    let verb = match validity.status(now) {
        ValidityStatus::Expired => past,
        ValidityStatus::ExpiresSoon => present,
        ValidityStatus::Valid | ValidityStatus::NotYetValid => return None,
    };
    Some(format!("{verb} at {}", validity.not_after))
}

/// Tokens that take no work now. They recover by themselves, but for a PIN that was refused.
fn token_warnings(module: &ModuleStatus) -> impl Iterator<Item = Warning> {
    module.tokens.iter().filter_map(|token| {
        let Breaker::Open { reason, .. } = &token.breaker else {
            return None;
        };
        let message = format!("the token {} is away: {reason}", token.name);
        let remedy = reason
            .remedy()
            .unwrap_or_else(|| "the server tries by itself until it is back".to_owned());
        Some(warning("token-away", message, &remedy))
    })
}

fn warning(code: &str, message: String, remedy: &str) -> Warning {
    Warning {
        code: code.to_owned(),
        message,
        remedy: remedy.to_owned(),
    }
}
