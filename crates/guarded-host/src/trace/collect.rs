//! The facts of a host. Nothing is made that is not there, not even the state folder.

use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::host_key::PublicForm;
use hgs_client::probe::Probe;
use hgs_client::status::Status;
use hgs_client::url::Url;
use hgs_client::{Environment, Error, Folders, GuardedHost};
use hgs_clock::{Clock as _, SystemClock};
use hgs_crypto::hex;
use hgs_trace::host::{Attempt, Facts, HealthCertificate, Service};
use hgs_trace::{Observed, PathFacts, PathKind, Problem};

use super::Target;

/// Looks at the host with these folders, and at the services that guard it or that are the target.
pub(super) async fn facts(folders: &Folders, target: Option<&Target>) -> Facts {
    let state_folder = PathFacts::at(&folders.state);
    let exists = state_folder.kind == PathKind::Folder;
    let mut facts = Facts {
        time: SystemClock.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        user: rustix::process::geteuid().as_raw(),
        configuration: Ok(false),
        host_key_file: PathFacts::at(&folders.host_key()),
        host_key: None,
        services: Vec::new(),
        tpm: None,
        last_attempt: None,
        warnings: Vec::new(),
        state_folder,
    };
    let host = match GuardedHost::open(folders.clone()) {
        Ok(host) => host,
        Err(error) => {
            facts.configuration = Err(problem(&error));
            return facts;
        }
    };
    let status = exists.then(|| host.status().ok()).flatten();
    if exists && facts.host_key_file.kind == PathKind::File {
        facts.host_key = Some(host_key(&host));
    }
    let configured = match host.configuration() {
        Configuration::Local => None,
        Configuration::HostGuardianService(services) => Some(services.clone()),
    };
    facts.configuration = Ok(configured.is_some());
    if let Some(services) = services(configured, target) {
        facts.services = look_at(&services, status.as_ref()).await;
    }
    if attests_by_tpm(&facts, status.as_ref()) || folders.endorsement_key().exists() {
        facts.tpm = host.examine_tpm().ok();
    }
    if let Some(status) = status {
        facts.last_attempt = status.last_attempt.map(|attempt| Attempt {
            url: attempt.url,
            message: attempt.message,
            remedy: attempt.remedy,
        });
        let warnings = status.warnings.into_iter();
        facts.warnings = warnings
            .map(|warning| Problem::new(warning.message).with_remedy(Some(warning.remedy)))
            .collect();
    }
    facts
}

/// Whether a service says that it attests by TPM, or said so the last time.
fn attests_by_tpm(facts: &Facts, status: Option<&Status>) -> bool {
    let mut modes = facts.services.iter().filter_map(|service| {
        let mode = service.attestation_mode.as_ref()?;
        mode.as_deref().ok()
    });
    let last = status.and_then(|status| status.attestation_operation_mode.as_deref());
    modes.any(|mode| mode == "Tpm") || last == Some("Tpm")
}

/// The services that are looked at.
fn services(configured: Option<Services>, target: Option<&Target>) -> Option<Services> {
    match target {
        None => configured,
        Some(Target::Local) => None,
        Some(Target::Url(endpoints)) => Some(Services {
            primary: endpoints.clone(),
            fallback: None,
            certificate_authorities: configured.and_then(|all| all.certificate_authorities),
            dangerous_accept_unsigned_responses: false,
        }),
    }
}

/// The digest of the host key, once it has signed something that verifies.
fn host_key(host: &GuardedHost) -> Observed<String> {
    let key = host.host_key().map_err(|error| problem(&error))?;
    let signed = key.export(PublicForm::Certificate, "trace", host.now());
    signed.map_err(|error| Problem::of(&error))?;
    Ok(hex::encode(key.public().digest()))
}

async fn look_at(services: &Services, status: Option<&Status>) -> Vec<Service> {
    let authorities = services.certificate_authorities.as_deref();
    let probe = Probe::new(authorities, Environment::default());
    let mut found = nodes(&probe, "primary", &services.primary, status).await;
    if let Some(fallback) = &services.fallback {
        found.extend(nodes(&probe, "fallback", fallback, status).await);
    }
    found
}

/// One after the other. Where a service has fewer URLs than the other, its last stands for the rest.
async fn nodes(
    probe: &Probe,
    side: &str,
    endpoints: &Endpoints,
    status: Option<&Status>,
) -> Vec<Service> {
    let Endpoints {
        attestation,
        key_protection,
    } = endpoints;
    let held = status.and_then(|status| held(status, &attestation.first().to_string()));
    let (attestation, key_protection): (Vec<_>, Vec<_>) = (
        attestation.iter().collect(),
        key_protection.iter().collect(),
    );
    let count = attestation.len().max(key_protection.len());
    let mut found = Vec::new();
    for node in 0..count {
        let url = |urls: &[&'_ Url]| urls[node.min(urls.len() - 1)].clone();
        let (attestation, key_protection) = (url(&attestation), url(&key_protection));
        found.push(Service {
            health_certificate: held.clone(),
            ..service(probe, side, &attestation, &key_protection).await
        });
    }
    found
}

async fn service(probe: &Probe, side: &str, attestation: &Url, key_protection: &Url) -> Service {
    let mut service = Service {
        side: side.to_owned(),
        attestation: probe.reach_attestation(attestation).await,
        key_protection: probe.reach_key_protection(key_protection).await,
        attestation_mode: None,
        metadata: None,
        signing_certificates: None,
        health_certificate: None,
    };
    if service.attestation.is_open() {
        service.attestation_mode = Some(probe.attestation_mode(attestation).await);
        service.signing_certificates = Some(probe.signing_certificates(attestation).await);
    }
    if service.key_protection.is_open() {
        let metadata = probe.metadata(key_protection).await;
        let signing = metadata.map(|metadata| {
            let guardian = metadata.unverified();
            guardian.signing_certificate().thumbprint().to_string()
        });
        service.metadata = Some(signing);
    }
    service
}

/// The certificate for encryption that the service at `attestation` has issued.
fn held(status: &Status, attestation: &str) -> Option<HealthCertificate> {
    let mut certificates = status.health_certificates.iter();
    let held = certificates
        .find(|held| held.kind == "encryption" && held.attestation_url == attestation)?;
    Some(HealthCertificate {
        serial_number: held.serial_number.clone(),
        expires: held.expires.parse().ok()?,
        renewed_from: held.renewed_from.parse().ok()?,
    })
}

fn problem(error: &Error) -> Problem {
    Problem::of(error).with_remedy(error.remedy())
}
