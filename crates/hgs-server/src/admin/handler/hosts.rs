//! Registration of hosts.

use hgs_admin::types::{AddHost, Host, MAX_AT_ONCE};
use hgs_admin::{AdminError, ErrorCode, OPERATIONS, Permission};
use hgs_attest::Credential;
use hgs_attest::platform_identity::PlatformIdentity;
use hgs_crypto::random::System;
use hgs_pki::Time;
use hgs_pki::endorsement::{EndorsementRoots, EndorsementTrustError};
use hgs_pki::health::HostId;
use hgs_store::{HostName, NewHost, Platform, ShortName, Transaction};
use hgs_tcg::tpm::EndorsementKey;

use super::{AdminHandler, ek_roots, given, policies, views};

impl AdminHandler<'_> {
    /// Registers all of `hosts`, or none.
    pub(super) fn register(&self, hosts: &[AddHost]) -> Result<Vec<Host>, AdminError> {
        if !(1..=MAX_AT_ONCE).contains(&hosts.len()) {
            return Err(AdminError::invalid(format_args!(
                "1 to {MAX_AT_ONCE} hosts are registered at once"
            )));
        }
        // Both decide by what a host is judged.
        if hosts
            .iter()
            .any(|host| host.group.is_some() || host.without_ek_certificate)
        {
            self.caller.require(Permission::ManagePolicies)?;
        }
        let roots = ek_roots::of(&self.parts.store.state());
        let now = self.parts.clock.now();
        let mut new = Vec::with_capacity(hosts.len());
        for host in hosts {
            let one = new_host(host, &roots, now).map_err(|error| match hosts.len() {
                1 => error,
                _ => AdminError {
                    message: format!("{}: {}", host.name, error.message),
                    ..error
                },
            })?;
            new.push(one);
        }
        let ids: Vec<HostId> = new.iter().map(|host| host.id).collect();
        self.transact_all(new.into_iter().map(Transaction::AddHost).collect())?;
        let state = self.parts.store.state();
        // Another administrator may have removed one already.
        let added = ids.iter().filter_map(|id| state.host(id));
        Ok(added.map(views::host).collect())
    }
}

fn new_host(host: &AddHost, roots: &EndorsementRoots, now: Time) -> Result<NewHost, AdminError> {
    let name: HostName = host.name.parse().map_err(AdminError::invalid)?;
    if !OPERATIONS.host.is_reached_by(name.as_str()) {
        let message =
            format_args!("a host can't be called {name}: this API has that word for itself");
        return Err(
            AdminError::new(ErrorCode::Conflict, message).with_remedy("choose another name")
        );
    }
    let (credential, platform) = match (&host.host_key, &host.identity) {
        (Some(key), None) => {
            if host.group.is_some() || host.without_ek_certificate {
                return Err(AdminError::invalid(
                    "a host that is known by a host key has neither a group nor an EK certificate",
                ));
            }
            let key = given::host_key(key)?;
            (Credential::HostKey(key), Platform::default())
        }
        (None, Some(identity)) => {
            let (identity, key) = given::platform_identity(identity)?;
            let is_vouched_for = host.without_ek_certificate;
            let platform = platform(&identity, &key, is_vouched_for, roots, now)?;
            (Credential::EndorsementKey(Box::new(key)), platform)
        }
        _ => {
            return Err(AdminError::invalid(
                "a host is registered by its host key or by its platform identity: give one of the two",
            ));
        }
    };
    let group = policies::group(host.group.as_deref())?;
    Ok(NewHost {
        id: HostId::random(&mut System::new())
            .map_err(|failure| AdminError::new(ErrorCode::Unavailable, failure))?,
        name,
        credential,
        platform,
        group: group.filter(|group| *group != ShortName::of_default_group()),
    })
}

/// What is kept of a platform identity, if an EK certificate that leads to a root vouches for the TPM, or the administrator does.
fn platform(
    identity: &PlatformIdentity,
    key: &EndorsementKey,
    is_vouched_for: bool,
    roots: &EndorsementRoots,
    now: Time,
) -> Result<Platform, AdminError> {
    let certificate = identity.endorsement_certificate();
    if certificate.is_some_and(|certificate| certificate.public_key() != key.key()) {
        return Err(untrusted(&EndorsementTrustError::OtherKey));
    }
    let kept = match certificate {
        _ if is_vouched_for => None,
        Some(certificate) => {
            roots
                .verify(certificate, key.key(), &[], now)
                .map_err(|error| untrusted(&error))?;
            Some(certificate.der().to_vec())
        }
        None => {
            return Err(
                AdminError::new(ErrorCode::Conflict, "the TPM has no EK certificate")
                    .with_remedy(VOUCH),
            );
        }
    };
    let smbios = identity.smbios();
    Ok(Platform {
        endorsement_certificate: kept,
        system_uuid: smbios.system_uuid().map(str::to_owned),
        system_serial_number: smbios.system_serial_number().map(str::to_owned),
    })
}

const VOUCH: &str = "if you know where the file comes from and that the key is a TPM's, \
                     `--without-ek-certificate` registers it; the audit log says so";

fn untrusted(error: &EndorsementTrustError) -> AdminError {
    let remedy = match error {
        EndorsementTrustError::OtherKey => {
            "the file is not as the host wrote it: export it again with `guarded-host identity export`"
        }
        EndorsementTrustError::NoRoots | EndorsementTrustError::UnknownIssuer { .. } => {
            "add the certificates of the TPM's maker with `hgs ek-root add`"
        }
        _ => VOUCH,
    };
    AdminError::new(ErrorCode::Conflict, error).with_remedy(remedy)
}
