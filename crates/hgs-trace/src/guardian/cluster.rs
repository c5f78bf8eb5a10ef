//! The cluster that a guardian is a node of.

use std::collections::BTreeMap;

use hgs_pki::{Seconds, Time};

use super::facts::{Cluster, ClusterNode, ClusterStanding, Facts};
use super::state::found;
use crate::{Check, Group, Judgement, Validity};

/// Commits that a node may have yet to take in: reports are some seconds old.
const MANY_COMMITS: u64 = 10_000;
/// Seconds between clocks that are looked at, and that are too many: hosts are refused then.
const CLOCKS: (u64, u64) = (30, 300);
/// The service renews the certificates of a node when 122 days are left.
const RENEWED_WITH: Seconds = Seconds::from_days(90);

/// What a node that does not run has of its cluster.
pub(super) fn offline() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-Q001",
            group: Group::Cluster,
            title: "this node has what it needs of its cluster",
            fails_when: "the folder of its etcd is gone or etcd is not installed, or the files for an etcd that runs already can't be read",
            remedy: "see docs/cluster.md: a node that has lost its disk is removed and replaced",
            after: &["HGS-S001", "HGS-D001"],
            judge: |facts| cluster(facts, |of| vec![found(&of.node, &of.usable, "it is there")]),
        },
        Check {
            id: "HGS-Q002",
            group: Group::Cluster,
            title: "the certificates of the cluster are valid",
            fails_when: "one has expired or is not valid yet; one with less than 90 days left warns, as the service renews those of nodes earlier",
            remedy: "check the clock; a running service renews the certificates of its node by itself, and its log says why it could not",
            after: &["HGS-Q001", "HGS-M001"],
            judge: |facts| cluster(facts, |of| certificates(of, facts.time)),
        },
        Check {
            id: "HGS-Q013",
            group: Group::Cluster,
            title: "etcd had what this node has recorded, when it looked last",
            fails_when: "this node does not run, and has found that etcd was put back to an older state; no node records or releases anything until an administrator says which state goes on",
            remedy: "stop all nodes, and see \"Disasters\" in docs/cluster.md: the node with the newest audit record goes on",
            after: &["HGS-S001", "HGS-S004", "HGS-D001", "HGS-D007"],
            judge: |facts| cluster(facts, put_back),
        },
    ]
}

/// Whether commits are ordered. It comes before what can't be done without that.
pub(super) fn ordered() -> Vec<Check<Facts>> {
    vec![Check {
        id: "HGS-Q003",
        group: Group::Cluster,
        title: "the cluster has a quorum",
        fails_when: "too few nodes, or members of an etcd that runs already, reach each other, or a node has found that etcd was put back to an older state; nothing is released meanwhile",
        remedy: "start the nodes that are away; where most are lost for good, or etcd was put back, see \"Disasters\" in docs/cluster.md",
        after: &["HGS-S001", "HGS-S004"],
        judge: |facts| standing(facts, quorum),
    }]
}

