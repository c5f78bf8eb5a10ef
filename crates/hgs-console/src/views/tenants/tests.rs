//! Pages about tenants, from answers that somebody else has named.

use hgs_admin::{ErrorCode, Role};

use super::super::certificates::tests::known;
use super::super::tests::{HOSTILE, NOW, viewer};
use super::*;

pub(in super::super) fn pages() -> Vec<Page> {
    let administrator = viewer(Role::Administrator);
    let entered =
        Entered::read(b"tenant=%22%3E%3Cscript%3E&signing_certificate=%3C/textarea%3E%3Cscript%3E")
            .unwrap();
    let error = AdminError::new(ErrorCode::Conflict, HOSTILE).with_remedy(HOSTILE);
    let wanted = Wanted::default();
    vec![
        list(&known(), &wanted, &administrator, NOW),
        list(&Known::default(), &wanted, &administrator, NOW),
        one(&known(), HOSTILE, &wanted, &administrator, NOW),
        add(&known(), &OfTenant::default(), &entered, Some(&error)),
        add(&known(), &OfTenant::new(HOSTILE), &Entered::default(), None),
    ]
}

/// The tenant has a signing certificate and no encryption certificate.
#[test]
fn the_checklist_says_what_is_missing_and_leads_there() {
    let shown = |role| {
        let page = one(&known(), HOSTILE, &Wanted::default(), &viewer(role), NOW);
        page.body.into_string()
    };
    let text = shown(Role::Administrator);
    assert!(text.contains("An encryption certificate</th><td data-heading=\"State\"><span class=\"condition attention word\">missing"), "{text}");
    assert!(text.contains("A signing certificate</th><td data-heading=\"State\"><span class=\"condition good word\">done"), "{text}");
    assert!(text.contains("/add-tenant?tenant="), "{text}");
    assert!(!shown(Role::Reviewer).contains("/add-tenant"));
    assert!(!shown(Role::Reviewer).contains("/rotate-certificates"));
    let form = add(&known(), &OfTenant::new(HOSTILE), &Entered::default(), None);
    let form = form.body.into_string();
    assert!(
        form.contains("name=\"encryption_key\"") && !form.contains("name=\"signing_key\""),
        "{form}"
    );
}

#[test]
fn a_private_key_is_not_shown_again() {
    let pasted = "signing_certificate=-----BEGIN+PRIVATE+KEY-----MIIE&signing_key=pkcs11:token%3Dx?pin-value%3D1234";
    let entered = Entered::read(pasted.as_bytes()).unwrap();
    let form = add(&Known::default(), &OfTenant::default(), &entered, None);
    let form = form.body.into_string();
    assert!(!form.contains("MIIE") && !form.contains("1234"), "{form}");
}
