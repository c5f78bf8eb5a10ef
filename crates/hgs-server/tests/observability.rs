//! What monitoring reads is as the pages, the alerts and the dashboard say, judged by Prometheus' own tool.

mod guardian;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use guardian::{Host, Site};
use hgs_kps::ServiceVersion;
use hgs_testkit::tool;
use serde_json::Value;

fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_tree(path)).unwrap()
}

/// The metrics of docs/metrics.md: type, and where each is shown.
fn catalogue() -> BTreeMap<String, (String, String)> {
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let metric = |row: &str| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = cells[0].trim_end_matches('`').to_owned();
        (name, (cells[1].to_owned(), cells[3].to_owned()))
    };
    rows.map(metric).collect()
}

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(tool("promtool", "prometheus"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn assert_agrees(judged: &Output) {
    let said = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (out, error) = (said(&judged.stdout), said(&judged.stderr));
    assert!(judged.status.success(), "{out}{error}");
}

/// Metrics that `expression` names.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = expression.split(|letter| !word(letter));
    let ours = |word: &&str| word.starts_with("hgs_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}

/// Whether there is such a series: a metric, or a part of a histogram.
fn is_series(name: &str) -> bool {
    let catalogue = catalogue();
    let parts = ["_bucket", "_sum", "_count"];
    let mut wholes = parts.iter().filter_map(|part| name.strip_suffix(part));
    let is_histogram = |whole| catalogue.get(whole).is_some_and(|it| it.0 == "histogram");
    match catalogue.get(name) {
        Some((kind, _)) => kind != "histogram",
        None => wholes.any(is_histogram),
    }
}

/// A listener with a certificate over a key that is not RSA.
fn tls(folder: &Path) -> String {
    let [certificate, key] = ["tls.pem", "tls.key"].map(|name| folder.join(name));
    let made = Command::new(tool("openssl", "openssl"))
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
                .split(' '),
        )
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert_agrees(&made);
    let (certificate, key) = (certificate.display(), key.display());
    format!(
        "listen.https = {{ enabled = true, address = \"127.0.0.1:0\", certificate = \"{certificate}\", key = \"{key}\" }}"
    )
}

fn expressions(panel: &Value) -> impl Iterator<Item = &str> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    targets.map(|target| target["expr"].as_str().unwrap())
}

/// A guardian that has done its work shows what the page says, and nothing else; Prometheus finds nothing to remark.
#[tokio::test]
async fn a_guardian_shows_the_metrics_of_the_page_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::start_with(&tls(folder.path())).await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    site.register(&Host::numbered(1), "node-2").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    host.power_on(&site, &ingress, &certificate, ServiceVersion::V2)
        .await;

    let text = site.scraped().await;
    assert_agrees(&promtool(&["check", "metrics"], &text));
    let catalogue = catalogue();
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let typed: BTreeMap<_, _> = typed.filter_map(|line| line.split_once(' ')).collect();
    for (name, kind) in &typed {
        let (known, _) = catalogue.get(*name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(known, kind, "{name}");
    }
    let always = catalogue.iter().filter(|(_, (_, shown))| shown == "always");
    for (name, _) in always {
        assert!(
            typed.contains_key(name.as_str()),
            "{name} is not in:\n{text}"
        );
    }
    for line in [
        "hgs_ready 1",
        "hgs_hosts{condition=\"healthy\"} 1",
        "hgs_hosts{condition=\"never-healthy\"} 1",
        "hgs_certificates_without_key 0",
        "hgs_backup_timestamp_seconds 0",
        "hgs_commits_total{outcome=\"failed\"} 0",
    ] {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in:\n{text}"
        );
    }
    let expiry = "hgs_certificate_expiration_timestamp_seconds";
    for (usage, count) in [
        ("signing", 1),
        ("encryption", 1),
        ("communications", 1),
        ("attestation-signer", 1),
        ("tls", 1),
    ] {
        let begin = format!("{expiry}{{use=\"{usage}\",");
        let of_use = text.lines().filter(|line| line.starts_with(&begin));
        assert_eq!(of_use.count(), count, "{usage} in:\n{text}");
    }
    // The store is gone before the listener: monitoring keeps nothing open.
    site.stop().await;
}

/// The alerts are tested by Prometheus' own tool, each of them, and are about metrics that exist.
#[test]
fn alerts_are_tested_and_about_what_exists() {
    let rules = in_tree("packaging/prometheus/openhgs.rules.yml");
    assert_agrees(&promtool(&["check", "rules", rules.to_str().unwrap()], ""));
    let tests = in_tree("packaging/prometheus/openhgs.rules.test.yml");
    assert_agrees(&promtool(&["test", "rules", tests.to_str().unwrap()], ""));
    let (rules, tests) = (fs::read_to_string(rules), fs::read_to_string(tests));
    let (rules, tests) = (rules.unwrap(), tests.unwrap());
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let fires = format!("alertname=\"{alert}\"}}', value: 1}}");
        assert!(tests.contains(&fires), "no test sees {alert} fire");
    }
    let catalogue = catalogue();
    for name in metrics_in(&rules).iter().chain(&metrics_in(&tests)) {
        // Their texts name whole histograms.
        let exists = is_series(name) || catalogue.contains_key(name);
        assert!(exists, "{name} is no metric");
    }
}

/// The dashboard's questions are understood by Prometheus, and are about metrics that exist.
#[test]
fn the_dashboard_asks_for_what_exists() {
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/openhgs.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let expressions: Vec<_> = panels.iter().flat_map(expressions).collect();
    assert!(expressions.len() > 40);
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, expression) in expressions.iter().enumerate() {
        for name in metrics_in(expression) {
            assert!(is_series(&name), "{name} is no metric");
        }
        let expression = expression.replace("$__rate_interval", "5m");
        let expression = Value::String(expression);
        rules += &format!("  - record: asked:{number}\n    expr: {expression}\n");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.yml");
    fs::write(&file, rules).unwrap();
    assert_agrees(&promtool(&["check", "rules", file.to_str().unwrap()], ""));
    // Every metric is of use to somebody who looks, or to an alert.
    let rules = read("packaging/prometheus/openhgs.rules.yml");
    let asked = metrics_in(&(expressions.join(" ") + &rules));
    for name in [
        "hgs_ready",
        "hgs_releases_total",
        "hgs_certificate_expiration_timestamp_seconds",
    ] {
        assert!(asked.contains(name), "{name}");
    }
}
