//! The invariants of ARCHITECTURE.md that a machine can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates each may depend on. Arrows point down only.
const DRAWING: &[(&str, &[&str])] = &[
    ("hgs-fault", &[]),
    ("hgs-crypto", &[]),
    ("hgs-xml", &[]),
    ("hgs-json", &[]),
    ("hgs-audit", &[]),
    ("hgs-tcg", &["hgs-crypto"]),
    ("hgs-pki", &["hgs-crypto"]),
    (
        "hgs-protector",
        &["hgs-fault", "hgs-crypto", "hgs-xml", "hgs-pki"],
    ),
    (
        "hgs-kps",
        &[
            "hgs-fault",
            "hgs-crypto",
            "hgs-xml",
            "hgs-pki",
            "hgs-protector",
        ],
    ),
    (
        "hgs-attest",
        &["hgs-fault", "hgs-crypto", "hgs-json", "hgs-pki", "hgs-tcg"],
    ),
    ("hgs-openid", &["hgs-crypto", "hgs-json", "hgs-pki"]),
    ("hgs-custody", &["hgs-crypto", "hgs-pki", "hgs-protector"]),
    (
        "hgs-custody-pkcs11",
        &["hgs-crypto", "hgs-custody", "hgs-files"],
    ),
    (
        "hgs-custody-tpm",
        &[
            "hgs-crypto",
            "hgs-tcg",
            "hgs-pki",
            "hgs-custody",
            "hgs-files",
        ],
    ),
    ("hgs-files", &["hgs-crypto"]),
    ("hgs-clock", &["hgs-crypto", "hgs-pki"]),
    ("hgs-terminal", &["hgs-crypto", "hgs-files"]),
    ("hgs-trace", &["hgs-crypto", "hgs-pki", "hgs-files"]),
    (
        "hgs-vm",
        &[
            "hgs-crypto",
            "hgs-xml",
            "hgs-tcg",
            "hgs-pki",
            "hgs-custody-tpm",
            "hgs-files",
        ],
    ),
    (
        "hgs-admin",
        &[
            "hgs-audit",
            "hgs-crypto",
            "hgs-pki",
            "hgs-kps",
            "hgs-custody",
            "hgs-trace",
        ],
    ),
    (
        "hgs-store",
        &[
            "hgs-fault",
            "hgs-audit",
            "hgs-crypto",
            "hgs-tcg",
            "hgs-pki",
            "hgs-protector",
            "hgs-kps",
            "hgs-attest",
            "hgs-custody",
            "hgs-files",
        ],
    ),
    ("hgs-etcd", &[]),
    (
        "hgs-cluster",
        &[
            "hgs-clock",
            "hgs-crypto",
            "hgs-pki",
            "hgs-custody",
            "hgs-files",
            "hgs-store",
            "hgs-etcd",
        ],
    ),
    (
        "hgs-client",
        &[
            "hgs-clock",
            "hgs-crypto",
            "hgs-xml",
            "hgs-pki",
            "hgs-protector",
            "hgs-kps",
            "hgs-attest",
            "hgs-custody",
            "hgs-files",
            "hgs-trace",
            "hgs-tcg",
            "hgs-custody-tpm",
        ],
    ),
    (
        "hgs-console",
        &[
            "hgs-admin",
            "hgs-attest",
            "hgs-crypto",
            "hgs-kps",
            "hgs-pki",
        ],
    ),
    (
        "hgs-server",
        &[
            "hgs-clock",
            "hgs-admin",
            "hgs-console",
            "hgs-crypto",
            "hgs-xml",
            "hgs-pki",
            "hgs-tcg",
            "hgs-protector",
            "hgs-kps",
            "hgs-attest",
            "hgs-openid",
            "hgs-custody",
            "hgs-custody-pkcs11",
            "hgs-files",
            "hgs-store",
            "hgs-cluster",
            "hgs-etcd",
            "hgs-trace",
        ],
    ),
    (
        "hgs-agent",
        &[
            "hgs-clock",
            "hgs-crypto",
            "hgs-pki",
            "hgs-protector",
            "hgs-kps",
            "hgs-custody",
            "hgs-client",
            "hgs-files",
            "hgs-vm",
        ],
    ),
    (
        "guarded-host",
        &[
            "hgs-agent",
            "hgs-clock",
            "hgs-crypto",
            "hgs-pki",
            "hgs-protector",
            "hgs-kps",
            "hgs-attest",
            "hgs-custody",
            "hgs-client",
            "hgs-files",
            "hgs-terminal",
            "hgs-trace",
            "hgs-tcg",
            "hgs-custody-tpm",
            "hgs-vm",
        ],
    ),
    (
        "hgs",
        &[
            "hgs-fault",
            "hgs-agent",
            "hgs-clock",
            "hgs-admin",
            "hgs-crypto",
            "hgs-xml",
            "hgs-pki",
            "hgs-protector",
            "hgs-kps",
            "hgs-attest",
            "hgs-custody",
            "hgs-custody-pkcs11",
            "hgs-store",
            "hgs-cluster",
            "hgs-etcd",
            "hgs-server",
            "hgs-client",
            "hgs-files",
            "hgs-terminal",
            "hgs-trace",
            "hgs-tcg",
            "hgs-custody-tpm",
            "hgs-vm",
        ],
    ),
    (
        "hgs-bench",
        &[
            "hgs-clock",
            "hgs-admin",
            "hgs-crypto",
            "hgs-pki",
            "hgs-protector",
            "hgs-kps",
            "hgs-attest",
            "hgs-custody",
            "hgs-custody-pkcs11",
            "hgs-server",
            "hgs-store",
            "hgs-client",
            "hgs-cluster",
            "hgs-etcd",
            "hgs-tcg",
            "hgs-vm",
            "hgs-agent",
            "hgs-files",
            "hgs-testkit",
        ],
    ),
    (
        "hgs-testkit",
        &[
            "hgs-crypto",
            "hgs-pki",
            "hgs-protector",
            "hgs-kps",
            "hgs-attest",
            "hgs-custody",
            "hgs-custody-tpm",
        ],
    ),
];

