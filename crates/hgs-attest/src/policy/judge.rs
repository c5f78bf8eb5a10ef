//! What each policy means on Linux, decided from what was measured (`docs/policies.md`).

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;

use hgs_pki::Time;
use hgs_tcg::event_log::{Action, Fact, Meaning, Place, SecureBoot, SecureBootError};

use super::code_integrity::{CiFailure, CompiledCiPolicy, DumpKey};
use super::evaluation::{Matched, Nearest, words};
use super::evidence::Evidence;
use super::name::PolicyName;
use super::walk::UsedAlternative;

/// Whether a policy held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It follows from what was measured.
    Held,
    /// It does not.
    Failed(PolicyFailure),
}

/// Why a policy failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFailure {
    /// The variable says that Secure Boot is off.
    #[error("Secure Boot is off (PCR 7)")]
    SecureBootOff,
    /// The state of Secure Boot does not follow from PCR 7.
    #[error("whether Secure Boot is on does not follow from PCR 7: {0}")]
    SecureBootUnknown(SecureBootError),
    /// No baseline is enabled for the host.
    #[error("no baseline is enabled")]
    NoBaseline,
    /// The boot is not what a baseline has.
    #[error("the boot differs from the nearest baseline `{baseline}` in {differences} {}: {first}", if *.differences == 1 { "place" } else { "places" })]
    NoBaselineMatches {
        /// The nearest baseline.
        baseline: String,
        /// In how many places it differs.
        differences: usize,
        /// The first of them.
        first: String,
    },
    /// PCR 7 has no separator, or more than one, so what firmware said about debuggers is not complete.
    #[error("PCR 7 is not proved, or has not one separator")]
    NoSeparator,
    /// Firmware says that this holds.
    #[error("event {event} of PCR 7 says: {}", action.text())]
    Action {
        /// What it says.
        action: Action,
        /// The number of the event.
        event: usize,
    },
    /// The kernel's command line is not proved.
    #[error("the kernel's command line is not proved: {0}")]
    CommandLineUnknown(CommandLineUnknown),
    /// A word that is needed is absent from it.
    #[error("the measured command line has none of: {}", .one_of.join(", "))]
    WordMissing {
        /// Which would do.
        one_of: Vec<String>,
    },
    /// It has a word that it must not have.
    #[error("the measured command line has `{word}`")]
    ForbiddenWord {
        /// The word, escaped and cut short.
        word: String,
    },
    /// No code integrity policy is enabled.
    #[error("no code integrity policy is enabled")]
    NoCiPolicy,
    /// The IMA log matches no code integrity policy.
    #[error("the IMA log does not match the nearest code integrity policy `{policy}`: {failure}")]
    CodeIntegrity {
        /// The nearest.
        policy: String,
        /// Why.
        failure: CiFailure,
    },
    /// Memory is reserved for a crash dump, and nothing that was measured says how it is written.
    #[error("crash dumps are on (`crashkernel=`), and no file of a dump-key policy was measured")]
    DumpsNotEncrypted,
    /// Crash dumps are on, and something else than what is registered writes them.
    #[error(
        "crash dumps are on (`crashkernel=`), and IMA entry {entry} ({path}) is of no registered dump key"
    )]
    UnknownDumpKey {
        /// The number of the entry.
        entry: usize,
        /// Its path, escaped.
        path: String,
    },
    /// Nothing on Linux decides it.
    #[error("nothing that is measured on Linux decides it")]
    NotApplicable,
}

/// Why the kernel's command line is not proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLineUnknown {
    /// Only a baseline says which event it is, and none matches.
    NoBaselineMatches,
    /// The baseline has no slot for it.
    NoSlot,
    /// The event is approved, and nothing says what it is the digest of.
    NoText {
        /// The PCR.
        pcr: u8,
        /// The number of the event.
        event: usize,
    },
}

impl fmt::Display for CommandLineUnknown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBaselineMatches => formatter.write_str("no baseline matches"),
            Self::NoSlot => formatter
                .write_str("the baseline marks no slot with `command_line`, or it was empty"),
            Self::NoText { pcr, event } => write!(
                formatter,
                "neither the baseline nor the host says what event {event} of PCR {pcr} is the digest of"
            ),
        }
    }
}

impl PolicyFailure {
    /// What of it tells groups of refusals apart.
    pub(super) fn group_part(&self) -> Vec<u8> {
        match self {
            // The differences are compared by themselves; in their words are the host's own digests.
            Self::NoBaselineMatches { baseline, .. } => baseline.clone().into_bytes(),
            Self::Action { action, .. } => action.text().as_bytes().to_vec(),
            Self::CommandLineUnknown(_) => b"command line".to_vec(),
            Self::CodeIntegrity { policy, failure } => {
                [policy.as_bytes(), &failure.group_part()].concat()
            }
            Self::UnknownDumpKey { path, .. } => path.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        }
    }
}

