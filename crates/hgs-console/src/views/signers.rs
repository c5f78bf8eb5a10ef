//! Signers of health certificates, and what is done to them.

use hgs_admin::AdminError;
use hgs_admin::types::{Signer, SignerStage};
use hgs_pki::Time;
use maud::{Markup, html};

use super::certificates::{end, label_field};
use crate::acts::Entered;
use crate::elements::{
    self, Button, Condition, Field, act_link, condition, digest, facts, form, table, text, time,
};
use crate::routes::Route;
use crate::routes::certificates::{
    ADD_SIGNER, CERTIFICATES, LIMIT_SIGNER, REMOVE_SIGNER, RETIRE_SIGNER,
};
use crate::{Page, Path, Viewer};

pub(crate) fn section(signers: &[Signer], viewer: &Viewer, now: Time) -> Markup {
    let rows: Vec<_> = signers.iter().map(|one| row(one, viewer, now)).collect();
    let headings = ["Signer", "Standing", "Ends", "Refused of it", "Acts"];
    let add = Some(ADD_SIGNER.fixed_path()).filter(|_| viewer.may(ADD_SIGNER.operations));
    html! {
        section aria-labelledby="signers" {
            h2 id="signers" { "Signers of health certificates" }
            p { "The guardian makes and renews its own. Those of another cluster are believed once they are added." }
            p.acts { (act_link(add.as_ref(), "Believe the signer of another cluster")) }
            @if rows.is_empty() { p { "There are none yet: hosts can't attest. The guardian makes one within a minute, or its log says why not." } }
            @else { (table("Signers, the guardian's own first", &headings, &rows)) }
        }
    }
}

fn row(signer: &Signer, viewer: &Viewer, now: Time) -> Vec<Markup> {
    let act = |route: &'static Route| route.path_for(viewer, &signer.thumbprint);
    let retires = matches!(signer.stage, SignerStage::Pending | SignerStage::Active);
    let retire = act(&RETIRE_SIGNER).filter(|_| retires);
    vec![
        html! { (name(signer)) " " (digest(&signer.thumbprint)) },
        stage(signer),
        end(&signer.not_after, now),
        limits(signer, now),
        html! {
            (act_link(act(&LIMIT_SIGNER).as_ref(), "Refuse some")) " "
            (act_link(retire.as_ref(), "Retire")) " "
            (act_link(act(&REMOVE_SIGNER).as_ref(), "Remove"))
        },
    ]
}

fn name(signer: &Signer) -> &str {
    signer.label.as_deref().unwrap_or(&signer.subject)
}

fn stage(signer: &Signer) -> Markup {
    match signer.stage {
        SignerStage::Active => condition(Condition::Good, "signs now"),
        SignerStage::Pending => condition(Condition::Neutral, "signs next"),
        SignerStage::Retired => condition(Condition::Neutral, "signs no more"),
        SignerStage::Trusted => condition(Condition::Neutral, "of another cluster"),
    }
}

/// Which of its health certificates are refused.
fn limits(signer: &Signer, now: Time) -> Markup {
    let is_without = signer.deny_before.is_none()
        && signer.denied_serial_numbers == 0
        && signer.maximum_validity_seconds.is_none();
    html! {
        @if is_without { span.none { "none" } }
        @if let Some(before) = &signer.deny_before { div { "issued before " (time(before, now)) } }
        @if signer.denied_serial_numbers > 0 { div { (signer.denied_serial_numbers) " by serial number" } }
        @if let Some(seconds) = signer.maximum_validity_seconds { div { "valid for more than " (span(seconds)) } }
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        3600 => "1 hour".to_owned(),
        seconds if seconds % 3600 == 0 => format!("{} hours", seconds / 3600),
        seconds => format!("{seconds} seconds"),
    }
}

fn about(signer: &Signer, now: Time) -> Markup {
    facts([
        (
            "Signer",
            html! { (name(signer)) " " (digest(&signer.thumbprint)) },
        ),
        ("Subject", text(&signer.subject)),
        ("Standing now", stage(signer)),
        ("Ends", end(&signer.not_after, now)),
        ("Refused of it now", limits(signer, now)),
    ])
}

