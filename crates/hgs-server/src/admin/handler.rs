//! What each operation of the API does to the guardian.

pub(super) mod audit;
mod certificates;
mod cluster;
mod console;
mod ek_roots;
mod given;
mod hosts;
mod judge;
mod pages;
mod policies;
mod protectors;
mod refused;
mod server;
mod signers;

use std::sync::Arc;

use hgs_admin::types::{
    AddCertificate, AddEkRoots, AddHost, AddHosts, AddPolicyDocument, AddSigner, AddedCertificate,
    ApproveHosts, ApprovedHost, ArchiveAudit, AuditArchive, AuditLog, AuditQuery, AuditRecord,
    Certificate, CertificateDetail, CertificateUsage, ChangePolicyDocument, Cluster, ConsoleLink,
    ConsoleSession, DeniedHost, DenyHost, Diagnosis, EkRoot, EventQuery, GuardianDocument, Host,
    HostDetail, HostEvidence, HostGroup, HostMeasurements, InviteNode, Judgement, KeyCaching,
    Listener, ListenerName, NewCertificate, NewConsoleLink, NewHostGroup, NodeInvitation, Policy,
    PolicyDocument, PolicyDocumentDetail, PolicyQuery, Protector, ProtectorLineage, ProtectorQuery,
    RecordExport, RemoveCertificate, RemovedHost, RevokeHost, RotateCertificates,
    RotatedCertificates, ServerSettings, SetCertificate, SetHost, SetHostMeasurements, SetPolicy,
    SetServer, SetSigner, Signer, SimulatePolicies, Status, Trial,
};
use hgs_admin::types::{DigestPageQuery, HostQuery, PageQuery};
use hgs_admin::{
    AdminError, Administration, Caller, ErrorCode, EventStream, HostSelector, LastEventId,
    NameSelector, NodeSelector, Permitted, PolicyDigest, ProtectorDigest, SignerSelector, WithKey,
};
use hgs_attest::CredentialId;
use hgs_kps::CertificateKind;
use hgs_pki::health::HostId;
use hgs_pki::{Seconds, Thumbprint, Time};
use hgs_store::{
    Act, Action, AttestationSigner, AuditEntry, CertificateRecord, Credential, Digest,
    ExpectedMeasurements, Failure, Host as StoredHost, HostName, Outcome, Refusal, ShortName,
    SignerChange, State, StoreError, Transaction, program_version,
};
use hgs_trace::guardian::{LocalFacts, SyntheticRoll};
use tracing::error;

use super::{AdminParts, views};
use crate::guardian::{Follower, Signers, Snapshot};
use crate::http::RequestId;

/// Records that one question gets, unless it says otherwise.
const AUDIT_LIMIT: usize = 100;

/// Carries out what one caller asks for, who was found to be permitted it.
pub(super) struct AdminHandler<'p> {
    pub(super) parts: &'p AdminParts,
    pub(super) caller: &'p Caller,
    /// The caller, for the audit log.
    pub(super) actor: String,
    /// The request that it came by, for the audit log.
    pub(super) request: RequestId,
    /// The caller who follows events.
    pub(super) follower: &'p dyn Fn() -> Follower,
}

