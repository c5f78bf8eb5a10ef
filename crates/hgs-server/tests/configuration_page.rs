//! `docs/configuration.md` is true: it has every key, with its default, and no other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hgs_server::Config;
use hgs_server::config::{Environment, Pkcs11Module};
use serde_json::Value;

/// Keys that are tables of which there can be several.
const TABLES: [&str; 3] = ["pkcs11.module", "pkcs11.key", "listen.console.openid.group"];

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    fs::read_to_string(path).unwrap()
}

/// Rows `| first | second | ...` of all tables, each under the heading before it, without the
/// tables' own headings.
fn rows(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut heading = "";
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text;
        } else if let Some(cells) = line.strip_prefix("| `") {
            let (first, rest) = cells.split_once("` |").unwrap();
            let rest = rest.split('|').map(str::trim);
            rows.push((heading, std::iter::once(first).chain(rest).collect()));
        }
    }
    rows
}

/// Key and default of every key on the page; `None` where the default is described in words.
fn on_the_page(page: &str) -> BTreeMap<String, Option<Value>> {
    rows(page)
        .into_iter()
        .filter_map(|(heading, cells)| {
            let section = heading.strip_prefix("`[")?.strip_suffix("]`")?;
            let default = cells[1]
                .strip_prefix('`')
                .and_then(|text| text.strip_suffix('`'))
                .map(|text| serde_json::from_str(text).unwrap());
            Some((format!("{section}.{}", cells[0]), default))
        })
        .collect()
}

fn in_the_program(value: &Value, name: &str, keys: &mut BTreeMap<String, Option<Value>>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let dot = if name.is_empty() { "" } else { "." };
                in_the_program(value, &format!("{name}{dot}{key}"), keys);
            }
        }
        Value::Null => {
            keys.insert(name.to_owned(), None);
        }
        value => {
            keys.insert(name.to_owned(), Some(value.clone()));
        }
    }
}

#[test]
fn every_key_is_on_the_page_with_its_default_and_no_other() {
    let mut keys = BTreeMap::new();
    in_the_program(
        &serde_json::to_value(Config::default()).unwrap(),
        "",
        &mut keys,
    );
    // A module has no default, but what is left out of it has.
    let mut module = serde_json::to_value(Pkcs11Module::new("")).unwrap();
    module["path"] = Value::Null;
    in_the_program(&module, "[pkcs11.module]", &mut keys);
    let key = serde_json::json!({"certificate": null, "uri": null});
    in_the_program(&key, "[pkcs11.key]", &mut keys);
    let group = serde_json::json!({"name": null, "roles": null});
    in_the_program(&group, "[listen.console.openid.group]", &mut keys);
    assert_eq!(on_the_page(&page()), keys);
}

#[test]
fn every_variable_on_the_page_replaces_the_path_of_its_key() {
    let page = page();
    let variables: Vec<_> = rows(&page)
        .into_iter()
        .filter(|(_, cells)| cells[0].starts_with("HGS_"))
        .collect();
    let names: Vec<_> = variables.iter().map(|(_, cells)| cells[0]).collect();
    assert_eq!(names, Config::variables());
    for (_, cells) in variables {
        let mut config = Config::default();
        config.apply(&Environment::from_iter([(cells[0], "/from/environment")]));
        let key = cells[1].trim_matches('`').replace('.', "/");
        let value = serde_json::to_value(&config).unwrap();
        assert_eq!(
            value.pointer(&format!("/{key}")),
            Some(&Value::from("/from/environment")),
            "{}",
            cells[0]
        );
    }
}

/// `packaging/openhgs.toml` has every key of the page, commented, and each of them can be used as it stands.
#[test]
fn the_sample_configuration_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/openhgs.toml");
    let sample = fs::read_to_string(path).unwrap();
    assert!(
        sample
            .lines()
            .all(|line| line.is_empty() || line.starts_with('#')),
        "a key is not commented"
    );
    let uncommented: String = sample
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .map(|line| format!("{line}\n"))
        .collect();
    let layout = hgs_server::config::Layout::system();
    Config::parse(&uncommented, Path::new("openhgs.toml"), layout).unwrap();
    let table: toml::Table = uncommented.parse().unwrap();
    let mut found = Vec::new();
    keys_of(&toml::Value::Table(table), "", &mut found);
    let page = page();
    for key in on_the_page(&page).keys() {
        let key = key.trim_start_matches('[').replace("].", ".");
        assert!(
            TABLES.contains(&&*key) || found.contains(&key),
            "packaging/openhgs.toml lacks {key}"
        );
    }
}

fn keys_of(value: &toml::Value, name: &str, found: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let dot = if name.is_empty() { "" } else { "." };
                keys_of(value, &format!("{name}{dot}{key}"), found);
            }
        }
        toml::Value::Array(all) if TABLES.contains(&name) => {
            for one in all {
                keys_of(one, name, found);
            }
        }
        _ => found.push(name.to_owned()),
    }
}
