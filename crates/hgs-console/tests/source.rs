//! What holds of the source itself: nothing gets into a page unescaped, links and forms lead to paths of the console only, and
//! every pair of colours can be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// Every line of the crate's own code, without comments, with where it stands.
fn lines() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 10);
    found
        .into_iter()
        .flat_map(|(path, text)| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let lines = text.lines().enumerate();
            lines
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
                .map(|(number, line)| (format!("{name}:{}", number + 1), line.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Whether `line` has an attribute whose name begins with `on`.
fn has_handler(line: &str) -> bool {
    let mut words =
        line.split(|character: char| !character.is_ascii_lowercase() && character != '=');
    words.any(|word| word.starts_with("on") && word.len() > 3 && word.ends_with('='))
}

#[test]
fn nothing_is_written_unescaped_and_no_attribute_holds_script_or_style() {
    for (place, line) in lines() {
        assert!(!line.contains("PreEscaped"), "{place}: {line}");
        assert!(!line.contains("style="), "{place}: {line}");
        assert!(!has_handler(&line), "{place}: {line}");
        for element in ["script {", "style {", "iframe {", "object {"] {
            assert!(!line.contains(element), "{place}: {line}");
        }
    }
    assert!(has_handler("button onclick=(x)"));
}

/// These attributes take a `Path`, which begins with `/`, in the two files that a reviewer reads for it.
#[test]
fn links_and_forms_are_made_of_paths_in_two_files() {
    let mut places = 0;
    for (place, line) in lines() {
        for attribute in ["href=", "action=", "src=", "formaction="] {
            let Some((_, value)) = line.split_once(attribute) else {
                continue;
            };
            let is_here = place.starts_with("elements.rs") || place.starts_with("page.rs");
            assert!(is_here, "{place}: {line}");
            let values = [
                "(path)",
                "(back)",
                "\"#content\"",
                "(ICON.path())",
                "(STYLE.path())",
                "(SCRIPT.path())",
            ];
            assert!(
                values.iter().any(|known| value.starts_with(known)),
                "{place}: {line}"
            );
            places += 1;
        }
    }
    assert!(places >= 6, "{places}");
}

/// The colours of a scheme, by name.
fn colours(block: &str) -> BTreeMap<String, [f64; 3]> {
    let declarations = block.split(';').filter_map(|one| one.split_once(": #"));
    declarations
        .filter_map(|(name, hex)| {
            let channel = |at: usize| {
                let value = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
                let value = f64::from(value) / 255.0;
                Some(if value <= 0.040_45 {
                    value / 12.92
                } else {
                    ((value + 0.055) / 1.055).powf(2.4)
                })
            };
            let name = name.rsplit("--").next()?.to_owned();
            Some((name, [channel(0)?, channel(2)?, channel(4)?]))
        })
        .collect()
}

/// WCAG 2.2, contrast ratio.
fn contrast(one: &[f64; 3], other: &[f64; 3]) -> f64 {
    let luminance = |[red, green, blue]: &[f64; 3]| 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn every_pair_of_colours_can_be_read_in_both_schemes() {
    let sheet = include_str!("../src/assets/style.css");
    let blocks: Vec<_> = sheet
        .split(":root {")
        .skip(1)
        .take(2)
        .map(|rest| rest.split('}').next().unwrap())
        .collect();
    let white = contrast(&[1.0; 3], &[0.0; 3]);
    assert!((white - 21.0).abs() < 0.01, "{white}");
    for block in blocks {
        let colours = colours(block);
        for (front, back, least) in [
            ("text", "ground", 4.5),
            ("text", "raised", 4.5),
            ("quiet", "ground", 4.5),
            ("quiet", "raised", 4.5),
            ("link", "ground", 4.5),
            ("link", "raised", 4.5),
            ("on-main", "main", 4.5),
            ("on-danger", "danger", 4.5),
            ("good", "good-ground", 4.5),
            ("attention", "attention-ground", 4.5),
            ("bad", "bad-ground", 4.5),
            ("focus", "ground", 3.0),
            ("focus", "raised", 3.0),
        ] {
            let found = contrast(&colours[front], &colours[back]);
            assert!(found >= least, "{front} on {back}: {found:.2}");
        }
    }
}
