//! The operations, each declared once.
//!
//! A declaration reads: documentation; method, path and permission; then the method of [`Administration`] with its
//! arguments, each with the place where it travels (`path`, `query`, `last_event_id` for that header, `body`, or
//! `body_with_key` for a body that a private key may follow), and its answer.

use hgs_pki::Thumbprint;
use hgs_trace::guardian::{LocalFacts, SyntheticRoll};
use hyper::Method;
use schemars::SchemaGenerator;

use crate::call::{Answer, Answered, Call, LastEventId, Outgoing};
use crate::describe::Description;
use crate::event_stream::EventStream;
use crate::path::is_plain;
use crate::types::{
    AddCertificate, AddEkRoots, AddHost, AddHosts, AddPolicyDocument, AddSigner, AddedCertificate,
    ApproveHosts, ApprovedHost, ArchiveAudit, AuditArchive, AuditLog, AuditQuery, AuditRecord,
    Certificate, CertificateDetail, CertificateUsage, ChangePolicyDocument, Cluster, ConsoleLink,
    ConsoleSession, DeniedHost, DenyHost, Diagnosis, EkRoot, EventQuery, GuardianDocument, Host,
    HostDetail, HostEvidence, HostGroup, HostMeasurements, InviteNode, Judgement, NewCertificate,
    NewConsoleLink, NewHostGroup, NodeInvitation, Policy, PolicyDocument, PolicyDocumentDetail,
    PolicyQuery, Protector, ProtectorLineage, ProtectorQuery, RecordExport, RemoveCertificate,
    RemovedHost, RevokeHost, RotateCertificates, RotatedCertificates, ServerSettings,
    SetCertificate, SetHost, SetHostMeasurements, SetPolicy, SetServer, SetSigner, Signer,
    SimulatePolicies, Status, Trial,
};
use crate::types::{DigestPageQuery, HostQuery, PageQuery};
use crate::{
    AdminError, Caller, Client, HostSelector, NameSelector, NodeSelector, Permission, PolicyDigest,
    ProtectorDigest, SignerSelector, WithKey,
};

/// What is declared about an operation.
#[derive(Debug)]
pub struct Operation {
    /// The name of its method in [`Administration`], also in logs, metrics and as `operationId`.
    pub name: &'static str,
    /// The method of its requests.
    pub method: Method,
    /// The path of its requests. One segment may stand for one thing among many; it is written in braces.
    pub path: &'static str,
    /// What a caller must be permitted.
    pub permission: Permission,
    /// What it does, for people.
    pub documentation: &'static str,
    pub(crate) describe: fn(Description<'_>) -> Description<'_>,
    pub(crate) perform: fn(&dyn Administration, &Call<'_>) -> Result<Answer, AdminError>,
}

/// An [`Administration`] for callers within the server, who ask by other ways than requests for operations: it does what the
/// caller is permitted.
#[derive(Clone, Copy)]
pub struct Permitted<'a> {
    caller: &'a Caller,
    administration: &'a dyn Administration,
}

impl<'a> Permitted<'a> {
    /// What `administration` does for `caller`.
    #[must_use]
    pub fn new(caller: &'a Caller, administration: &'a dyn Administration) -> Self {
        Self {
            caller,
            administration,
        }
    }

    /// Refuses a caller that does not have `permission`.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`](crate::ErrorCode::Forbidden).
    pub fn require(&self, permission: Permission) -> Result<(), AdminError> {
        self.caller.require(permission)
    }
}

impl std::fmt::Debug for Permitted<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Permitted({})", self.caller.identity)
    }
}

/// What a method and a path lead to.
#[derive(Debug)]
pub enum RouteMatch<'p> {
    /// An operation, and the segment of the path that stands for one thing.
    Operation(&'static Operation, &'p str),
    /// The path is right, the method is not: these are.
    OtherMethods(Vec<&'static Method>),
    /// Nothing.
    Nothing,
}