const BELOW_THE_LINE: &[&str] = &[
    "hgs-fault",
    "hgs-crypto",
    "hgs-xml",
    "hgs-json",
    "hgs-tcg",
    "hgs-pki",
    "hgs-protector",
    "hgs-kps",
    "hgs-attest",
    "hgs-openid",
];

/// What may not be named below the line: clocks, files, sockets, processes, tasks, ambient randomness.
const NOT_BELOW_THE_LINE: &[&str] = &[
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "tokio",
    "thread_rng",
    "OsRng",
    "getrandom",
    "File::",
];

/// Outside crates that bring what the line keeps out, or a second crypto library.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("aws-lc-rs", &["hgs-crypto"]),
    ("base64", &["hgs-crypto"]),
    ("roxmltree", &["hgs-xml"]),
    ("cryptoki", &["hgs-custody-pkcs11"]),
    ("rusqlite", &["hgs-store"]),
    ("pkcs8", &["hgs-custody"]),
    ("pkcs12", &["hgs-custody"]),
    ("cbc", &["hgs-custody"]),
    ("des", &["hgs-custody"]),
    ("rc2", &["hgs-custody"]),
    ("hmac", &["hgs-custody"]),
    ("pbkdf2", &["hgs-custody"]),
    ("sha1", &["hgs-custody"]),
    ("sha2", &["hgs-custody"]),
    ("x509-cert", &["hgs-pki"]),
    ("rustls-webpki", &["hgs-pki"]),
    ("tpm2-protocol", &["hgs-tcg"]),
];

const NOT_IN_THE_LOCK_FILE: &[&str] = &[
    "rsa",
    "openssl",
    "openssl-sys",
    "native-tls",
    "libxml",
    "xmlsec",
    "xml-sec",
    "tss-esapi",
];

