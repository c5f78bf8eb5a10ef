//! `hgs policy simulate`: what hosts would be told, without a host that attests.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use hgs_admin::types::{Judgement, SimulatePolicies, Trial};
use hgs_admin::{Administration as _, Client};
use hgs_crypto::{base64, hex};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{all_judgements, document};
use crate::completion;
use crate::documents::named_value;
use crate::evidence_files::EvidenceFiles;
use crate::failures::OrFail as _;

/// Show how measurements are judged: of files, or of the last boot of every host
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs policy simulate --log eventlog.bin --pcrs pcrs.txt --ima ima.bin --host host7
  hgs policy simulate --against-evidence
  hgs policy simulate --against-evidence --enable Hgs_IommuEnabled
  hgs policy simulate --against-evidence --baseline model-a=next.json

Nothing is changed, and no host is asked. Ends with status 2 if a host would be refused.")]
pub(super) struct Simulate {
    #[command(flatten)]
    evidence: Option<EvidenceFiles>,
    /// Judge the last evidence of every host with a TPM
    #[arg(long, conflicts_with_all = ["log", "pcrs", "ima"], required_unless_present = "log")]
    against_evidence: bool,
    /// The host whose group, parameters and own measurements count
    #[arg(long, value_name = "NAME", add = completion::hosts(), conflicts_with_all = ["against_evidence", "group"])]
    host: Option<String>,
    /// The group whose policies count [default: default]
    #[arg(long, value_name = "GROUP", add = completion::host_groups(), conflicts_with = "against_evidence")]
    group: Option<String>,
    /// Try with this policy or document enabled
    #[arg(long, value_name = "NAME", add = completion::policies())]
    enable: Vec<String>,
    /// Try with this policy or document disabled
    #[arg(long, value_name = "NAME", add = completion::policies())]
    disable: Vec<String>,
    /// Try with this baseline
    #[arg(long = "baseline", value_name = "NAME=FILE", value_parser = named_value::<PathBuf>)]
    baselines: Vec<(String, PathBuf)>,
    /// Try with this code-integrity policy
    #[arg(long = "ci-policy", value_name = "NAME=FILE", value_parser = named_value::<PathBuf>)]
    ci_policies: Vec<(String, PathBuf)>,
}

impl Simulate {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<Exit, Failure> {
        let trial = Trial {
            enable: self.enable,
            disable: self.disable,
            baselines: documents(&self.baselines)?,
            ci_policies: documents(&self.ci_policies)?,
        };
        let Some(files) = &self.evidence else {
            let judged = Hosts(all_judgements(client, &trial).or_fail()?);
            terminal.report(&judged)?;
            return Ok(exit(judged.0.iter().all(|host| host.healthy)));
        };
        let evidence = files.read()?;
        let request = SimulatePolicies {
            log: base64::encode(&evidence.log),
            ima: (!evidence.ima.is_empty()).then(|| base64::encode(&evidence.ima)),
            pcrs: evidence
                .values
                .iter()
                .map(|(pcr, value)| (pcr as u8, hex::encode(value.as_bytes())))
                .collect(),
            host: self.host,
            group: self.group,
            trial,
        };
        let judged = One(client.simulate_policies(&request).or_fail()?);
        terminal.report(&judged)?;
        Ok(exit(judged.0.healthy))
    }
}

fn exit(healthy: bool) -> Exit {
    match healthy {
        true => Exit::Done,
        false => Exit::Refused,
    }
}

fn documents(named: &[(String, PathBuf)]) -> Result<BTreeMap<String, String>, Failure> {
    let named = named.iter();
    named
        .map(|(name, file)| Ok((name.clone(), document::read(file)?)))
        .collect()
}

#[derive(Serialize)]
#[serde(transparent)]
struct One(Judgement);

#[derive(Serialize)]
#[serde(transparent)]
struct Hosts(Vec<Judgement>);

impl fmt::Display for One {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(judged) = self;
        match (judged.healthy, &judged.baseline, &judged.problem) {
            (true, Some(baseline), _) => {
                writeln!(
                    formatter,
                    "healthy: the boot matches the baseline `{baseline}`"
                )?;
            }
            (_, _, Some(problem)) => return writeln!(formatter, "refused: {problem}"),
            (_, _, None) => writeln!(formatter, "refused")?,
        }
        let mut table = Table::new(["POLICY", "STATE", "HELD", "WHY NOT"]);
        for policy in &judged.policies {
            table.row([
                policy.policy.clone(),
                if policy.enabled {
                    "enabled"
                } else {
                    "disabled"
                }
                .to_owned(),
                if policy.held { "yes" } else { "no" }.to_owned(),
                policy.reason.clone().unwrap_or_default(),
            ]);
        }
        table.fmt(formatter)?;
        if let Some(nearest) = &judged.nearest_baseline {
            writeln!(
                formatter,
                "differences from the nearest baseline `{nearest}`:"
            )?;
        }
        for difference in &judged.differences {
            writeln!(formatter, "  {}", difference.text)?;
        }
        Ok(())
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(all) = self;
        let refused: Vec<_> = all.iter().filter(|host| !host.healthy).collect();
        writeln!(
            formatter,
            "{} of {} would be refused",
            refused.len(),
            all.len()
        )?;
        if refused.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(["HOST", "LAST EVIDENCE", "LIKE", "WHY"]);
        // Hosts with the same difference are named after the first of them.
        let mut groups: BTreeMap<&str, &str> = BTreeMap::new();
        for judged in refused {
            let host = judged.host.as_deref().unwrap_or("-");
            let like = judged.difference_group.as_deref();
            let like = like.map(|group| *groups.entry(group).or_insert(host));
            table.row([
                host.to_owned(),
                judged.time.clone().unwrap_or_else(|| "-".to_owned()),
                like.filter(|first| *first != host)
                    .unwrap_or("-")
                    .to_owned(),
                why(judged),
            ]);
        }
        table.fmt(formatter)
    }
}

/// The first reason of a refusal.
fn why(judged: &Judgement) -> String {
    let first = judged
        .differences
        .first()
        .map(|difference| &difference.text);
    let failed = judged
        .policies
        .iter()
        .find(|policy| policy.enabled && !policy.held);
    let policy = || {
        failed.and_then(|policy| Some(format!("{}: {}", policy.policy, policy.reason.as_ref()?)))
    };
    let reason = judged.problem.as_ref().or(first).cloned();
    reason.or_else(policy).unwrap_or_default()
}
