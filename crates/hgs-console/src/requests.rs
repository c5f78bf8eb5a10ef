//! Which requests are taken, by what a browser says about the page that caused them. It is decided before anybody looks at
//! who is signed in, so that no other page can have a browser use a session.

use std::collections::BTreeSet;

/// What a request says about where it goes and where it comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Provenance<'r> {
    /// Whether its method is `GET` or `HEAD`, which change nothing.
    pub only_reads: bool,
    /// The header `Host`.
    pub host: Option<&'r str>,
    /// The header `Origin`.
    pub origin: Option<&'r str>,
    /// The header `Sec-Fetch-Site`.
    pub site: Option<&'r str>,
    /// The header `Sec-Fetch-Mode`.
    pub mode: Option<&'r str>,
    /// The header `Sec-Fetch-Dest`.
    pub destination: Option<&'r str>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `Host` names another server: a name of somebody else leads here.
    Misdirected,
    /// Another page has sent a form or a script's request.
    OtherPage,
}

/// The names under which browsers reach the console.
#[derive(Debug, Clone, Default)]
pub struct OwnNames(BTreeSet<String>);

impl OwnNames {
    /// These names and addresses; those of IPv6 may stand in brackets or not.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let plain = |name: String| name.trim_matches(['[', ']']).to_ascii_lowercase();
        Self(names.into_iter().map(plain).collect())
    }

    /// Whether the value of `Host` names this server. The port is whichever the browser reached: a tunnel may have another
    /// one, and a page at another port has another origin.
    fn has(&self, host: &str) -> bool {
        let (name, rest) = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').unwrap_or_default(),
            None => host.split_at(host.find(':').unwrap_or(host.len())),
        };
        let is_port = |port: &str| port.bytes().all(|octet| octet.is_ascii_digit());
        let ends = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        ends && self.0.contains(&name.to_ascii_lowercase())
    }
}

/// Decides whether a request may have come from where it says.
///
/// # Errors
/// Why not.
pub fn check(request: &Provenance<'_>, names: &OwnNames) -> Result<(), Refusal> {
    let host = request.host.filter(|host| names.has(host));
    let host = host.ok_or(Refusal::Misdirected)?;
    let is_allowed = match request.only_reads {
        true => match request.site {
            // Links elsewhere may lead here, as long as they open a page of its own and not a frame or a picture.
            Some("cross-site" | "same-site") => {
                request.mode == Some("navigate")
                    && matches!(request.destination, None | Some("document"))
            }
            _ => true,
        },
        false => request.site == Some("same-origin") && is_own(request.origin, host),
    };
    is_allowed.then_some(()).ok_or(Refusal::OtherPage)
}

fn is_own(origin: Option<&str>, host: &str) -> bool {
    let of_host = origin.and_then(|origin| origin.strip_prefix("https://"));
    // Browsers leave out the usual port in both; a proxy may have added it to one.
    let plain = |host: &str| {
        host.strip_suffix(":443")
            .unwrap_or(host)
            .to_ascii_lowercase()
    };
    of_host.is_some_and(|of_host| plain(of_host) == plain(host))
}

/// Whether a request was caused by a page of the console itself.
#[must_use]
pub fn is_from_own_page(request: &Provenance<'_>) -> bool {
    request.site == Some("same-origin")
}

/// Whether a user caused it by following a link or sending a form, and not the script by itself.
#[must_use]
pub fn is_by_user(request: &Provenance<'_>) -> bool {
    matches!(request.mode, None | Some("navigate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Option<&str> = Some("hgs.example:9444");
    const OWN: Option<&str> = Some("https://hgs.example:9444");

    fn verdict(request: Provenance<'_>) -> Result<(), Refusal> {
        let names = ["hgs.example", "[::1]", "localhost"].map(str::to_owned);
        check(&request, &OwnNames::new(names))
    }

    fn get<'r>(
        site: Option<&'r str>,
        mode: Option<&'r str>,
        destination: Option<&'r str>,
    ) -> Provenance<'r> {
        Provenance {
            only_reads: true,
            host: HOST,
            site,
            mode,
            destination,
            ..Provenance::default()
        }
    }

    fn post<'r>(origin: Option<&'r str>, site: Option<&'r str>) -> Provenance<'r> {
        Provenance {
            host: HOST,
            origin,
            site,
            mode: Some("navigate"),
            destination: Some("document"),
            ..Provenance::default()
        }
    }

    #[test]
    fn other_names_are_misdirected() {
        for (host, is_own) in [
            (Some("hgs.example:9444"), true),
            (Some("HGS.example"), true),
            (Some("localhost:19444"), true),
            (Some("[::1]:9444"), true),
            (None, false),
            (Some(""), false),
            (Some("evil.example"), false),
            (Some("hgs.example.evil.example"), false),
            (Some("hgs.example@evil.example"), false),
            (Some("[::2]:9444"), false),
            (Some("[::1].evil.example"), false),
            (Some("[::1"), false),
            (Some("hgs.example:9444.evil.example"), false),
        ] {
            let request = Provenance {
                host,
                ..get(None, None, None)
            };
            let expected = if is_own {
                Ok(())
            } else {
                Err(Refusal::Misdirected)
            };
            assert_eq!(verdict(request), expected, "{host:?}");
        }
    }

    #[test]
    fn forms_are_taken_from_own_pages_only() {
        let same = Some("same-origin");
        for (origin, site, is_taken) in [
            (OWN, same, true),
            (None, same, false),
            (OWN, None, false),
            (Some("null"), same, false),
            (Some("https://evil.example"), Some("cross-site"), false),
            (Some("https://hgs.example:9444.evil.example"), same, false),
            // Another port of the same machine.
            (Some("https://hgs.example:8443"), Some("same-site"), false),
            (Some("http://hgs.example:9444"), same, false),
            (OWN, Some("same-site"), false),
            (OWN, Some("none"), false),
        ] {
            let expected = if is_taken {
                Ok(())
            } else {
                Err(Refusal::OtherPage)
            };
            assert_eq!(verdict(post(origin, site)), expected, "{origin:?} {site:?}");
        }
    }

    #[test]
    fn links_elsewhere_open_pages_and_nothing_else() {
        let cross = Some("cross-site");
        for (site, mode, destination, is_taken) in [
            (None, None, None, true),
            (Some("none"), Some("navigate"), Some("document"), true),
            (Some("same-origin"), Some("cors"), Some("empty"), true),
            (cross, Some("navigate"), Some("document"), true),
            (Some("same-site"), Some("navigate"), Some("document"), true),
            (cross, Some("navigate"), Some("iframe"), false),
            (cross, Some("no-cors"), Some("image"), false),
            (cross, Some("cors"), Some("empty"), false),
            (Some("same-site"), Some("cors"), Some("empty"), false),
            (cross, None, None, false),
        ] {
            let expected = if is_taken {
                Ok(())
            } else {
                Err(Refusal::OtherPage)
            };
            let request = get(site, mode, destination);
            assert_eq!(
                verdict(request),
                expected,
                "{site:?} {mode:?} {destination:?}"
            );
        }
    }
}
