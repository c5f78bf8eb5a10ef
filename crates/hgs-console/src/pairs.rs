//! What the guardian's certificates amount to: the pairs of lineages, what each certificate may become, and when it can go.

use std::collections::BTreeSet;

use hgs_admin::types::{Certificate, CertificateKind, CertificateUsage, UsedCertificate};
use hgs_kps::{Label, Lineage};
use hgs_pki::{Time, Validity, ValidityStatus};

/// All certificates, and what each is still needed for.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) usage: Vec<CertificateUsage>,
}

/// What an administrator does to one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It becomes the head of its lineage: of the fabric's, the primary one.
    Head,
    Label,
    Enable,
    Disable,
    Retire,
    Compromise,
    Remove,
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Primary,
    Head,
    Enabled,
    Retired,
    Disabled,
    Compromised,
}

/// Whether a certificate is still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need<'k> {
    /// Protectors are made for it now.
    IsHead,
    /// So many protectors were last opened by it, the latest at this time.
    Protectors(u64, Option<&'k str>),
    /// Its record is what keeps the key out of protectors.
    ShutsOut,
    Nothing,
}

impl Known {
    /// The certificates of a tenant, or of the fabric, that make pairs: heads first, then the newest.
    pub(crate) fn of(&self, tenant: Option<&str>) -> Vec<&Certificate> {
        let certificates = self.certificates.iter();
        let mut found: Vec<_> = certificates
            .filter(|one| makes_pairs(one) && is_of(&one.lineage, tenant))
            .collect();
        found.sort_by(|one, other| {
            let order = |one: &Certificate| (!one.head, std::cmp::Reverse(one.added.clone()));
            order(one)
                .cmp(&order(other))
                .then(one.kind.name().cmp(other.kind.name()).reverse())
                .then(one.thumbprint.cmp(&other.thumbprint))
        });
        found
    }

    /// What the protectors of a tenant, or of the fabric, are made for.
    pub(crate) fn head(&self, tenant: Option<&str>, kind: CertificateKind) -> Option<&Certificate> {
        let mut certificates = self.certificates.iter();
        certificates.find(|one| one.head && one.kind == kind && is_of(&one.lineage, tenant))
    }

    pub(crate) fn one(&self, thumbprint: &str) -> Option<&Certificate> {
        let mut certificates = self.certificates.iter();
        certificates.find(|one| one.thumbprint.eq_ignore_ascii_case(thumbprint))
    }

    /// The labels of the tenants that have certificates here, in order.
    pub(crate) fn tenants(&self) -> BTreeSet<Label> {
        self.certificates.iter().filter_map(tenant).collect()
    }

    pub(crate) fn usage_of(&self, thumbprint: &str) -> Option<&CertificateUsage> {
        self.usage
            .iter()
            .find(|usage| usage.kind != UsedCertificate::Removed && usage.thumbprint == thumbprint)
    }

    /// What opened protectors, was removed since, and has no certificate in its place.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &CertificateUsage> {
        let usage = self.usage.iter();
        usage.filter(|usage| usage.kind == UsedCertificate::Removed && usage.protectors > 0)
    }

    pub(crate) fn need(&self, certificate: &Certificate) -> Need<'_> {
        let usage = self.usage_of(&certificate.thumbprint);
        match usage.filter(|usage| usage.protectors > 0) {
            _ if certificate.head => Need::IsHead,
            Some(usage) => Need::Protectors(usage.protectors, usage.last.as_deref()),
            None if certificate.compromised.is_some() => Need::ShutsOut,
            None => Need::Nothing,
        }
    }
}

impl Change {
    /// Whether it can be done to a certificate as it stands. The guardian decides; this keeps what it refuses out of sight.
    pub(crate) fn is_possible(self, certificate: &Certificate) -> bool {
        let is_good = certificate.compromised.is_none() && certificate.retired.is_none();
        let makes_pairs = makes_pairs(certificate);
        match self {
            Self::Head => makes_pairs && !certificate.head && certificate.enabled && is_good,
            Self::Label => true,
            Self::Enable => !certificate.enabled,
            Self::Disable => makes_pairs && certificate.enabled && !certificate.primary,
            Self::Retire => makes_pairs && !certificate.head && certificate.retired.is_none(),
            Self::Compromise => {
                makes_pairs && !certificate.head && certificate.compromised.is_none()
            }
            Self::Remove => !certificate.head,
        }
    }
}

impl Standing {
    pub(crate) fn of(certificate: &Certificate) -> Self {
        match certificate {
            Certificate {
                compromised: Some(_),
                ..
            } => Self::Compromised,
            Certificate { enabled: false, .. } => Self::Disabled,
            Certificate { primary: true, .. } => Self::Primary,
            Certificate { head: true, .. } => Self::Head,
            Certificate {
                retired: Some(_), ..
            } => Self::Retired,
            Certificate { .. } => Self::Enabled,
        }
    }
}

/// How far the end of a certificate is away.
pub(crate) fn how_far(end: &str, now: Time) -> ValidityStatus {
    let until = |not_after| Validity {
        not_before: Time::MIN,
        not_after,
    };
    end.parse()
        .map_or(ValidityStatus::Expired, |end| until(end).status(now))
}

