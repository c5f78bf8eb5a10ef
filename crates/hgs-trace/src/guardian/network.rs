//! Names, addresses, TLS.

use super::certificates::valid;
use super::facts::{Facts, ListenerCertificate};
use super::state::found;
use crate::{Check, Group, Judgement, Reachability};

/// About the files of the TLS listeners.
pub(super) fn tls() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-N001",
            group: Group::Network,
            title: "the TLS certificate and its key can be used",
            fails_when: "a file can't be read, holds neither, or the key is not that of the certificate",
            remedy: "name the certificate and the key that belongs to it in [listen.https], or in [listen.api] for that listener",
            after: &["HGS-S001"],
            judge: usable,
        },
        Check {
            id: "HGS-N002",
            group: Group::Network,
            title: "not every user of the machine can read the TLS key",
            fails_when: "never; a key that every user of the machine can read warns",
            remedy: "run `chmod o-rwx` on the key's file, and have a new key certified",
            after: &["HGS-N001"],
            judge: key_is_private,
        },
        Check {
            id: "HGS-N003",
            group: Group::Network,
            title: "the TLS certificate is for the names in the published URLs",
            fails_when: "a published HTTPS URL has a name or address that is not among the certificate's",
            remedy: "have a certificate issued for that name, or set listen.https.public_url to a name that the certificate has and that hosts use",
            after: &["HGS-N001"],
            judge: |facts| names(https(facts)),
        },
        Check {
            id: "HGS-N004",
            group: Group::Network,
            title: "the TLS certificate is valid now",
            fails_when: "it has expired or is not valid yet; an end within 30 days warns",
            remedy: "have the TLS certificate renewed; the service takes up new files by itself",
            after: &["HGS-N001", "HGS-M001"],
            judge: |facts| tls_validity(facts, https(facts)),
        },
        Check {
            id: "HGS-N008",
            group: Group::Network,
            title: "the TLS certificate is not a certification authority's",
            fails_when: "its basic constraints say that it may issue certificates, as those of `openssl req -x509` do unless told otherwise; hosts accept such a certificate from no server",
            remedy: "have a certificate issued without CA:TRUE; with `openssl req -x509`, add `-addext basicConstraints=critical,CA:FALSE`",
            after: &["HGS-N001"],
            judge: |facts| authority(https(facts)),
        },
        Check {
            id: "HGS-N010",
            group: Group::Network,
            title: "the certificate of [listen.api] is for the name in its URL",
            fails_when: "the name or address by which callers reach [listen.api] is not among the certificate's",
            remedy: "have a certificate issued for that name, or set listen.api.public_url to the URL that callers use",
            after: &["HGS-N001"],
            judge: |facts| names(api(facts)),
        },
        Check {
            id: "HGS-N011",
            group: Group::Network,
            title: "the certificate of [listen.api] is valid now",
            fails_when: "it has expired or is not valid yet; an end within 30 days warns. Where it is that of [listen.https], HGS-N004 says so",
            remedy: "have the certificate renewed; the service takes up new files by itself",
            after: &["HGS-N001", "HGS-M001"],
            judge: |facts| tls_validity(facts, own_of_api(facts)),
        },
        Check {
            id: "HGS-N012",
            group: Group::Network,
            title: "the certificate of [listen.api] is not a certification authority's",
            fails_when: "its basic constraints say that it may issue certificates; clients accept such a certificate from no server. Where it is that of [listen.https], HGS-N008 says so",
            remedy: "have a certificate issued without CA:TRUE; with `openssl req -x509`, add `-addext basicConstraints=critical,CA:FALSE`",
            after: &["HGS-N001"],
            judge: |facts| authority(own_of_api(facts)),
        },
    ]
}

/// About the way to each URL.
pub(super) fn reaching() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-N005",
            group: Group::Network,
            title: "the name in the URL has an address",
            fails_when: "the name in a published URL can't be resolved here within 5 s",
            remedy: "add the name to DNS, or set public_url of the listener to the name by which hosts reach it",
            after: &["HGS-S003", "HGS-S004"],
            judge: |facts| reached(facts, resolved),
        },
        Check {
            id: "HGS-N006",
            group: Group::Network,
            title: "the service accepts connections at the URL",
            fails_when: "no address of a published URL accepts a connection within 5 s",
            remedy: "see `hgs server show` for where it listens, and the firewalls in between",
            after: &["HGS-N005"],
            judge: |facts| reached(facts, connected),
        },
        Check {
            id: "HGS-N007",
            group: Group::Network,
            title: "TLS at the URL is trusted here",
            fails_when: "no authority that this machine trusts vouches for the certificate, or the handshake fails or takes more than 10 s",
            remedy: "name the site's own certification authority with `hgs trace --ca FILE`; hosts are told it with `guarded-host configure --ca FILE`",
            after: &["HGS-N003", "HGS-N004", "HGS-N008", "HGS-N006", "HGS-N001"],
            judge: |facts| reached(facts, trusted),
        },
        Check {
            id: "HGS-N009",
            group: Group::Network,
            title: "something answers over HTTP at the URL",
            fails_when: "no whole answer comes within 10 s, or what comes is not HTTP",
            remedy: "see the service's log, and `systemctl status openhgs`: it hangs, is overloaded, or another program listens there",
            after: &["HGS-N006", "HGS-N007"],
            judge: |facts| reached(facts, answers),
        },
    ]
}