/// Finds the operation of a request. Paths match octet by octet; nothing is decoded (attacks.md K11). A path that is declared
/// word for word is never taken for one with something in the place of braces, whatever the method: so OpenAPI reads paths.
#[must_use]
pub fn find<'p>(method: &Method, path: &'p str) -> RouteMatch<'p> {
    let mut at_path: Vec<_> = OPERATIONS
        .all()
        .into_iter()
        .filter_map(|operation| Some((operation, operation.segment_of(path)?)))
        .collect();
    if at_path.iter().any(|(found, _)| found.path == path) {
        at_path.retain(|(found, _)| found.path == path);
    }
    match at_path.iter().find(|(found, _)| found.method == *method) {
        Some((operation, segment)) => RouteMatch::Operation(operation, segment),
        None if at_path.is_empty() => RouteMatch::Nothing,
        None => RouteMatch::OtherMethods(at_path.iter().map(|(found, _)| &found.method).collect()),
    }
}

impl Operation {
    /// What the declaration says about the arguments and the answer, as JSON schemas.
    pub(crate) fn description<'g>(&self, generator: &'g mut SchemaGenerator) -> Description<'g> {
        (self.describe)(Description::new(generator))
    }

    /// Checks the permission of `caller`, has `administration` carry out the call, and returns the answer.
    ///
    /// # Errors
    /// [`ErrorCode::Forbidden`](crate::ErrorCode::Forbidden),
    /// [`ErrorCode::InvalidRequest`](crate::ErrorCode::InvalidRequest), and all that the operation itself reports.
    pub fn answer(
        &self,
        caller: &Caller,
        administration: &dyn Administration,
        call: &Call<'_>,
    ) -> Result<Answer, AdminError> {
        caller.require(self.permission)?;
        (self.perform)(administration, call)
    }

    /// The path with `segment` in the place of the braces.
    #[must_use]
    pub fn path_for(&self, segment: &str) -> String {
        match (self.path.find('{'), self.path.find('}')) {
            (Some(start), Some(end)) => {
                [&self.path[..start], segment, &self.path[end + 1..]].concat()
            }
            _ => self.path.to_owned(),
        }
    }

    /// Whether `segment`, in the place of the braces, leads here, and is no word that another path has there.
    #[must_use]
    pub fn is_reached_by(&self, segment: &str) -> bool {
        let path = self.path_for(segment);
        let found = find(&self.method, &path);
        matches!(found, RouteMatch::Operation(found, _) if found.path == self.path)
    }

    /// The segment that stands for one thing, if `path` is a path of this operation.
    fn segment_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut found = "";
        let mut segments = path.split('/');
        for expected in self.path.split('/') {
            let segment = segments.next()?;
            if expected.starts_with('{') {
                found = is_plain(segment).then_some(segment)?;
            } else if expected != segment {
                return None;
            }
        }
        segments.next().is_none().then_some(found)
    }
}

