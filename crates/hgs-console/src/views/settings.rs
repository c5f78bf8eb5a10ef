//! What the incumbent's `Get-HgsServer` shows: URLs, modes, listeners.

use hgs_admin::types::{ServerSettings, Status};
use hgs_pki::Time;
use maud::{Markup, html};

use crate::Page;
use crate::elements::{Condition, condition, facts, table, text, time};

pub(crate) fn page(settings: &ServerSettings, status: &Status, now: Time) -> Page {
    let urls = |urls: &[String]| html! { @for url in urls { code { (url) } br; } };
    let body = html! {
        section aria-labelledby="urls" {
            h2 id="urls" { "For hosts" }
            (facts([
                ("AttestationUrl", urls(&status.attestation_urls)),
                ("KeyProtectionUrl", urls(&status.key_protection_urls)),
                ("AttestationOperationMode", text(settings.attestation_mode)),
            ]))
            p.help { "Change the mode with " code { "hgs server set --attestation-mode" } ", and the URLs by " code { "public_url" } " in the configuration." }
        }
        section aria-labelledby="listeners" {
            h2 id="listeners" { "Listeners" }
            (listeners(settings))
            p.help { "They are set in the configuration, and change at the next start." }
        }
        section aria-labelledby="rules" {
            h2 id="rules" { "Attestation and keys" }
            (facts(rules(settings, now)))
        }
        section aria-labelledby="place" {
            h2 id="place" { "This guardian" }
            (facts([
                ("Name", text(&settings.name)),
                ("Node", text(&settings.node)),
                ("Folder of the state", html! { code { (settings.state_folder) } }),
                ("File of the master key", html! { code { (settings.master_key_file) } }),
                ("Version", text(&status.version)),
            ]))
        }
        @if !settings.dangerous_settings.is_empty() {
            section aria-labelledby="dangerous" {
                h2 id="dangerous" { "Settings that weaken verification" }
                ul { @for setting in &settings.dangerous_settings { li { code { (setting) } } } }
                p { "Set them back as soon as what made them necessary is over." }
            }
        }
    };
    Page::new("Settings", body).live()
}

fn listeners(settings: &ServerSettings) -> Markup {
    let rows: Vec<_> = settings
        .listeners
        .iter()
        .map(|listener| vec![text(listener.name), html! { code { (listener.address) } }])
        .collect();
    table(
        "Where the guardian listens",
        &["Listener", "Address"],
        &rows,
    )
}

fn rules(settings: &ServerSettings, now: Time) -> Vec<(&'static str, Markup)> {
    let yes_or_no = |is: bool| text(if is { "yes" } else { "no" });
    vec![
        (
            "Health certificates are valid for",
            minutes(settings.health_certificate_seconds),
        ),
        (
            "Clocks of signers may be ahead by",
            html! { (settings.clock_skew_seconds) " seconds" },
        ),
        (
            "Hosts may announce their next boot",
            yes_or_no(settings.accept_next_boot_claims),
        ),
        (
            "Superseded protectors are refused",
            yes_or_no(settings.refuse_superseded_protectors),
        ),
        (
            "Hosts may keep released keys",
            match &settings.key_caching {
                None => text("no"),
                Some(caching) => {
                    html! { (caching.unwraps) " times, for " (caching.hours) " hours" }
                }
            },
        ),
        (
            "Re-key window",
            match &settings.rekey_window_until {
                None => text("closed"),
                Some(until) => {
                    html! { (condition(Condition::Attention, "open")) " until " (time(until, now)) }
                }
            },
        ),
    ]
}

fn minutes(seconds: u64) -> Markup {
    match seconds {
        seconds if seconds % 3600 == 0 => html! { (seconds / 3600) " hours" },
        seconds => html! { (seconds / 60) " minutes" },
    }
}
