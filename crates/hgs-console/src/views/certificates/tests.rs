//! Pages about keys, from answers that somebody else has named.

use hgs_admin::types::{CertificateDetail, CertificateUsage, GuardianDocument, UsedCertificate};
use hgs_admin::{ErrorCode, Role};

use super::super::tests::{HOSTILE, NOW, viewer};
use super::super::{certificate, signers};
use super::*;
use crate::pairs::Change;

const FABRIC: &str = "fabric";

fn certificates() -> Vec<Certificate> {
    let one = |thumbprint: &str, kind: CertificateKind, lineage: &str| Certificate {
        thumbprint: thumbprint.to_owned(),
        kind,
        subject: HOSTILE.to_owned(),
        label: Some(HOSTILE.to_owned()),
        lineage: lineage.to_owned(),
        enabled: true,
        primary: lineage == FABRIC,
        head: true,
        compromised: None,
        retired: None,
        key: format!("pkcs11:{HOSTILE}"),
        key_bits: 3072,
        usable: false,
        nodes: Some(vec![HOSTILE.to_owned()]),
        not_before: HOSTILE.to_owned(),
        not_after: HOSTILE.to_owned(),
        added: HOSTILE.to_owned(),
    };
    let former = Certificate {
        head: false,
        primary: false,
        key: "sealed".to_owned(),
        compromised: Some(HOSTILE.to_owned()),
        ..one("03", CertificateKind::Encryption, FABRIC)
    };
    let tenant = format!("tenant:{HOSTILE}");
    vec![
        one("01", CertificateKind::Signing, FABRIC),
        one("02", CertificateKind::Encryption, FABRIC),
        former,
        one("04", CertificateKind::Signing, &tenant),
        one(HOSTILE, CertificateKind::Communications, FABRIC),
    ]
}

fn usage(thumbprint: &str, kind: UsedCertificate, protectors: u64) -> CertificateUsage {
    CertificateUsage {
        thumbprint: thumbprint.to_owned(),
        kind,
        label: None,
        lineage: String::new(),
        head: false,
        protectors,
        first: Some(HOSTILE.to_owned()),
        last: Some(HOSTILE.to_owned()),
    }
}

pub(in super::super) fn known() -> Known {
    Known {
        certificates: certificates(),
        usage: vec![
            usage("03", UsedCertificate::Encryption, 2),
            usage(HOSTILE, UsedCertificate::Removed, 1),
        ],
    }
}

fn detail(certificate: Certificate) -> CertificateDetail {
    CertificateDetail {
        certificate,
        issuer: HOSTILE.to_owned(),
        serial_number: HOSTILE.to_owned(),
        sha1_thumbprint: HOSTILE.to_owned(),
        pem: HOSTILE.to_owned(),
    }
}

fn signer(thumbprint: &str, own: bool) -> Signer {
    let json = serde_json::json!({
        "thumbprint": thumbprint, "subject": HOSTILE, "label": HOSTILE, "own": own,
        "stage": if own { "active" } else { "trusted" }, "deny_before": HOSTILE, "denied_serial_numbers": 1,
        "maximum_validity_seconds": 7200, "not_before": HOSTILE, "not_after": HOSTILE, "added": HOSTILE, "pem": HOSTILE,
    });
    serde_json::from_value(json).unwrap()
}

pub(in super::super) fn pages() -> Vec<Page> {
    let administrator = viewer(Role::Administrator);
    let entered = Entered::read(b"signing_key=%22%3E%3Cscript%3E&label=%22%3E%3Cscript%3E&certificate=%3C/textarea%3E%3Cscript%3E&deny_before=%22%3E%3Cscript%3E").unwrap();
    let error = AdminError::new(ErrorCode::Conflict, HOSTILE).with_remedy(HOSTILE);
    let (known, signers) = (known(), [signer("05", true), signer(HOSTILE, false)]);
    let of_tenant = OfTenant {
        tenant: Some(HOSTILE.to_owned()),
    };
    let document = GuardianDocument {
        lineage: HOSTILE.to_owned(),
        signing: HOSTILE.to_owned(),
        encryption: HOSTILE.to_owned(),
        document: HOSTILE.to_owned(),
    };
    let mut pages = vec![
        page(&known, &signers, &After::default(), &administrator, NOW),
        page(
            &Known::default(),
            &[],
            &After::default(),
            &administrator,
            NOW,
        ),
        rotate(&known, &of_tenant, &entered, Some(&error), NOW),
        certificate::document(&document, "ab12"),
        signers::add(&entered, Some(&error)),
        signers::limit(&signers[1], &entered, Some(&error), NOW),
        signers::retire(&signers[0], Some(&error), NOW),
        signers::remove(&signers[0], Some(&error), NOW),
    ];
    for one in &known.certificates {
        pages.push(certificate::page(
            &detail(one.clone()),
            &known,
            &administrator,
            NOW,
        ));
        for change in [
            Change::Head,
            Change::Label,
            Change::Enable,
            Change::Disable,
            Change::Retire,
            Change::Compromise,
            Change::Remove,
        ] {
            pages.push(certificate::change(
                one,
                change,
                &known,
                &entered,
                (Some(&error), NOW),
            ));
        }
    }
    pages
}

fn shown(role: Role) -> String {
    let page = page(
        &known(),
        &[signer("05", true)],
        &After::default(),
        &viewer(role),
        NOW,
    );
    page.body.into_string()
}

#[test]
fn reviewers_see_keys_and_no_act() {
    let acts = [
        "/rotate-certificates",
        "/add-signer",
        "/signers/05/retire",
        "/signers/05/remove",
    ];
    for act in acts {
        assert!(shown(Role::Administrator).contains(act), "{act}");
        assert!(!shown(Role::Reviewer).contains(act), "{act}");
    }
    let of_former = detail(certificates().remove(2));
    let page = |role| {
        let page = certificate::page(&of_former, &known(), &viewer(role), NOW);
        page.body.into_string()
    };
    assert!(page(Role::Administrator).contains("/certificates/03/remove"));
    assert!(!page(Role::Reviewer).contains("/certificates/03/remove"));
    // What the guardian refuses in any case is not offered.
    assert!(!page(Role::Administrator).contains("/certificates/03/head"));
}

#[test]
fn a_list_that_is_long_goes_on_after_its_last_certificate() {
    let head = certificates().remove(0);
    let many = (0..PAGE + 5).map(|number| Certificate {
        thumbprint: format!("n{number:04}"),
        added: format!("{:04}", 9999 - number),
        head: false,
        ..head.clone()
    });
    let known = Known {
        certificates: many.collect(),
        usage: Vec::new(),
    };
    let shown = |after| pairs(&known, None, after, NOW).into_string();
    let first = shown(None);
    assert!(first.contains("/certificates?after=n0099"), "{first}");
    let rest = shown(Some("n0099"));
    assert!(rest.contains("n0100") && !rest.contains("n0099"), "{rest}");
    assert!(!rest.contains("?after="), "{rest}");
}
