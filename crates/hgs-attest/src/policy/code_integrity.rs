//! Code integrity policies: which files a host may run, by the IMA log (`docs/policies.md`), and where crash dumps go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use hgs_crypto::hash::{Sha256Digest, sha256, sha256_of};
use hgs_pki::Time;
use hgs_tcg::ima::BootAggregateError;
use serde::{Deserialize, Serialize};

use super::alternative::{Source, State};
use super::document::{self, DocumentError, EventDigest, check_count, check_name};
use super::evidence::Evidence;
use super::walk::UsedAlternative;
use crate::wire::quoted;

/// `kind` of a code integrity policy.
pub const CI_POLICY_KIND: &str = "openhgs-ci-policy";
/// `kind` of a dump-key policy.
pub const DUMP_KEY_KIND: &str = "openhgs-dump-key";
/// Octets of the longest code integrity policy: some 200,000 files.
pub const MAX_CI_POLICY_OCTETS: usize = 16 * 1024 * 1024;
/// Octets of the longest dump-key policy.
pub const MAX_DUMP_KEY_OCTETS: usize = 64 * 1024;
/// What takes the place of a component's name for sets of files.
pub const FILES: &str = "files";
/// Sets of files of one policy, and rules of one set, at most.
pub(super) const MAX_SETS: usize = 1024;

/// Which files a host may run or load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CiPolicy {
    /// Words of `ima_policy=` that the measured command line must have, such as `tcb`: they say what is measured at all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ima_policy: Vec<String>,
    /// Sets of files; what one of those that are accepted has may run.
    pub sets: Vec<FileSet>,
}

/// Files that come and go together: those of one version of a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSet {
    /// What people call it; no other set has the same name.
    pub name: String,
    /// Where it came from.
    pub source: Source,
    /// Whether it is accepted.
    pub state: State,
    /// The files, by where they may be opened.
    pub files: Vec<PathFiles>,
}

/// Files that may be opened under paths that begin alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathFiles {
    /// What the path begins with, such as `/usr/lib/modules/`. Of several, the longest counts.
    pub path: String,
    /// The digests of the files.
    pub digests: Vec<EventDigest>,
}

/// What crash dumps are written by: files that must be measured before a dump can be written, such as the initramfs of
/// kdump with the public key that dumps are encrypted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DumpKey {
    /// The files.
    pub files: Vec<PathFiles>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CiPolicyDocument {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default)]
    ima_policy: Vec<String>,
    sets: Vec<FileSet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DumpKeyDocument {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "version")]
    _version: u32,
    files: Vec<PathFiles>,
}

impl CiPolicy {
    /// Reads a document, strictly.
    pub fn from_json(octets: &[u8]) -> Result<Self, DocumentError> {
        let document: CiPolicyDocument =
            document::read(CI_POLICY_KIND, octets, MAX_CI_POLICY_OCTETS)?;
        let policy = Self {
            ima_policy: document.ima_policy,
            sets: document.sets,
        };
        policy.check()?;
        Ok(policy)
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> String {
        document::write(CI_POLICY_KIND, self)
    }

    /// A policy of one set, which is accepted: each file with the directory under which it may be opened, ending in `/`.
    #[must_use]
    pub fn of_files(
        name: &str,
        source: Source,
        files: impl IntoIterator<Item = (String, EventDigest)>,
    ) -> Self {
        let mut by_path: BTreeMap<String, Vec<EventDigest>> = BTreeMap::new();
        for (path, digest) in files {
            by_path.entry(path).or_default().push(digest);
        }
        let files = by_path.into_iter().map(|(path, mut digests)| {
            digests.sort_unstable();
            digests.dedup();
            PathFiles { path, digests }
        });
        Self {
            ima_policy: Vec::new(),
            sets: vec![FileSet {
                name: name.to_owned(),
                source,
                state: State::promoted(),
                files: files.collect(),
            }],
        }
    }

    fn set_mut(&mut self, set: &str) -> Option<&mut FileSet> {
        self.sets.iter_mut().find(|found| found.name == set)
    }

    /// Records that a host ran files of a staged set. `false` if there is none of that name that is staged.
    pub fn promote(&mut self, set: &str, host: &str, now: Time) -> bool {
        let set = self.set_mut(set);
        set.is_some_and(|set| set.state.promote(host, now))
    }

    /// Withdraws a set. `false` if there is none of that name that is accepted.
    pub fn retire(&mut self, set: &str, now: Time) -> bool {
        let set = self.set_mut(set);
        set.is_some_and(|set| set.state.retire(now))
    }

    /// Sets that are promoted and from which no host of these used a file: they can be retired.
    pub fn unused<'u>(
        &self,
        name: &str,
        used: impl IntoIterator<Item = &'u UsedAlternative>,
    ) -> Vec<String> {
        let used = used
            .into_iter()
            .filter(|used| used.document == name && used.component == FILES);
        let used: BTreeSet<_> = used.map(|used| used.alternative.as_str()).collect();
        let promoted = self
            .sets
            .iter()
            .filter(|set| matches!(set.state, State::Promoted { .. }));
        let unused = promoted.filter(|set| !used.contains(set.name.as_str()));
        unused.map(|set| set.name.clone()).collect()
    }

