//! The scenario, step by step.

use std::sync::Arc;

use hgs_admin::types::{AddHost, RevokeHost};
use hgs_admin::{AdminError, Administration as _, Client};
use hgs_attest::Code as AttestationCode;
use hgs_attest::client::AttestationFailure;
use hgs_client::sealed_file::{self, SealedAnew};
use hgs_client::service::{Cause, Sides};
use hgs_client::{Error, KeyProtectionFailure, Unwrapped};
use hgs_clock::{Clock as _, SystemClock};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_kps::{Code, ServiceVersion};
use hgs_pki::health::HealthKind;
use hgs_pki::{CertificateCache, SignatureCache, Thumbprint};
use hgs_protector::metadata::{Expired, Metadata, Trust};
use hgs_protector::{GuardianCertificates, VerifiedProtector};
use hgs_server::{Config, InitOptions, KeySize, Running};
use hgs_terminal::{AtFault, Failure};
use hgs_vm::parts::Parts;

use super::failed;
use super::folder::Folder;
use super::participants::{Host, Owner, Urls, guardian_configuration};
use super::progress::Progress;
use super::token::Token;
use super::{Attestation, tpm, vm};
use crate::failures::OrFail as _;

/// Octets of the secret: as many as the state of a virtual TPM has.
const SECRET_LENGTH: usize = 128 * 1024;

/// Runs the whole scenario.
pub(super) async fn tell(
    progress: &Progress<'_>,
    folder: &Folder,
    token: Option<&Token>,
    attestation: Attestation,
    vms: Option<&Parts>,
) -> Result<(), Failure> {
    let mut config = guardian_configuration(folder.work());
    if let Some(token) = token {
        config.pkcs11 = token.configuration();
    }
    let thumbprint = progress
        .step("guardian-initialise", initialise(&config, token))
        .await?;
    let (guardian, urls) = progress.step("guardian-start", start(&config)).await?;

    let told = match (vms, attestation) {
        (Some(parts), _) => {
            vm::shielded_machine(progress, folder, &guardian, &urls, thumbprint, parts).await
        }
        (None, Attestation::HostKey) => {
            shielded_machine(progress, folder, &guardian, &urls, thumbprint).await
        }
        (None, Attestation::Tpm) => {
            tpm::shielded_machine(progress, folder, &guardian, &urls, thumbprint).await
        }
    };
    if let Err(failure) = told {
        // The failure that is told is the first one.
        let _ = guardian.shutdown().await;
        return Err(failure);
    }
    progress.step("guardian-stop", stop(guardian)).await
}

async fn initialise(
    config: &Config,
    token: Option<&Token>,
) -> Result<(Thumbprint, String), Failure> {
    let mut options = InitOptions {
        new_keys: true,
        key_size: KeySize::Rsa2048,
        ..InitOptions::default()
    };
    if let Some(token) = token {
        options.signing = token.key("signing");
        options.encryption = token.key("encryption");
    }
    let initialised = hgs_server::initialise(config, options, SystemClock.now()).or_fail()?;
    let thumbprint = initialised.signing.thumbprint();
    let keys = match token {
        Some(token) => format!("keys in the token {:?}", token.label),
        None => "software keys".to_owned(),
    };
    Ok((
        thumbprint,
        format!("{keys}, signing certificate {thumbprint}"),
    ))
}

async fn start(config: &Config) -> Result<((Running, Urls), String), Failure> {
    let running = hgs_server::start(config, Arc::new(SystemClock))
        .await
        .map_err(failed)?;
    let address = running
        .addresses()
        .http
        .ok_or_else(|| Failure::failed("it does not listen"))?;
    let urls = Urls::at(address)?;
    let detail = format!(
        "{} and {}",
        urls.attestation.first(),
        urls.key_protection.first()
    );
    Ok(((running, urls), detail))
}

async fn stop(guardian: Running) -> Result<((), String), Failure> {
    match guardian.shutdown().await.finished {
        true => Ok(((), "every request that was taken is finished".to_owned())),
        false => Err(Failure::failed("requests were cut off")),
    }
}

/// The life of a shielded virtual machine: made by its owner, started, started again, moved, refused.
async fn shielded_machine(
    progress: &Progress<'_>,
    folder: &Folder,
    guardian: &Running,
    urls: &Urls,
    thumbprint: Thumbprint,
) -> Result<(), Failure> {
    let [first, second, stranger] = progress
        .step("hosts-register", register(folder, guardian, urls))
        .await?;
    let machine = prepare(progress, folder, &first, thumbprint).await?;
    first.receive(machine.protector.octets(), &machine.sealed)?;

    progress.step("host-attest", attest(folder, &first)).await?;
    let power_on = progress
        .step("power-on", power_on(folder, &first, &machine))
        .await?;
    progress
        .step(
            "power-on-again",
            power_on_again(&first, &machine, &power_on),
        )
        .await?;
    progress
        .step("migrate", migrate(&first, &second, &machine))
        .await?;

    let refused = stranger.host.attest(HealthKind::Encryption, Sides::Both);
    progress
        .refusal("unregistered-host-refused", refused, |error| {
            attestation_code(error) == Some(AttestationCode::HostNotRegistered)
        })
        .await?;
    progress
        .step("host-revoke", revoke(guardian, &second))
        .await?;
    revoked_host_gets_no_keys(progress, &second).await?;
    let refused = second.host.attest(HealthKind::Encryption, Sides::Both);
    progress
        .refusal("revoked-host-refused", refused, |error| {
            attestation_code(error) == Some(AttestationCode::HostRevoked)
        })
        .await
}

