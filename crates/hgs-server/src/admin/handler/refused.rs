//! What a refusal of the store is to an administrator.

use hgs_admin::{AdminError, ErrorCode};
use hgs_attest::CredentialId;
use hgs_crypto::hex;
use hgs_store::Refusal;

pub(super) fn error(refusal: &Refusal) -> AdminError {
    let error = AdminError::new(code(refusal), refusal);
    match remedy(refusal) {
        Some(remedy) => error.with_remedy(remedy),
        None => error,
    }
}

fn code(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Policies { error, .. } if !error.is_incomplete() => ErrorCode::InvalidRequest,
        Refusal::NoSuchHost(_)
        | Refusal::NoSuchCertificate(_)
        | Refusal::NoSuchSigner(_)
        | Refusal::NoSuchRemovedHost(_)
        | Refusal::NoSuchEndorsementRoot(_)
        | Refusal::NoSuchHostGroup(_)
        | Refusal::NoSuchDocument(_)
        | Refusal::NoSuchDenial(_) => ErrorCode::NotFound,
        Refusal::Settings(_)
        | Refusal::ReasonTooLong
        | Refusal::DocumentTooLong(_)
        | Refusal::PolicySetting(_)
        | Refusal::TooManyDenied
        | Refusal::KeyMissing(_)
        | Refusal::KeyMismatch(_)
        | Refusal::KeyElsewhere(_) => ErrorCode::InvalidRequest,
        Refusal::NotSealed => ErrorCode::Unavailable,
        _ => ErrorCode::Conflict,
    }
}

fn remedy(refusal: &Refusal) -> Option<String> {
    let remedy = match refusal {
        Refusal::HostNameKnown(_) => "choose another name, or remove that host first",
        Refusal::HostKeyKnown(name) => {
            return Some(format!(
                "give each host a key of its own, or remove {name} first"
            ));
        }
        Refusal::HostRevoked(name) => {
            return Some(format!(
                "`hgs host remove {name}`, and add it again with a new host key: on the host, `guarded-host host-key remove` and `guarded-host host-key new`"
            ));
        }
        Refusal::EndorsementKeyKnown(name) => {
            return Some(format!(
                "remove {name} first, if it is the same machine, and readmit its TPM with `hgs host readmit {name}`"
            ));
        }
        Refusal::HostRemoved {
            name,
            credential: CredentialId::EndorsementKey(_),
            ..
        } => {
            return Some(format!(
                "if the machine is to come back, `hgs host readmit {name}`, and add it again"
            ));
        }
        Refusal::HostRemoved { credential, .. } => {
            let digest = hex::encode(credential.digest());
            return Some(format!(
                "make a new host key on the host with `guarded-host host-key remove` and `guarded-host host-key \
                 new`; or, if you know that nobody else has the old one, `hgs host readmit {digest}`"
            ));
        }
        Refusal::NoSuchHostGroup(_) => {
            "`hgs host-group list` shows what there is; `hgs host-group new` makes one"
        }
        Refusal::NoSuchDocument(_) => "`hgs policy list` shows what there is",
        Refusal::DocumentChanged(_) | Refusal::MeasurementsChanged(_) => {
            "look at what it is now, and do it again"
        }
        Refusal::HostGroupInUse { .. } => {
            "move its hosts with `hgs host set NAME --group GROUP` first"
        }
        Refusal::DocumentKnown { .. } => "choose another name, or remove that one first",
        Refusal::Policies { error, .. } if error.is_incomplete() => {
            "add or enable another one first, so that hosts can still be healthy"
        }
        Refusal::NoSuchEndorsementRoot(_) => "`hgs ek-root list` shows what there is",
        Refusal::TooManyEndorsementRoots => "remove those of makers that you have no machines of",
        Refusal::NoSuchRemovedHost(_) => "`hgs host list --removed` shows what there is",
        Refusal::NoSuchDenial(_) => "`hgs host list --denied` shows what there is",
        Refusal::DeniedHostRegistered(name) => {
            return Some(format!("`hgs host revoke {name}`"));
        }
        Refusal::HostDenied(policy) => {
            return Some(format!("`hgs host allow {policy}` lifts that"));
        }
        Refusal::NoSuchCertificate(_) => "`hgs certificate list` shows what there is",
        Refusal::NoSuchSigner(_) => "`hgs signer list` shows what there is",
        Refusal::HeadKnown { .. } => "add it without, then make it the head with `set`",
        Refusal::Primary(_) | Refusal::IsHead { .. } => {
            "make another certificate of its kind the head first, with `set --primary` or `set --head`"
        }
        Refusal::UnusableHead => "add a new certificate, or enable this one if it is but disabled",
        Refusal::TenantNeverPrimary { .. } => {
            "`set --head` makes it the head of the tenant's own lineage"
        }
        Refusal::NoSuccessor { .. } => "add a new pair to that lineage, as its head, and try again",
        Refusal::SuccessorNeeded(_) => {
            "make another certificate the head first; or remove the compromised ones, which wraps keys to them again"
        }
        Refusal::KeyOfOtherLineage { .. } => "use a key of its own for each tenant",
        Refusal::KeyCompromised(_) => "make a new key",
        Refusal::KeyMissing(_) => "give the private key along, or the `pkcs11:` URI of it",
        Refusal::NeededByProtectors { .. } => {
            "see `hgs certificate usage`; power those VMs on once, or say `--even-if-needed` if they are gone"
        }
        Refusal::NeededToShutOut(_) => {
            "disable it instead; or say `--even-if-needed` if no protector has a wrapping for it any more"
        }
        Refusal::MetadataFull => {
            "disable or remove those that are needed no longer: `hgs certificate usage`, then `hgs certificate disable`"
        }
        Refusal::ForeignSigner(_) => "`hgs signer remove` refuses what it signs from now on",
        Refusal::OwnSigner(_) => {
            "set `attestation.health_certificate_validity` in the configuration instead"
        }
        _ => return None,
    };
    Some(remedy.to_owned())
}