/// What policies are decided from.
pub(super) struct Judge<'j> {
    evidence: &'j Evidence,
    now: Time,
    matched: Result<&'j Matched, &'j Nearest>,
    ci_policies: &'j [CompiledCiPolicy],
    dump_keys: &'j BTreeMap<String, DumpKey>,
    /// Several policies look at PCR 7, whose data are hashed for it.
    facts_of_pcr_7: OnceCell<Option<Vec<Fact<'j>>>>,
    /// The words of each command line that is known.
    words: OnceCell<Vec<Vec<String>>>,
}

/// Any of these turns on the kernel's lockdown, which refuses modules without a signature, hibernation, and debuggers that
/// write to memory.
const LOCKDOWN: [&str; 2] = ["lockdown=integrity", "lockdown=confidentiality"];
/// Either takes hibernation, and with it resuming, from the kernel.
const NO_HIBERNATION: [&str; 2] = ["nohibernate", "hibernate=no"];
const IOMMU_ON: [&str; 5] = [
    "intel_iommu=on",
    "amd_iommu=force_enable",
    "amd_iommu=force_isolation",
    "iommu=force",
    "iommu.passthrough=0",
];
const IOMMU_OFF: [&str; 9] = [
    "iommu=off",
    "iommu=pt",
    "iommu=soft",
    "iommu=nopt_off",
    "intel_iommu=off",
    "intel_iommu=igfx_off",
    "amd_iommu=off",
    "iommu.passthrough=1",
    "iommu.passthrough=y",
];
const NO_SWAP: [&str; 4] = [
    "systemd.swap=no",
    "systemd.swap=0",
    "systemd.swap=false",
    "systemd.swap=off",
];
/// What attaches a debugger to the kernel.
const DEBUGGERS: [&str; 4] = ["kgdboc", "kgdbwait", "ekgdboc", "kgdbdbgp"];

impl<'j> Judge<'j> {
    pub(super) fn new(
        evidence: &'j Evidence,
        now: Time,
        matched: Result<&'j Matched, &'j Nearest>,
        ci_policies: &'j [CompiledCiPolicy],
        dump_keys: &'j BTreeMap<String, DumpKey>,
    ) -> Self {
        Self {
            evidence,
            now,
            matched,
            ci_policies,
            dump_keys,
            facts_of_pcr_7: OnceCell::new(),
            words: OnceCell::new(),
        }
    }

    fn facts_of_pcr_7(&self) -> Option<&[Fact<'j>]> {
        let facts = || Some(self.evidence.log().lane(7)?.facts());
        self.facts_of_pcr_7.get_or_init(facts).as_deref()
    }

    /// The words of each command line whose text is known; none if no baseline matches.
    fn words(&self) -> &[Vec<String>] {
        self.words.get_or_init(|| {
            let texts = self.matched.map(|matched| &matched.command_lines.texts);
            let lines = texts.into_iter().flatten();
            lines.map(|line| words(line)).collect()
        })
    }

    /// Whether a policy held, and which sets of files it used.
    pub(super) fn outcome(&self, policy: PolicyName) -> (Outcome, Vec<UsedAlternative>) {
        let result = match policy {
            PolicyName::CiPolicy => match self.code_integrity() {
                Ok(used) => return (Outcome::Held, used),
                Err(failure) => Err(failure),
            },
            PolicyName::SecureBootEnabled => self.secure_boot_enabled(),
            PolicyName::SecureBootSettings => self.baseline_matches(),
            PolicyName::UefiDebugDisabled => self.no_debugger(),
            PolicyName::HypervisorEnforcedCiPolicy => self.lockdown(),
            PolicyName::FullBoot | PolicyName::NoHibernation => self.no_hibernation(),
            PolicyName::PageFileEncryptionEnabled => self.has_one_of(&NO_SWAP),
            PolicyName::IommuEnabled => self.iommu(),
            PolicyName::NoDumps => self.no_dumps(),
            PolicyName::DumpEncryption => self.dump_encryption(),
            PolicyName::DumpEncryptionKey => self.dump_encryption_key(),
            PolicyName::VsmIdkPresent | PolicyName::VsmRunning | PolicyName::BitLockerEnabled => {
                Err(PolicyFailure::NotApplicable)
            }
        };
        let outcome = match result {
            Ok(()) => Outcome::Held,
            Err(failure) => Outcome::Failed(failure),
        };
        (outcome, Vec::new())
    }