/// How a cluster stands, as one of its nodes sees it.
pub(super) fn checks() -> Vec<Check<Facts>> {
    let check = |id, title, fails_when, remedy, after, judge| Check {
        id,
        group: Group::Cluster,
        title,
        fails_when,
        remedy,
        after,
        judge,
    };
    vec![
        check(
            "HGS-Q004",
            "every node is there",
            "never; a node that is away, and a member of an etcd that runs already, warns",
            "start it again, or remove and replace it: docs/cluster.md",
            &["HGS-S003", "HGS-S004"],
            |facts| standing(facts, presence),
        ),
        check(
            "HGS-Q005",
            "the loss of a node stops nothing",
            "never; where every node is needed, or an even number of nodes votes, which survives no more losses than one node less, it warns",
            "have another node join: `hgs cluster invite`",
            &["HGS-Q003", "HGS-S003"],
            |facts| standing(facts, spare),
        ),
        check(
            "HGS-Q006",
            "etcd has room and its members agree",
            "an alarm is on: NOSPACE where the quota is used up, CORRUPT where databases differ; more than half of the quota warns",
            "for NOSPACE remove nodes that are away for good with `hgs cluster remove`; for CORRUPT replace the node",
            &["HGS-S003", "HGS-S004"],
            |facts| standing(facts, space),
        ),
        check(
            "HGS-Q007",
            "the nodes have the same audit log",
            "two nodes have as many records and other ones: somebody has changed one of the databases, or the nodes' programs differ",
            "compare `hgs audit verify` on both, take the one that is wrong out of service, and have it join again with an empty state folder",
            &["HGS-Q003", "HGS-S003"],
            |facts| {
                standing(facts, |of| {
                    vec![match &of.divergence {
                        Some(divergence) => Judgement::fail(CLUSTER, divergence),
                        None => Judgement::pass(CLUSTER, "no two differ"),
                    }]
                })
            },
        ),
        check(
            "HGS-Q008",
            "every node takes in what others record",
            "never; a node that has yet to take in more than 10000 commits warns",
            "see the log, the disk and the load of that node",
            &["HGS-Q003", "HGS-S003"],
            |facts| standing(facts, lag),
        ),
        check(
            "HGS-Q009",
            "the clocks of the nodes agree",
            "a clock is more than 5 minutes from that of this node; more than 30 seconds warns",
            "let all nodes follow a time server: `timedatectl`",
            &["HGS-Q003", "HGS-S003"],
            |facts| standing(facts, clocks),
        ),
        check(
            "HGS-Q010",
            "every node can use every key in use",
            "never; a node that can't use a key which another one can warns: it is not ready",
            "give its token the key, or say in a section [[pkcs11.key]] of its configuration where it is; `hgs trace` there names the reason",
            &["HGS-Q003", "HGS-S003"],
            |facts| standing(facts, keys),
        ),
        check(
            "HGS-Q011",
            "the nodes run one version",
            "never; nodes with different versions of the program, and members with different versions of etcd, warn",
            "upgrade the nodes that are behind, one after the other",
            &["HGS-Q003", "HGS-S003"],
            |facts| standing(facts, versions),
        ),
        check(
            "HGS-Q012",
            "nothing waits for the upgrade of a node",
            "never; a node that can't read the level of the format that other nodes can warns: the cluster stays at its level until then",
            "install the newest version that one of the nodes runs on those that are behind: docs/upgrade.md",
            &["HGS-Q003", "HGS-S003"],
            |facts| standing(facts, upgrade),
        ),
    ]
}

const CLUSTER: &str = "cluster";

fn cluster(facts: &Facts, judge: impl FnOnce(&Cluster) -> Vec<Judgement>) -> Vec<Judgement> {
    facts.cluster().map(judge).unwrap_or_default()
}

/// Of a node that runs, HGS-Q003 tells it as it is now.
fn put_back(cluster: &Cluster) -> Vec<Judgement> {
    let noted = cluster.put_back.as_ref();
    vec![match noted.filter(|_| cluster.standing.is_none()) {
        Some(how) => Judgement::fail(&cluster.node, how),
        None => Judgement::pass(&cluster.node, "nothing else was noted"),
    }]
}

fn standing(
    facts: &Facts,
    judge: impl FnOnce(&ClusterStanding) -> Vec<Judgement>,
) -> Vec<Judgement> {
    cluster(facts, |cluster| {
        let standing = cluster.standing.as_ref();
        standing.map(judge).unwrap_or_default()
    })
}

/// Judges each node of which something is known.
fn each(
    standing: &ClusterStanding,
    judge: impl Fn(&ClusterNode) -> Option<Judgement>,
) -> Vec<Judgement> {
    standing.nodes.iter().filter_map(judge).collect()
}

fn certificates(cluster: &Cluster, now: Time) -> Vec<Judgement> {
    let judge = |name: &str,
                 Validity {
                     not_before,
                     not_after,
                 }: Validity| {
        let left = not_after.since(now);
        match left {
            _ if now < not_before => {
                Judgement::fail(name, format!("it is valid from {not_before}"))
            }
            None => Judgement::fail(name, format!("it ended at {not_after}")),
            Some(left) if left < RENEWED_WITH => {
                Judgement::warning(name, format!("it ends at {not_after}"))
            }
            Some(_) => Judgement::pass(name, format!("it ends at {not_after}")),
        }
    };
    let certificates = cluster.certificates.iter();
    certificates
        .map(|certificate| judge(&certificate.name, certificate.validity))
        .collect()
}

fn quorum(standing: &ClusterStanding) -> Vec<Judgement> {
    if let Some(put_back) = &standing.put_back {
        return vec![Judgement::fail(CLUSTER, put_back)];
    }
    let evidence = match (&standing.leader, &standing.trouble) {
        (_, Some(trouble)) => trouble.clone(),
        (Some(leader), None) => format!("{leader} leads"),
        (None, None) => "there is no leader among the nodes".to_owned(),
    };
    vec![match standing.quorum {
        true => Judgement::pass(CLUSTER, evidence),
        false => Judgement::fail(CLUSTER, evidence),
    }]
}

