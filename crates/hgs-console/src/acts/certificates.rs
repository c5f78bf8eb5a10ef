//! What changes the guardian's pairs. Each page says first what becomes of the protectors that need the certificate.

use hgs_admin::types::{CertificateKind, RemoveCertificate, RotateCertificates, SetCertificate};
use hgs_admin::{AdminError, Administration as _, ErrorCode};

use super::{Act, Done, Entered};
use crate::pairs::Change;
use crate::routes::Asked;
use crate::routes::certificates::{CERTIFICATE, CERTIFICATES, no_such_certificate};
use crate::views::certificate;
use crate::views::certificates::{self, OfTenant};
use crate::{Notice, Page, Path};

/// A rotation: both halves of a lineage's pair at once.
pub(crate) const ROTATE: Act = Act {
    page: |asked, entered, error| {
        let of_tenant: OfTenant = asked.query()?;
        let known = asked.known()?;
        let tenant = of_tenant.tenant.as_deref();
        let kinds = [CertificateKind::Signing, CertificateKind::Encryption];
        if kinds.iter().all(|kind| known.head(tenant, *kind).is_none()) {
            return Err(AdminError::new(
                ErrorCode::NotFound,
                "there is no pair that could be rotated",
            ));
        }
        Ok(certificates::rotate(
            &known, &of_tenant, entered, error, asked.now,
        ))
    },
    perform: |asked, entered| {
        let of_tenant: OfTenant = asked.query()?;
        let rotation = RotateCertificates {
            signing_key: entered.optional("signing_key"),
            encryption_key: entered.optional("encryption_key"),
            new_keys: entered.field("new_keys") == "yes",
            bits: None,
            tenant: of_tenant.tenant,
            label: entered.optional("label"),
        };
        let rotated = asked.administration.rotate_certificates(&rotation)?;
        let path = CERTIFICATE.path_of(&rotated.signing.certificate.thumbprint);
        Ok((Path::or_start(path), Notice::CertificatesRotated))
    },
};

pub(crate) const SET_HEAD: Act = Act {
    page: |asked, entered, error| shown(asked, Change::Head, entered, error),
    perform: |asked, _| {
        let certificate = asked.administration.certificate(&asked.thumbprint()?)?;
        let is_tenants = crate::pairs::tenant(&certificate.certificate).is_some();
        let change = SetCertificate {
            primary: !is_tenants,
            head: is_tenants,
            ..SetCertificate::default()
        };
        set(asked, &change, Notice::CertificateHead)
    },
};

pub(crate) const LABEL: Act = Act {
    page: |asked, entered, error| shown(asked, Change::Label, entered, error),
    perform: |asked, entered| {
        let change = SetCertificate {
            label: Some(entered.field("label").to_owned()),
            ..SetCertificate::default()
        };
        set(asked, &change, Notice::CertificateLabelled)
    },
};

pub(crate) const ENABLE: Act = Act {
    page: |asked, entered, error| shown(asked, Change::Enable, entered, error),
    perform: |asked, _| {
        asked
            .administration
            .enable_certificate(&asked.thumbprint()?)?;
        Ok(done(asked, Notice::CertificateEnabled))
    },
};

pub(crate) const DISABLE: Act = Act {
    page: |asked, entered, error| shown(asked, Change::Disable, entered, error),
    perform: |asked, _| {
        asked
            .administration
            .disable_certificate(&asked.thumbprint()?)?;
        Ok(done(asked, Notice::CertificateDisabled))
    },
};

pub(crate) const RETIRE: Act = Act {
    page: |asked, entered, error| shown(asked, Change::Retire, entered, error),
    perform: |asked, _| {
        asked
            .administration
            .retire_certificate(&asked.thumbprint()?)?;
        Ok(done(asked, Notice::CertificateRetired))
    },
};

pub(crate) const COMPROMISE: Act = Act {
    page: |asked, entered, error| shown(asked, Change::Compromise, entered, error),
    perform: |asked, entered| {
        let since = entered.optional("since");
        let change = SetCertificate {
            compromised_since: Some(since.unwrap_or_else(|| "now".to_owned())),
            ..SetCertificate::default()
        };
        set(asked, &change, Notice::CertificateCompromised)
    },
};

pub(crate) const REMOVE: Act = Act {
    page: |asked, entered, error| shown(asked, Change::Remove, entered, error),
    perform: |asked, entered| {
        let options = RemoveCertificate {
            even_if_needed: entered.field("even_if_needed") == "yes",
        };
        asked
            .administration
            .remove_certificate(&asked.thumbprint()?, &options)?;
        Ok((CERTIFICATES.fixed_path(), Notice::CertificateRemoved))
    },
};

/// The page of a change of the certificate that the path names.
fn shown(
    asked: &Asked<'_>,
    change: Change,
    entered: &Entered,
    error: Option<&AdminError>,
) -> Result<Page, AdminError> {
    let known = asked.known()?;
    let certificate = known.one(asked.segment).ok_or_else(no_such_certificate)?;
    Ok(certificate::change(
        certificate,
        change,
        &known,
        entered,
        (error, asked.now),
    ))
}

fn set(asked: &Asked<'_>, change: &SetCertificate, notice: Notice) -> Done {
    asked
        .administration
        .set_certificate(&asked.thumbprint()?, change)?;
    Ok(done(asked, notice))
}

fn done(asked: &Asked<'_>, notice: Notice) -> (Path, Notice) {
    (Path::or_start(CERTIFICATE.path_of(asked.segment)), notice)
}