/// Has `act` ask for whatever `caller`, who sent a request, is permitted, within the server.
pub(crate) fn perform_for<T>(
    parts: &AdminParts,
    caller: &Caller,
    request: RequestId,
    follower: &dyn Fn() -> Follower,
    act: impl FnOnce(Permitted<'_>) -> T,
) -> T {
    let handler = AdminHandler {
        parts,
        caller,
        actor: caller.identity.to_string(),
        request,
        follower,
    };
    act(Permitted::new(caller, &handler))
}

impl Administration for AdminHandler<'_> {
    fn status(&self) -> Result<Status, AdminError> {
        let Snapshot { state, holdings } = self.snapshot()?;
        let now = self.parts.clock.now();
        let urls = self.parts.inspection.urls();
        let primary = |kind| {
            let mut records = state.certificates();
            let record = records.find(|record| record.kind == kind && record.is_primary());
            record.map(|record| views::certificate(record, holdings.has_key_of(record)))
        };
        let revoked = state.hosts().filter(|host| host.revoked.is_some()).count();
        Ok(Status {
            name: state.settings().name.to_string(),
            version: program_version().to_owned(),
            time: now.to_string(),
            attestation_mode: state.settings().attestation_mode,
            attestation_urls: urls
                .iter()
                .map(|url| format!("{url}/Attestation"))
                .collect(),
            key_protection_urls: urls
                .iter()
                .map(|url| format!("{url}/KeyProtection"))
                .collect(),
            registered_hosts: state.hosts().count() - revoked,
            revoked_hosts: revoked,
            primary_signing: primary(CertificateKind::Signing),
            primary_encryption: primary(CertificateKind::Encryption),
            attestation_signer: active_signer(&state, now),
            generation: state.generation(),
            warnings: {
                let warnings = self.parts.inspection.warnings(&state, &holdings, now);
                warnings
                    .into_iter()
                    .chain(self.cluster_warnings())
                    .collect()
            },
        })
    }

    fn server(&self) -> Result<ServerSettings, AdminError> {
        let Snapshot { state, holdings } = self.snapshot()?;
        let (config, settings) = (&self.parts.inspection.config, state.settings());
        let communications = state
            .certificates()
            .find(|record| record.kind == CertificateKind::Communications && record.is_primary());
        Ok(ServerSettings {
            name: settings.name.to_string(),
            node: config.server.name.clone(),
            state_folder: config.state_folder().display().to_string(),
            master_key_file: config.master_key_file().display().to_string(),
            listeners: self.listeners(),
            attestation_mode: settings.attestation_mode,
            accept_next_boot_claims: settings.accept_next_boot_claims,
            health_certificate_seconds: settings.health_certificate_seconds.into(),
            clock_skew_seconds: config.attestation.clock_skew.as_secs(),
            key_caching: settings.key_caching.map(|caching| KeyCaching {
                unwraps: caching.unwraps,
                hours: caching.hours,
            }),
            refuse_superseded_protectors: settings.refuse_superseded_protectors,
            dangerous_settings: config.dangerous_settings(),
            communications_certificate: communications
                .map(|record| views::certificate(record, holdings.has_key_of(record))),
            rekey_window_until: settings
                .rekey_window_until
                .filter(|_| settings.is_rekey_window_open(self.parts.clock.now()))
                .map(|until| until.to_string()),
        })
    }

    fn cluster(&self) -> Result<Cluster, AdminError> {
        self.of_cluster()
    }

    fn invite_node(&self, request: &InviteNode) -> Result<NodeInvitation, AdminError> {
        self.invite(request)
    }

    fn remove_node(&self, node: &NodeSelector) -> Result<Cluster, AdminError> {
        self.remove(node)
    }

    fn set_server(&self, change: &SetServer) -> Result<ServerSettings, AdminError> {
        let mut transactions = Vec::new();
        if let Some(thumbprint) = &change.communications_certificate {
            transactions.push(self.new_communications(thumbprint)?);
        }
        if let Some(seconds) = change.rekey_window_seconds {
            let now = self.parts.clock.now();
            let end = now.checked_add(Seconds::new(seconds)).unwrap_or(Time::MAX);
            let until = (seconds > 0).then_some(end);
            transactions.push(Transaction::SetRekeyWindow { until });
        }
        if let Some(mode) = &change.attestation_mode {
            let attestation_mode = mode.parse().map_err(AdminError::invalid)?;
            transactions.push(Transaction::SetAttestationMode(attestation_mode));
        }
        if let Some(accept) = change.accept_next_boot_claims {
            transactions.push(Transaction::SetNextBootClaims { accept });
        }
        if let Some(setting) = &change.key_caching {
            let caching = hgs_store::KeyCaching::read_setting(setting);
            transactions.push(Transaction::SetKeyCaching(
                caching.map_err(AdminError::invalid)?,
            ));
        }
        self.transact_all(transactions)?;
        self.server()
    }

    fn certificates(&self, page: &DigestPageQuery) -> Result<Vec<Certificate>, AdminError> {
        let Snapshot { state, holdings } = self.snapshot()?;
        let mut records: Vec<&CertificateRecord> = state.certificates().collect();
        records.sort_by_key(|record| (record.kind, record.added, record.thumbprint()));
        let wanted = pages::by_digest(records, page, |record| record.thumbprint().to_string())?;
        let shown = wanted.into_iter();
        let mut shown: Vec<_> = shown
            .map(|record| views::certificate(record, holdings.has_key_of(record)))
            .collect();
        self.tell_nodes(&mut shown);
        Ok(shown)
    }

    fn certificate(&self, thumbprint: &Thumbprint) -> Result<CertificateDetail, AdminError> {
        let Snapshot { state, holdings } = self.snapshot()?;
        let record = certificates::find(&state, thumbprint)?;
        Ok(views::certificate_detail(
            record,
            holdings.has_key_of(record),
        ))
    }

    fn certificate_usage(&self) -> Result<Vec<CertificateUsage>, AdminError> {
        let pairs = self.parts.store.usage().map_err(unavailable)?;
        let state = self.parts.store.state();
        let mut records: Vec<_> = state
            .certificates()
            .filter(|record| record.kind != CertificateKind::Communications)
            .collect();
        records.sort_by_key(|record| {
            let lineage = record.lineage.clone();
            (lineage, record.kind, record.added, record.thumbprint())
        });
        let known = records.into_iter().map(|record| {
            let needing = pairs.iter().filter(|pair| pair.needs(&state, record));
            certificates::usage_of(record, needing)
        });
        let unknown = pairs
            .iter()
            .filter(|pair| state.certificate(&pair.encryption).is_none());
        Ok(known
            .chain(unknown.map(certificates::usage_of_removed))
            .collect())
    }

    fn guardian_document(&self, thumbprint: &Thumbprint) -> Result<GuardianDocument, AdminError> {
        self.document_of_head(thumbprint)
    }

    fn add_certificate(
        &self,
        certificate: &WithKey<AddCertificate>,
    ) -> Result<AddedCertificate, AdminError> {
        self.add_given(&certificate.request, certificate.key.clone())
    }

    fn new_certificate(
        &self,
        certificate: &NewCertificate,
    ) -> Result<AddedCertificate, AdminError> {
        self.add_made(certificate)
    }

    fn rotate_certificates(
        &self,
        rotation: &RotateCertificates,
    ) -> Result<RotatedCertificates, AdminError> {
        self.rotate(rotation)
    }

    fn set_certificate(
        &self,
        thumbprint: &Thumbprint,
        change: &SetCertificate,
    ) -> Result<Certificate, AdminError> {
        let mut transactions = Vec::new();
        if let Some(label) = &change.label {
            let label = signers::optional_label(Some(label))?;
            transactions.push(Transaction::SetCertificateLabel {
                thumbprint: *thumbprint,
                label,
            });
        }
        if change.primary || change.head {
            transactions.push(Transaction::SetHead {
                thumbprint: *thumbprint,
                primary: change.primary,
            });
        }
        if let Some(since) = &change.compromised_since {
            let since = match since.as_str() {
                "now" => self.parts.clock.now(),
                time => given::time(time)?,
            };
            transactions.push(Transaction::SetCompromised {
                thumbprint: *thumbprint,
                since,
            });
        }
        self.transact_all(transactions)?;
        self.shown_certificate(thumbprint)
    }

    fn enable_certificate(&self, thumbprint: &Thumbprint) -> Result<Certificate, AdminError> {
        self.set_enabled(thumbprint, true)
    }

    fn disable_certificate(&self, thumbprint: &Thumbprint) -> Result<Certificate, AdminError> {
        self.set_enabled(thumbprint, false)
    }

    fn retire_certificate(&self, thumbprint: &Thumbprint) -> Result<Certificate, AdminError> {
        self.transact(Transaction::RetireCertificate {
            thumbprint: *thumbprint,
        })?;
        self.shown_certificate(thumbprint)
    }

    fn remove_certificate(
        &self,
        thumbprint: &Thumbprint,
        options: &RemoveCertificate,
    ) -> Result<Certificate, AdminError> {
        let was = self.shown_certificate(thumbprint)?;
        self.transact(Transaction::RemoveCertificate {
            thumbprint: *thumbprint,
            even_if_needed: options.even_if_needed,
        })?;
        Ok(was)
    }

    fn signers(&self, page: &DigestPageQuery) -> Result<Vec<Signer>, AdminError> {
        pages::by_digest(self.signers_now(), page, |signer| signer.thumbprint.clone())
    }

    fn add_signer(&self, wanted: &AddSigner) -> Result<Signer, AdminError> {
        let certificate = given::certificate(&wanted.certificate)?;
        if !certificate.is_certificate_authority() {
            return Err(AdminError::invalid(
                "not the certificate of a signer: it may not issue certificates",
            )
            .with_remedy(
                "`hgs signer list --json` of the other guardian shows its signers' certificates",
            ));
        }
        let signer = AttestationSigner {
            certificate,
            key: None,
            retired: false,
            deny_before: None,
            maximum_validity_seconds: wanted.maximum_validity_seconds,
            label: signers::optional_label(wanted.label.as_deref())?,
            deny_list: Arc::default(),
            added: self.parts.clock.now(),
        };
        let thumbprint = signer.thumbprint();
        self.transact(Transaction::AddAttestationSigner { signer, key: None })?;
        self.shown_signer(&thumbprint)
    }

    fn set_signer(
        &self,
        selector: &SignerSelector,
        wanted: &SetSigner,
    ) -> Result<Vec<Signer>, AdminError> {
        let thumbprints = match selector {
            SignerSelector::All => {
                let state = self.parts.store.state();
                let all = state.attestation_signers();
                all.map(AttestationSigner::thumbprint).collect()
            }
            SignerSelector::One(thumbprint) => {
                self.shown_signer(thumbprint)?;
                vec![*thumbprint]
            }
        };
        let changes = signers::changes(wanted, self.parts.clock.now())?;
        let transactions = thumbprints.iter().flat_map(|thumbprint| {
            let of_one = |change: &SignerChange| Transaction::SetAttestationSigner {
                thumbprint: *thumbprint,
                change: change.clone(),
            };
            changes.iter().map(of_one)
        });
        self.transact_all(transactions.collect())?;
        let names: Vec<_> = thumbprints.iter().map(Thumbprint::to_string).collect();
        let mut shown = self.signers_now();
        shown.retain(|signer| names.contains(&signer.thumbprint));
        Ok(shown)
    }

    fn retire_signer(&self, thumbprint: &Thumbprint) -> Result<Signer, AdminError> {
        self.transact(Transaction::RetireAttestationSigner {
            thumbprint: *thumbprint,
        })?;
        self.replace_signer();
        self.shown_signer(thumbprint)
    }

    fn remove_signer(&self, thumbprint: &Thumbprint) -> Result<Signer, AdminError> {
        let state = self.parts.store.state();
        let signer = state.attestation_signer(thumbprint);
        let own = signer.is_some_and(AttestationSigner::is_own);
        let shown = self.shown_signer(thumbprint)?;
        self.transact(Transaction::RemoveAttestationSigner {
            thumbprint: *thumbprint,
        })?;
        if own {
            self.replace_signer();
        }
        Ok(shown)
    }

    fn hosts(&self, query: &HostQuery) -> Result<Vec<Host>, AdminError> {
        let state = self.parts.store.state();
        let group = policies::group(query.group.as_deref())?;
        let default = ShortName::of_default_group();
        let wanted = state.hosts().filter(|host| {
            let is_of_group = |group| host.group.unwrap_or(default) == group;
            let has_end = |revoked| host.revoked.is_some() == revoked;
            group.is_none_or(is_of_group) && query.revoked.is_none_or(has_end)
        });
        let name = |name: &str| name.to_ascii_lowercase();
        let after = query.after.as_deref().map(name);
        let wanted = pages::page(wanted, query.limit, after, |host| {
            name(&host.name.to_string())
        })?;
        Ok(wanted.into_iter().map(views::host).collect())
    }

    fn host(&self, host: &HostSelector) -> Result<HostDetail, AdminError> {
        let state = self.parts.store.state();
        let host = find_host(&state, host)?;
        let mut identities: Vec<_> = state.host_identities(&host.id).collect();
        identities.sort_by_key(|identity| std::cmp::Reverse(identity.first_seen));
        Ok(HostDetail {
            host: views::host(host),
            host_key: match &host.credential {
                Credential::HostKey(spki) => Some(hgs_pki::pem::encode("PUBLIC KEY", spki)),
                Credential::EndorsementKey(_) => None,
            },
            tpm: views::tpm(host),
            policy_digest: host.credential.policy().to_string(),
            returns_nonces: host.returns_nonces,
            host_key_shared: state
                .identities(&host.id)
                .host_key_shared(self.parts.clock.now())
                .map(|time| time.to_string()),
            identity_keys: identities.into_iter().map(views::identity_key).collect(),
        })
    }

    fn add_host(&self, host: &AddHost) -> Result<Host, AdminError> {
        let mut added = self.register(std::slice::from_ref(host))?;
        added
            .pop()
            .ok_or_else(|| not_found("the host was removed meanwhile", "hgs host list"))
    }

    fn add_hosts(&self, hosts: &AddHosts) -> Result<Vec<Host>, AdminError> {
        self.register(&hosts.hosts)
    }

    fn revoke_host(
        &self,
        host: &HostSelector,
        revocation: &RevokeHost,
    ) -> Result<Host, AdminError> {
        let id = find_host(&self.parts.store.state(), host)?.id;
        let reason = revocation.reason.clone();
        self.transact(Transaction::RevokeHost { id, reason })?;
        self.shown(&id)
    }

    fn remove_host(&self, host: &HostSelector) -> Result<Host, AdminError> {
        let state = self.parts.store.state();
        let host = find_host(&state, host)?;
        self.transact(Transaction::RemoveHost { id: host.id })?;
        Ok(views::host(host))
    }

    fn set_host(&self, host: &HostSelector, change: &SetHost) -> Result<Host, AdminError> {
        let id = find_host(&self.parts.store.state(), host)?.id;
        if let Some(group) = policies::group(change.group.as_deref())? {
            let is_default = group == ShortName::of_default_group();
            let group = (!is_default).then_some(group);
            self.transact(Transaction::SetHostGroup { id, group })?;
        }
        self.shown(&id)
    }

    fn host_evidence(&self, host: &HostSelector) -> Result<HostEvidence, AdminError> {
        self.evidence_of(host)
    }

    fn host_measurements(&self, host: &HostSelector) -> Result<HostMeasurements, AdminError> {
        self.measurements_of(host)
    }

    fn set_host_measurements(
        &self,
        host: &HostSelector,
        change: &SetHostMeasurements,
    ) -> Result<HostMeasurements, AdminError> {
        let id = find_host(&self.parts.store.state(), host)?.id;
        let expected = match change.expected.as_deref() {
            None => ExpectedMeasurements::Any,
            Some("none") => ExpectedMeasurements::None,
            Some(digest) => {
                ExpectedMeasurements::Digest(digest.parse().map_err(AdminError::invalid)?)
            }
        };
        self.transact(Transaction::SetHostMeasurements {
            id,
            expected,
            text: change.text.as_deref().map(Arc::from),
            note: None,
        })?;
        self.measurements_of(host)
    }

    fn host_groups(&self) -> Result<Vec<HostGroup>, AdminError> {
        Ok(self.groups_now())
    }

    fn new_host_group(&self, group: &NewHostGroup) -> Result<HostGroup, AdminError> {
        let name = group.name.parse().map_err(AdminError::invalid)?;
        self.transact(Transaction::NewHostGroup(name))?;
        Ok(self.shown_group(name))
    }

    fn remove_host_group(&self, group: &NameSelector) -> Result<HostGroup, AdminError> {
        let name = group.as_str().parse().map_err(AdminError::invalid)?;
        let was = self.shown_group(name);
        self.transact(Transaction::RemoveHostGroup(name))?;
        Ok(was)
    }

    fn policies(&self, query: &PolicyQuery) -> Result<Vec<Policy>, AdminError> {
        self.policies_of(query.group.as_deref())
    }

    fn enable_policy(
        &self,
        policy: &NameSelector,
        change: &SetPolicy,
    ) -> Result<Policy, AdminError> {
        self.set_policy(policy, change.group.as_deref(), Some(true))
    }

    fn disable_policy(
        &self,
        policy: &NameSelector,
        change: &SetPolicy,
    ) -> Result<Policy, AdminError> {
        self.set_policy(policy, change.group.as_deref(), Some(false))
    }

    fn reset_policy(
        &self,
        policy: &NameSelector,
        change: &SetPolicy,
    ) -> Result<Policy, AdminError> {
        self.set_policy(policy, change.group.as_deref(), None)
    }

    fn policy_documents(&self, page: &PageQuery) -> Result<Vec<PolicyDocument>, AdminError> {
        let after = page.after.as_deref().map(str::to_ascii_lowercase);
        let documents = self.documents_now().into_iter();
        pages::page(documents, page.limit, after, |document| {
            document.name.clone()
        })
    }

    fn policy_document(&self, document: &NameSelector) -> Result<PolicyDocumentDetail, AdminError> {
        self.shown_document(document)
    }

    fn add_policy_document(
        &self,
        document: &AddPolicyDocument,
    ) -> Result<PolicyDocument, AdminError> {
        self.add_document(document)
    }

    fn change_policy_document(
        &self,
        document: &NameSelector,
        change: &ChangePolicyDocument,
    ) -> Result<PolicyDocument, AdminError> {
        self.change_document(document, change)
    }

    fn remove_policy_document(
        &self,
        document: &NameSelector,
    ) -> Result<PolicyDocument, AdminError> {
        self.forget_document(document)
    }

    fn approve_hosts(&self, request: &ApproveHosts) -> Result<Vec<ApprovedHost>, AdminError> {
        self.approve_boots(request)
    }

    fn simulate_policies(&self, request: &SimulatePolicies) -> Result<Judgement, AdminError> {
        self.judge_evidence(request)
    }

    fn simulate_for_hosts(
        &self,
        page: &PageQuery,
        trial: &Trial,
    ) -> Result<Vec<Judgement>, AdminError> {
        self.judge_hosts(page, trial)
    }

    fn ek_roots(&self, page: &DigestPageQuery) -> Result<Vec<EkRoot>, AdminError> {
        pages::by_digest(self.ek_roots_now(), page, |root| root.thumbprint.clone())
    }

    fn add_ek_roots(&self, roots: &AddEkRoots) -> Result<Vec<EkRoot>, AdminError> {
        self.trust_ek_roots(roots)
    }

    fn remove_ek_root(&self, thumbprint: &Thumbprint) -> Result<EkRoot, AdminError> {
        self.distrust_ek_root(thumbprint)
    }

    fn removed_hosts(&self, page: &DigestPageQuery) -> Result<Vec<RemovedHost>, AdminError> {
        let state = self.parts.store.state();
        let after = pages::digest(page)?;
        let wanted = pages::page(state.removed_hosts(), page.limit, after, |removed| {
            Digest::from_bytes(*removed.credential.digest())
        })?;
        Ok(wanted.into_iter().map(views::removed_host).collect())
    }

    fn readmit_host(&self, host: &HostSelector) -> Result<RemovedHost, AdminError> {
        let state = self.parts.store.state();
        let by_key = host.as_str().parse().ok().and_then(|digest: Digest| {
            let mut removed = state.removed_hosts();
            removed.find(|removed| removed.credential.digest() == digest.as_bytes())
        });
        let name: HostName = host.as_str().parse().map_err(AdminError::invalid)?;
        let mut of_name = state.removed_hosts().filter(|removed| removed.name == name);
        let found = match (by_key, of_name.next(), of_name.next()) {
            (Some(removed), ..) | (None, Some(removed), None) => removed,
            (None, None, _) => {
                let message = format_args!("no host {host} was removed");
                return Err(not_found(message, "hgs host list --removed"));
            }
            (None, Some(_), Some(_)) => {
                let message = format_args!("several hosts named {host} were removed");
                let error = AdminError::invalid(message);
                return Err(error.with_remedy(
                    "name the host key or the TPM by its digest, which `hgs host list --removed` shows",
                ));
            }
        };
        let credential = found.credential;
        self.transact(Transaction::ReadmitHost { credential })?;
        let state = self.parts.store.state();
        let removed = state.removed_host(&credential);
        removed
            .map(views::removed_host)
            .ok_or_else(|| not_found("the host was registered again meanwhile", "hgs host list"))
    }

    fn denied_hosts(&self, page: &DigestPageQuery) -> Result<Vec<DeniedHost>, AdminError> {
        let state = self.parts.store.state();
        let after = pages::digest(page)?;
        let wanted = pages::page(state.denied_hosts(), page.limit, after, |denied| {
            denied.policy
        })?;
        Ok(wanted.into_iter().map(views::denied_host).collect())
    }

    fn deny_host(&self, denial: &DenyHost) -> Result<DeniedHost, AdminError> {
        let policy = match (&denial.host_key, &denial.identity, &denial.policy_digest) {
            (Some(key), None, None) => {
                let key = CredentialId::HostKey(*given::host_key(key)?.digest());
                Digest::from_bytes(key.policy_digest())
            }
            (None, Some(identity), None) => {
                let (_, key) = given::platform_identity(identity)?;
                let key = CredentialId::EndorsementKey(key.digest());
                Digest::from_bytes(key.policy_digest())
            }
            (None, None, Some(policy)) => policy.parse().map_err(AdminError::invalid)?,
            _ => {
                return Err(AdminError::invalid(
                    "a host is denied by its host key, its platform identity or its policy digest: give one of them",
                ));
            }
        };
        let reason = denial.reason.clone();
        self.transact(Transaction::DenyHost { policy, reason })?;
        let state = self.parts.store.state();
        let denied = state.denied_host(&policy);
        denied
            .map(views::denied_host)
            .ok_or_else(|| not_found("the host was allowed meanwhile", "hgs host list --denied"))
    }

    fn allow_host(&self, policy: &PolicyDigest) -> Result<DeniedHost, AdminError> {
        let policy: Digest = policy.as_str().parse().map_err(AdminError::invalid)?;
        let state = self.parts.store.state();
        let denied = state.denied_host(&policy).map(views::denied_host);
        self.transact(Transaction::AllowHost { policy })?;
        denied.ok_or_else(|| not_found("the host was not denied", "hgs host list --denied"))
    }

    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRecord>, AdminError> {
        pages::check_limit(query.limit)?;
        let limit = query.limit.unwrap_or(AUDIT_LIMIT);
        let records = self
            .parts
            .store
            .audit(&audit::filter(query)?, limit)
            .map_err(unavailable)?
            .into_iter();
        Ok(records.map(views::audit_record).collect())
    }

    fn audit_record(&self, sequence: &u64) -> Result<AuditRecord, AdminError> {
        let record = self
            .parts
            .store
            .audit_record(*sequence)
            .map_err(unavailable)?;
        record.map(views::audit_record).ok_or_else(|| {
            not_found(
                format_args!("there is no audit record {sequence}"),
                "hgs audit list",
            )
        })
    }

    fn events(&self, query: &EventQuery, last: &LastEventId) -> Result<EventStream, AdminError> {
        self.parts.events.follow((self.follower)(), query, *last)
    }

    fn audit_log(&self) -> Result<AuditLog, AdminError> {
        let extent = self.parts.store.audit_extent().map_err(unavailable)?;
        Ok(AuditLog {
            first: extent.first,
            last: extent.last,
            archived: extent.archived,
            digest: extent.digest.map(|digest| digest.to_string()),
        })
    }

    fn archive_records(&self, records: &ArchiveAudit) -> Result<Vec<AuditArchive>, AdminError> {
        let before = given::time(&records.before)?;
        let folder = self.parts.inspection.config.state_folder().join("audit");
        let archived = self
            .parts
            .store
            .archive_audit(&folder, before, self.act())
            .map_err(|failure| {
                error!(%failure, "no archive of the audit log was made");
                AdminError::new(ErrorCode::Unavailable, failure)
            })?;
        let shown = archived.map(|archived| AuditArchive {
            first: archived.first,
            last: archived.last,
            file: archived.file.display().to_string(),
            digest: archived.digest.to_string(),
        });
        Ok(shown.into_iter().collect())
    }

    fn trace(&self) -> Result<Diagnosis<LocalFacts>, AdminError> {
        let mut facts = self.parts.inspection.examine();
        if let (Some(cluster), Some(of_folder)) = (&self.parts.cluster, &mut facts.cluster) {
            of_folder.standing =
                Some(tokio::runtime::Handle::current().block_on(cluster.diagnosed()));
        }
        Ok(Diagnosis(facts))
    }

    fn synthetic_roll(&self) -> Result<Diagnosis<SyntheticRoll>, AdminError> {
        Ok(Diagnosis(self.parts.synthetic_rolls.run(&self.act())))
    }

    fn protectors(&self, query: &ProtectorQuery) -> Result<Vec<Protector>, AdminError> {
        pages::check_limit(query.limit)?;
        let state = self.parts.store.state();
        let wanted = protectors::wanted(&state, query)?;
        let limit = query.limit.unwrap_or(AUDIT_LIMIT);
        let found = self
            .parts
            .store
            .heads(&wanted, limit)
            .map_err(unavailable)?;
        let shown = found.into_iter().map(|one| protectors::shown(&state, one));
        Ok(shown.collect())
    }

    fn protector(&self, protector: &ProtectorDigest) -> Result<ProtectorLineage, AdminError> {
        let digest = protector.as_str().parse().map_err(AdminError::invalid)?;
        let line = self.parts.store.line_of(&digest, protectors::MAX_RELATIVES);
        let line = line.map_err(unavailable)?.ok_or_else(|| {
            not_found(
                format_args!("no protector with the digest {protector} was released here"),
                "hgs audit list --action release",
            )
        })?;
        Ok(protectors::lineage(&self.parts.store.state(), line))
    }

    fn record_export(&self, export: &RecordExport) -> Result<AuditRecord, AdminError> {
        let _: Digest = export.file.parse().map_err(AdminError::invalid)?;
        let after = serde_json::to_value(export).map_err(AdminError::invalid)?;
        let entry = AuditEntry {
            after: Some(after),
            ..self.act().entry(Action::ExportState, Outcome::Done)
        };
        let sequence = self.parts.store.note_waiting(entry);
        self.audit_record(&sequence.map_err(unavailable)?)
    }

    fn new_console_link(&self, link: &NewConsoleLink) -> Result<ConsoleLink, AdminError> {
        self.make_console_link(link)
    }

    fn console_sessions(&self) -> Result<Vec<ConsoleSession>, AdminError> {
        Ok(self.sessions_of_console())
    }

    fn revoke_console_session(&self, session: &HostSelector) -> Result<ConsoleSession, AdminError> {
        self.end_console_session(session)
    }
}