/// What a certificate is called: its label, or its subject.
pub(crate) fn name(certificate: &Certificate) -> &str {
    let label = certificate.label.as_deref();
    label.unwrap_or(&certificate.subject)
}

/// The label of the tenant whose certificate it is.
pub(crate) fn tenant(certificate: &Certificate) -> Option<Label> {
    match certificate.lineage.parse() {
        Ok(Lineage::Tenant(label)) => Some(label),
        Ok(Lineage::Fabric) | Err(_) => None,
    }
}

/// Whether a lineage is this tenant's, or the fabric's.
pub(crate) fn is_of(lineage: &str, tenant: Option<&str>) -> bool {
    match lineage.parse() {
        Ok(Lineage::Fabric) => tenant.is_none(),
        Ok(Lineage::Tenant(label)) => tenant == Some(label.as_str()),
        Err(_) => false,
    }
}

/// Whether it is one half of a pair.
pub(crate) fn makes_pairs(certificate: &Certificate) -> bool {
    certificate.kind != CertificateKind::Communications
}

/// Whether its key is in a token.
pub(crate) fn is_in_token(certificate: &Certificate) -> bool {
    certificate.key.starts_with("pkcs11:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(thumbprint: &str) -> Certificate {
        let json = serde_json::json!({
            "thumbprint": thumbprint, "kind": "signing", "subject": "CN=x", "lineage": "fabric", "enabled": true,
            "primary": false, "head": false, "key": "sealed", "key_bits": 3072, "usable": true,
            "not_before": "2026-01-01T00:00:00Z", "not_after": "2036-01-01T00:00:00Z", "added": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(json).unwrap()
    }

    fn usage(thumbprint: &str, protectors: u64) -> CertificateUsage {
        CertificateUsage {
            thumbprint: thumbprint.to_owned(),
            kind: UsedCertificate::Signing,
            label: None,
            lineage: Lineage::Fabric.to_string(),
            head: false,
            protectors,
            first: None,
            last: Some("2027-01-01T00:00:00Z".to_owned()),
        }
    }

    /// The same rules as in the store's plans: nobody is shown what is refused in any case.
    #[test]
    fn what_can_be_done_follows_from_how_a_certificate_stands() {
        use Change::{Compromise, Disable, Enable, Head, Label, Remove, Retire};
        let all = [Head, Label, Enable, Disable, Retire, Compromise, Remove];
        let possible = |certificate: &Certificate| -> Vec<_> {
            let all = all.into_iter();
            all.filter(|change| change.is_possible(certificate))
                .collect()
        };
        let enabled = certificate("a");
        assert_eq!(
            possible(&enabled),
            [Head, Label, Disable, Retire, Compromise, Remove]
        );
        let tenants_head = Certificate {
            head: true,
            ..enabled.clone()
        };
        assert_eq!(possible(&tenants_head), [Label, Disable]);
        let primary = Certificate {
            primary: true,
            ..tenants_head
        };
        assert_eq!(possible(&primary), [Label]);
        let retired = Certificate {
            retired: Some(String::new()),
            ..enabled.clone()
        };
        assert_eq!(possible(&retired), [Label, Disable, Compromise, Remove]);
        let disabled = Certificate {
            enabled: false,
            ..enabled.clone()
        };
        assert_eq!(
            possible(&disabled),
            [Label, Enable, Retire, Compromise, Remove]
        );
        let of_metadata = Certificate {
            kind: CertificateKind::Communications,
            ..enabled
        };
        assert_eq!(possible(&of_metadata), [Label, Remove]);
    }

    #[test]
    fn a_certificate_can_go_when_nothing_needs_it() {
        let head = Certificate {
            head: true,
            ..certificate("head")
        };
        let compromised = Certificate {
            compromised: Some(String::new()),
            ..certificate("known")
        };
        let known = Known {
            certificates: vec![head.clone(), certificate("former"), compromised.clone()],
            usage: vec![usage("head", 7), usage("former", 2), usage("known", 0)],
        };
        assert_eq!(known.need(&head), Need::IsHead);
        assert_eq!(
            known.need(&certificate("former")),
            Need::Protectors(2, Some("2027-01-01T00:00:00Z"))
        );
        assert_eq!(known.need(&compromised), Need::ShutsOut);
        assert_eq!(known.need(&certificate("unused")), Need::Nothing);
    }

    #[test]
    fn pairs_are_of_one_lineage_with_heads_first() {
        let one = |thumbprint, lineage: &str, head, added: &str| Certificate {
            lineage: lineage.to_owned(),
            head,
            added: added.to_owned(),
            ..certificate(thumbprint)
        };
        let known = Known {
            certificates: vec![
                one("old", "fabric", false, "2025"),
                one("new", "fabric", false, "2027"),
                one("head", "fabric", true, "2026"),
                one("tenant", "tenant:fabric", true, "2026"),
                one("unknown", "somebody:else", true, "2026"),
            ],
            usage: Vec::new(),
        };
        let names = |tenant| -> Vec<_> {
            let found = known.of(tenant).into_iter();
            found.map(|one| one.thumbprint.as_str()).collect()
        };
        assert_eq!(names(None), ["head", "new", "old"]);
        assert_eq!(names(Some("fabric")), ["tenant"]);
        assert_eq!(known.tenants(), BTreeSet::from(["fabric".parse().unwrap()]));
    }
}