    /// The policy with a further set: the files of an IMA log that it does not allow, under the paths that count for them.
    /// `None` if there are none that could be allowed: a file that changed while it was measured never is.
    #[must_use]
    pub fn with_files_of(
        &self,
        evidence: &Evidence,
        set: &str,
        source: Source,
        now: Time,
    ) -> Option<Self> {
        let compiled = CompiledCiPolicy::new("", self)?;
        let mut files: BTreeMap<String, BTreeSet<EventDigest>> = BTreeMap::new();
        let entries = evidence.ima()?.entries();
        for entry in entries.filter(|entry| entry.path() != b"boot_aggregate") {
            let digest = entry.file_digest();
            if entry.is_violation() || digest.algorithm != b"sha256" {
                continue;
            }
            let Ok(digest) = digest.octets.try_into().map(EventDigest) else {
                continue;
            };
            if compiled.set_that_allows(entry.path(), &digest, now).is_ok() {
                continue;
            }
            let path = entry.path();
            let rule = compiled.rule_of(path).map(|(beginning, _)| beginning);
            let directory = || {
                &path[..path
                    .iter()
                    .rposition(|octet| *octet == b'/')
                    .map_or(path.len(), |end| end + 1)]
            };
            if let Ok(rule) = std::str::from_utf8(rule.unwrap_or_else(directory)) {
                files.entry(rule.to_owned()).or_default().insert(digest);
            }
        }
        if files.is_empty() {
            return None;
        }
        let taken = |name: &str| self.sets.iter().any(|set| set.name == name);
        let mut with = self.clone();
        with.sets.push(FileSet {
            name: super::approve::free_name(set, taken),
            source,
            state: State::Promoted {
                at: Some(now),
                by: None,
            },
            files: files
                .into_iter()
                .map(|(path, digests)| PathFiles {
                    path,
                    digests: digests.into_iter().collect(),
                })
                .collect(),
        });
        Some(with)
    }

    /// Takes out staged sets that expired. How many there were.
    pub fn remove_expired(&mut self, now: Time) -> usize {
        let before = self.sets.len();
        self.sets.retain(|set| !set.state.is_expired(now));
        before - self.sets.len()
    }

    fn check(&self) -> Result<(), DocumentError> {
        check_count("sets", self.sets.len(), MAX_SETS)?;
        check_count("words of `ima_policy`", self.ima_policy.len(), 16)?;
        for word in &self.ima_policy {
            if word.is_empty()
                || !word
                    .bytes()
                    .all(|octet| matches!(octet, b'a'..=b'z' | b'_'))
            {
                return Err(DocumentError::Inconsistent(format!(
                    "`ima_policy` has `{}`, which is no word of small letters and `_`",
                    quoted(word)
                )));
            }
        }
        for (place, set) in self.sets.iter().enumerate() {
            check_name("the set", &set.name)?;
            check_name("the source", &set.source.of)?;
            check_files(&set.files)?;
            if self.sets[..place]
                .iter()
                .any(|before| before.name == set.name)
            {
                return Err(DocumentError::Inconsistent(format!(
                    "two sets have the name `{}`",
                    set.name
                )));
            }
        }
        Ok(())
    }
}

