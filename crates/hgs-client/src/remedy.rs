//! What helps, and whose fault it was.

use hgs_attest::Code;
use hgs_attest::client::AttestationFailure;
use hgs_attest::client::rtpm::RtpmFault;
use hgs_attest::health_token::Code as TokenCode;
use hgs_custody_tpm::TpmError;
use hgs_kps::signed_response::ResponseSignatureError;
use hgs_kps::{ClientError, Code as KeyProtectionCode};

use crate::configuration::ConfigurationError;
use crate::error::{Error, Fault};
use crate::health_token::HealthTokenFailure;
use crate::host_key::HostKeyError;
use crate::http::{TlsFailure, TransportError};
use crate::key_protection::failure::KeyProtectionFailure;
use crate::request_id::RequestId;
use crate::sealed_pair::SealedPairError;
use crate::service::Cause;
use crate::state::MasterKeyError;
use crate::tpm::{HostTpmError, MeasurementError};

/// Of a host that was revoked, whichever service says so.
const REVOKED: &str = "ask the guardian's administrator why; only there can the host be let in again: `hgs host remove`, `hgs host readmit`, and `hgs host add`";

impl Error {
    /// The party at fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Configuration(_)
            | Self::File(_)
            | Self::HostKey(_)
            | Self::LocalMode
            | Self::MasterKey(_)
            | Self::NoFallback => Fault::Operator,
            Self::Identity(_) | Self::System(_) => Fault::Ourselves,
            Self::Tpm(HostTpmError::Tpm(_)) | Self::KeptKey(_) => Fault::Host,
            Self::Tpm(_) => Fault::Operator,
            Self::SealedPair(SealedPairError::File(_)) => Fault::Operator,
            Self::Protector(_) | Self::SealedFile(_) | Self::SealedPair(_) => Fault::Protector,
            Self::Services(error) => error.last().cause.fault(),
        }
    }

    /// What helps, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::File(error)
            | Self::Configuration(ConfigurationError::File(error))
            | Self::HostKey(HostKeyError::File(error))
            | Self::MasterKey(MasterKeyError::File(error))
            | Self::Tpm(HostTpmError::File(error))
            | Self::SealedPair(SealedPairError::File(error)) => error.remedy(),
            Self::Services(error) => error.last().cause.remedy().map(str::to_owned),
            other => other.own_remedy().map(str::to_owned),
        }
    }

    fn own_remedy(&self) -> Option<&'static str> {
        match self {
            Self::LocalMode => Some("run `guarded-host configure URL`"),
            Self::Configuration(ConfigurationError::Syntax { .. }) => {
                Some("correct the file; docs/guarded-host.md describes every key")
            }
            Self::NoFallback => Some(
                "run `guarded-host configure` with --fallback-attestation-url and --fallback-key-protection-url",
            ),
            Self::MasterKey(MasterKeyError::Length { .. }) => Some(
                "put the file back from its copy, or remove it: the next `guarded-host attest` makes another, and new identity keys",
            ),
            Self::HostKey(HostKeyError::Missing) => Some(
                "run `guarded-host host-key new`, then register the key on the guardian with `hgs host add`",
            ),
            Self::HostKey(HostKeyError::AlreadyExists(_)) => Some(
                "the guardian knows this host by that key; to give it up, run `guarded-host host-key remove` first",
            ),
            Self::Tpm(error) => of_tpm(error),
            _ => None,
        }
    }

    /// The id that a service gave the request that failed: its administrator finds the request by it.
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        match self {
            Self::Services(error) => error.last().request_id.as_ref(),
            _ => None,
        }
    }

    /// Whether no service could be reached, or those that could were not able to decide. A refusal is something else.
    #[must_use]
    pub fn is_service_away(&self) -> bool {
        let Self::Services(error) = self else {
            return false;
        };
        let all = error.earlier().iter().chain([error.last()]);
        all.map(|failure| &failure.cause).all(Cause::is_away)
    }

    /// Whether what was given is not valid or was refused, so that trying again is of no use.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Services(error) => match &error.last().cause {
                Cause::KeyProtection(KeyProtectionFailure::NotUsed(_)) => true,
                cause => cause.is_decision(),
            },
            Self::Configuration(_) | Self::LocalMode | Self::NoFallback => true,
            Self::Protector(_) | Self::SealedFile(_) => true,
            Self::SealedPair(SealedPairError::SealedFile { .. }) => true,
            _ => false,
        }
    }
}

