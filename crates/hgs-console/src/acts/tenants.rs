//! A tenant's pair is brought in, or what is missing of it.

use hgs_admin::types::{AddCertificate, CertificateKind, NewCertificate};
use hgs_admin::{AdminError, Administration as _, ErrorCode, WithKey};

use super::{Act, Entered};
use crate::Notice;
use crate::routes::Asked;
use crate::views::certificates::OfTenant;
use crate::views::tenants::{self, Half};

pub(crate) const ADD: Act = Act {
    page: |asked, entered, error| {
        let of_tenant: OfTenant = asked.query()?;
        Ok(tenants::add(&asked.known()?, &of_tenant, entered, error))
    },
    perform: |asked, entered| {
        let tenant = entered.field("tenant");
        if tenant.is_empty() {
            return Err(AdminError::invalid("say what the tenant is called"));
        }
        let known = asked.known()?;
        let is_missing = |half: &Half| known.head(Some(tenant), half.kind).is_none();
        let missing: Vec<_> = Half::BOTH.iter().copied().filter(is_missing).collect();
        if missing.is_empty() {
            let error = AdminError::new(ErrorCode::Conflict, "this tenant has a pair already");
            return Err(error.with_remedy("rotate it on the page of the tenant"));
        }
        for half in &missing {
            check(entered, *half)?;
        }
        let mut made = Vec::new();
        for half in missing {
            bring(asked, entered, half).map_err(|error| not_both(error, &made))?;
            made.push(half.kind);
        }
        Ok((OfTenant::new(tenant).page(), Notice::TenantAdded))
    },
};

/// A certificate that is brought has its key in a token: a software key is never sent through a browser.
fn check(entered: &Entered, half: Half) -> Result<(), AdminError> {
    let is_brought = !entered.field(half.certificate).is_empty();
    if entered.field(half.certificate).contains("PRIVATE KEY") {
        return Err(AdminError::invalid(
            "a private key was entered where a certificate belongs; it is not kept here",
        )
        .with_remedy(
            "bring a software key with `hgs certificate add --pfx` on the guardian's machine",
        ));
    }
    if is_brought && !entered.field(half.key).starts_with("pkcs11:") {
        return Err(AdminError::invalid(format_args!(
            "the {} certificate is there, and the place of its key is not",
            half.kind
        ))
        .with_remedy(
            "say where the key is in a token; with a software key, use `hgs certificate add --pfx` on the guardian's machine",
        ));
    }
    Ok(())
}

fn bring(asked: &Asked<'_>, entered: &Entered, half: Half) -> Result<(), AdminError> {
    let (tenant, label) = (entered.optional("tenant"), entered.optional("label"));
    let key = entered.optional(half.key);
    match entered.optional(half.certificate) {
        Some(certificate) => {
            let request = AddCertificate {
                kind: half.kind,
                certificate,
                key,
                tenant,
                label,
                primary: false,
            };
            asked
                .administration
                .add_certificate(&WithKey { request, key: None })?;
        }
        None => {
            let request = NewCertificate {
                kind: half.kind,
                subject: None,
                bits: None,
                new_key: key.is_some() && entered.field("new_keys") == "yes",
                key,
                tenant,
                label,
                primary: false,
            };
            asked.administration.new_certificate(&request)?;
        }
    }
    Ok(())
}

/// What failed after a half was made says so. The form can be sent again: what is there is not made twice.
fn not_both(error: AdminError, made: &[CertificateKind]) -> AdminError {
    match made.first() {
        None => error,
        Some(kind) => AdminError {
            message: format!(
                "{}; the {kind} certificate was added before that, and is kept when the form is sent again",
                error.message
            ),
            ..error
        },
    }
}