#[test]
fn arrows_point_down_only() {
    for (name, allowed) in DRAWING {
        for dependency in dependencies(name)
            .iter()
            .filter(|name| name.starts_with("hgs"))
        {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

/// The engine is a seam: what decides does not know the database.
#[test]
fn sql_stands_in_its_engine_only() {
    let is_test = |path: &str| path.ends_with("tests.rs") || path.ends_with("contract.rs");
    for (path, line, code) in shipped_code("hgs-store") {
        let in_engine = path.contains("/src/engine/sqlite");
        if in_engine || is_test(&path) {
            continue;
        }
        for word in ["rusqlite", "SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA"] {
            assert!(
                !names(&code, word),
                "{path}:{line} names {word}, which stands in the engine of SQLite only"
            );
        }
    }
}

#[test]
fn every_crate_is_in_the_drawing_and_in_the_crate_map() {
    let architecture = read("ARCHITECTURE.md");
    for name in crate_names() {
        assert!(
            DRAWING.iter().any(|(known, _)| *known == name),
            "{name} is not in the drawing"
        );
        assert!(
            architecture.contains(&format!("| `{name}` |")),
            "{name} is not in the crate map"
        );
    }
}

#[test]
fn neither_the_host_side_nor_the_admin_api_depends_on_the_store() {
    for name in ["hgs-client", "hgs-agent", "guarded-host", "hgs-admin"] {
        assert!(
            !dependencies(name).contains("hgs-store"),
            "{name} depends on the store"
        );
    }
}

/// A route of the admin API is made from the declaration of its operation; other code names no path.
#[test]
fn every_administrative_route_is_declared_in_one_place() {
    for name in crate_names() {
        for (path, line, code) in shipped_code(&name) {
            if path == "crates/hgs-admin/src/operations.rs" || path.ends_with("/tests.rs") {
                continue;
            }
            assert!(
                !code.contains("\"/v1/"),
                "{path}:{line} names a path of the admin API"
            );
        }
    }
}

#[test]
fn outside_crates_stay_where_they_belong() {
    for (outside, homes) in ONLY_IN {
        for name in crate_names() {
            let named = dependencies(&name).contains(*outside);
            assert!(
                !named || homes.contains(&name.as_str()),
                "{name} must not name {outside}"
            );
        }
    }
}

#[test]
fn below_the_line_everything_is_an_argument() {
    for name in BELOW_THE_LINE {
        for (path, line, code) in shipped_code(name) {
            for word in NOT_BELOW_THE_LINE {
                assert!(
                    !names(&code, word),
                    "{path}:{line} names {word} below the line"
                );
            }
            // The one place where a protocol's randomness begins is a type that programs construct.
            let ambient = names(&code, "SystemRandom") && *name != "hgs-crypto";
            assert!(!ambient, "{path}:{line} asks for ambient randomness");
        }
    }
}

#[test]
fn private_key_octets_stay_in_custody() {
    for name in crate_names() {
        if matches!(name.as_str(), "hgs-crypto" | "hgs-custody" | "hgs-testkit") {
            continue;
        }
        for (path, line, code) in shipped_code(&name) {
            // The listener's own key goes to rustls, which knows no other form.
            if path == "crates/hgs-server/src/http/certificate.rs" {
                continue;
            }
            let held = names(&code, "rsa::PrivateKey") || names(&code, "pkcs8_der");
            assert!(
                !held,
                "{path}:{line} handles private-key octets outside custody"
            );
        }
    }
}

/// The switch of seeded faults is for tests: what is shipped names it, and never turns it on.
#[test]
fn nothing_that_is_shipped_turns_seeded_faults_on() {
    let features = |table: &toml::Value| {
        let fault = table.get("hgs-fault").and_then(|it| it.get("features"));
        fault.is_some()
    };
    for name in crate_names() {
        let manifest = manifest(&name);
        for kind in ["dependencies", "build-dependencies", "features"] {
            let turned_on = manifest.get(kind).is_some_and(features);
            assert!(!turned_on, "{name} turns seeded faults on");
        }
    }
    let root: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    assert!(!features(&root["workspace"]["dependencies"]));
    for profile in ["release", "dist"] {
        let checked = root["profile"][profile].get("debug-assertions");
        assert!(checked.is_none(), "{profile} has debug assertions");
    }
}

#[test]
fn unsafe_is_forbidden_everywhere() {
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    for name in crate_names() {
        let manifest = manifest(&name);
        let inherits = manifest["lints"]["workspace"].as_bool();
        assert_eq!(inherits, Some(true), "{name} does not inherit the lints");
    }
}

#[test]
fn the_lock_file_holds_no_barred_crate() {
    let lock = read("Cargo.lock");
    for barred in NOT_IN_THE_LOCK_FILE {
        assert!(
            !lock.contains(&format!("name = \"{barred}\"\n")),
            "{barred} is in Cargo.lock"
        );
    }
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    // Put together here so that this file does not find itself.
    let ignored = ["#[", "ignore"].concat();
    let sleep = ["thread::", "sleep"].concat();
    for name in crate_names() {
        for path in rust_files(&root().join("crates").join(&name).join("tests")) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                !text.contains(&ignored),
                "{} ignores a test",
                path.display()
            );
            assert!(!text.contains(&sleep), "{} sleeps", path.display());
        }
    }
}

#[test]
fn links_in_the_documentation_resolve() {
    let mut pages: Vec<PathBuf> = markdown_files(&root());
    pages.extend(markdown_files(&root().join("docs")));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let resolved = page.parent().unwrap().join(file);
            assert!(
                resolved.exists(),
                "{} links to {target}, which is not there",
                page.display()
            );
        }
    }
}