fn presence(standing: &ClusterStanding) -> Vec<Judgement> {
    each(standing, |node| {
        let reason = node.error.as_deref().unwrap_or("nothing was heard of it");
        Some(match node.there {
            true => Judgement::pass(&node.name, "it answers"),
            false => Judgement::warning(&node.name, reason),
        })
    })
}

fn spare(standing: &ClusterStanding) -> Vec<Judgement> {
    let voters = standing.nodes.iter().filter(|node| node.votes).count();
    let Some(survives) = standing.survives else {
        return vec![];
    };
    vec![match survives {
        0 => Judgement::warning(CLUSTER, "every node is needed: the loss of one stops all"),
        _ if voters > 0 && voters % 2 == 0 => Judgement::warning(
            CLUSTER,
            format!(
                "{voters} nodes vote, and survive no more losses than {}",
                voters - 1
            ),
        ),
        more => Judgement::pass(CLUSTER, format!("{more} more can be lost")),
    }]
}

fn space(standing: &ClusterStanding) -> Vec<Judgement> {
    each(standing, |node| {
        let octets = node.etcd_octets?;
        let quota = node.etcd_quota.unwrap_or(u64::MAX);
        let alarm = node.alarms.iter().find(|alarm| {
            ["NOSPACE", "CORRUPT"]
                .iter()
                .any(|kind| alarm.contains(kind))
        });
        Some(match alarm {
            Some(alarm) => Judgement::fail(&node.name, alarm),
            None if octets > quota / 2 => Judgement::warning(
                &node.name,
                format!("etcd uses {} of {} MiB", octets >> 20, quota >> 20),
            ),
            None => Judgement::pass(&node.name, format!("etcd uses {} MiB", octets >> 20)),
        })
    })
}

fn lag(standing: &ClusterStanding) -> Vec<Judgement> {
    each(standing, |node| {
        let lag = node.lag?;
        let evidence = format!("{lag} commits are still to come");
        Some(match lag > MANY_COMMITS {
            true => Judgement::warning(&node.name, evidence),
            false => Judgement::pass(&node.name, evidence),
        })
    })
}

fn clocks(standing: &ClusterStanding) -> Vec<Judgement> {
    each(standing, |node| {
        let apart = node.clock_apart?;
        let evidence = format!("{apart} s from the clock of this node");
        Some(match apart {
            _ if apart > CLOCKS.1 => Judgement::fail(&node.name, evidence),
            _ if apart > CLOCKS.0 => Judgement::warning(&node.name, evidence),
            _ => Judgement::pass(&node.name, evidence),
        })
    })
}

fn keys(standing: &ClusterStanding) -> Vec<Judgement> {
    each(standing, |node| {
        let missing = node.missing_keys.as_ref()?;
        Some(match missing.is_empty() {
            true => Judgement::pass(&node.name, "it can use all that others can"),
            false => Judgement::warning(
                &node.name,
                format!("it can't use those of {}", missing.join(", ")),
            ),
        })
    })
}

fn versions(standing: &ClusterStanding) -> Vec<Judgement> {
    let of = |which: fn(&ClusterNode) -> Option<&String>| {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in &standing.nodes {
            if let Some(version) = which(node) {
                versions.entry(version).or_default().push(&node.name);
            }
        }
        versions
    };
    let judge = |(what, versions): (&str, BTreeMap<&str, Vec<&str>>)| {
        let told: Vec<_> = versions
            .iter()
            .map(|(version, nodes)| format!("{version}: {}", nodes.join(", ")))
            .collect();
        let told = told.join("; ");
        match versions.len() {
            0 => None,
            1 => Some(Judgement::pass(what, told)),
            _ => Some(Judgement::warning(what, told)),
        }
    };
    [
        ("hgs", of(|node| node.version.as_ref())),
        ("etcd", of(|node| node.etcd_version.as_ref())),
    ]
    .into_iter()
    .filter_map(judge)
    .collect()
}

fn upgrade(standing: &ClusterStanding) -> Vec<Judgement> {
    if standing.lagging.is_empty() {
        return vec![Judgement::pass(CLUSTER, "no node does")];
    }
    let lagging = standing.lagging.iter();
    lagging
        .map(|node| {
            Judgement::warning(&node.name, &node.problem).remedy(node.problem.remedy.clone())
        })
        .collect()
}