impl AdminHandler<'_> {
    /// What the caller does now.
    fn act(&self) -> Act {
        Act::new(self.parts.clock.now(), self.actor.clone()).by_request(self.request)
    }

    fn snapshot(&self) -> Result<Snapshot, AdminError> {
        let snapshot = self.parts.snapshots.current();
        snapshot.map_err(|failure| AdminError::new(ErrorCode::Unavailable, failure))
    }

    fn transact(&self, transaction: Transaction) -> Result<(), AdminError> {
        self.transact_all(vec![transaction])
    }

    /// All of them, or none. Where there are none, nothing is recorded.
    fn transact_all(&self, transactions: Vec<Transaction>) -> Result<(), AdminError> {
        if transactions.is_empty() {
            return Ok(());
        }
        let committed = self.parts.store.transact(transactions, self.act());
        committed.map(drop).map_err(|failure| match failure {
            Failure::Refused(refusal) => {
                let error = refused::error(&refusal);
                let remedy = match refusal {
                    Refusal::LevelNeeded { .. } => self.level_remedy(),
                    _ => None,
                };
                match remedy {
                    Some(remedy) => error.with_remedy(remedy),
                    None => error,
                }
            }
            Failure::Store(error) => unavailable(error),
        })
    }

    fn shown(&self, id: &HostId) -> Result<Host, AdminError> {
        let state = self.parts.store.state();
        // Another administrator may have been faster.
        let host = state.host(id);
        host.map(views::host)
            .ok_or_else(|| not_found("the host was removed meanwhile", "hgs host list"))
    }

    fn listeners(&self) -> Vec<Listener> {
        let addresses = self.parts.inspection.addresses();
        let tcp = [
            (ListenerName::Http, addresses.http),
            (ListenerName::Https, addresses.https),
            (ListenerName::Metrics, addresses.metrics),
            (ListenerName::Api, addresses.api),
            (ListenerName::Console, addresses.console),
            (
                ListenerName::ConsoleClientCertificates,
                addresses.console_client_certificates,
            ),
        ]
        .into_iter()
        .filter_map(|(name, address)| Some((name, address?.to_string())));
        let admin = addresses
            .admin
            .iter()
            .map(|path| (ListenerName::Admin, path.display().to_string()));
        tcp.chain(admin)
            .map(|(name, address)| Listener { name, address })
            .collect()
    }
}

fn active_signer(state: &State, now: Time) -> Option<Signer> {
    let signers = Signers::at(state, now);
    let active = signers.active()?.thumbprint();
    let mut own = signers.own().iter();
    let (signer, stage) = own.find(|(signer, _)| signer.thumbprint() == active)?;
    Some(views::signer(signer, Some(*stage)))
}

/// By name, or by id: no name is 32 hexadecimal digits by accident, and if one is, the name comes first.
fn find_host<'s>(state: &'s State, selector: &HostSelector) -> Result<&'s StoredHost, AdminError> {
    let name: HostName = selector.as_str().parse().map_err(AdminError::invalid)?;
    let by_id = || state.host(&selector.as_str().parse().ok()?);
    let host = state.host_by_name(&name).or_else(by_id);
    host.ok_or_else(|| not_found(format_args!("there is no host {selector}"), "hgs host list"))
}

fn not_found(message: impl ToString, listing: &str) -> AdminError {
    let remedy = format!("`{listing}` shows what there is");
    AdminError::new(ErrorCode::NotFound, message).with_remedy(remedy)
}

fn unavailable(failure: StoreError) -> AdminError {
    error!(%failure, "the store did not do what an administrator asked for");
    AdminError::new(ErrorCode::Unavailable, failure)
}