impl Cause {
    /// The party at fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Transport(TransportError::TlsSettings(_)) => Fault::Operator,
            Self::Transport(TransportError::Redirect { .. } | TransportError::TooLarge { .. }) => {
                Fault::Guardian
            }
            Self::Transport(_) => Fault::Network,
            Self::Attestation(AttestationFailure::Refused(refused))
                if self.is_decision() && refused.code() != Some(Code::NextBootClaimsRefused) =>
            {
                Fault::Host
            }
            Self::Attestation(AttestationFailure::Rtpm(fault)) => of_rtpm(fault).0,
            Self::Attestation(_) | Self::SigningCertificates { .. } => Fault::Guardian,
            Self::Clocks { .. } => Fault::Host,
            Self::Nonce(_) | Self::HealthCertificate(_) => Fault::Guardian,
            Self::KeyProtection(failure) => of_key_protection(failure).0,
            Self::HealthToken(failure) => of_health_token(failure).0,
        }
    }

    /// What helps, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Transport(error) => of_transport(error),
            Self::Attestation(failure) => of_attestation(failure),
            Self::Clocks { .. } => Some("set the clocks of this host and of the guardian right"),
            Self::Nonce(_) => Some("check that no proxy changes headers on the way"),
            Self::SigningCertificates { .. } | Self::HealthCertificate(_) => None,
            Self::KeyProtection(failure) => of_key_protection(failure).1,
            Self::HealthToken(failure) => of_health_token(failure).1,
        }
    }
}

/// What helps where a TPM does not do what it is asked for.
pub(crate) fn of_tpm_error(error: &TpmError) -> Option<&'static str> {
    Some(match error {
        TpmError::Absent { .. } => {
            "is the TPM on in the firmware's settings? If it is elsewhere than at /dev/tpmrm0, set `device` in the section [tpm] of the configuration. A host without a TPM attests to a guardian in host-key mode"
        }
        TpmError::Forbidden { .. } => "run this as root, or as a user of the group tss",
        TpmError::InUse { .. } => {
            "use /dev/tpmrm0, which many programs can use at once, or end the other program"
        }
        TpmError::StaysBusy(_) => "try again later; restart the machine if it stays so",
        TpmError::NoSlots(_) => {
            "use /dev/tpmrm0; or flush what other programs have left: `tpm2_flushcontext -t`, and the same with -l and -s"
        }
        TpmError::LockedOut(_) => {
            "wait, or clear the lockout with `tpm2_dictionarylockout --clear-lockout`"
        }
        TpmError::NoSha256Bank => {
            "activate the PCRs for SHA-256 in the firmware's settings, or with `tpm2_pcrallocate sha256:all`, and restart the machine"
        }
        error if error.needs_new_key() => {
            "run `guarded-host attest`, which has a new identity key made"
        }
        _ => return None,
    })
}

/// What helps where this host is not known by its TPM.
pub(crate) fn of_tpm(error: &HostTpmError) -> Option<&'static str> {
    match error {
        HostTpmError::Tpm(error) => of_tpm_error(error),
        HostTpmError::OtherTpm { .. } | HostTpmError::EndorsementKeyFile { .. } => Some(
            "if the TPM was exchanged, run `guarded-host identity export --other-tpm --out FILE`, and have the guardian's administrator register FILE",
        ),
        HostTpmError::Measurement(MeasurementError::Unreadable { .. }) => {
            Some("run this as root: the kernel shows its logs to root only")
        }
        _ => None,
    }
}