#[test]
fn every_past_failure_has_its_row_and_every_named_test_exists() {
    let page = read("docs/past-failures.md");
    for (letter, rows) in [("A", 18), ("K", 20), ("X", 8)] {
        for row in 1..=rows {
            assert!(
                page.contains(&format!("\n| {letter}{row} |")),
                "row {letter}{row} is missing"
            );
        }
    }
    let mut tests = String::new();
    for name in crate_names() {
        for path in rust_files(&root().join("crates").join(&name)) {
            tests += &fs::read_to_string(&path).unwrap();
        }
    }
    for name in page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains('_'))
    {
        assert!(
            tests.contains(&format!("fn {name}(")),
            "there is no test {name}"
        );
    }
}

#[test]
fn every_fuzz_body_has_a_target() {
    let targets: String = rust_files(&root().join("fuzz/fuzz_targets"))
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for name in crate_names() {
        for (path, line, code) in shipped_code(&name) {
            let Some((_, rest)) = code.split_once("pub fn fuzz_") else {
                continue;
            };
            let body = rest.split('(').next().unwrap_or_default();
            let called = format!("{}::", name.replace('-', "_"));
            let has_target = targets.lines().any(|target| {
                target.contains(&called) && target.contains(&format!("::fuzz_{body}("))
            });
            assert!(
                has_target,
                "{path}:{line}: fuzz_{body} has no target in fuzz/"
            );
        }
    }
}

/// Whether `code` holds `word` as a whole name, comments aside.
fn names(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let goes_on = word.ends_with(is_name) && after.is_some_and(is_name);
        !before.is_some_and(is_name) && !goes_on
    })
}

/// Lines of a crate's sources without comments, up to the unit tests at the foot of each file.
fn shipped_code(name: &str) -> Vec<(String, usize, String)> {
    let source = root().join("crates").join(name).join("src");
    let mut lines = Vec::new();
    for path in rust_files(&source) {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let shipped = text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        lines.extend(shipped.map(|(number, line)| {
            let code = line.split("//").next().unwrap_or_default();
            (shown.clone(), number + 1, code.to_owned())
        }));
    }
    lines
}

fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = manifest(name);
    let table = manifest
        .get("dependencies")
        .and_then(|table| table.as_table());
    table
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn manifest(name: &str) -> toml::Table {
    read(&format!("crates/{name}/Cargo.toml")).parse().unwrap()
}

fn crate_names() -> Vec<String> {
    let entries = fs::read_dir(root().join("crates")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                rust_files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn markdown_files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}
