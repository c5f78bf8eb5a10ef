//! Completions and manual pages, for whoever packages the program.

mod common;

use std::fs;
use std::path::Path;

use common::Home;

#[test]
fn shells_complete_and_every_command_has_a_page() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.hgs(&format!("completions {shell}")).done().out;
        assert!(script.contains("protector"), "{shell}");
    }
    home.hgs("completions tcsh").ended(64);
    home.hgs("man")
        .done()
        .saying(".TH hgs 1")
        .saying(".SH \"FILES\"")
        .saying(".SH \"ENVIRONMENT\"")
        .saying(".SH \"EXIT STATUS\"");
    home.hgs("man protector verify")
        .done()
        .saying("hgs\\-protector\\-verify");
    home.hgs("man protector nonsense").ended(64);
    home.hgs("man --folder pages").done();
    let pages = home.file("pages").read_dir().unwrap().count();
    assert!(pages > 30, "{pages} pages");
    home.hgs("completions bash --out hgs.bash").done();
    assert_eq!(home.mode("hgs.bash"), 0o644);
}

/// Pages whose commands nobody runs in order still name only what is there.
#[test]
fn every_command_on_a_page_is_one_with_these_options() {
    let home = Home::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut commands = 0;
    let pages = fs::read_dir(folder)
        .unwrap()
        .map(|page| page.unwrap().path());
    for page in pages.filter(|page| page.extension().is_some_and(|kind| kind == "md")) {
        let text = fs::read_to_string(page).unwrap();
        let blocks = text.split("```sh\n").skip(1);
        let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
        for line in lines.filter(|line| line.starts_with("hgs ")) {
            let line = line.split(" # ").next().unwrap_or_default();
            let words = line.split(' ').skip(1);
            let is_verb = |word: &&str| {
                let plain = |octet| matches!(octet, b'a'..=b'z' | b'-');
                !word.starts_with('-') && word.bytes().all(plain)
            };
            let verbs: Vec<_> = words.clone().take_while(is_verb).take(2).collect();
            let mut help = home.command();
            let help = help.args(&verbs).arg("--help").output().unwrap();
            let help = String::from_utf8(help.stdout).unwrap();
            for option in words.filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap_or_default();
                assert!(help.contains(option), "{line}: no {option}");
            }
            assert!(!help.is_empty(), "{line}");
            commands += 1;
        }
    }
    assert!(commands > 60, "{commands}");
}
