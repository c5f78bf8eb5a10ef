//! Every act of the console as it is done here: where its link is, what is entered, and how an administrator sees at the
//! command line that it was done.

use hgs_console::Notice;
use serde_json::Value;

use super::browser::{Browser, Script};
use super::site::{Site, ci_policy};

/// One act, as it is done here.
pub(crate) struct Deed {
    /// The page with a link to it.
    pub(crate) from: String,
    /// Where the link leads.
    pub(crate) path: String,
    /// Fields, and what is entered there: `yes` checks a box.
    pub(crate) entries: Vec<(&'static str, String)>,
    /// Whether the form is sent twice, because it says first what it would do to hosts.
    pub(crate) is_shown_first: bool,
    /// What the page says then.
    pub(crate) says: Notice,
    /// Whether it was done.
    pub(crate) is_done: Box<dyn Fn(&Site) -> bool>,
}

impl Deed {
    fn new(
        (from, path): (String, String),
        says: Notice,
        is_done: impl Fn(&Site) -> bool + 'static,
    ) -> Self {
        Self {
            from,
            path,
            entries: Vec::new(),
            is_shown_first: false,
            says,
            is_done: Box::new(is_done),
        }
    }

    fn entering<const N: usize>(self, entries: [(&'static str, &str); N]) -> Self {
        let entries = entries.map(|(field, text)| (field, text.to_owned()));
        Self {
            entries: entries.into(),
            ..self
        }
    }

    fn shown_first(self) -> Self {
        Self {
            is_shown_first: true,
            ..self
        }
    }
}

/// Who does an act: somebody with a script, or somebody without, who does it to something else.
pub(crate) struct Doer<'d> {
    pub(crate) site: &'d Site,
    pub(crate) browser: &'d Browser,
    pub(crate) script: Script,
}

/// The name of an act's route, and how the act is done.
type Act = (&'static str, fn(&Doer<'_>) -> Deed);

/// The acts in an order in which each makes the next one possible.
pub(crate) const ACTS: &[Act] = &[
    ("try-release", try_release),
    ("add-host", add_host),
    ("revoke-host", revoke_host),
    ("approve-host", approve_host),
    ("add-policy-document", add_document),
    ("change-policy-document", change_document),
    ("retire-alternative", retire_alternative),
    ("remove-policy-document", remove_document),
    ("disable-policy", disable_policy),
    ("enable-policy", enable_policy),
    ("reset-policy", reset_policy),
    ("rotate-certificates", rotate),
    ("set-head", set_head),
    ("label-certificate", label),
    ("disable-certificate", disable_certificate),
    ("enable-certificate", enable_certificate),
    ("retire-certificate", retire_certificate),
    ("compromise-certificate", compromise),
    ("remove-certificate", remove_certificate),
    ("add-tenant", add_tenant),
    ("add-signer", add_signer),
    ("limit-signer", limit_signer),
    ("retire-signer", retire_signer),
    ("remove-signer", remove_signer),
    ("revoke-session", revoke_session),
];

impl Doer<'_> {
    /// What this one does it to.
    fn either<T>(&self, with_script: T, without: T) -> T {
        match self.script {
            Script::On => with_script,
            Script::Off => without,
        }
    }

    /// The page `from` and its first link that has `part` in it. An end of the own session would be the end of this.
    #[track_caller]
    fn link(&self, from: &str, part: &str) -> (String, String) {
        self.browser.open(&format!("{}{from}", self.site.origin()));
        let script = "
            const links = [...document.querySelectorAll('main a')];
            const others = links.filter(link => !link.closest('tr')?.innerText.includes('(this one)'));
            return others.map(link => link.getAttribute('href'));";
        let links = self.browser.run(script);
        let links = links.as_array().unwrap().iter().filter_map(Value::as_str);
        let links: Vec<_> = links.collect();
        let link = links.iter().find(|link| link.contains(part));
        let link = link.unwrap_or_else(|| panic!("{from} has no link to {part}: {links:#?}"));
        (from.to_owned(), (*link).to_owned())
    }

    /// The page of the certificate with this label, and its link to an act.
    #[track_caller]
    fn of_certificate(&self, label: &str, act: &str) -> ((String, String), String) {
        let (lineage, kind, _) = self.half();
        let thumbprint = find(self.site, "certificate list", |one| {
            one["lineage"] == lineage && one["kind"] == kind && one["label"] == label
        });
        let thumbprint = thumbprint["thumbprint"].as_str().unwrap().to_owned();
        let page = format!("/certificates/{thumbprint}");
        (self.link(&page, &format!("{page}/{act}")), thumbprint)
    }