    fn secure_boot_enabled(&self) -> Result<(), PolicyFailure> {
        let facts = self.facts_of_pcr_7().ok_or(SecureBootError::NotProved);
        match facts.and_then(SecureBoot::of_facts) {
            Ok(SecureBoot::Enabled) => Ok(()),
            Ok(SecureBoot::Disabled) => Err(PolicyFailure::SecureBootOff),
            Err(error) => Err(PolicyFailure::SecureBootUnknown(error)),
        }
    }

    fn baseline_matches(&self) -> Result<(), PolicyFailure> {
        let Err(nearest) = self.matched else {
            return Ok(());
        };
        let nearest = Some(nearest).and_then(|nearest| {
            let first = nearest.differences.first()?;
            Some((
                nearest.baseline.clone()?,
                nearest.differences.len(),
                first.to_string(),
            ))
        });
        let (baseline, differences, first) = nearest.ok_or(PolicyFailure::NoBaseline)?;
        Err(PolicyFailure::NoBaselineMatches {
            baseline,
            differences,
            first,
        })
    }

    /// Refuses an action that firmware measures into PCR 7. That it is absent means something only where firmware got to
    /// its separator.
    fn no_action(&self, action: Action) -> Result<(), PolicyFailure> {
        let facts = self.facts_of_pcr_7().unwrap_or_default();
        let separators = facts
            .iter()
            .filter(|fact| fact.meaning() == Meaning::Separator);
        let first_is_place = facts.iter().any(|fact| fact.place() == Place::Separator);
        if separators.count() != 1 || !first_is_place {
            return Err(PolicyFailure::NoSeparator);
        }
        match facts
            .iter()
            .find(|fact| fact.meaning() == Meaning::Action(action))
        {
            Some(fact) => Err(PolicyFailure::Action {
                action,
                event: fact.number(),
            }),
            None => Ok(()),
        }
    }

    fn no_debugger(&self) -> Result<(), PolicyFailure> {
        self.no_action(Action::DebugMode)?;
        self.words().iter().try_for_each(|words| {
            forbid(words, |word| {
                DEBUGGERS.contains(&word.split('=').next().unwrap_or(word))
            })
        })
    }

    /// The words of every command line that was measured.
    fn command_lines(&self) -> Result<&[Vec<String>], PolicyFailure> {
        let unknown = |why| Err(PolicyFailure::CommandLineUnknown(why));
        let Ok(matched) = self.matched else {
            return unknown(CommandLineUnknown::NoBaselineMatches);
        };
        let lines = &matched.command_lines;
        if let Some((pcr, event)) = lines.unknown.first() {
            let (pcr, event) = (*pcr, *event);
            return unknown(CommandLineUnknown::NoText { pcr, event });
        }
        if lines.texts.is_empty() {
            return unknown(CommandLineUnknown::NoSlot);
        }
        Ok(self.words())
    }

    fn has_one_of(&self, one_of: &[&str]) -> Result<(), PolicyFailure> {
        let has = |words: &Vec<String>| words.iter().any(|word| one_of.contains(&word.as_str()));
        match self.command_lines()?.iter().all(has) {
            true => Ok(()),
            false => Err(PolicyFailure::WordMissing {
                one_of: one_of.iter().map(|word| (*word).to_owned()).collect(),
            }),
        }
    }

    /// Refuses a word in any of the command lines.
    fn has_no(&self, forbidden: impl Fn(&str) -> bool) -> Result<(), PolicyFailure> {
        let lines = self.command_lines()?;
        lines.iter().try_for_each(|words| forbid(words, &forbidden))
    }

    fn lockdown(&self) -> Result<(), PolicyFailure> {
        self.has_one_of(&LOCKDOWN)?;
        // A list of security modules without it leaves it out.
        self.has_no(|word| {
            word.strip_prefix("lsm=")
                .is_some_and(|list| !list.split(',').any(|one| one == "lockdown"))
                || matches!(word, "module.sig_enforce=0" | "lockdown=none")
        })
    }

    fn no_hibernation(&self) -> Result<(), PolicyFailure> {
        let either: Vec<_> = NO_HIBERNATION.into_iter().chain(LOCKDOWN).collect();
        self.has_one_of(&either)
    }

