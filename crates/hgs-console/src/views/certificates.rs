//! The guardian's pairs and signers, and the rotation of a pair.

#[cfg(test)]
pub(super) mod tests;

use hgs_admin::AdminError;
use hgs_admin::types::{Certificate, CertificateKind, Signer};
use hgs_pki::{Time, ValidityStatus};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::{After, counted, signers};
use crate::acts::Entered;
use crate::elements::{
    self, Button, Condition, Field, act_link, beginning, commands, condition, digest, form, link,
    table, text, time, word,
};
use crate::pairs::{Known, Need, Standing, how_far, is_in_token, makes_pairs, name};
use crate::routes::certificates::{CERTIFICATE, CERTIFICATES, ROTATE_CERTIFICATES};
use crate::routes::tenants::TENANTS;
use crate::{Page, Path, Viewer};

/// Certificates of one lineage on one page.
pub(crate) const PAGE: usize = 100;

/// Whose pair is meant: a tenant's, or the fabric's.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OfTenant {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
}

pub(crate) fn page(
    known: &Known,
    signers: &[Signer],
    wanted: &After,
    viewer: &Viewer,
    now: Time,
) -> Page {
    let others: Vec<_> = known
        .certificates
        .iter()
        .filter(|one| !makes_pairs(one))
        .map(|one| row(one, known, now))
        .collect();
    let body = html! {
        section aria-labelledby="fabric" {
            h2 id="fabric" { "Pairs of the fabric" }
            p { "Protectors are made for the primary pair. The others open those that were made for them, and each roll hands the machine on to the primary pair." }
            p.acts { (rotate_link(None, known, viewer)) }
            (pairs(known, None, wanted.after.as_deref(), now))
            (removed(known))
        }
        section aria-labelledby="metadata" {
            h2 id="metadata" { "Signers of the metadata" }
            @if others.is_empty() { p { "There are none: see what needs attention on the overview." } }
            @else { (table("Communications certificates", &HEADINGS[..5], &others)) }
            p.help { code { "hgs server set --communications-certificate THUMBPRINT" } " chooses the one that signs. Its key opens nothing." }
        }
        (signers::section(signers, viewer, now))
    };
    Page::new("Keys and certificates", body).live()
}

const HEADINGS: [&str; 6] = [
    "Certificate",
    "For",
    "Standing",
    "Key",
    "Ends",
    "Still needed",
];

impl OfTenant {
    pub(crate) fn new(tenant: &str) -> Self {
        Self {
            tenant: Some(tenant.to_owned()),
        }
    }

    /// The page of the tenant, or that of the fabric's pairs.
    pub(crate) fn page(&self) -> Path {
        match self.tenant {
            Some(_) => TENANTS.fixed_path().with_query(self),
            None => CERTIFICATES.fixed_path(),
        }
    }
}

/// The certificates of a tenant or of the fabric, those that make pairs, and of these those that follow `after`.
pub(crate) fn pairs(known: &Known, tenant: Option<&str>, after: Option<&str>, now: Time) -> Markup {
    let all = known.of(tenant);
    let begin = after.and_then(|after| all.iter().position(|one| one.thumbprint == after));
    let rest = all.get(begin.map_or(0, |begin| begin + 1)..);
    let rest = rest.unwrap_or_default();
    let shown: Vec<_> = rest.iter().take(PAGE).collect();
    let rows: Vec<_> = shown.iter().map(|one| row(one, known, now)).collect();
    html! {
        @if all.is_empty() && tenant.is_none() {
            div.first-step {
                p { strong { "The first step: " } "without a pair nothing is released. On the guardian's machine, run" }
                (commands("first-pair", "hgs certificate new --type signing --primary\nhgs certificate new --type encryption --primary"))
            }
        } @else {
            (table("Signing and encryption certificates, those that protectors are made for first", &HEADINGS, &rows))
        }
        @if let Some(last) = shown.last().filter(|_| rest.len() > PAGE) {
            @let next = [("tenant", tenant), ("after", Some(last.thumbprint.as_str()))];
            @let next: Vec<_> = next.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            @let screen = if tenant.is_some() { &TENANTS } else { &CERTIFICATES };
            p { (link(Some(&screen.fixed_path().with_query(&next)), "The next certificates")) }
        }
    }
}

fn row(certificate: &Certificate, known: &Known, now: Time) -> Vec<Markup> {
    let path = CERTIFICATE.path_of(&certificate.thumbprint);
    vec![
        html! { (link(path.as_ref(), name(certificate))) " " code.word { (beginning(&certificate.thumbprint)) "…" } },
        word(certificate.kind.name()),
        standing(certificate),
        key(certificate),
        end(&certificate.not_after, now),
        match makes_pairs(certificate) {
            true => need(known.need(certificate), now),
            false => html! {},
        },
    ]
}

pub(crate) fn standing(certificate: &Certificate) -> Markup {
    match Standing::of(certificate) {
        Standing::Primary => condition(Condition::Good, "primary"),
        Standing::Head => condition(Condition::Good, "head"),
        Standing::Enabled => condition(Condition::Neutral, "enabled"),
        Standing::Retired => condition(Condition::Neutral, "retired"),
        Standing::Disabled => condition(Condition::Attention, "disabled"),
        Standing::Compromised => condition(Condition::Bad, "compromised"),
    }
}

