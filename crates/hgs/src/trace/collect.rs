//! The facts of a guardian: from its configuration, from itself if it runs, and from what anyone can see of it.

use std::path::Path;
use std::time::Duration;

use hgs_admin::types::DigestPageQuery;
use hgs_admin::{AdminError, Administration as _, Client, ErrorCode};
use hgs_client::Environment;
use hgs_client::probe::Probe;
use hgs_server::{Config, examine_stopped};
use hgs_trace::guardian::{Facts, LocalFacts, ROLLS, Service, SyntheticRoll};
use hgs_trace::{Problem, Selection};

use super::public::{Base, look_at};
use super::{Arguments, Target};
use crate::clock::now;

/// Looks at everything that the wanted checks need.
pub(super) async fn facts(arguments: &Arguments, wanted: &Selection) -> Facts {
    let empty = Facts {
        time: now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration: None,
        service: None,
        local: None,
        synthetic_roll: None,
        public: Vec::new(),
    };
    let probe = |authority: Option<&Path>| Probe::new(authority, Environment::default());
    let named = arguments.ca.as_deref();
    if let Some(Target::Url(base)) = &arguments.target {
        let public = vec![look_at(&probe(named), base).await];
        return Facts { public, ..empty };
    }
    let config = match arguments.server.config.read() {
        Ok(config) => config,
        Err(error) => {
            let problem = Problem::of(&error).with_remedy(Some(error.remedy()));
            let configuration = Some(Err(problem));
            return Facts {
                configuration,
                ..empty
            };
        }
    };
    let client = arguments.server.client_of(&config);
    let (service, local) = local(&client, &config);
    let findings = config.check().into_iter();
    // Facts about this process are not facts about the service.
    let settings = findings.filter(|finding| !finding.about_process);
    let mut facts = Facts {
        configuration: Some(Ok(settings.map(Into::into).collect())),
        ..empty
    };
    if service == Service::Answers && wanted.includes_any(ROLLS) {
        facts.synthetic_roll = Some(synthetic_roll(&client));
    }
    if arguments.target.is_none() && service == Service::Answers {
        // The certificate of `hgs init --tls` signs itself, and hosts are given it as their authority. Where a proxy
        // presents another one, the system's authorities are the right ones.
        let own = config.own_tls_certificate().filter(|_| named.is_none());
        let urls = local.iter().flat_map(|local| &local.urls);
        for base in urls.filter_map(|url| url.parse::<Base>().ok()) {
            let mut seen = look_at(&probe(named), &base).await;
            if let (Some(own), Some(Err(_))) = (&own, &seen.reach.tls) {
                seen = look_at(&probe(Some(own)), &base).await;
            }
            facts.public.push(seen);
        }
    }
    Facts {
        service: Some(service),
        local,
        ..facts
    }
}

/// Time for an answer that costs the service next to nothing.
const PROMPT: Duration = Duration::from_secs(5);
/// Time for an answer that every private key and token in use has a part in.
const THOROUGH: Duration = Duration::from_secs(30);

/// What the service says of itself; where none runs, what can be seen without it.
fn local(client: &Client, config: &Config) -> (Service, Option<LocalFacts>) {
    let prompt = client.within(PROMPT).signers(&DigestPageQuery::default());
    let seen = prompt.and_then(|_| client.within(THOROUGH).trace());
    let error = match seen {
        Ok(found) => return (Service::Answers, Some(found.0)),
        Err(error) => error,
    };
    let problem = problem(&error);
    match error.code {
        ErrorCode::NotRunning => {
            let seen = examine_stopped(config, now());
            let problem = not_running(problem, &seen, config);
            (Service::NotRunning(problem), Some(seen))
        }
        ErrorCode::Forbidden => (Service::Forbidden(problem), None),
        _ => {
            let remedy = "it hangs or is overloaded: see its log and `systemctl status openhgs`, and restart it";
            let problem = Problem {
                remedy: problem.remedy.or_else(|| Some(remedy.to_owned())),
                ..problem
            };
            (Service::NoAnswer(problem), None)
        }
    }
}

/// Why nothing listens at the socket, where that can be told from a service that does not run.
fn not_running(problem: Problem, seen: &LocalFacts, config: &Config) -> Problem {
    if !config.listen.admin.enabled {
        let message = "[listen.admin] is switched off, so the service can't be asked";
        return Problem::new(message).with_remedy(Some(
            "set listen.admin.enabled to true, and restart the service",
        ));
    }
    // Faults of the folder have checks of their own.
    if seen.state.is_none() {
        let message = format!("{problem}; but another process holds the state");
        return Problem::new(message).with_remedy(Some(
            "name the socket of the service that runs with --socket, or its configuration with --config; if the socket was deleted, restart the service",
        ));
    }
    problem
}

fn synthetic_roll(client: &Client) -> SyntheticRoll {
    client
        .synthetic_roll()
        .map(|found| found.0)
        .unwrap_or_else(|error| SyntheticRoll {
            released: Err(problem(&error)),
            tampered: Err(problem(&error)),
        })
}

fn problem(error: &AdminError) -> Problem {
    Problem::new(&error.message).with_remedy(error.remedy.clone())
}