    /// The half of a pair to which all is done that is done to certificates, and the page with its lineage.
    fn half(&self) -> (&'static str, &'static str, &'static str) {
        self.either(
            ("fabric", "encryption", "/certificates"),
            ("tenant:Contoso", "signing", "/tenants?tenant=Contoso"),
        )
    }

    fn host(&self) -> &'static str {
        self.either("host-6", "host-7")
    }

    fn refused_host(&self) -> &'static str {
        self.either("host-2", "host-3")
    }

    fn other_cluster(&self) -> &'static str {
        self.either("cluster-b", "cluster-c")
    }
}

/// The one that is meant of what a command lists.
#[track_caller]
fn find(site: &Site, command: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
    let listed = site.json(command);
    let mut found = listed.as_array().unwrap().iter();
    let found = found.find(|one| is_meant(one));
    found
        .unwrap_or_else(|| panic!("{command} has no such one: {listed:#}"))
        .clone()
}

fn count(site: &Site, command: &str) -> usize {
    site.json(command).as_array().unwrap().len()
}

fn try_release(doer: &Doer<'_>) -> Deed {
    let records = "audit list --action trace --outcome done";
    let before = count(doer.site, records);
    let is_done = move |site: &Site| count(site, records) > before;
    Deed::new(doer.link("/", "/trace/roll"), Notice::ReleaseTried, is_done)
}

fn add_host(doer: &Doer<'_>) -> Deed {
    let name = doer.host();
    let key = doer.site.make_host_key(name);
    let is_done = move |site: &Site| site.json(&format!("host show {name}"))["name"] == name;
    Deed::new(doer.link("/hosts", "/add-host"), Notice::HostAdded, is_done)
        .entering([("name", name), ("credential", &key)])
}

fn revoke_host(doer: &Doer<'_>) -> Deed {
    let name = doer.host();
    let link = doer.link(&format!("/hosts/{name}"), "/revoke");
    let is_done = move |site: &Site| {
        let host = site.json(&format!("host show {name}"));
        host["revoked"]["reason"] == "it was sold"
    };
    Deed::new(link, Notice::HostRevoked, is_done).entering([("reason", "it was sold")])
}

fn approve_host(doer: &Doer<'_>) -> Deed {
    let name = doer.refused_host();
    let from = doer.either(format!("/hosts/{name}"), "/waiting".to_owned());
    let link = doer.link(&from, &format!("/hosts/{name}/approve"));
    let is_done = move |site: &Site| {
        site.attest(name);
        let host = site.json(&format!("host show {name}"));
        host["last_attempt"]["healthy"] == true
    };
    Deed::new(link, Notice::HostApproved, is_done).entering([("label", &format!("of-{name}"))])
}

fn add_document(doer: &Doer<'_>) -> Deed {
    let link = doer.link("/policies", "/add-policy-document");
    let is_done =
        |site: &Site| site.ask("ci-policy show programs").out.trim() == ci_policy(&["of-2027"]);
    Deed::new(link, Notice::DocumentAdded, is_done)
        .entering([
            ("name", "programs"),
            // What a choice is called begins so.
            ("kind", "Code"),
            ("text", &ci_policy(&["of-2027"])),
            ("confirmed", "yes"),
        ])
        .shown_first()
}

fn change_document(doer: &Doer<'_>) -> Deed {
    let link = doer.link("/policy-documents/programs", "/set");
    let is_done = |site: &Site| {
        site.ask("ci-policy show programs").out.trim() == ci_policy(&["of-2027", "of-2028"])
    };
    Deed::new(link, Notice::DocumentChanged, is_done)
        .entering([
            ("text", &ci_policy(&["of-2027", "of-2028"])),
            ("confirmed", "yes"),
        ])
        .shown_first()
}

/// With a script, of a baseline; without, of a code-integrity policy.
fn retire_alternative(doer: &Doer<'_>) -> Deed {
    let (kind, document, alternative) = doer.either(
        ("baseline", "reference", "of-host-2"),
        ("ci-policy", "programs", "of-2028"),
    );
    let link = doer.link(
        &format!("/policy-documents/{document}"),
        &format!("alternative={alternative}"),
    );
    let is_done = move |site: &Site| {
        let document = site.ask(&format!("{kind} show {document}")).json();
        let of = |one: &Value, list| one[list].as_array().cloned().unwrap_or_default();
        let components = of(&document, "components").into_iter();
        let alternatives = components.flat_map(|component| of(&component, "alternatives"));
        let mut all = alternatives.chain(of(&document, "sets"));
        all.any(|one| one["name"] == alternative && one["state"]["retired"].is_object())
    };
    Deed::new(link, Notice::AlternativeRetired, is_done)
}

