//! What keeps a VM from starting: everything that can be looked at without a key.

use std::sync::Arc;

use hgs_protector::Protector;
use hgs_vm::description::Description;
use hgs_vm::generation::StateFolder;

use crate::failure::blocking;
use crate::machine::Machine;
use crate::wire::{AgentFailure, Finding, Health};

impl Machine {
    /// Looks at everything that a start needs, in the order in which it needs it.
    pub(crate) async fn trace(self: &Arc<Self>, health: &Health) -> Vec<Finding> {
        let mut findings = vec![self.trace_host(health)];
        let surroundings = self.surroundings();
        let machine = Arc::clone(self);
        let rest = blocking(move || {
            let folder = machine.folder();
            let mut findings = Vec::new();
            let description = Description::load(&folder);
            findings.push(finding(
                "what the VM consists of (vm.toml)",
                &description,
                |description| format!("{} with id {}", description.name, description.id),
            ));
            if let Ok(description) = &description {
                for file in description.files() {
                    let path = file.within(&folder);
                    let check = format!("the file {}", file.as_str());
                    let mut found = finding(&check, &path, |path| path.display().to_string());
                    found.remedy = (!found.passed).then(|| {
                        "a VM that libvirt runs has it where its domain says, and needs none here"
                            .to_owned()
                    });
                    findings.push(found);
                }
            }
            let state = StateFolder::open(&folder);
            findings.push(finding("the state of its TPM", &state, |state| {
                state.current().map_or_else(String::new, |current| {
                    format!("generation {}", current.number())
                })
            }));
            if let Ok(state) = &state {
                let stopped = machine.check_stop(state);
                let remedy = stopped
                    .as_ref()
                    .err()
                    .and_then(|failure| failure.remedy.clone());
                let stopped = finding("the record of where it stopped", &stopped, |()| {
                    "nothing speaks against this state".to_owned()
                });
                findings.push(Finding { remedy, ..stopped });
            }
            if let Ok(state) = &state
                && let Some(current) = state.current()
            {
                let protector =
                    current
                        .protector()
                        .map_err(AgentFailure::from)
                        .and_then(|octets| {
                            let caches = hgs_kps::Caches::new(16);
                            let read = Protector::read(&octets, &caches.certificates)
                                .and_then(|protector| protector.verify(&caches.signatures));
                            read.map_err(|error| hgs_client::Error::from(error).into())
                        });
                findings.push(finding("its key protector", &protector, |protector| {
                    format!(
                        "{}, for {} guardians",
                        protector.digest(),
                        protector.wrappings().len()
                    )
                }));
            }
            let emulator = surroundings.emulator();
            findings.push(finding(
                "QEMU and its firmware",
                &emulator,
                |(emulator, _)| {
                    format!(
                        "{} of version {}",
                        emulator.program.path.display(),
                        emulator.version
                    )
                },
            ));
            let swtpm = surroundings.swtpm.command().arg("--version").output();
            findings.push(finding("swtpm", &swtpm, |output| {
                let text = String::from_utf8_lossy(&output.stdout);
                text.lines().next().unwrap_or_default().to_owned()
            }));
            Ok(findings)
        });
        match rest.await {
            Ok(rest) => findings.extend(rest),
            Err(failure) => findings.push(Finding {
                check: "the agent itself".to_owned(),
                passed: false,
                found: failure.message,
                remedy: failure.remedy,
            }),
        }
        // What a guardian holds against a protector shows only when it is asked.
        if findings.iter().all(|finding| finding.passed)
            && let Some(found) = self.last_refusal().clone()
        {
            findings.push(Finding {
                check: "the last attempt to start it".to_owned(),
                passed: false,
                found,
                remedy: None,
            });
        }
        findings
    }

    fn trace_host(&self, health: &Health) -> Finding {
        let (passed, found) = match health {
            Health::Healthy { until, .. } => (true, format!("attested until {until}")),
            Health::Unknown => (false, "the agent has not attested yet".to_owned()),
            Health::Unhealthy { reason, .. } => (false, reason.clone()),
        };
        Finding {
            check: "the health certificate of the host".to_owned(),
            passed,
            found,
            remedy: (!passed)
                .then(|| "`guarded-host attest` and `guarded-host trace` say more".to_owned()),
        }
    }
}

fn finding<T, E: std::fmt::Display>(
    check: &str,
    outcome: &Result<T, E>,
    found: impl FnOnce(&T) -> String,
) -> Finding {
    Finding {
        check: check.to_owned(),
        passed: outcome.is_ok(),
        found: match outcome {
            Ok(value) => found(value),
            Err(error) => error.to_string(),
        },
        remedy: None,
    }
}