/// Where a key is, and whether it can be used.
pub(crate) fn key(certificate: &Certificate) -> Markup {
    html! {
        @match is_in_token(certificate) {
            true => code { (certificate.key) },
            false => "software key",
        }
        @if !certificate.usable { " " (condition(Condition::Bad, "can't be used here")) }
        @if let Some(nodes) = &certificate.nodes {
            @match nodes.is_empty() {
                true => " of no node",
                false => { " of " (nodes.join(", ")) },
            }
        }
    }
}

pub(crate) fn end(end: &str, now: Time) -> Markup {
    html! {
        (time(end, now))
        @match how_far(end, now) {
            ValidityStatus::Expired => { " " (condition(Condition::Attention, "expired")) },
            ValidityStatus::ExpiresSoon => { " " (condition(Condition::Attention, "soon")) },
            ValidityStatus::Valid | ValidityStatus::NotYetValid => {},
        }
    }
}

/// Whether a certificate is still needed, and so when it can go.
pub(crate) fn need(need: Need<'_>, now: Time) -> Markup {
    match need {
        Need::IsHead => text("yes: protectors are made for it"),
        Need::Protectors(count, last) => html! {
            "yes: " (counted(count, "protector")) ", the last opened "
            @match last { Some(last) => (time(last, now)), None => "at an unknown time" }
        },
        Need::ShutsOut => text("yes: its record shuts the key out"),
        Need::Nothing => condition(Condition::Neutral, "no: it can go"),
    }
}

/// Protectors that a certificate opened last that is gone.
fn removed(known: &Known) -> Markup {
    html! {
        @for usage in known.removed() {
            div.warning {
                p { strong { (counted(usage.protectors, "protector")) } " may open with no certificate that is here. They were last opened by one that was removed: " (digest(&usage.thumbprint)) }
                p { "What to do: if their machines are still wanted, add the certificate again from your backup, with " code { "hgs certificate add" } "." }
            }
        }
    }
}

/// A link to the rotation of a pair, where there is one.
pub(crate) fn rotate_link(tenant: Option<&str>, known: &Known, viewer: &Viewer) -> Markup {
    let kinds = [CertificateKind::Signing, CertificateKind::Encryption];
    let has_pair = kinds.iter().any(|kind| known.head(tenant, *kind).is_some());
    let of_tenant = tenant.map(OfTenant::new).unwrap_or_default();
    let path = ROTATE_CERTIFICATES.fixed_path().with_query(&of_tenant);
    let path = Some(path).filter(|_| has_pair && viewer.may(ROTATE_CERTIFICATES.operations));
    act_link(path.as_ref(), "Rotate the pair")
}

/// A field for the place of a key in a token. What may hold a PIN is not shown again.
pub(crate) fn key_field(
    name: &'static str,
    label: &'static str,
    entered: &Entered,
    is_required: bool,
) -> Markup {
    let help = match is_required {
        true => {
            "Where it is in a token, such as pkcs11:token=hgs;object=signing-2027, or sealed for a software key."
        }
        false => {
            "Where it is in a token, such as pkcs11:token=hgs;object=signing-2027. Empty for a software key."
        }
    };
    let value = entered.field(name);
    let shown = if value.contains("pin-value") {
        ""
    } else {
        value
    };
    let field = Field::new(name, label, help).value(shown);
    field.required_if(is_required).line()
}

pub(crate) fn new_keys(entered: &Entered) -> Markup {
    let field = Field::new(
        "new_keys",
        "Make keys in the token that are not there yet",
        "Without it, a key that is named and not there is an error.",
    )
    .entered(entered);
    field.check_box()
}

pub(crate) fn label_field(entered: &Entered, help: &'static str) -> Markup {
    let field = Field::new("label", "Label", help).entered(entered);
    field.line()
}

pub(crate) fn rotate(
    known: &Known,
    of_tenant: &OfTenant,
    entered: &Entered,
    error: Option<&AdminError>,
    now: Time,
) -> Page {
    let tenant = of_tenant.tenant.as_deref();
    let back = of_tenant.page();
    let path = ROTATE_CERTIFICATES.fixed_path().with_query(of_tenant);
    let button = Button {
        text: "Rotate the pair",
        is_dangerous: true,
        back: Some(&back),
    };
    let (signing, encryption) = (
        known.head(tenant, CertificateKind::Signing),
        known.head(tenant, CertificateKind::Encryption),
    );
    let heads: Vec<_> = [signing, encryption]
        .into_iter()
        .flatten()
        .map(|one| row(one, known, now))
        .collect();
    let in_token = |head: Option<&Certificate>| head.is_some_and(is_in_token);
    let fields = html! {
        (label_field(entered, "Of both certificates, such as the year."))
        (key_field("signing_key", "New signing key", entered, in_token(signing)))
        (key_field("encryption_key", "New encryption key", entered, in_token(encryption)))
        (new_keys(entered))
    };
    let whose = match tenant {
        Some(tenant) => format!("the pair of {tenant}"),
        None => "the fabric's pair".to_owned(),
    };
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "Both halves are renewed in one step, or none:" }
        ol {
            li { "A new signing and a new encryption key are made, with their certificates." }
            li { "Both take over. Protectors are made for them from then on" @if tenant.is_none() { ", and the metadata names them" } "." }
            li { "The pair of now stays enabled. It opens what was made for it, and each roll hands the machine on to the new pair." }
        }
        p { "Afterwards: tell the owners the new thumbprint as you told the old one, back up the state, and retire the old pair when nothing needs it." }
        (table("They are handed on", &HEADINGS, &heads))
        (form(&path, button, &fields))
    };
    Page::new(format!("Rotate {whose}"), body)
}