/// The health certificate of a revoked host is still valid: the revocation must reach it all the same.
pub(super) async fn revoked_host_gets_no_keys(
    progress: &Progress<'_>,
    host: &Host,
) -> Result<(), Failure> {
    let pair = host.machine()?;
    let refused = host.host.unwrap(pair.protector(), ServiceVersion::V2);
    progress
        .refusal("revoked-host-gets-no-keys", refused, |error| {
            matches!(
                cause(error),
                Some(Cause::KeyProtection(KeyProtectionFailure::Refused {
                    code: Some(Code::HostRevoked),
                    ..
                }))
            )
        })
        .await
}

/// The administrator registers two of three hosts.
async fn register(
    folder: &Folder,
    guardian: &Running,
    urls: &Urls,
) -> Result<([Host; 3], String), Failure> {
    let hosts = [
        Host::new("host-1", folder.work(), urls)?,
        Host::new("host-2", folder.work(), urls)?,
        Host::new("host-3", folder.work(), urls)?,
    ];
    for host in &hosts[..2] {
        let host_key = host.host_key()?;
        folder.keep(&format!("{}.pem", host.name), host_key.as_bytes())?;
        let host = AddHost {
            name: host.name.to_owned(),
            host_key: Some(host_key),
            ..AddHost::default()
        };
        administer(guardian, move |guardian| guardian.add_host(&host)).await?;
    }
    Ok((
        hosts,
        "host-1 and host-2 by their host keys, host-3 not".to_owned(),
    ))
}

/// A virtual machine as its owner hands it over.
pub(super) struct Machine {
    /// The secret that only a healthy host may read.
    secret: SecretBytes,
    pub(super) protector: VerifiedProtector,
    /// The secret, sealed under the transport key.
    pub(super) sealed: Vec<u8>,
}

/// The owner's part, away from the fabric: trusts the fabric's guardian, makes a protector, seals the secret.
pub(super) async fn prepare(
    progress: &Progress<'_>,
    folder: &Folder,
    host: &Host,
    thumbprint: Thumbprint,
) -> Result<Machine, Failure> {
    let fabric = progress
        .step("guardian-import", import(folder, host, thumbprint))
        .await?;
    let owner = progress
        .step("owner-new", async {
            let owner = Owner::new(SystemClock.now())?;
            let thumbprint = owner.certificates.signing_certificate().thumbprint();
            Ok((
                owner,
                format!("an owner with keys of its own, {thumbprint}"),
            ))
        })
        .await?;
    progress
        .step("protector-new", protect(folder, &owner, fabric))
        .await
}

/// Takes the guardian's certificates from its metadata, by the thumbprint that its administrator told.
pub(super) async fn import(
    folder: &Folder,
    host: &Host,
    thumbprint: Thumbprint,
) -> Result<(GuardianCertificates, String), Failure> {
    let octets = host.host.metadata().await.map_err(failed)?;
    folder.keep("metadata.xml", &octets)?;
    let metadata =
        Metadata::read(&octets, &CertificateCache::new(8), &SignatureCache::new(8)).or_fail()?;
    let trust = Trust::Thumbprint(thumbprint);
    let guardian = metadata
        .import(&trust, Expired::Refuse, SystemClock.now())
        .or_fail()?;
    Ok((
        guardian,
        "metadata.xml, trusted by the thumbprint of its signing certificate".to_owned(),
    ))
}

async fn protect(
    folder: &Folder,
    owner: &Owner,
    fabric: GuardianCertificates,
) -> Result<(Machine, String), Failure> {
    let random = &mut System::new();
    let secret = SecretBytes::random(SECRET_LENGTH, random)?;
    let (certificates, keys) = (&owner.certificates, &mut &owner.keys);
    let sealed = sealed_file::seal_anew(&secret, certificates, &[fabric], keys, random);
    let SealedAnew {
        protector,
        file: sealed,
        ..
    } = sealed.or_fail()?;
    folder.keep("ingress.xml", protector.octets())?;
    folder.keep("ingress.sealed", &sealed)?;
    let detail =
        format!("for owner and guardian; {SECRET_LENGTH} random octets are sealed under it");
    Ok((
        Machine {
            secret,
            protector,
            sealed,
        },
        detail,
    ))
}