macro_rules! operations {
    ($(
        $(#[doc = $line:literal])+
        $method:ident $path:literal ($permission:ident)
        fn $name:ident($($place:ident $argument:ident: $type:ty),*) -> $answer:ty;
    )+) => {
        /// Everything that callers can ask for. Calls block. An error is an [`AdminError`], whose code says of what
        /// kind it is.
        pub trait Administration {
            $(
                $(#[doc = $line])+
                #[allow(clippy::missing_errors_doc, reason = "said once, above")]
                fn $name(&self $(, $argument: &$type)*) -> Result<$answer, AdminError>;
            )+
        }

        /// Asks the server.
        impl Administration for Client {
            $(
                fn $name(&self $(, $argument: &$type)*) -> Result<$answer, AdminError> {
                    let outgoing = Outgoing::default()$(.$place($argument)?)*;
                    let path = OPERATIONS.$name.path_for(&outgoing.segment);
                    let outgoing = Outgoing { path, ..outgoing };
                    <$answer>::of(self, &OPERATIONS.$name.method, outgoing)
                }
            )+
        }

        /// Checks the permission of a caller before each operation.
        impl Administration for Permitted<'_> {
            $(
                fn $name(&self $(, $argument: &$type)*) -> Result<$answer, AdminError> {
                    self.caller.require(OPERATIONS.$name.permission)?;
                    self.administration.$name($($argument),*)
                }
            )+
        }

        /// Every operation, by the name of its method.
        #[derive(Debug)]
        pub struct Operations {
            $(
                $(#[doc = $line])+
                pub $name: Operation,
            )+
        }

        /// The operations.
        pub static OPERATIONS: Operations = Operations {
            $(
                $name: Operation {
                    name: stringify!($name),
                    method: Method::$method,
                    path: $path,
                    permission: Permission::$permission,
                    documentation: concat!($($line, "\n"),+),
                    describe: |description| {
                        <$answer>::describe(description$(.$place::<$type>(stringify!($argument)))*)
                    },
                    perform: |administration, call| {
                        let _ = call;
                        $(let $argument: $type = call.$place()?;)*
                        administration.$name($(&$argument),*).map(Answered::into_answer)
                    },
                },
            )+
        };

        impl Operations {
            /// All of them, in the order of their declaration.
            #[must_use]
            pub fn all(&'static self) -> Vec<&'static Operation> {
                vec![$(&self.$name),+]
            }
        }
    };
}

operations! {
    /// The name, version, addresses, primary certificates and attestation signer, how many hosts there are, and what
    /// needs attention.
    GET "/v1/status" (ViewService)
    fn status() -> Status;

    /// The settings in effect, the listeners, and the communications certificate.
    GET "/v1/server" (ViewService)
    fn server() -> ServerSettings;

    /// Changes the settings that are part of the state; all of them or none.
    PATCH "/v1/server" (ManageService)
    fn set_server(body change: SetServer) -> ServerSettings;

    /// The cluster that this guardian is a node of, and how its nodes stand.
    GET "/v1/cluster" (ViewService)
    fn cluster() -> Cluster;

    /// Makes an invitation for one more node. It holds for a quarter of an hour, for one node, and as long as this server
    /// runs.
    POST "/v1/cluster/invitations" (ManageService)
    fn invite_node(body request: InviteNode) -> NodeInvitation;

    /// Removes another node from the cluster; it can write nothing from then on. Answers with the nodes that remain.
    DELETE "/v1/cluster/nodes/{node}" (ManageService)
    fn remove_node(path node: NodeSelector) -> Cluster;

    /// The guardian's certificates: signing, encryption, communications; or a page of them, in the order of thumbprints.
    GET "/v1/certificates" (ViewCertificates)
    fn certificates(query page: DigestPageQuery) -> Vec<Certificate>;

    /// One certificate, with its PEM.
    GET "/v1/certificates/{thumbprint}" (ViewCertificates)
    fn certificate(path thumbprint: Thumbprint) -> CertificateDetail;

    /// For each signing and encryption certificate, how many protectors it was the last to open, and when it last
    /// opened the first and the last of them.
    GET "/v1/certificate-usage" (ViewCertificates)
    fn certificate_usage() -> Vec<CertificateUsage>;

    /// The head of a certificate's lineage as a guardian's document, which owners import. Both keys of the head sign it
    /// now.
    GET "/v1/certificates/{thumbprint}/guardian" (ViewCertificates)
    fn guardian_document(path thumbprint: Thumbprint) -> GuardianDocument;

    /// Adds an existing certificate. Its software key follows the JSON in the body.
    POST "/v1/certificates" (ManageCertificates)
    fn add_certificate(body_with_key certificate: WithKey<AddCertificate>) -> AddedCertificate;

    /// Makes a key and a self-signed certificate over it.
    POST "/v1/certificates/new" (ManageCertificates)
    fn new_certificate(body certificate: NewCertificate) -> AddedCertificate;

    /// Makes a signing and an encryption certificate over new keys, and makes both the heads of their lineage (the
    /// fabric's: primary), all of it or nothing. The former heads stay enabled.
    POST "/v1/certificates/rotate" (ManageCertificates)
    fn rotate_certificates(body rotation: RotateCertificates) -> RotatedCertificates;

    /// Makes a certificate primary or the head of its lineage, changes its label, or marks it as compromised; of
    /// several changes all or none.
    PATCH "/v1/certificates/{thumbprint}" (ManageCertificates)
    fn set_certificate(path thumbprint: Thumbprint, body change: SetCertificate) -> Certificate;

    /// Lets a disabled certificate open protectors and sign again.
    POST "/v1/certificates/{thumbprint}/enable" (ManageCertificates)
    fn enable_certificate(path thumbprint: Thumbprint) -> Certificate;

    /// Stops a certificate from opening protectors and signing. A tenant's head stops being the head.
    POST "/v1/certificates/{thumbprint}/disable" (ManageCertificates)
    fn disable_certificate(path thumbprint: Thumbprint) -> Certificate;

    /// Bars a certificate from ever becoming a head again. It still opens protectors and signs.
    POST "/v1/certificates/{thumbprint}/retire" (ManageCertificates)
    fn retire_certificate(path thumbprint: Thumbprint) -> Certificate;

    /// Removes a certificate and its software key. Answers with what was removed.
    DELETE "/v1/certificates/{thumbprint}" (ManageCertificates)
    fn remove_certificate(path thumbprint: Thumbprint, query options: RemoveCertificate) -> Certificate;

    /// The signers of health certificates, the guardian's own first; or a page of them, in the order of thumbprints.
    GET "/v1/signers" (ViewSigners)
    fn signers(query page: DigestPageQuery) -> Vec<Signer>;

    /// Trusts the signer of another cluster.
    POST "/v1/signers" (ManageSigners)
    fn add_signer(body signer: AddSigner) -> Signer;

    /// Changes which health certificates of a signer, or of `all` signers, are accepted. Answers with the signers that
    /// were changed.
    PATCH "/v1/signers/{signer}" (ManageSigners)
    fn set_signer(path signer: SignerSelector, body change: SetSigner) -> Vec<Signer>;

    /// One of the guardian's own signers signs no more. What it signed is accepted until it ends, and another one takes over
    /// at once.
    POST "/v1/signers/{signer}/retire" (ManageSigners)
    fn retire_signer(path signer: Thumbprint) -> Signer;

    /// Removes a signer, whose health certificates are refused from then on. A signer of the guardian's own is replaced
    /// at once.
    DELETE "/v1/signers/{signer}" (ManageSigners)
    fn remove_signer(path signer: Thumbprint) -> Signer;

    /// The hosts, by name: all, or a page of them.
    GET "/v1/hosts" (ViewHosts)
    fn hosts(query query: HostQuery) -> Vec<Host>;

    /// One host, by name or id, with its host key or TPM and its identity keys.
    GET "/v1/hosts/{host}" (ViewHosts)
    fn host(path host: HostSelector) -> HostDetail;

    /// Registers a host, which can attest from then on. With a group, or without an EK certificate, the caller needs the
    /// permission manage-policies as well.
    POST "/v1/hosts" (ManageHosts)
    fn add_host(body host: AddHost) -> Host;

    /// Registers up to 100 hosts, all of them or none. It needs what registering each of them needs.
    POST "/v1/hosts/bulk" (ManageHosts)
    fn add_hosts(body hosts: AddHosts) -> Vec<Host>;

    /// Moves a host into another group.
    PATCH "/v1/hosts/{host}" (ManagePolicies)
    fn set_host(path host: HostSelector, body change: SetHost) -> Host;

    /// The last evidence of a host with a TPM: what it sent about its boot, and what its TPM proved.
    GET "/v1/hosts/{host}/evidence" (ViewHosts)
    fn host_evidence(path host: HostSelector) -> HostEvidence;

    /// What only this host measures.
    GET "/v1/hosts/{host}/measurements" (ViewPolicies)
    fn host_measurements(path host: HostSelector) -> HostMeasurements;

    /// Says what only this host measures.
    PATCH "/v1/hosts/{host}/measurements" (ManagePolicies)
    fn set_host_measurements(path host: HostSelector, body change: SetHostMeasurements) -> HostMeasurements;

    /// Revokes a host: it gets no health certificate and no key from its next request on. Its record stays.
    POST "/v1/hosts/{host}/revoke" (ManageHosts)
    fn revoke_host(path host: HostSelector, body revocation: RevokeHost) -> Host;

    /// Removes a host, which gets no health certificate and no key from then on. Answers with what was removed.
    DELETE "/v1/hosts/{host}" (RemoveHosts)
    fn remove_host(path host: HostSelector) -> Host;

    /// The groups of hosts, the default group first.
    GET "/v1/host-groups" (ViewHosts)
    fn host_groups() -> Vec<HostGroup>;

    /// Makes a group of hosts, which follows the default group until something is set for it.
    POST "/v1/host-groups" (ManagePolicies)
    fn new_host_group(body group: NewHostGroup) -> HostGroup;

    /// Removes a group that has no hosts. Answers with what was removed.
    DELETE "/v1/host-groups/{group}" (ManagePolicies)
    fn remove_host_group(path group: NameSelector) -> HostGroup;

    /// The policies and documents, as they are set for a group.
    GET "/v1/policies" (ViewPolicies)
    fn policies(query query: PolicyQuery) -> Vec<Policy>;

    /// Enables a policy or a document for a group.
    POST "/v1/policies/{policy}/enable" (ManagePolicies)
    fn enable_policy(path policy: NameSelector, body change: SetPolicy) -> Policy;

    /// Disables a policy or a document for a group.
    POST "/v1/policies/{policy}/disable" (ManagePolicies)
    fn disable_policy(path policy: NameSelector, body change: SetPolicy) -> Policy;

    /// Has a policy or a document for a group as it is in the default group, or there as it is by itself.
    POST "/v1/policies/{policy}/reset" (ManagePolicies)
    fn reset_policy(path policy: NameSelector, body change: SetPolicy) -> Policy;

    /// The documents that measurements are compared with, by name. `after` takes a name.
    GET "/v1/policy-documents" (ViewPolicies)
    fn policy_documents(query page: PageQuery) -> Vec<PolicyDocument>;

    /// One document in full.
    GET "/v1/policy-documents/{document}" (ViewPolicies)
    fn policy_document(path document: NameSelector) -> PolicyDocumentDetail;

    /// Adds a document and enables it for a group.
    POST "/v1/policy-documents" (ManagePolicies)
    fn add_policy_document(body document: AddPolicyDocument) -> PolicyDocument;

    /// Replaces a document.
    PATCH "/v1/policy-documents/{document}" (ManagePolicies)
    fn change_policy_document(path document: NameSelector, body change: ChangePolicyDocument) -> PolicyDocument;

    /// Removes a document. Answers with what was removed.
    DELETE "/v1/policy-documents/{document}" (ManagePolicies)
    fn remove_policy_document(path document: NameSelector) -> PolicyDocument;

    /// The authorities that vouch for TPMs, by subject; or a page of them, in the order of thumbprints.
    GET "/v1/ek-roots" (ViewHosts)
    fn ek_roots(query page: DigestPageQuery) -> Vec<EkRoot>;

    /// Trusts authorities to vouch for TPMs. Answers with those that were not known before.
    POST "/v1/ek-roots" (ManagePolicies)
    fn add_ek_roots(body roots: AddEkRoots) -> Vec<EkRoot>;

    /// Trusts an authority no longer. Hosts that were registered stay registered. Answers with what was removed.
    DELETE "/v1/ek-roots/{thumbprint}" (ManagePolicies)
    fn remove_ek_root(path thumbprint: Thumbprint) -> EkRoot;

    /// Makes what hosts booted last an alternative of their baseline, or their own: all of it or nothing. Answers with what was
    /// approved, by host.
    POST "/v1/approvals" (ApproveEvidence)
    fn approve_hosts(body approval: ApproveHosts) -> Vec<ApprovedHost>;

    /// Judges the measurements of a boot without a host that attests.
    POST "/v1/simulations" (Simulate)
    fn simulate_policies(body evidence: SimulatePolicies) -> Judgement;

    /// Judges the last evidence of every host with a TPM, by name: of all, or of a page of them. `after` takes a name.
    POST "/v1/simulations/hosts" (Simulate)
    fn simulate_for_hosts(query page: PageQuery, body trial: Trial) -> Vec<Judgement>;

    /// The hosts that were removed, by the digest of their host key or endorsement key, which `after` takes.
    GET "/v1/removed-hosts" (ViewHosts)
    fn removed_hosts(query page: DigestPageQuery) -> Vec<RemovedHost>;

    /// Lets the host key or TPM of a removed host, by its name or the key's digest, be registered again. The identity keys that
    /// it had stay superseded.
    POST "/v1/removed-hosts/{host}/readmit" (RemoveHosts)
    fn readmit_host(path host: HostSelector) -> RemovedHost;

    /// The hosts of other clusters that get no keys here, by policy digest, which `after` takes.
    GET "/v1/denied-hosts" (ViewHosts)
    fn denied_hosts(query page: DigestPageQuery) -> Vec<DeniedHost>;

    /// Denies keys to a host of another cluster, whichever signer signs its health certificates.
    POST "/v1/denied-hosts" (RemoveHosts)
    fn deny_host(body denial: DenyHost) -> DeniedHost;

    /// Denies a host no longer, by its policy digest. Answers with what the denial was.
    DELETE "/v1/denied-hosts/{policy}" (RemoveHosts)
    fn allow_host(path policy: PolicyDigest) -> DeniedHost;

    /// The newest protector of each line that came back, the last released first: so every VM that was started or moved here,
    /// and where it was last.
    GET "/v1/protectors" (ViewAudit)
    fn protectors(query query: ProtectorQuery) -> Vec<Protector>;

    /// One protector, what it was made from, and what was made from it and never came back.
    GET "/v1/protectors/{protector}" (ViewAudit)
    fn protector(path protector: ProtectorDigest) -> ProtectorLineage;

    /// Records that the state was exported to an encrypted file. The program that exports reads the state itself;
    /// nothing of the state travels here. If this fails, the file must not be kept.
    POST "/v1/exports" (ManageState)
    fn record_export(body export: RecordExport) -> AuditRecord;

    /// The newest audit records that match, newest first.
    GET "/v1/audit" (ViewAudit)
    fn audit(query query: AuditQuery) -> Vec<AuditRecord>;

    /// One audit record, by its number.
    GET "/v1/audit/{sequence}" (ViewAudit)
    fn audit_record(path sequence: u64) -> AuditRecord;

    /// Events as they happen, until the client, the server or the end of the caller's rights ends it: first whether this node is ready
    /// and which certificates are about to expire, then what was recorded after `since`, then what follows. A caller sees
    /// [the kinds](#events) that it is permitted to see.
    GET "/v1/events" (ViewService)
    fn events(query query: EventQuery, last_event_id last: LastEventId) -> EventStream;

    /// How much of the audit log is in the database, and what is in archives.
    GET "/v1/audit-log" (ViewAudit)
    fn audit_log() -> AuditLog;

    /// Moves the oldest records of the audit log to a file in the folder `audit` of the state folder, 20,000 at most.
    /// Answers with the archive, or with nothing where no such record is left in the database.
    POST "/v1/archives" (ManageState)
    fn archive_records(body records: ArchiveAudit) -> Vec<AuditArchive>;

    /// What only the guardian itself can see of itself, for `hgs trace`. Every private key in use is asked to work.
    GET "/v1/trace" (Diagnose)
    fn trace() -> Diagnosis<LocalFacts>;

    /// Has the keys of a synthetic host released to it and a tampered protector refused, within the service and by the
    /// functions that decide for hosts. A roll that fails is an answer. It leaves audit records and changes nothing.
    POST "/v1/trace/roll" (Diagnose)
    fn synthetic_roll() -> Diagnosis<SyntheticRoll>;

    /// Makes a link that signs its first user in to the console, as the caller and with what the caller is permitted. It
    /// holds for a minute. The last part of the link is a secret that the client draws; only its digest is sent.
    POST "/v1/console/links" (UseConsole)
    fn new_console_link(body link: NewConsoleLink) -> ConsoleLink;

    /// Who is signed in to the console of this node, the newest first.
    GET "/v1/console/sessions" (ViewService)
    fn console_sessions() -> Vec<ConsoleSession>;

    /// Ends a session of the console at once. Answers with what was ended.
    DELETE "/v1/console/sessions/{session}" (ManageSessions)
    fn revoke_console_session(path session: HostSelector) -> ConsoleSession;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> Option<(&'static str, String)> {
        match find(&method, path) {
            RouteMatch::Operation(operation, segment) => Some((operation.name, segment.to_owned())),
            _ => None,
        }
    }

    #[test]
    fn every_operation_is_found_at_its_own_path() {
        for operation in OPERATIONS.all() {
            let segment = match operation.path.contains('{') {
                true => "node-1",
                false => "",
            };
            let found = found(operation.method.clone(), &operation.path_for("node-1"));
            assert_eq!(found, Some((operation.name, segment.to_owned())));
        }
    }

    #[test]
    fn only_what_changes_nothing_is_read_with_get() {
        for operation in OPERATIONS.all() {
            let reads = operation.method == Method::GET;
            let tries = matches!(
                operation.permission,
                Permission::Diagnose | Permission::Simulate | Permission::UseConsole
            );
            assert!(
                operation.permission.changes_state() != reads || tries,
                "{}",
                operation.name
            );
        }
    }

    /// What is no value of an enumeration does not reach the method.
    #[test]
    fn a_body_with_another_kind_is_refused() {
        for body in [
            r#"{"kind":"tls"}"#,
            r#"{"kind":"signing","bit":2048}"#,
            "{}",
            "[",
        ] {
            let call = Call {
                segment: "",
                query: "",
                body: body.as_bytes(),
                last_event_id: None,
                may_have_key: true,
            };
            let refused = call.body::<NewCertificate>().unwrap_err();
            assert_eq!(refused.code, crate::ErrorCode::InvalidRequest, "{body}");
        }
    }

    /// attacks.md K10: where the audit log goes is not the API's business; the log is in the store, and only read from here.
    #[test]
    fn k10_the_audit_log_is_only_read() {
        for operation in OPERATIONS.all() {
            if operation.path.contains("audit") || operation.name.contains("audit") {
                assert_eq!(operation.method, Method::GET, "{}", operation.name);
                assert_eq!(operation.permission, Permission::ViewAudit);
            }
        }
    }

    /// attacks.md K11: there is one spelling of each path.
    #[test]
    fn k11_other_spellings_lead_nowhere() {
        for path in [
            "/V1/hosts",
            "/v1/hosts/",
            "/v1//hosts",
            "/v1/hosts/a/",
            "/v1/hosts/a%2fb",
            "/v1/hosts/%61",
            "/v1/hosts/..",
            "/v1/hosts/.",
            "/v1/hosts/a/../b",
            "/v1/hosts/a b",
            "/v1/hosts/*",
            "/v1/hosts/{host}",
            "/v1/hosts/a/revoke/b",
            "/v1/certificates/a/b",
            "v1/hosts",
            "/v1",
            "/",
            "",
        ] {
            assert!(found(Method::GET, path).is_none(), "{path}");
        }
        let other = find(&Method::PUT, "/v1/hosts");
        assert!(
            matches!(other, RouteMatch::OtherMethods(methods) if methods == [&Method::GET, &Method::POST])
        );
    }

    /// What is declared word for word is nobody's name: with another method, its own methods are told.
    #[test]
    fn a_path_word_for_word_is_no_path_with_a_name_in_it() {
        for operation in OPERATIONS.all() {
            let declared = OPERATIONS.all().into_iter();
            let declared = declared.filter(|one| one.path == operation.path);
            let declared: Vec<_> = declared.map(|one| &one.method).collect();
            let path = operation.path_for("node-1");
            for method in [
                Method::GET,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ] {
                match find(&method, &path) {
                    RouteMatch::Operation(found, _) => assert_eq!(found.path, operation.path),
                    RouteMatch::OtherMethods(others) => assert_eq!(others, declared),
                    RouteMatch::Nothing => panic!("{path} is a path"),
                }
            }
        }
        let other = find(&Method::GET, "/v1/hosts/bulk");
        assert!(matches!(other, RouteMatch::OtherMethods(methods) if methods == [&Method::POST]));
    }
}
