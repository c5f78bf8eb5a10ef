//! Screens and acts about the guardian's keys.

use hgs_admin::types::DigestPageQuery;
use hgs_admin::{AdminError, Administration as _, ErrorCode, OPERATIONS, Operation};
use hgs_pki::Thumbprint;

use super::{Asked, Download, Route, Serves};
use crate::acts::{certificates as acts, signers as signer_acts};
use crate::pairs::Known;
use crate::views::{After, certificate, certificates};

impl Asked<'_> {
    /// The certificate that the path names.
    pub(crate) fn thumbprint(&self) -> Result<Thumbprint, AdminError> {
        self.segment.parse().map_err(AdminError::invalid)
    }

    /// All certificates, with what they are needed for.
    pub(crate) fn known(&self) -> Result<Known, AdminError> {
        Ok(Known {
            certificates: self
                .administration
                .certificates(&DigestPageQuery::default())?,
            usage: self.administration.certificate_usage()?,
        })
    }
}

pub(crate) fn no_such_certificate() -> AdminError {
    AdminError::new(ErrorCode::NotFound, "there is no such certificate")
}

pub(crate) static CERTIFICATES: Route = Route {
    name: "certificates",
    path: "/certificates",
    menu: Some("Keys and certificates"),
    operations: &[
        &OPERATIONS.certificates,
        &OPERATIONS.certificate_usage,
        &OPERATIONS.signers,
    ],
    serves: Serves::Screen(|asked| {
        let wanted: After = asked.query()?;
        let known = asked.known()?;
        let signers = asked.administration.signers(&DigestPageQuery::default())?;
        Ok(certificates::page(
            &known,
            &signers,
            &wanted,
            asked.viewer,
            asked.now,
        ))
    }),
};

pub(crate) static CERTIFICATE: Route = Route {
    name: "certificate",
    path: "/certificates/{certificate}",
    menu: None,
    operations: &[
        &OPERATIONS.certificate,
        &OPERATIONS.certificates,
        &OPERATIONS.certificate_usage,
    ],
    serves: Serves::Screen(|asked| {
        let detail = asked.administration.certificate(&asked.thumbprint()?)?;
        let known = asked.known()?;
        Ok(certificate::page(&detail, &known, asked.viewer, asked.now))
    }),
};

pub(crate) static GUARDIAN_DOCUMENT: Route = Route {
    name: "guardian-document",
    path: "/certificates/{certificate}/guardian",
    menu: None,
    operations: &[&OPERATIONS.guardian_document],
    serves: Serves::Screen(|asked| {
        let document = asked
            .administration
            .guardian_document(&asked.thumbprint()?)?;
        Ok(certificate::document(&document, asked.segment))
    }),
};

pub(crate) static GUARDIAN_FILE: Route = Route {
    name: "guardian-file",
    path: "/certificates/{certificate}/guardian.xml",
    menu: None,
    operations: &[&OPERATIONS.guardian_document],
    serves: Serves::Download(|asked| {
        let document = asked
            .administration
            .guardian_document(&asked.thumbprint()?)?;
        Ok(Download {
            name: certificate::GUARDIAN_FILE_NAME,
            content_type: "application/xml; charset=utf-8",
            contents: document.document,
        })
    }),
};

/// What an act asks of one certificate: beside the change, how the certificates stand.
const fn changing(change: &'static Operation) -> [&'static Operation; 3] {
    [
        change,
        &OPERATIONS.certificates,
        &OPERATIONS.certificate_usage,
    ]
}

pub(crate) static ROTATE_CERTIFICATES: Route = Route {
    name: "rotate-certificates",
    path: "/rotate-certificates",
    menu: None,
    operations: &changing(&OPERATIONS.rotate_certificates),
    serves: Serves::Act(acts::ROTATE),
};

pub(crate) static SET_HEAD: Route = Route {
    name: "set-head",
    path: "/certificates/{certificate}/head",
    menu: None,
    operations: &changing(&OPERATIONS.set_certificate),
    serves: Serves::Act(acts::SET_HEAD),
};

pub(crate) static LABEL_CERTIFICATE: Route = Route {
    name: "label-certificate",
    path: "/certificates/{certificate}/label",
    menu: None,
    operations: &changing(&OPERATIONS.set_certificate),
    serves: Serves::Act(acts::LABEL),
};

pub(crate) static ENABLE_CERTIFICATE: Route = Route {
    name: "enable-certificate",
    path: "/certificates/{certificate}/enable",
    menu: None,
    operations: &changing(&OPERATIONS.enable_certificate),
    serves: Serves::Act(acts::ENABLE),
};

pub(crate) static DISABLE_CERTIFICATE: Route = Route {
    name: "disable-certificate",
    path: "/certificates/{certificate}/disable",
    menu: None,
    operations: &changing(&OPERATIONS.disable_certificate),
    serves: Serves::Act(acts::DISABLE),
};

pub(crate) static RETIRE_CERTIFICATE: Route = Route {
    name: "retire-certificate",
    path: "/certificates/{certificate}/retire",
    menu: None,
    operations: &changing(&OPERATIONS.retire_certificate),
    serves: Serves::Act(acts::RETIRE),
};

pub(crate) static COMPROMISE_CERTIFICATE: Route = Route {
    name: "compromise-certificate",
    path: "/certificates/{certificate}/compromised",
    menu: None,
    operations: &changing(&OPERATIONS.set_certificate),
    serves: Serves::Act(acts::COMPROMISE),
};

pub(crate) static REMOVE_CERTIFICATE: Route = Route {
    name: "remove-certificate",
    path: "/certificates/{certificate}/remove",
    menu: None,
    operations: &changing(&OPERATIONS.remove_certificate),
    serves: Serves::Act(acts::REMOVE),
};

pub(crate) static ADD_SIGNER: Route = Route {
    name: "add-signer",
    path: "/add-signer",
    menu: None,
    operations: &[&OPERATIONS.add_signer],
    serves: Serves::Act(signer_acts::ADD),
};

pub(crate) static LIMIT_SIGNER: Route = Route {
    name: "limit-signer",
    path: "/signers/{signer}/limits",
    menu: None,
    operations: &[&OPERATIONS.set_signer, &OPERATIONS.signers],
    serves: Serves::Act(signer_acts::LIMIT),
};

pub(crate) static RETIRE_SIGNER: Route = Route {
    name: "retire-signer",
    path: "/signers/{signer}/retire",
    menu: None,
    operations: &[&OPERATIONS.retire_signer, &OPERATIONS.signers],
    serves: Serves::Act(signer_acts::RETIRE),
};

pub(crate) static REMOVE_SIGNER: Route = Route {
    name: "remove-signer",
    path: "/signers/{signer}/remove",
    menu: None,
    operations: &[&OPERATIONS.remove_signer, &OPERATIONS.signers],
    serves: Serves::Act(signer_acts::REMOVE),
};
