//! The facts of a guardian: from its configuration, from itself if it runs, and from what everybody sees of it.

use hgs_admin::{AdminError, Administration as _, Client, ErrorCode};
use hgs_client::Surroundings;
use hgs_client::probe::Probe;
use hgs_server::config::{Finding, Severity};
use hgs_server::{Config, examine_stopped};
use hgs_trace::guardian::{Facts, Inside, ROLLS, Service, Setting, SyntheticRoll};
use hgs_trace::{Problem, Selection};

use super::outside::{Base, look_at};
use super::{Arguments, Target};
use crate::clock::now;

/// Looks at everything that the wanted checks need.
pub(super) async fn facts(arguments: &Arguments, wanted: &Selection) -> Facts {
    let empty = Facts {
        time: now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        configuration: None,
        service: None,
        inside: None,
        synthetic_roll: None,
        outside: Vec::new(),
    };
    let probe = || Probe::new(arguments.ca.as_deref(), Surroundings::default());
    if let Some(Target::Url(base)) = &arguments.target {
        let outside = vec![look_at(&probe(), base).await];
        return Facts { outside, ..empty };
    }
    let config = match arguments.server.config.load() {
        Ok(config) => config,
        Err(failure) => {
            let configuration = Some(Err(Problem::new(failure.message())));
            return Facts {
                configuration,
                ..empty
            };
        }
    };
    let client = arguments.server.client_of(&config);
    let (service, inside) = inside(&client, &config);
    let mut facts = Facts {
        configuration: Some(Ok(config.check().into_iter().map(setting).collect())),
        ..empty
    };
    if service == Service::Answers && wanted.includes_any(ROLLS) {
        facts.synthetic_roll = Some(synthetic_roll(&client));
    }
    if arguments.target.is_none() && service == Service::Answers {
        let urls = inside.iter().flat_map(|inside| &inside.urls);
        for base in urls.filter_map(|url| url.parse::<Base>().ok()) {
            facts.outside.push(look_at(&probe(), &base).await);
        }
    }
    Facts {
        service: Some(service),
        inside,
        ..facts
    }
}

fn setting(finding: Finding) -> Setting {
    Setting {
        name: finding.check.to_owned(),
        prevents: finding.severity == Severity::Error,
        problem: Problem::new(finding.cause).with_remedy(Some(finding.remedy)),
    }
}

/// What the service says of itself; where none runs, what can be seen without it.
fn inside(client: &Client, config: &Config) -> (Service, Option<Inside>) {
    match client.trace() {
        Ok(found) => (Service::Answers, Some(found.0)),
        Err(error) => {
            let problem = problem(&error);
            match error.code {
                ErrorCode::NotRunning => {
                    let seen = examine_stopped(config, now());
                    (Service::NotRunning(problem), Some(seen))
                }
                ErrorCode::Forbidden => (Service::Forbidden(problem), None),
                _ => (Service::NoAnswer(problem), None),
            }
        }
    }
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