fn of_health_token(failure: &HealthTokenFailure) -> (Fault, Option<&'static str>) {
    let refused = match failure {
        HealthTokenFailure::Refused(refused) => refused,
        HealthTokenFailure::Unintelligible { .. } => {
            return (
                Fault::Guardian,
                Some("check the attestation URL: it ends in /Attestation, as a rule"),
            );
        }
        HealthTokenFailure::Key(_) | HealthTokenFailure::OtherKey => {
            return (
                Fault::Host,
                Some("run `guarded-host attest`, which has a new identity key made"),
            );
        }
    };
    match refused.code {
        Some(TokenCode::TokensNotEnabled) => (
            Fault::Guardian,
            Some(
                "the guardian's administrator enables them: `issuer` and `audiences` in the section [health_token] of its configuration",
            ),
        ),
        Some(TokenCode::AudienceNotAllowed) => (
            Fault::Guardian,
            Some(
                "check how the audience is spelt; the guardian's administrator allows it: `audiences` in the section [health_token] of its configuration",
            ),
        ),
        Some(TokenCode::HostRevoked) => (Fault::Host, Some(REVOKED)),
        Some(TokenCode::HostNotRegistered) => (
            Fault::Host,
            Some("have the guardian's administrator register this host: `hgs host add`"),
        ),
        Some(TokenCode::HealthCertificate | TokenCode::AttestationOutdated) => (
            Fault::Host,
            Some("run `guarded-host attest`, and see what it says"),
        ),
        Some(TokenCode::TooManyRequests) => (
            Fault::Host,
            Some("keep a token until it ends, and ask for the next one then"),
        ),
        // An earlier version knows the path as none of its own.
        None if refused.name == "not-found" => (
            Fault::Guardian,
            Some("update the guardian: this version issues no health tokens"),
        ),
        _ => (Fault::Guardian, None),
    }
}

fn of_rtpm(fault: &RtpmFault) -> (Fault, Option<&'static str>) {
    match fault {
        RtpmFault::ClaimIgnored => (
            Fault::Guardian,
            Some(
                "update the guardian; its administrator can add the claim (`hgs host set NAME --next-boot FILE`)",
            ),
        ),
        RtpmFault::OtherEndorsementKey => (
            Fault::Host,
            Some(
                "if the TPM was exchanged, run `guarded-host identity export --other-tpm --out FILE`, and have the guardian's administrator register FILE",
            ),
        ),
        RtpmFault::Refused { code, .. } if code.is_lockout() => (
            Fault::Host,
            Some("wait, or clear the lockout with `tpm2_dictionarylockout --clear-lockout`"),
        ),
        RtpmFault::Refused { code, .. } if code.is_out_of_slots() => (
            Fault::Host,
            Some(
                "use /dev/tpmrm0; or flush what other programs have left: `tpm2_flushcontext -t`, and the same with -l and -s",
            ),
        ),
        RtpmFault::Refused { .. } | RtpmFault::Response { .. } | RtpmFault::Key(_) => {
            (Fault::Host, Some("run `guarded-host trace`"))
        }
        _ => (
            Fault::Guardian,
            Some(
                "nothing of it was executed; tell the guardian's administrator, for this is no accident",
            ),
        ),
    }
}

fn of_key_protection(failure: &KeyProtectionFailure) -> (Fault, Option<&'static str>) {
    let url = "check the key protection URL: it ends in /KeyProtection, as a rule";
    let code = match failure {
        KeyProtectionFailure::Refused { code, .. } => *code,
        KeyProtectionFailure::Unintelligible { .. } => return (Fault::Guardian, Some(url)),
        KeyProtectionFailure::NotUsed(ClientError::Signature(error)) => return of_signature(error),
        KeyProtectionFailure::NotUsed(ClientError::Key(_)) => {
            return (Fault::Host, Some("run `guarded-host trace`"));
        }
        KeyProtectionFailure::NotUsed(_) => {
            let remedy =
                "nothing was changed; tell the guardian's administrator, for this is no accident";
            return (Fault::Guardian, Some(remedy));
        }
    };
    let Some(code) = code else {
        return (Fault::Guardian, None);
    };
    let remedy = match code {
        KeyProtectionCode::HealthCertificate => {
            Some("run `guarded-host attest`, and set the clocks right")
        }
        KeyProtectionCode::HostRevoked => Some(REVOKED),
        KeyProtectionCode::WrappingNotFound => Some(
            "have the owner grant this guardian access: `hgs protector grant`, with the guardian's metadata",
        ),
        KeyProtectionCode::CompromisedGuardian => Some(
            "ask the guardian's administrator for a re-key window, or the owner for a new protector",
        ),
        KeyProtectionCode::ProtectorSuperseded => {
            Some("use the protector of the last start of this VM")
        }
        KeyProtectionCode::InvalidProtector | KeyProtectionCode::InvalidWrapping => {
            Some("use the last protector that is known to be good, or ask the owner for a new one")
        }
        KeyProtectionCode::NotFound | KeyProtectionCode::MethodNotAllowed => Some(url),
        KeyProtectionCode::ServerBusy
        | KeyProtectionCode::RequestTimeout
        | KeyProtectionCode::KeyStoreUnavailable
        | KeyProtectionCode::StateUnavailable => Some("try again"),
        KeyProtectionCode::InvalidRequest
        | KeyProtectionCode::UnsupportedAlgorithm
        | KeyProtectionCode::LimitExceeded
        | KeyProtectionCode::Metadata
        | KeyProtectionCode::Internal => None,
    };
    let fault = match code.fault() {
        hgs_protector::Fault::Host => Fault::Host,
        hgs_protector::Fault::Protector => Fault::Protector,
        _ => Fault::Guardian,
    };
    (fault, remedy)
}