impl DumpKey {
    /// Reads a document, strictly.
    pub fn from_json(octets: &[u8]) -> Result<Self, DocumentError> {
        let document: DumpKeyDocument = document::read(DUMP_KEY_KIND, octets, MAX_DUMP_KEY_OCTETS)?;
        check_files(&document.files)?;
        if document.files.iter().all(|files| files.digests.is_empty()) {
            return Err(DocumentError::Inconsistent(
                "the dump-key policy has no digest".to_owned(),
            ));
        }
        Ok(Self {
            files: document.files,
        })
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> String {
        document::write(DUMP_KEY_KIND, self)
    }
}

fn check_files(files: &[PathFiles]) -> Result<(), DocumentError> {
    check_count("paths of a set", files.len(), MAX_SETS)?;
    for (place, rule) in files.iter().enumerate() {
        check_name("the path", &rule.path)?;
        if files[..place].iter().any(|before| before.path == rule.path) {
            return Err(DocumentError::Inconsistent(format!(
                "the path `{}` stands there twice",
                rule.path
            )));
        }
    }
    Ok(())
}

/// A code integrity policy that can be matched.
#[derive(Debug)]
pub(super) struct CompiledCiPolicy {
    name: String,
    ima_policy: Vec<String>,
    /// Every beginning of a path that some set has, and how long they are, longest first.
    paths: HashMap<Vec<u8>, u32>,
    lengths: Vec<usize>,
    /// Digests with the paths that they are allowed under, and the sets that allow it.
    allowed: HashMap<EventDigest, Vec<(u32, u32)>>,
    sets: Vec<(String, State)>,
}

/// Entries that a failure tells of, at most.
const MAX_REFUSED: usize = 16;

/// Why an IMA log does not match a code integrity policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CiFailure {
    /// The host sent no IMA log, or an empty one.
    #[error("the host has no IMA log")]
    NoLog,
    /// The first entry is not what the PCRs of the boot give.
    #[error(transparent)]
    BootAggregate(#[from] BootAggregateError),
    /// What says which files are measured is not proved.
    #[error("{0}")]
    ImaPolicy(String),
    /// Files that are not allowed.
    #[error("{count} {} not allowed; the first is {}", if *.count == 1 { "entry is" } else { "entries are" }, .first.first().map(ToString::to_string).unwrap_or_default())]
    Refused {
        /// How many there are.
        count: usize,
        /// The first of them, at most 16.
        first: Vec<RefusedFile>,
        /// SHA-256 over all of them, whatever their order.
        all: Sha256Digest,
    },
}

/// An entry of the IMA log that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedFile {
    /// The number of the entry.
    pub entry: usize,
    /// The path, escaped.
    pub path: String,
    /// The digest of the file; `None` if it is none of SHA-256.
    pub digest: Option<EventDigest>,
    /// Why.
    pub cause: RefusedFileCause,
}

/// Why a file is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusedFileCause {
    /// No set has this digest under this path.
    NotAllowed,
    /// A set has the digest, under another path.
    OtherPath,
    /// Only sets that are retired, or expired, have it.
    NotAccepted,
    /// The file changed while it was measured.
    Violation,
    /// The digest is of another algorithm than SHA-256.
    Algorithm,
}

impl fmt::Display for RefusedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            entry,
            path,
            digest,
            cause,
        } = self;
        let cause = match cause {
            RefusedFileCause::NotAllowed => "no set has it",
            RefusedFileCause::OtherPath => "it is allowed under other paths only",
            RefusedFileCause::NotAccepted => "only sets that are retired or expired have it",
            RefusedFileCause::Violation => "it changed while it was measured",
            RefusedFileCause::Algorithm => "its digest is not one of SHA-256",
        };
        write!(formatter, "IMA entry {entry}, {path}")?;
        if let Some(digest) = digest {
            write!(formatter, ", {digest}")?;
        }
        write!(formatter, ": {cause}")
    }
}

impl CiFailure {
    /// How many entries were refused; all, if the log was not looked at.
    pub(super) fn refused_entries(&self) -> usize {
        match self {
            Self::Refused { count, .. } => *count,
            _ => usize::MAX,
        }
    }

    pub(super) fn group_part(&self) -> Vec<u8> {
        match self {
            Self::Refused { all, .. } => all.to_vec(),
            Self::BootAggregate(_) => b"boot_aggregate".to_vec(),
            other => other.to_string().into_bytes(),
        }
    }
}