fn remove_document(doer: &Doer<'_>) -> Deed {
    let link = doer.link("/policy-documents/programs", "/remove");
    let is_done = |site: &Site| {
        let listed = site.json("ci-policy list");
        let mut documents = listed.as_array().unwrap().iter();
        documents.all(|one| one["name"] != "programs")
    };
    Deed::new(link, Notice::DocumentRemoved, is_done)
}

/// A policy that can be set.
const POLICY: &str = "Hgs_SecureBootEnabled";

fn set_policy(doer: &Doer<'_>, act: &str, says: Notice, is_enabled: bool) -> Deed {
    let link = doer.link("/policies", &format!("/policies/{POLICY}/{act}"));
    let is_done =
        move |site: &Site| site.json(&format!("policy show {POLICY}"))["enabled"] == is_enabled;
    Deed::new(link, says, is_done)
}

fn disable_policy(doer: &Doer<'_>) -> Deed {
    set_policy(doer, "disable", Notice::PolicyDisabled, false)
}

fn enable_policy(doer: &Doer<'_>) -> Deed {
    set_policy(doer, "enable", Notice::PolicyEnabled, true)
}

fn reset_policy(doer: &Doer<'_>) -> Deed {
    let set_for =
        |site: &Site| site.json("policy show Hgs_IommuEnabled --group rack-7")["set_for"].clone();
    if set_for(doer.site) != "rack-7" {
        doer.site
            .ask("policy disable Hgs_IommuEnabled --group rack-7");
    }
    let link = doer.link("/policies?group=rack-7", "/Hgs_IommuEnabled/reset");
    Deed::new(link, Notice::PolicyReset, move |site| {
        set_for(site) != "rack-7"
    })
}

fn rotate(doer: &Doer<'_>) -> Deed {
    let (lineage, _, from) = doer.half();
    let link = doer.link(from, "/rotate-certificates");
    let is_done = move |site: &Site| {
        let listed = site.json("certificate list");
        let heads = listed.as_array().unwrap().iter();
        let new = heads.filter(|one| {
            one["lineage"] == lineage && one["head"] == true && one["label"] == "2028"
        });
        new.count() == 2
    };
    let deed = Deed::new(link, Notice::CertificatesRotated, is_done);
    match doer.script {
        Script::On => deed.entering([("label", "2028")]),
        // The encryption key of this tenant is in a token.
        Script::Off => deed.entering([
            ("label", "2028"),
            ("encryption_key", &doer.site.key_in_token("contoso-2028")),
            ("new_keys", "yes"),
        ]),
    }
}

/// What is done to the certificate with this label, and what it is then.
fn change(
    doer: &Doer<'_>,
    (of_label, act): (&str, &str),
    says: Notice,
    is_so: impl Fn(&Value) -> bool + 'static,
) -> Deed {
    let (link, thumbprint) = doer.of_certificate(of_label, act);
    let is_done = move |site: &Site| is_so(&site.json(&format!("certificate show {thumbprint}")));
    Deed::new(link, says, is_done)
}

fn set_head(doer: &Doer<'_>) -> Deed {
    change(doer, ("2027", "head"), Notice::CertificateHead, |one| {
        one["head"] == true
    })
}

fn label(doer: &Doer<'_>) -> Deed {
    let says = Notice::CertificateLabelled;
    change(doer, ("2028", "label"), says, |one| one["label"] == "spare")
        .entering([("label", "spare")])
}

fn disable_certificate(doer: &Doer<'_>) -> Deed {
    let says = Notice::CertificateDisabled;
    change(doer, ("spare", "disable"), says, |one| {
        one["enabled"] == false
    })
}

fn enable_certificate(doer: &Doer<'_>) -> Deed {
    let says = Notice::CertificateEnabled;
    change(doer, ("spare", "enable"), says, |one| {
        one["enabled"] == true
    })
}

fn retire_certificate(doer: &Doer<'_>) -> Deed {
    let says = Notice::CertificateRetired;
    change(doer, ("spare", "retire"), says, |one| {
        one["retired"].is_string()
    })
}

fn compromise(doer: &Doer<'_>) -> Deed {
    let says = Notice::CertificateCompromised;
    change(doer, ("spare", "compromised"), says, |one| {
        one["compromised"] == "2026-01-31T00:00:00Z"
    })
    .entering([("since", "2026-01-31T00:00:00Z")])
}

fn remove_certificate(doer: &Doer<'_>) -> Deed {
    let (link, thumbprint) = doer.of_certificate("spare", "remove");
    let is_done = move |site: &Site| {
        let listed = site.json("certificate list");
        let mut certificates = listed.as_array().unwrap().iter();
        certificates.all(|one| one["thumbprint"] != thumbprint)
    };
    // Its record is what shuts the key out.
    Deed::new(link, Notice::CertificateRemoved, is_done).entering([("even_if_needed", "yes")])
}

