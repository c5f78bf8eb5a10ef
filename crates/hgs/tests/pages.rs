//! Completions and manual pages, for whoever packages the program.

mod common;

use common::Home;

#[test]
fn shells_complete_and_every_command_has_a_page() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.hgs(&format!("completions {shell}")).done().out;
        assert!(script.contains("protector"), "{shell}");
    }
    home.hgs("completions tcsh").ended(64);
    home.hgs("man").done().saying(".TH hgs 1");
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
