//! Nothing of the switch is in a release build.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Compiles only if no fault can be seeded and no other version be played: constants are computed by the compiler.
const SHIPPED: &str = "
    use hgs_fault::{Fault, become_next_version, is_next_version, seeded};

    const _: () = {
        let mut place = 0;
        while place < Fault::ALL.len() {
            assert!(!seeded(Fault::ALL[place]));
            place += 1;
        }
        become_next_version();
        assert!(!is_next_version());
    };

    fn main() {}
";

fn compile(arguments: &[&str], folder: &Path) -> bool {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let mut command = Command::new(&compiler);
    command.args(["--edition", "2024", "--cap-lints", "allow", "--out-dir"]);
    command.arg(folder).arg("-L").arg(folder).args(arguments);
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{compiler} can't be run: {error}"));
    output.status.success()
}

fn is_constant(options: &[&str]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs");
    let program = folder.path().join("program.rs");
    fs::write(&program, SHIPPED).unwrap();
    let as_library = [
        &["--crate-type", "lib", "--crate-name", "hgs_fault", library],
        options,
    ];
    assert!(
        compile(&as_library.concat(), folder.path()),
        "{library} does not compile"
    );
    compile(
        &["--extern", "hgs_fault", program.to_str().unwrap()],
        folder.path(),
    )
}

#[test]
fn no_fault_can_be_seeded_without_debug_assertions() {
    let feature = ["--cfg", "feature=\"seeded\""];
    let in_release = ["-C", "debug-assertions=no"];
    let in_debug = ["-C", "debug-assertions=yes"];
    assert!(is_constant(&[feature, in_release].concat()));
    assert!(is_constant(&in_debug));
    // This test could fail.
    assert!(!is_constant(&[feature, in_debug].concat()));
}
