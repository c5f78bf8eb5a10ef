use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

const SHIELDED: &str = r#"
name = "payroll"
id = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
memory = "2GiB"
processors = 2
network = "user"
unhealthy_host = "shut-down"

[firmware]
variables = "firmware-vars.fd"

[disk]
file = "disk.img"
format = "raw"
"#;

#[test]
fn a_description_is_read_and_written() {
    let description = Description::read(SHIELDED).unwrap();
    assert_eq!(description.memory.mib(), 2048);
    let variables = "firmware-vars.fd".parse().unwrap();
    assert_eq!(description.firmware, Firmware::SecureBoot { variables });
    assert_eq!(description.unhealthy_host, Some(UnhealthyHost::ShutDown));
    let written = description.to_toml();
    assert_eq!(
        Description::read(&written).unwrap(),
        description,
        "{written}"
    );
    assert!(written.contains("profile = \"secure-boot\""), "{written}");

    let direct = SHIELDED.replace(
        "variables = \"firmware-vars.fd\"",
        "profile = \"direct-kernel\"\nkernel = \"vmlinuz\"\ncommand_line = \"console=ttyS0\"",
    );
    let without_disk = direct.split("[disk]").next().unwrap();
    let description = Description::read(without_disk).unwrap();
    assert_eq!(description.disk, None);
    assert_eq!(
        Description::read(&description.to_toml()).unwrap(),
        description
    );
}

#[test]
fn the_examples_of_the_documentation_are_descriptions() {
    let page = include_str!("../../../../docs/vm-description.md");
    let examples: Vec<_> = page.split("```toml\n").skip(1).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let text = example.split("```").next().unwrap();
        Description::read(text).unwrap();
    }
    let policy = page.split("```json\n").nth(1).unwrap();
    let policy = policy.split("\n```").next().unwrap();
    crate::protection::Protection::read(policy.as_bytes()).unwrap();
    // Every key that is written has a row.
    let all = SHIELDED.replace("[firmware]", "[firmware]\nprofile = \"secure-boot\"");
    for line in all.lines() {
        if let Some((key, _)) = line.split_once(" = ") {
            let documented = page.contains(&format!("| `{key}` |"))
                || ["firmware", "disk"]
                    .iter()
                    .any(|table| page.contains(&format!("| `[{table}] {key}` |")));
            assert!(documented, "{key} is not in docs/vm-description.md");
        }
    }
}

/// Each line is a change of the good file, and what the refusal must name.
#[test]
fn what_is_wrong_is_named() {
    for (from, to, named) in [
        (
            "processors = 2",
            "processors = 2\nprocesors = 2",
            "procesors",
        ),
        (
            "format = \"raw\"",
            "format = \"raw\"\ncache = \"none\"",
            "cache",
        ),
        ("format = \"raw\"", "", "format"),
        ("format = \"raw\"", "format = \"vmdk\"", "vmdk"),
        ("processors = 2", "processors = 0", "1 to 255"),
        ("processors = 2", "processors = 256", "1 to 255"),
        ("2GiB", "127MiB", "127MiB"),
        ("2GiB", "99999999999GiB", "99999999999GiB"),
        ("2GiB", "+2GiB", "no size"),
        ("2GiB", "2 GiB", "no size"),
        ("2GiB", "2GB", "no size"),
        ("payroll", "../payroll", "no name of a VM"),
        ("payroll", ".payroll", "no name of a VM"),
        ("payroll", "pay,roll", "no name of a VM"),
        ("6f2d1c3e-8d0a", "6f2d1c3e8-d0a", "no UUID"),
        ("9f1c-0b7f6a1e2d3c", "9f1c-0b7f6a1e2d3c00", "no UUID"),
        (
            "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c",
            "00000000-0000-0000-0000-000000000000",
            "all zeros",
        ),
        ("disk.img", "/dev/sda", "is a path"),
        ("disk.img", "../other/disk.img", "is a path"),
        ("disk.img", "..", "is a path"),
        ("disk.img", "a\\nb", "control character"),
        ("disk.img", "vm.toml", "keeps itself"),
        ("disk.img", "gen-3", "keeps itself"),
        ("disk.img", "firmware-vars.fd", "named twice"),
        ("variables = \"firmware-vars.fd\"", "", "no `variables`"),
        (
            "variables = \"firmware-vars.fd\"",
            "variables = \"v.fd\"\nkernel = \"k\"",
            "`kernel`",
        ),
        (
            "variables",
            "profile = \"direct-kernel\"\nvariables",
            "no `kernel`",
        ),
        ("shut-down", "explode", "explode"),
    ] {
        assert!(SHIELDED.contains(from), "{from}");
        let error = Description::read(&SHIELDED.replace(from, to)).unwrap_err();
        assert!(error.to_string().contains(named), "{to}: {error}");
    }
    let without_disk = SHIELDED.split("[disk]").next().unwrap();
    let error = Description::read(without_disk).unwrap_err();
    assert!(error.to_string().contains("no [disk]"), "{error}");
    let long = format!("{SHIELDED}#{}", "x".repeat(LIMIT));
    let error = Description::read(&long).unwrap_err();
    assert!(matches!(error, DescriptionError::TooLong), "{error}");
}

#[test]
fn k20_a_file_of_a_vm_is_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let disk: FileName = "disk.img".parse().unwrap();
    let problem = |disk: &FileName| disk.within(folder.path()).unwrap_err().problem;
    assert!(matches!(problem(&disk), FileProblem::NotFound));
    symlink("/etc/hostname", folder.path().join("disk.img")).unwrap();
    assert!(matches!(problem(&disk), FileProblem::SymbolicLink));
    fs::create_dir(folder.path().join("folder")).unwrap();
    let folder_name = "folder".parse().unwrap();
    assert!(matches!(problem(&folder_name), FileProblem::NotA { .. }));
    fs::remove_file(folder.path().join("disk.img")).unwrap();
    fs::write(folder.path().join("disk.img"), b"").unwrap();
    disk.within(folder.path()).unwrap();
    symlink("/etc/hostname", folder.path().join(FILE)).unwrap();
    let error = Description::load(folder.path()).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = Description::read(&text);
    }

    #[test]
    fn a_name_of_a_file_never_leads_out_of_the_folder(text in "[./a,=\\\\ -]{0,12}|\\PC{0,40}") {
        if let Ok(name) = text.parse::<FileName>() {
            let path = Path::new("/vm").join(name.as_str());
            prop_assert_eq!(path.parent(), Some(Path::new("/vm")));
            prop_assert_eq!(path.components().count(), 3);
        }
    }

    #[test]
    fn what_is_written_is_read_again(mib in 128_u32..4_194_305, count in 1_u32..256, line in "[ -~é]{0,100}", file in "[a-z,=:{}\" ]{1,20}") {
        let mut description = Description::read(SHIELDED).unwrap();
        description.memory = Memory::from_mib(mib).unwrap();
        description.processors = count.try_into().unwrap();
        description.firmware = Firmware::DirectKernel(DirectKernel {
            kernel: format!("K{file}").parse().unwrap(),
            initrd: Some(format!("I{file}").parse().unwrap()),
            command_line: line.parse().unwrap(),
            variables: None,
        });
        prop_assert_eq!(Description::read(&description.to_toml()).unwrap(), description);
    }
}