    fn iommu(&self) -> Result<(), PolicyFailure> {
        self.no_action(Action::DmaProtectionDisabled)?;
        // `intel_iommu=on,sm_on` and the like.
        let lines = self.command_lines()?;
        let is_on = |word: &String| {
            let first = word.split(',').next().unwrap_or(word);
            IOMMU_ON.contains(&first)
        };
        if !lines.iter().all(|words| words.iter().any(is_on)) {
            return Err(PolicyFailure::WordMissing {
                one_of: IOMMU_ON.map(str::to_owned).to_vec(),
            });
        }
        self.has_no(|word| {
            let (name, values) = word.split_once('=').unwrap_or((word, ""));
            let mut each = values.split(',');
            each.any(|value| {
                IOMMU_OFF
                    .iter()
                    .any(|off| off.split_once('=') == Some((name, value)))
            })
        })
    }

    fn no_dumps(&self) -> Result<(), PolicyFailure> {
        self.has_no(|word| word.starts_with("crashkernel"))
    }

    fn dumps_are_off(&self) -> Result<bool, PolicyFailure> {
        match self.no_dumps() {
            Ok(()) => Ok(true),
            Err(PolicyFailure::ForbiddenWord { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Dumps are encrypted if what writes them was measured: it is in a dump-key policy by its path.
    fn dump_encryption(&self) -> Result<(), PolicyFailure> {
        if self.dumps_are_off()? {
            return Ok(());
        }
        match self.dump_files().is_empty() {
            true => Err(PolicyFailure::DumpsNotEncrypted),
            false => Ok(()),
        }
    }

    fn dump_encryption_key(&self) -> Result<(), PolicyFailure> {
        if self.dumps_are_off()? {
            return Ok(());
        }
        let files = self.dump_files();
        if files.is_empty() {
            return Err(PolicyFailure::DumpsNotEncrypted);
        }
        match files.into_iter().find(|(.., registered)| !registered) {
            Some((entry, path, _)) => Err(PolicyFailure::UnknownDumpKey { entry, path }),
            None => Ok(()),
        }
    }

    /// Entries of the IMA log at paths of dump-key policies, and whether their digests are registered.
    fn dump_files(&self) -> Vec<(usize, String, bool)> {
        let Some(ima) = self.evidence.ima() else {
            return Vec::new();
        };
        let rules = || self.dump_keys.values().flat_map(|key| &key.files);
        let mut files = Vec::new();
        for entry in ima.entries() {
            let mut of_path = rules()
                .filter(|rule| entry.path().starts_with(rule.path.as_bytes()))
                .peekable();
            if of_path.peek().is_none() {
                continue;
            }
            let digest = entry.file_digest();
            let registered = !entry.is_violation()
                && digest.algorithm == b"sha256"
                && of_path.any(|rule| rule.digests.iter().any(|one| one.0 == digest.octets));
            files.push((
                entry.number(),
                entry.path().escape_ascii().to_string(),
                registered,
            ));
        }
        files
    }

    fn code_integrity(&self) -> Result<Vec<UsedAlternative>, PolicyFailure> {
        let mut nearest: Option<(usize, PolicyFailure)> = None;
        for policy in self.ci_policies {
            let judged = policy.judge(self.evidence, self.now).and_then(|used| {
                self.has_ima_policy(policy.ima_policy())?;
                Ok(used)
            });
            let failure = match judged {
                Ok(used) => return Ok(used),
                Err(failure) => failure,
            };
            let entries = failure.refused_entries();
            if nearest.as_ref().is_none_or(|(fewest, _)| entries < *fewest) {
                let policy = policy.name().to_owned();
                nearest = Some((entries, PolicyFailure::CodeIntegrity { policy, failure }));
            }
        }
        Err(nearest.map_or(PolicyFailure::NoCiPolicy, |(_, failure)| failure))
    }

    /// Whether every measured command line has `ima_policy=` with each of these words.
    fn has_ima_policy(&self, needed: &[String]) -> Result<(), CiFailure> {
        if needed.is_empty() {
            return Ok(());
        }
        let lines = self
            .command_lines()
            .map_err(|failure| CiFailure::ImaPolicy(failure.to_string()))?;
        for words in lines {
            let given: Vec<_> = words
                .iter()
                .filter_map(|word| word.strip_prefix("ima_policy="))
                .collect();
            let has = |needed: &String| {
                given
                    .iter()
                    .any(|list| list.split('|').any(|one| one == needed))
            };
            if let Some(missing) = needed.iter().find(|needed| !has(needed)) {
                return Err(CiFailure::ImaPolicy(format!(
                    "the measured command line has no `ima_policy={missing}`"
                )));
            }
        }
        Ok(())
    }
}

fn forbid(words: &[String], forbidden: impl Fn(&str) -> bool) -> Result<(), PolicyFailure> {
    match words.iter().find(|word| forbidden(word)) {
        Some(word) => Err(PolicyFailure::ForbiddenWord {
            word: crate::wire::quoted(word),
        }),
        None => Ok(()),
    }
}
