//! Every metric that there is. `docs/metrics.md` is made from it, and alert rules and dashboard are compared with it.

/// What one metric is.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// In the order in which they are given.
    pub(crate) labels: &'static [&'static str],
    /// Where it is shown. The page of the metrics says so.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page"))]
    pub(crate) shown: Shown,
    pub(crate) help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// By every server that runs.
    Always,
    /// For those values of the labels that have occurred since the server started.
    Occurred,
    /// Where keys are in tokens, once a token was needed.
    Tokens,
    /// By a node of a guardian of several nodes.
    Cluster,
    /// By a node whose etcd the service starts itself.
    OwnEtcd,
}

macro_rules! catalogue {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $shown:ident: $help:literal;)*) => {
        $(pub(crate) const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            shown: Shown::$shown,
            help: $help,
        };)*
        /// All of them, as the page has them.
        pub(crate) const ALL: &[Metric] = &[$($constant),*];
    };
}

catalogue! {
    READY = Gauge "hgs_ready" [] Always:
        "1 if the guardian can attest and release now, as /health/ready says; 0 also where that takes over 2 seconds to find out.";
    BUILD_INFO = Gauge "hgs_build_info" ["version"] Always:
        "1 for the version that runs.";

    ATTESTATIONS = Counter "hgs_attestations_total" ["outcome"] Occurred:
        "Attestations decided, by outcome: healthy, or the code of the refusal.";
    HEALTH_TOKENS = Counter "hgs_health_tokens_total" ["outcome"] Occurred:
        "Requests for health tokens decided, by outcome: issued, or the code of the refusal.";
    RELEASES = Counter "hgs_releases_total" ["outcome"] Occurred:
        "Requests for keys decided, by outcome: released, or the code of the refusal.";
    RELEASES_BY_LINEAGE = Counter "hgs_releases_by_lineage_total" ["lineage"] Occurred:
        "Keys released, by the lineage of the certificate that opened: the fabric's, or a tenant's.";
    RELEASE_SECONDS = Histogram "hgs_release_duration_seconds" [] Always:
        "Time from a request for keys to their release, the record on disk included.";
    HOSTS = Gauge "hgs_hosts" ["condition"] Always:
        "Registered hosts: healthy with a health certificate that is valid now, expired if the last one is not, never-healthy without any, or revoked.";

    CERTIFICATE_EXPIRATION = Gauge "hgs_certificate_expiration_timestamp_seconds" ["use", "certificate", "lineage", "current"] Always:
        "When a certificate expires, in Unix seconds. use is signing, encryption or communications for the guardian's own and tenants' (with their lineage), attestation-signer, trusted-signer, tls for a listener's, client for a caller of [listen.api], cluster, or endorsement-root; current is true where it is used for what is made from now on.";
    CERTIFICATES_WITHOUT_KEY = Gauge "hgs_certificates_without_key" [] Always:
        "Enabled certificates whose private key this node can't use.";
    TOKENS_AWAY = Gauge "hgs_tokens_away" [] Always:
        "Tokens whose keys are unavailable.";
    TOKEN_AVAILABLE = Gauge "hgs_token_available" ["token"] Tokens:
        "1 if a token takes work.";
    TOKEN_JOBS_WAITING = Gauge "hgs_token_jobs_waiting" ["token"] Tokens:
        "Jobs that wait for a session of a token.";
    TOKEN_FAILURES = Counter "hgs_token_failures_total" ["token"] Tokens:
        "How often a token became unavailable.";

    STATE_GENERATION = Gauge "hgs_state_generation" [] Always:
        "How many transactions have changed the state.";
    COMMITS = Counter "hgs_commits_total" ["outcome"] Always:
        "Commits of the state, by outcome: done or failed.";
    COMMIT_SECONDS = Histogram "hgs_commit_duration_seconds" [] Always:
        "Time that a commit takes, with the order of several nodes where there are several.";
    COMMIT_JOBS = Histogram "hgs_commit_jobs" [] Always:
        "Jobs that share one commit.";
    COMMIT_JOBS_WAITING = Gauge "hgs_commit_jobs_waiting" [] Always:
        "Jobs that wait for a commit; at 4096 the store is busy.";
    AUDIT_RECORDS = Gauge "hgs_audit_records" [] Always:
        "Audit records in the database, without those in archives.";
    BACKUP_TIMESTAMP = Gauge "hgs_backup_timestamp_seconds" [] Always:
        "When the newest backup was made that the audit log in the database has, in Unix seconds; 0 without any.";
    DISK_FREE = Gauge "hgs_state_disk_free_bytes" [] Always:
        "Bytes that can still be written to the disk of the state folder.";
    DISK_SIZE = Gauge "hgs_state_disk_size_bytes" [] Always:
        "Bytes of the disk of the state folder.";

    WORK_JOBS_WAITING = Gauge "hgs_work_jobs_waiting" [] Always:
        "Jobs that wait for a processor: decisions and work with keys.";
    WORK_QUEUE_SECONDS = Histogram "hgs_work_queue_duration_seconds" [] Always:
        "Time that a job waits for a processor.";
    WORK_TURNED_AWAY = Counter "hgs_work_turned_away_total" [] Always:
        "Jobs turned away because their host has as many waiting as it may.";

    HTTP_REQUESTS = Counter "hgs_http_requests_total" ["listener", "route", "status"] Occurred:
        "Requests answered, by listener, route and status.";
    HTTP_REQUEST_SECONDS = Histogram "hgs_http_request_duration_seconds" ["listener", "route"] Occurred:
        "Time from the end of a request's header to its answer.";
    HTTP_REQUESTS_IN_FLIGHT = Gauge "hgs_http_requests_in_flight" ["listener"] Always:
        "Requests being read, waiting or worked on.";
    HTTP_REQUESTS_WAITING = Gauge "hgs_http_requests_waiting" ["listener"] Always:
        "Requests that were read and wait for their turn.";
    HTTP_QUEUE_SECONDS = Histogram "hgs_http_queue_duration_seconds" ["listener"] Always:
        "Time that a request that was read waits for its turn.";
    HTTP_CONNECTIONS = Gauge "hgs_http_connections" ["listener"] Always:
        "Open connections.";
    HTTP_REJECTED = Counter "hgs_http_rejected_total" ["listener", "reason"] Occurred:
        "Requests and connections that the server refused itself, by reason.";
    HTTP_PANICS = Counter "hgs_http_panics_total" ["listener"] Always:
        "Requests whose handler panicked.";
    TLS_HANDSHAKE_FAILURES = Counter "hgs_tls_handshake_failures_total" ["listener"] Always:
        "TLS handshakes that failed or took too long.";

    EVENT_STREAMS = Gauge "hgs_event_streams" [] Always:
        "Open streams of events; there are 64 at most.";
    SPANS_LOST = Counter "hgs_telemetry_spans_lost_total" ["reason"] Always:
        "Spans of traces that no collector got: queue-full where too many waited, not-sent where the collector did not take them.";

    CLUSTER_NODES = Gauge "hgs_cluster_nodes" [] Cluster:
        "Nodes of the cluster.";
    CLUSTER_NODES_AWAY = Gauge "hgs_cluster_nodes_away" [] Cluster:
        "Nodes whose etcd does not answer this one, or, in an etcd that runs already, that report nothing.";
    CLUSTER_QUORUM = Gauge "hgs_cluster_quorum" [] Cluster:
        "1 if commits are ordered, as this node sees it.";
    CLUSTER_SURVIVES = Gauge "hgs_cluster_survives" [] Cluster:
        "How many more nodes can be lost; -1 without a quorum.";
    CLUSTER_LEADS = Gauge "hgs_cluster_leads" [] Cluster:
        "1 if this node leads.";
    CLUSTER_LAG = Gauge "hgs_cluster_lag_commits" [] Cluster:
        "Commits that the node furthest behind has yet to take in.";
    CLUSTER_CLOCK = Gauge "hgs_cluster_clock_difference_seconds" [] Cluster:
        "How far the clock of a node is from this one's, at most.";
    CLUSTER_ETCD_SIZE = Gauge "hgs_cluster_etcd_size_bytes" [] Cluster:
        "Bytes of the largest database of etcd.";
    CLUSTER_ETCD_QUOTA = Gauge "hgs_cluster_etcd_quota_bytes" [] OwnEtcd:
        "Bytes at which etcd takes no more.";
    CLUSTER_ORDER_SECONDS = Histogram "hgs_cluster_order_duration_seconds" [] Cluster:
        "Time that it takes to have a commit ordered among those of all nodes.";
    CLUSTER_FORMAT_LEVEL = Gauge "hgs_cluster_format_level" [] Cluster:
        "The level of the format of what nodes share.";
    CLUSTER_NOT_UPGRADED = Gauge "hgs_cluster_nodes_not_upgraded" [] Cluster:
        "Nodes for which a newer level of the format waits.";
    CLUSTER_NEWEST_LEVEL = Gauge "hgs_cluster_node_newest_level" ["node", "version"] Cluster:
        "The newest level of the format that a node reads, by its version; 0 for a version that it ran before.";

    PROCESS_CPU = Counter "process_cpu_seconds_total" [] Always:
        "Whole seconds of processors that the process has used.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [] Always:
        "Bytes of memory in use.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" [] Always:
        "Bytes of address space.";
    PROCESS_OPEN_FILES = Gauge "process_open_fds" [] Always:
        "Open files and connections.";
    PROCESS_MAX_FILES = Gauge "process_max_fds" [] Always:
        "How many of them there may be.";
    PROCESS_START = Gauge "process_start_time_seconds" [] Always:
        "When the process was started, in Unix seconds.";
    PROCESS_THREADS = Gauge "process_threads" [] Always:
        "Threads of the process.";
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;
    use std::{env, fs};

    use super::*;

    fn row(metric: &Metric) -> String {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let shown = match metric.shown {
            Shown::Always => "always",
            Shown::Occurred => "once it occurred",
            Shown::Tokens => "with tokens",
            Shown::Cluster => "in a cluster",
            Shown::OwnEtcd => "in a cluster with etcd of its own",
        };
        let labels: Vec<_> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
        let (name, labels, help) = (metric.name, labels.join(", "), metric.help);
        format!("| `{name}` | {kind} | {labels} | {shown} | {help} |\n")
    }

    /// The page holds the table between its head and the next empty line.
    #[test]
    fn the_page_has_every_metric_and_no_other() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let page = fs::read_to_string(&path).unwrap();
        let mut table =
            "| metric | type | labels | shown | meaning |\n|---|---|---|---|---|\n".to_owned();
        ALL.iter()
            .for_each(|metric| write!(table, "{}", row(metric)).unwrap());
        let (before, rest) = page.split_once("| metric |").expect("a table");
        let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
        let expected = format!("{before}{table}\n{after}");
        if env::var_os("OPENHGS_WRITE_DOCS").is_some() {
            fs::write(&path, &expected).unwrap();
        }
        let page = fs::read_to_string(&path).unwrap();
        assert!(
            page == expected,
            "docs/metrics.md is not what the program does: \
             `OPENHGS_WRITE_DOCS=1 cargo nextest run -p hgs-server catalogue` writes it"
        );
    }

    /// <https://prometheus.io/docs/practices/naming/>
    #[test]
    fn names_follow_the_convention() {
        for metric in ALL {
            let name = metric.name;
            assert!(
                name.starts_with("hgs_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                metric.kind == Kind::Counter,
                name.ends_with("_total"),
                "{name}"
            );
            assert!(metric.help.ends_with('.'), "{name}");
            assert!(!metric.help.contains(['|', '\\', '\n']), "{name}");
        }
    }
}
