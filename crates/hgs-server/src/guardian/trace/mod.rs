//! What a guardian sees of itself, for `hgs trace`; and the synthetic roll.
//!
//! [`examine_stopped`] sees the same of a guardian that does not run, as far as that can be seen.

mod cluster;
mod issue;
mod keys;
mod machine;
mod state;
mod synthetic;
mod tokens;

use std::sync::Arc;

use hgs_cluster::folder::ClusterFolder;
use hgs_custody_pkcs11::Tokens;
use hgs_pki::Time;
use hgs_store::{OpenError, master_key_file};
use hgs_trace::guardian::{LocalFacts, Process, Setting, State};
use hgs_trace::{Observed, PathFacts, Problem};
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
use tokio::sync::mpsc;

use tokens::TokenExaminer;

use super::GuardianError;
use super::cluster::ClusterError;
use super::inspection::Inspection;
use super::keys::Snapshot;
use super::open_store::OpenStore;
use crate::config::{Config, Finding, Severity};

pub(super) use machine::disk;
pub(crate) use synthetic::SyntheticRolls;

impl Inspection {
    /// What only the guardian itself can see. It blocks: every private key in use is asked to work.
    pub(crate) fn examine(&self) -> LocalFacts {
        let now = self.clock.now();
        let state = match self.snapshots.current() {
            Ok(snapshot) => {
                let examiner = examiner(&self.config, &self.tokens);
                Ok(state::examined(&self.store, &snapshot, examiner, now))
            }
            Err(failure) => Err(Problem::of(&failure)),
        };
        LocalFacts {
            process: Some(process()),
            settings: Some(settings(&self.config)),
            state: Some(state),
            // It would not run otherwise.
            high_water_mark: Some(Ok(())),
            ..without_state(&self.config, self.urls(), self.api_url(), now)
        }
    }
}

/// What can be seen of a guardian that does not run. The state is opened, and nothing in it is changed; where another
/// process holds it, nothing is said of it.
#[must_use]
pub fn examine_stopped(config: &Config, now: Time) -> LocalFacts {
    let listen = &config.listen;
    let https = listen.https.enabled.then(|| config.https_address());
    let http = listen.http.enabled.then(|| config.http_address());
    let api = listen
        .api
        .enabled
        .then(|| config.api_url(listen.api.address));
    // No task waits for the end of this one.
    let (open, _) = mpsc::channel(1);
    let opened = OpenStore::master_key(config)
        .and_then(|master_key| OpenStore::look(config, &master_key, open));
    let without_state = without_state(config, config.public_urls(https, http), api, now);
    LocalFacts {
        high_water_mark: match &opened {
            Ok(_) => Some(Ok(())),
            Err(GuardianError::Store(OpenError::RolledBack(found))) => {
                let error = OpenError::from(found.clone());
                let problem = Problem::of(&error);
                let remedy = match without_state.cluster {
                    Some(_) => ClusterError::Copy(error).remedy(),
                    None => error.remedy(),
                };
                Some(Err(problem.with_remedy(remedy)))
            }
            Err(_) => None,
        },
        state: match opened {
            Ok(store) => Some(examine_store(Arc::new(store), config, now)),
            Err(GuardianError::Store(OpenError::InUse { .. })) => None,
            Err(GuardianError::Store(error)) => {
                Some(Err(Problem::of(&error).with_remedy(error.remedy())))
            }
            Err(failure) => Some(Err(Problem::of(&failure))),
        },
        listeners: machine::listeners(config),
        ..without_state
    }
}

fn examine_store(store: Arc<OpenStore>, config: &Config, now: Time) -> Observed<State> {
    let (snapshot, tokens) =
        Snapshot::of_stopped(&store, config).map_err(|failure| Problem::of(&failure))?;
    let examiner = examiner(config, &tokens);
    Ok(state::examined(&store, &snapshot, examiner, now))
}

fn examiner<'a>(config: &'a Config, tokens: &'a Tokens) -> TokenExaminer<'a> {
    TokenExaminer {
        tokens,
        settings: &config.pkcs11,
    }
}

/// Everything but the state and the process.
fn without_state(
    config: &Config,
    urls: Vec<String>,
    api_url: Option<String>,
    now: Time,
) -> LocalFacts {
    let (folder, master_key) = (config.state_folder(), config.master_key_file());
    let read = master_key_file::read(&master_key).map(drop);
    LocalFacts {
        time: now,
        user: rustix::process::geteuid().as_raw(),
        process: None,
        disk: disk(&folder),
        state_folder: PathFacts::at(&folder),
        master_key_file: PathFacts::at(&master_key),
        master_key: read.map_err(|error| Problem::of(&error)),
        https: machine::https(config, &urls),
        api: machine::api(config, api_url.as_slice()),
        urls,
        high_water_mark: None,
        settings: None,
        listeners: Vec::new(),
        state: None,
        cluster: cluster::of_folder(&ClusterFolder::of_state(&folder)),
    }
}

/// What is wrong with the settings, as far as this process can see.
fn settings(config: &Config) -> Vec<Setting> {
    config.check().into_iter().map(Into::into).collect()
}

impl From<Finding> for Setting {
    fn from(finding: Finding) -> Self {
        Self {
            name: finding.check.to_owned(),
            prevents: finding.severity == Severity::Error,
            problem: Problem::new(finding.cause).with_remedy(Some(finding.remedy)),
        }
    }
}

fn process() -> Process {
    Process {
        core_limit: getrlimit(Resource::Core).current,
        // Where the kernel does not say, the worst is meant.
        dumpable: !matches!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable)),
        open_files: open_files(),
        file_limit: getrlimit(Resource::Nofile).current,
    }
}

fn open_files() -> Option<u64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?;
    u64::try_from(files.count()).ok()
}