/// With a script both halves have their keys in a token, of which one is made there, and the other was there with its
/// certificate; without, both are software keys.
fn add_tenant(doer: &Doer<'_>) -> Deed {
    let (tenant, place) = doer.either(("Fabrikam", "pkcs11:"), ("Litware", "sealed"));
    let lineage = format!("tenant:{tenant}");
    let is_done = move |site: &Site| {
        let listed = site.json("certificate list");
        let certificates = listed.as_array().unwrap().iter();
        let pair: Vec<_> = certificates
            .filter(|one| one["lineage"] == lineage)
            .collect();
        let is_whole = |one: &&Value| {
            let key = one["key"].as_str().unwrap();
            one["head"] == true && one["usable"] == true && key.starts_with(place)
        };
        pair.len() == 2 && pair.iter().all(is_whole)
    };
    let deed = Deed::new(
        doer.link("/tenants", "/add-tenant"),
        Notice::TenantAdded,
        is_done,
    );
    match doer.script {
        Script::On => deed.entering([
            ("tenant", tenant),
            ("signing_key", &doer.site.key_in_token("fabrikam")),
            ("new_keys", "yes"),
            ("encryption_key", &doer.site.key_in_token("brought")),
            (
                "encryption_certificate",
                &doer.site.certificate_with_key_in_token("brought"),
            ),
        ]),
        Script::Off => deed.entering([("tenant", tenant)]),
    }
}

fn signer_of(site: &Site, is_meant: impl Fn(&Value) -> bool) -> String {
    let signer = find(site, "signer list", is_meant);
    signer["thumbprint"].as_str().unwrap().to_owned()
}

fn add_signer(doer: &Doer<'_>) -> Deed {
    let cluster = doer.other_cluster();
    let certificate = doer.site.make_signer(cluster);
    let is_done = move |site: &Site| {
        let signer = find(site, "signer list", |one| one["label"] == cluster);
        signer["stage"] == "trusted" && signer["maximum_validity_seconds"] == 8 * 3600
    };
    let link = doer.link("/certificates", "/add-signer");
    Deed::new(link, Notice::SignerAdded, is_done).entering([
        ("certificate", &certificate),
        ("label", cluster),
        ("hours", "8"),
    ])
}

fn limit_signer(doer: &Doer<'_>) -> Deed {
    let cluster = doer.other_cluster();
    let signer = signer_of(doer.site, |one| one["label"] == cluster);
    let link = doer.link("/certificates", &format!("/signers/{signer}/limits"));
    let is_done = move |site: &Site| {
        let signer = find(site, "signer list", |one| one["label"] == cluster);
        signer["maximum_validity_seconds"] == 4 * 3600 && signer["denied_serial_numbers"] == 2
    };
    Deed::new(link, Notice::SignerLimited, is_done)
        .entering([("deny", "0a0b 0c0d"), ("hours", "4")])
}

/// The guardian's own, which gets a successor at once.
fn retire_signer(doer: &Doer<'_>) -> Deed {
    let signer = signer_of(doer.site, |one| one["stage"] == "active");
    let link = doer.link("/certificates", &format!("/signers/{signer}/retire"));
    let is_done = move |site: &Site| {
        let retired = find(site, "signer list", |one| one["thumbprint"] == *signer);
        retired["stage"] == "retired" && signer_of(site, |one| one["stage"] == "active") != signer
    };
    Deed::new(link, Notice::SignerRetired, is_done)
}

/// With a script that of the other cluster; without, the guardian's own that signs no more.
fn remove_signer(doer: &Doer<'_>) -> Deed {
    let cluster = doer.other_cluster();
    let signer = match doer.script {
        Script::On => signer_of(doer.site, |one| one["label"] == cluster),
        Script::Off => signer_of(doer.site, |one| one["stage"] == "retired"),
    };
    let link = doer.link("/certificates", &format!("/signers/{signer}/remove"));
    let is_done = move |site: &Site| {
        let listed = site.json("signer list");
        let mut signers = listed.as_array().unwrap().iter();
        signers.all(|one| one["thumbprint"] != *signer)
    };
    Deed::new(link, Notice::SignerRemoved, is_done)
}

fn revoke_session(doer: &Doer<'_>) -> Deed {
    let link = doer.link("/console/sessions", "/revoke");
    let session = link.1.split('/').nth(3).unwrap().to_owned();
    let is_done = move |site: &Site| {
        let listed = site.json("console sessions");
        let mut sessions = listed.as_array().unwrap().iter();
        sessions.all(|one| one["session"] != *session)
    };
    Deed::new(link, Notice::SessionRevoked, is_done)
}
