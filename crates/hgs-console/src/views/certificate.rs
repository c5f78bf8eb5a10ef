//! One certificate of the guardian, and what is done to it.

use hgs_admin::AdminError;
use hgs_admin::types::{Certificate, CertificateDetail, GuardianDocument};
use hgs_kps::Label;
use hgs_pki::Time;
use maud::{Markup, html};

use super::certificates::OfTenant;
use super::certificates::{end, key, need, standing};
use crate::acts::Entered;
use crate::elements::{
    self, Button, Field, act_link, button_link, commands, digest, facts, form, link, or_none, text,
    time,
};
use crate::pairs::{Change, Known, Need, is_in_token, makes_pairs, name, tenant};
use crate::routes::Route;
use crate::routes::certificates::{
    CERTIFICATE, COMPROMISE_CERTIFICATE, DISABLE_CERTIFICATE, ENABLE_CERTIFICATE,
    GUARDIAN_DOCUMENT, GUARDIAN_FILE, LABEL_CERTIFICATE, REMOVE_CERTIFICATE, RETIRE_CERTIFICATE,
    SET_HEAD,
};
use crate::{Page, Path, Viewer};

/// The acts, in the order of their links.
const CHANGES: [Change; 7] = [
    Change::Head,
    Change::Label,
    Change::Enable,
    Change::Disable,
    Change::Retire,
    Change::Remove,
    Change::Compromise,
];

impl Change {
    fn route(self) -> &'static Route {
        match self {
            Self::Head => &SET_HEAD,
            Self::Label => &LABEL_CERTIFICATE,
            Self::Enable => &ENABLE_CERTIFICATE,
            Self::Disable => &DISABLE_CERTIFICATE,
            Self::Retire => &RETIRE_CERTIFICATE,
            Self::Compromise => &COMPROMISE_CERTIFICATE,
            Self::Remove => &REMOVE_CERTIFICATE,
        }
    }

    /// What the link, the title and the button say.
    fn said(self, certificate: &Certificate) -> &'static str {
        match self {
            Self::Head if tenant(certificate).is_some() => "Make it the head",
            Self::Head => "Make it primary",
            Self::Label => "Change its label",
            Self::Enable => "Enable",
            Self::Disable => "Disable",
            Self::Retire => "Retire",
            Self::Compromise => "Mark as compromised",
            Self::Remove => "Remove",
        }
    }

    fn is_dangerous(self) -> bool {
        !matches!(self, Self::Label | Self::Enable)
    }
}

pub(crate) fn page(detail: &CertificateDetail, known: &Known, viewer: &Viewer, now: Time) -> Page {
    let certificate = &detail.certificate;
    let thumbprint = &certificate.thumbprint;
    let possible = CHANGES
        .iter()
        .filter(|change| change.is_possible(certificate));
    let document = GUARDIAN_DOCUMENT
        .path_for(viewer, thumbprint)
        .filter(|_| makes_pairs(certificate));
    let body = html! {
        p.acts {
            @for change in possible { (act_link(change.route().path_for(viewer, thumbprint).as_ref(), change.said(certificate))) " " }
        }
        @if !certificate.usable {
            div.warning { p { strong { "Its key can't be used here." } " What to do: run " code { "hgs trace" } " on this machine; it names the token or the file that is missing." } }
        }
        @if let Some(since) = &certificate.compromised {
            div.warning { p { strong { "Compromised since " (time(since, now)) "." } " Every roll shuts this key out. Power every machine on once, and destroy older copies of their protectors." } }
        }
        (facts([
            ("For", text(certificate.kind.name())),
            ("Standing", standing(certificate)),
            ("Of", match tenant(certificate) { Some(tenant) => html! { "the tenant " (link(Some(&OfTenant::new(tenant.as_str()).page()), tenant.as_str())) }, None => text("the fabric") }),
            ("Still needed", html! { @if makes_pairs(certificate) { (need(known.need(certificate), now)) } @else { "by what it signs" } }),
            ("Label", or_none(certificate.label.as_deref())),
            ("Key", html! { (key(certificate)) ", RSA of " (certificate.key_bits) " bits" }),
            ("Begins", time(&certificate.not_before, now)),
            ("Ends", end(&certificate.not_after, now)),
            ("Added", time(&certificate.added, now)),
            ("Subject", text(&certificate.subject)),
            ("Issuer", text(&detail.issuer)),
            ("Serial number", digest(&detail.serial_number)),
            ("SHA-256 thumbprint", digest(thumbprint)),
            ("SHA-1 thumbprint (Windows)", digest(&detail.sha1_thumbprint)),
        ]))
        @if document.is_some() {
            p { (link(document.as_ref(), "The document that owners import")) " has the pair for which protectors are made now." }
        }
        section aria-labelledby="pem" {
            h2 id="pem" { "Certificate" }
            (commands("certificate", &detail.pem))
        }
    };
    let title = format!(
        "{}, {} certificate",
        name(certificate),
        certificate.kind.name()
    );
    Page::new(title, body).live()
}

/// The name that the file with the document for owners gets.
pub(crate) const GUARDIAN_FILE_NAME: &str = "guardian.xml";