fn https(facts: &Facts) -> Option<&ListenerCertificate> {
    facts.local.as_ref()?.https.as_ref()
}

fn api(facts: &Facts) -> Option<&ListenerCertificate> {
    facts.local.as_ref()?.api.as_ref()
}

/// The certificate of `[listen.api]`, unless it is that of the HTTPS listener.
fn own_of_api(facts: &Facts) -> Option<&ListenerCertificate> {
    let of_https = https(facts).map(|https| &https.certificate);
    api(facts).filter(|api| Some(&api.certificate) != of_https)
}

fn usable(facts: &Facts) -> Vec<Judgement> {
    let shown = https(facts).into_iter().chain(own_of_api(facts));
    let judge =
        |shown: &ListenerCertificate| found(&shown.certificate, &shown.usable, "TLS takes both");
    shown.map(judge).collect()
}

fn key_is_private(facts: &Facts) -> Vec<Judgement> {
    let shown = https(facts).into_iter().chain(own_of_api(facts));
    let judge = |shown: &ListenerCertificate| {
        let key = shown.key.as_ref()?;
        Some(match key.mode? & 0o007 {
            0 => Judgement::pass(&shown.certificate, key.shown()),
            _ => Judgement::warning(&shown.certificate, key.shown()),
        })
    };
    shown.filter_map(judge).collect()
}

fn names(shown: Option<&ListenerCertificate>) -> Vec<Judgement> {
    let names = shown.map(|shown| &shown.names);
    let judge = |name: &super::NameMatch| found(&name.url, &name.matches, "it is");
    names.into_iter().flatten().map(judge).collect()
}

fn authority(shown: Option<&ListenerCertificate>) -> Vec<Judgement> {
    let judge = |shown: &ListenerCertificate| match shown.authority {
        false => Judgement::pass(&shown.certificate, "it may not issue certificates"),
        true => Judgement::fail(&shown.certificate, "its basic constraints say CA:TRUE"),
    };
    let usable = shown.filter(|shown| shown.usable.is_ok());
    usable.map(judge).into_iter().collect()
}

fn tls_validity(facts: &Facts, shown: Option<&ListenerCertificate>) -> Vec<Judgement> {
    let judged = || {
        let (local, shown) = (facts.local.as_ref()?, shown?);
        Some(valid(
            shown.certificate.clone(),
            shown.validity?,
            local.time,
        ))
    };
    judged().into_iter().collect()
}

fn reached(facts: &Facts, judge: fn(&Reachability) -> Option<Judgement>) -> Vec<Judgement> {
    let reaches = facts.public.iter().map(|public| &public.reach);
    reaches.filter_map(judge).collect()
}

/// Whether the name has an address.
pub(crate) fn resolved(reach: &Reachability) -> Option<Judgement> {
    let addresses = reach.addresses.as_ref().map(|all| all.join(", "));
    let seen = addresses.as_deref().unwrap_or_default();
    Some(found(&reach.url, &reach.addresses, seen))
}

/// Whether one accepted a connection.
pub(crate) fn connected(reach: &Reachability) -> Option<Judgement> {
    let Some(connected) = &reach.connected else {
        return Some(Judgement::fail(
            &reach.url,
            "there was nothing to connect to",
        ));
    };
    let seen = connected.as_deref().unwrap_or_default();
    Some(found(&reach.url, connected, seen))
}

/// Whether there was any answer.
pub(crate) fn answers(reach: &Reachability) -> Option<Judgement> {
    let answered = reach.answered.as_ref()?;
    Some(found(&reach.url, answered, "it answers"))
}

/// Whether TLS was agreed on and its certificate verified.
pub(crate) fn trusted(reach: &Reachability) -> Option<Judgement> {
    let Some(tls) = &reach.tls else {
        let needed = reach.url.starts_with("https:");
        return needed.then(|| Judgement::fail(&reach.url, "there was no connection"));
    };
    let thumbprint = tls.as_ref().map(|presented| &*presented.thumbprint);
    let seen = thumbprint.unwrap_or_default();
    Some(found(&reach.url, tls, seen))
}
