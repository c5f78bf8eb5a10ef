//! `docs/trace.md` is true, and the types of facts have no room for a secret.

use std::collections::BTreeSet;
use std::fs;

use hgs_trace::{Row, guardian, host, rows};

fn page() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/trace.md");
    fs::read_to_string(page).unwrap()
}

fn all() -> Vec<Row> {
    let guardian = guardian::checks();
    let host = host::checks();
    rows(&guardian).chain(rows(&host)).collect()
}

fn line(row: &Row) -> String {
    let Row {
        id,
        group,
        title,
        fails_when,
        remedy,
        after,
    } = row;
    let after = if after.is_empty() {
        "-".to_owned()
    } else {
        after.join(", ")
    };
    format!("| `{id}` | {group} | {title} | {fails_when} | {remedy} | {after} |")
}

#[test]
fn the_page_has_every_check_and_no_other() {
    let expected: Vec<_> = all().iter().map(line).collect();
    let page = page();
    let found: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| `HGS-"))
        .collect();
    assert_eq!(found.len(), expected.len(), "{}", expected.join("\n"));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

#[test]
fn ids_are_there_once_and_have_one_form() {
    let all = all();
    let ids: BTreeSet<_> = all.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), all.len());
    for id in ids {
        let digits = id.strip_prefix("HGS-").and_then(|rest| rest.get(1..));
        let digits = digits.filter(|digits| digits.len() == 3 && digits.parse::<u16>().is_ok());
        assert!(digits.is_some(), "{id}");
    }
}

/// Every field of every fact is a plain word, number, time or another fact. Secrets have a type of their own, which does
/// not serialise.
#[test]
fn no_fact_has_room_for_a_secret() {
    let sources = [
        include_str!("../src/facts.rs"),
        include_str!("../src/guardian/facts.rs"),
        include_str!("../src/host/facts.rs"),
    ];
    let types = sources.iter().flat_map(|source| source.lines());
    let ours: BTreeSet<&str> = types
        .filter_map(|line| {
            let name = line
                .strip_prefix("pub struct ")
                .or_else(|| line.strip_prefix("pub enum "))?;
            name.split(' ').next()
        })
        .collect();
    let plain = ["String", "bool", "u32", "u64", "usize", "Time", "()"];
    let mut fields = 0;
    for line in sources.iter().flat_map(|source| source.lines()) {
        let field = line
            .strip_prefix("    pub ")
            .filter(|line| !line.contains("fn "));
        let Some((name, kind)) = field.and_then(|field| field.split_once(": ")) else {
            continue;
        };
        let mut kind = kind.trim_end_matches(',');
        while let Some(inner) = ["Option<", "Vec<", "Observed<"]
            .iter()
            .find_map(|outer| kind.strip_prefix(outer)?.strip_suffix('>'))
        {
            kind = inner;
        }
        assert!(
            plain.contains(&kind) || ours.contains(kind),
            "{name}: {kind}"
        );
        fields += 1;
    }
    assert!(fields > 80, "the sources were read: {fields}");
}