fn of_signature(error: &ResponseSignatureError) -> (Fault, Option<&'static str>) {
    match error {
        ResponseSignatureError::Unsigned => (
            Fault::Guardian,
            Some(
                "nothing was changed; the answer may be an attacker's: check that the URL is https and that the guardian is a current OpenHGS; for a guardian that can't sign, run `guarded-host configure` with --dangerous-accept-unsigned-responses",
            ),
        ),
        ResponseSignatureError::DelegationNotYetValid { .. }
        | ResponseSignatureError::DelegationExpired { .. } => (
            Fault::Host,
            Some("nothing was changed; set the clocks of this host and of the guardian right"),
        ),
        _ => (
            Fault::Network,
            Some(
                "nothing was changed; the answer was made or changed on the way: tell the guardian's administrator",
            ),
        ),
    }
}

/// What helps against a failure on the way to a service.
pub(crate) fn of_transport(error: &TransportError) -> Option<&'static str> {
    Some(match error {
        TransportError::Resolve { .. } => "check the host's name in the URL, and this host's DNS",
        TransportError::Unreachable(_) | TransportError::Timeout { .. } => {
            "check that the guardian runs, the port in the URL, and the firewalls in between"
        }
        TransportError::Tls {
            failure: TlsFailure::NotTls,
            ..
        } => "begin the URL with http:, or name the port of the guardian's HTTPS listener",
        TransportError::Tls {
            failure: TlsFailure::CertificateIsAuthority,
            ..
        } => {
            "have the guardian's administrator use a certificate without CA:TRUE; with `openssl req -x509`, \
             `-addext basicConstraints=critical,CA:FALSE` makes one"
        }
        TransportError::Tls { .. } => {
            "check the name in the URL; for a certification authority of your own, run `guarded-host configure` with --ca FILE"
        }
        TransportError::TlsSettings(_) => {
            "run `guarded-host configure` with --ca FILE, or install the Debian package ca-certificates"
        }
        TransportError::PlainToTls { .. } => {
            "begin the URL with https:, or name the port of the guardian's plain HTTP listener"
        }
        TransportError::Redirect { .. } => "configure the URL of the guardian itself",
        TransportError::Broken { .. } => {
            "check the port in the URL, and whether it is http or https"
        }
        TransportError::NoNode(failures) => {
            return failures.last().and_then(|(_, error)| of_transport(error));
        }
        TransportError::TooLarge { .. } => return None,
    })
}