fn hours(entered: &Entered) -> Markup {
    let field = Field::new(
        "hours",
        "Refuse those valid for more than so many hours",
        "Of a signer of another cluster. Empty to leave it as it is.",
    )
    .entered(entered);
    field.line()
}

pub(crate) fn add(entered: &Entered, error: Option<&AdminError>) -> Page {
    let back = CERTIFICATES.fixed_path();
    let button = Button {
        text: "Believe this signer",
        is_dangerous: true,
        back: Some(&back),
    };
    let certificate = Field::new(
        "certificate",
        "Certificate",
        "Of the signer, in PEM. hgs signer list --json of the other guardian has it.",
    )
    .entered(entered)
    .required();
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "Hosts that the other guardian finds healthy get keys here, as its policies have it, not yours. Compare the certificate's thumbprint with the other guardian's administrators first, by another way." }
        (form(&ADD_SIGNER.fixed_path(), button, &html! {
            (certificate.lines())
            (label_field(entered, "For people, such as the other cluster's name."))
            (hours(entered))
        }))
    };
    Page::new("Believe the signer of another cluster", body)
}

pub(crate) fn limit(
    signer: &Signer,
    entered: &Entered,
    error: Option<&AdminError>,
    now: Time,
) -> Page {
    let back = CERTIFICATES.fixed_path();
    let path = Path::or_start(LIMIT_SIGNER.path_of(&signer.thumbprint));
    let button = Button {
        text: "Refuse them",
        is_dangerous: true,
        back: Some(&back),
    };
    let field = |name, label, help| Field::new(name, label, help).entered(entered);
    let before = field(
        "deny_before",
        "Refuse those issued before",
        "A time up to now, such as 2026-01-31T00:00:00Z; none to refuse no longer; empty to leave it as it is.",
    );
    let deny = field(
        "deny",
        "Refuse those with these serial numbers",
        "In hexadecimal, with spaces between them.",
    );
    let allow = field(
        "allow",
        "No longer refuse those with these serial numbers",
        "In hexadecimal, with spaces between them.",
    );
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "Hosts whose health certificate is refused get no keys until they attest again, which they do by themselves where this guardian attests them." }
        (about(signer, now))
        (form(&path, button, &html! {
            (before.line()) (deny.line()) (allow.line())
            @if !signer.own { (hours(entered)) }
        }))
    };
    Page::new(
        format!("Refuse health certificates of {}", name(signer)),
        body,
    )
}

pub(crate) fn retire(signer: &Signer, error: Option<&AdminError>, now: Time) -> Page {
    let what = html! {
        p { "It signs no more, and another one takes over at once. What it signed is accepted until it ends: no host has to attest earlier." }
        p { "It is no remedy for a key that others know: remove the signer then." }
        p { strong { "This can't be undone." } }
    };
    act(
        signer,
        "Retire the signer",
        &RETIRE_SIGNER,
        &what,
        error,
        now,
    )
}

pub(crate) fn remove(signer: &Signer, error: Option<&AdminError>, now: Time) -> Page {
    let what = html! {
        @match signer.own {
            true => p { "All health certificates that it signed are refused at once, and another one takes its place: every host must attest again before it gets a key, which hosts do by themselves within minutes." },
            false => p { "Hosts of that cluster get no keys here from then on. To undo it, add the signer again." },
        }
    };
    act(
        signer,
        "Remove the signer",
        &REMOVE_SIGNER,
        &what,
        error,
        now,
    )
}

fn act(
    signer: &Signer,
    said: &'static str,
    route: &'static Route,
    what: &Markup,
    error: Option<&AdminError>,
    now: Time,
) -> Page {
    let back = CERTIFICATES.fixed_path();
    let path = Path::or_start(route.path_of(&signer.thumbprint));
    let button = Button {
        text: said,
        is_dangerous: true,
        back: Some(&back),
    };
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        (what)
        (about(signer, now))
        (form(&path, button, &html! {}))
    };
    Page::new(format!("{said}: {}", name(signer)), body)
}