/// The host proves its health, once for each of its two identity keys.
pub(super) async fn attest(folder: &Folder, host: &Host) -> Result<((), String), Failure> {
    let hgs_client::Attestation { certificate, .. } = host
        .host
        .attest(HealthKind::Encryption, Sides::Both)
        .await
        .map_err(failed)?;
    folder.keep("health.der", certificate.der())?;
    let signing = host
        .host
        .attest(HealthKind::Signing, Sides::Both)
        .await
        .map_err(failed)?;
    folder.keep("health-signing.der", signing.certificate.der())?;
    let signers = host.host.signing_certificates().await.map_err(failed)?;
    let pem: String = signers.iter().map(hgs_pki::Certificate::to_pem).collect();
    folder.keep("attestation-signers.pem", pem.as_bytes())?;
    let expires = certificate.validity().not_after;
    Ok((
        (),
        format!(
            "{} is healthy; its certificates expire at {expires}",
            host.name
        ),
    ))
}

/// Gets the keys, opens the secret with the ingress key and seals it again under the egress key.
pub(super) async fn power_on(
    folder: &Folder,
    host: &Host,
    machine: &Machine,
) -> Result<(Unwrapped, String), Failure> {
    let unwrapped = start_machine(host, machine).await?;
    folder.keep("egress.xml", unwrapped.egress().octets())?;
    folder.keep("egress.sealed", host.machine()?.file())?;
    Ok((
        unwrapped,
        "keys released and rolled; the secret was opened and sealed anew".to_owned(),
    ))
}

async fn start_machine(host: &Host, machine: &Machine) -> Result<Unwrapped, Failure> {
    let pair = host.machine()?;
    let unwrapped = host
        .host
        .unwrap(pair.protector(), ServiceVersion::V2)
        .await
        .map_err(failed)?;
    let plaintext = unwrapped.open(pair.file()).or_fail()?;
    if plaintext != machine.secret {
        return Err(
            Failure::failed("the file opened to something else").at_fault(AtFault::Ourselves)
        );
    }
    let sealed = unwrapped.reseal(&plaintext).or_fail()?;
    pair.replace(unwrapped.egress(), &sealed).map_err(failed)?;
    Ok(unwrapped)
}

/// The second start works with the rolled protector, and what was released before opens nothing any more.
pub(super) async fn power_on_again(
    host: &Host,
    machine: &Machine,
    before: &Unwrapped,
) -> Result<((), String), Failure> {
    if before.open(host.machine()?.file()).is_ok() {
        return Err(Failure::failed(
            "the transport key of before still opens the file",
        ));
    }
    start_machine(host, machine).await?;
    Ok((
        (),
        "with the rolled protector; the transport key of before opens nothing".to_owned(),
    ))
}

/// As in a live migration: the destination attests and gets its own release, then the source lets go.
async fn migrate(
    source: &Host,
    destination: &Host,
    machine: &Machine,
) -> Result<((), String), Failure> {
    let pair = source.machine()?;
    destination.receive(pair.protector(), pair.file())?;
    start_machine(destination, machine).await?;
    drop(pair);
    source.give_up()?;
    Ok((
        (),
        format!(
            "{} attested and opened what {} had sealed",
            destination.name, source.name
        ),
    ))
}

pub(super) async fn revoke(guardian: &Running, host: &Host) -> Result<((), String), Failure> {
    let name = host.name;
    let revocation = RevokeHost {
        reason: "the quickstart shows what a revocation does".to_owned(),
    };
    administer(guardian, move |guardian| {
        guardian.revoke_host(&name.parse()?, &revocation)
    })
    .await?;
    let detail = format!("{name} is revoked; its health certificate has hours to live");
    Ok(((), detail))
}

/// Does what an administrator does with `hgs host`: over the same socket, which knows who asks.
pub(super) async fn administer<T: Send + 'static>(
    guardian: &Running,
    act: impl FnOnce(&Client) -> Result<T, AdminError> + Send + 'static,
) -> Result<T, Failure> {
    let socket = guardian
        .addresses()
        .admin
        .clone()
        .ok_or_else(|| Failure::failed("there is no socket for administration"))?;
    let acting = tokio::task::spawn_blocking(move || act(&Client::new(socket)));
    acting.await.map_err(failed)?.map_err(failed)
}

pub(super) fn attestation_code(error: &Error) -> Option<AttestationCode> {
    match cause(error)? {
        Cause::Attestation(AttestationFailure::Refused(refused)) => refused.code(),
        _ => None,
    }
}

pub(super) fn cause(error: &Error) -> Option<&Cause> {
    match error {
        Error::Services(services) => Some(&services.last().cause),
        _ => None,
    }
}