fn of_attestation(failure: &AttestationFailure) -> Option<&'static str> {
    let refused = match failure {
        AttestationFailure::Refused(refused) => refused,
        AttestationFailure::OtherMode { .. } => {
            return Some(
                "this host attests with a host key or by its TPM; the guardian must be in host-key mode or in TPM mode",
            );
        }
        AttestationFailure::Unintelligible { .. } | AttestationFailure::UnexpectedReply { .. } => {
            return Some("check the attestation URL: it ends in /Attestation, as a rule");
        }
        AttestationFailure::Rtpm(fault) => return of_rtpm(fault).1,
        AttestationFailure::NotAsked(_) => return None,
    };
    match refused.code()? {
        Code::HostNotRegistered => Some(
            "on this host run `guarded-host identity export --out host.json`, on the guardian `hgs host add NAME --identity host.json`; with a guardian in host-key mode, `guarded-host host-key export --out host.pem` and `hgs host add NAME --host-key host.pem`",
        ),
        Code::HostRevoked => Some(REVOKED),
        Code::HostKeySignature => Some(
            "make a new host key with `guarded-host host-key remove` and `guarded-host host-key new`, and register it",
        ),
        Code::TooManyIdentityKeys => Some(
            "make a new host key with `guarded-host host-key remove` and `guarded-host host-key new`, and have it registered in place of this one",
        ),
        Code::TooManyNewIdentityKeys => Some(
            "find out why this host makes so many identity keys (a wrong clock, or two machines with one host key), and wait",
        ),
        Code::HostKeyShared => Some(
            "on the other machine, a clone or a restored copy perhaps, run `guarded-host host-key remove` and `guarded-host host-key new`, and register the new key; then, or if that machine is gone, run `guarded-host attest --new-identity-key` here",
        ),
        Code::NonceRequired => Some(
            "update guarded-host on this host; if it was updated before and is an older version now, it needs a new host key",
        ),
        Code::NonceExpired => Some("set the clocks of the guardian's nodes right, and try again"),
        Code::NonceInvalid => Some("try again; check that no proxy changes headers on the way"),
        Code::IdentityKeyInvalid
        | Code::IdentityKeySuperseded
        | Code::IdentityKeyExpired
        | Code::IdentityKeyOfOtherKind
        | Code::Unavailable
        | Code::Timeout
        | Code::Internal => Some("try again"),
        Code::NotFound | Code::MethodNotAllowed => {
            Some("check the attestation URL: it ends in /Attestation, as a rule")
        }
        Code::RtpmContextForeign | Code::RtpmContextExpired | Code::PcrsUnstable => Some(
            "try again when the host has booted; where it is slow, no other program should keep its TPM busy",
        ),
        Code::TpmRefused => Some(
            "run `guarded-host trace`; a TPM that is busy or full is often right after a restart of the host",
        ),
        Code::TpmOtherEndorsementKey => Some(
            "the TPM was cleared or changed: on this host run `guarded-host identity export`, and have the guardian's administrator add the host again",
        ),
        Code::TpmPcrBank => Some("turn on the SHA-256 bank of the TPM in the firmware's settings"),
        Code::NoEventLog => Some(
            "name the event log in the configuration (`tpm.event_log`); the firmware must boot with UEFI and measure into the TPM",
        ),
        Code::EventLogMalformed
        | Code::EventLogMismatch
        | Code::ImaLogMalformed
        | Code::ImaLogMismatch => {
            Some("restart the host; the logs must be those of this boot, as the kernel shows them")
        }
        Code::PolicyFailed => Some(
            "the guardian's administrator sees which event differs (`hgs host show`), and can approve it (`hgs host approve`)",
        ),
        Code::RtpmContextMalformed
        | Code::RtpmContextAltered
        | Code::RtpmContextOtherHost
        | Code::RtpmContextOtherSession
        | Code::RtpmContextOtherKind
        | Code::TpmResponseMissing
        | Code::TpmResponseMalformed
        | Code::TpmResponseNotAuthentic
        | Code::TpmResponseReplayed => Some(
            "try again; check that nothing on the way to the guardian or to the TPM changes what it passes on",
        ),
        Code::NextBootClaimsRefused => Some(
            "write the claim to a file with --out, and have the guardian's administrator add it (`hgs host set NAME --next-boot FILE`) or let hosts send theirs (`hgs server set --next-boot-claims accept`)",
        ),
        Code::NextBootClaimAltered => Some(
            "try again; check that nothing on the way to the guardian changes what it passes on",
        ),
        Code::NextBootClaimInvalid => Some(
            "the guardian's administrator can add what a host may not (`hgs baseline predict`, `hgs host set NAME --next-boot FILE`)",
        ),
        Code::MalformedRequest
        | Code::MissingContent
        | Code::RequestedContent
        | Code::CaIntermediateNotOffered
        | Code::OperationMode
        | Code::TooLarge => None,
    }
}