/// What owners import of a lineage, which is that of a certificate.
pub(crate) fn document(document: &GuardianDocument, certificate: &str) -> Page {
    let file = GUARDIAN_FILE.path_of(certificate);
    let body = html! {
        p { "Give this document to the owner. Tell the thumbprint by another way, such as by telephone or on paper: whoever could change both could put another guardian in its place." }
        (facts([
            ("Lineage", text(&document.lineage)),
            ("Thumbprint of the signing certificate", digest(&document.signing)),
            ("Thumbprint of the encryption certificate", digest(&document.encryption)),
        ]))
        p.buttons { @if let Some(file) = &file { (button_link(file, "Download the document")) } }
        p { "The owner imports the file:" }
        (commands("import", &format!("hgs guardian import NAME {GUARDIAN_FILE_NAME} --thumbprint {}", document.signing)))
        section aria-labelledby="xml" {
            h2 id="xml" { "Document" }
            (commands("document", &document.document))
        }
    };
    Page::new("Document for owners", body)
}

/// `error` is with the time.
pub(crate) fn change(
    certificate: &Certificate,
    change: Change,
    known: &Known,
    entered: &Entered,
    (error, now): (Option<&AdminError>, Time),
) -> Page {
    let said = change.said(certificate);
    let back = Path::or_start(CERTIFICATE.path_of(&certificate.thumbprint));
    let path = Path::or_start(change.route().path_of(&certificate.thumbprint));
    let button = Button {
        text: said,
        is_dangerous: change.is_dangerous(),
        back: Some(&back),
    };
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        (consequence(certificate, change, known))
        (facts([
            ("Certificate", html! { (name(certificate)) " " (digest(&certificate.thumbprint)) }),
            ("For", text(certificate.kind.name())),
            ("Of", match tenant(certificate) { Some(tenant) => html! { "the tenant " (tenant.as_str()) }, None => text("the fabric") }),
            ("Standing now", standing(certificate)),
            ("Key", key(certificate)),
            ("Still needed", need(known.need(certificate), now)),
        ]))
        (form(&path, button, &fields(certificate, change, known, entered)))
    };
    Page::new(format!("{said}: {}", name(certificate)), body)
}

/// What a change does, and how it is taken back.
fn consequence(certificate: &Certificate, change: Change, known: &Known) -> Markup {
    let tenant = tenant(certificate);
    let former = known.head(tenant.as_ref().map(Label::as_str), certificate.kind);
    match change {
        Change::Head => html! {
            p { "Protectors are made for it from then on, and each roll hands machines on to it" @if tenant.is_none() { "; the metadata names it" } "." }
            @if let Some(former) = former { p { (name(former)) " hands over to it, and stays enabled. To undo it, make that one the head again." } }
            p { "This changes one half of the pair. A rotation renews both." }
        },
        Change::Label => html! { p { "The label is for people, here and in lists." } },
        Change::Enable => html! { p { "It opens protectors and signs again." } },
        Change::Disable => html! {
            p { "It opens no protector and signs none. Machines whose protectors only it opens can't start until it is enabled again: nothing is lost." }
            @if certificate.head { p { strong { "It is the head of its tenant, and stops being that." } " Enabling it does not make it the head again." } }
        },
        Change::Retire => html! {
            p { "It can never become a head again. It goes on opening and signing as before." }
            p { strong { "This can't be undone." } }
        },
        Change::Compromise => html! {
            p { "Every certificate over the same key is marked. Every roll hands the machine's key to the new pair and shuts this key out; so power every machine on once afterwards, and destroy older copies of their protectors, which the key still opens." }
            p { "What it has signed is accepted only if this guardian has seen it before." }
            p { strong { "This can't be undone." } }
        },
        Change::Remove => html! {
            p { "The certificate is forgotten" @if !is_in_token(certificate) { ", and its software key with it, unless another certificate has the same key" } ". Machines whose protectors only it opens can never start again, nor can old copies of machines from its time." }
            p { "Rehearse it: disable the certificate first, and wait. Keep a backup of the state as long as you keep copies of machines." }
            p { strong { "This can't be undone." } }
        },
    }
}

fn fields(certificate: &Certificate, change: Change, known: &Known, entered: &Entered) -> Markup {
    match change {
        Change::Label => {
            let label = match entered.field("label") {
                "" => certificate.label.as_deref().unwrap_or_default(),
                label => label,
            };
            let field = Field::new("label", "Label", "Empty for none.");
            field.value(label).line()
        }
        Change::Compromise => {
            let field = Field::new(
                "since",
                "Since when others may know the key",
                "A time such as 2026-01-31T00:00:00Z. Empty for now.",
            )
            .entered(entered);
            field.line()
        }
        Change::Remove if known.need(certificate) != Need::Nothing => {
            let field = Field::new(
                "even_if_needed",
                "Remove it although it is needed",
                "Without it, the guardian refuses.",
            )
            .entered(entered);
            field.check_box()
        }
        Change::Head | Change::Enable | Change::Disable | Change::Retire | Change::Remove => {
            html! {}
        }
    }
}