impl CompiledCiPolicy {
    /// `None` if nothing is allowed.
    pub(super) fn new(name: &str, policy: &CiPolicy) -> Option<Self> {
        let mut compiled = Self {
            name: name.to_owned(),
            ima_policy: policy.ima_policy.clone(),
            paths: HashMap::new(),
            lengths: Vec::new(),
            allowed: HashMap::new(),
            sets: Vec::new(),
        };
        for (set_number, set) in policy.sets.iter().enumerate() {
            for files in &set.files {
                let path_number = compiled.paths.len() as u32;
                let path = files.path.clone().into_bytes();
                compiled.lengths.push(path.len());
                let path = *compiled.paths.entry(path).or_insert(path_number);
                for digest in &files.digests {
                    let places = compiled.allowed.entry(*digest).or_default();
                    places.push((path, set_number as u32));
                }
            }
            compiled.sets.push((set.name.clone(), set.state.clone()));
        }
        compiled
            .lengths
            .sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        compiled.lengths.dedup();
        let allows = policy.sets.iter().any(|set| {
            !set.state.is_retired() && set.files.iter().any(|files| !files.digests.is_empty())
        });
        allows.then_some(compiled)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn ima_policy(&self) -> &[String] {
        &self.ima_policy
    }

    /// Judges every entry of the IMA log but `boot_aggregate`, which must be that of the PCRs. Their order means nothing.
    pub(super) fn judge(
        &self,
        evidence: &Evidence,
        now: Time,
    ) -> Result<Vec<UsedAlternative>, CiFailure> {
        let ima = evidence.ima().ok_or(CiFailure::NoLog)?;
        ima.check_boot_aggregate(evidence.values())?;
        let mut used = vec![false; self.sets.len()];
        let mut count = 0;
        let mut first = Vec::new();
        let mut all = Vec::new();
        for entry in ima
            .entries()
            .filter(|entry| entry.path() != b"boot_aggregate")
        {
            let digest = entry.file_digest();
            let of_sha256 = match digest.algorithm {
                b"sha256" => digest.octets.try_into().ok().map(EventDigest),
                _ => None,
            };
            let allowed = match of_sha256 {
                _ if entry.is_violation() => Err(RefusedFileCause::Violation),
                None => Err(RefusedFileCause::Algorithm),
                Some(digest) => self.set_that_allows(entry.path(), &digest, now),
            };
            match allowed {
                Ok(set) => used[set as usize] = true,
                Err(cause) => {
                    count += 1;
                    let path = sha256(entry.path());
                    all.push(sha256_of(&[&path, &[cause as u8], digest.octets]));
                    if first.len() < MAX_REFUSED {
                        first.push(RefusedFile {
                            entry: entry.number(),
                            path: entry.path().escape_ascii().to_string(),
                            digest: of_sha256,
                            cause,
                        });
                    }
                }
            }
        }
        if count > 0 {
            all.sort_unstable();
            all.dedup();
            let all = sha256(all.as_flattened());
            return Err(CiFailure::Refused { count, first, all });
        }
        let used = self.sets.iter().zip(used).filter(|(_, used)| *used);
        Ok(used
            .map(|((set, state), _)| UsedAlternative {
                document: self.name.clone(),
                component: FILES.to_owned(),
                alternative: set.clone(),
                staged: state.is_staged(),
                of_host: false,
            })
            .collect())
    }

    fn set_that_allows(
        &self,
        path: &[u8],
        digest: &EventDigest,
        now: Time,
    ) -> Result<u32, RefusedFileCause> {
        let places = self
            .allowed
            .get(digest)
            .ok_or(RefusedFileCause::NotAllowed)?;
        let mut beginnings = self.lengths.iter().filter_map(|length| path.get(..*length));
        let rule = beginnings.find_map(|beginning| self.paths.get(beginning));
        let of_path: Vec<_> = places
            .iter()
            .filter(|(path, _)| Some(path) == rule)
            .collect();
        if of_path.is_empty() {
            return Err(RefusedFileCause::OtherPath);
        }
        let state = |set: u32| &self.sets[set as usize].1;
        let accepted = of_path
            .iter()
            .filter(|(_, set)| state(*set).is_accepted(now));
        let best = accepted.min_by_key(|(_, set)| state(*set).is_staged());
        best.map(|(_, set)| *set)
            .ok_or(RefusedFileCause::NotAccepted)
    }

    /// The longest beginning of a path that some set has.
    fn rule_of<'p>(&self, path: &'p [u8]) -> Option<(&'p [u8], u32)> {
        let mut beginnings = self.lengths.iter().filter_map(|length| path.get(..*length));
        beginnings.find_map(|beginning| Some((beginning, *self.paths.get(beginning)?)))
    }
}
