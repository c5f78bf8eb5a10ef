//! Folders that the service has to write and its systemd unit does not let it: `ProtectSystem=strict` makes all of the machine
//! read-only but for what the unit names.

use std::env;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Findings;
use crate::config::Config;

const UNIT: &str = "openhgs.service";

/// Where systemd looks for units, the first file counts; drop-ins count in all of them.
const UNIT_FOLDERS: [&str; 4] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// What `ProtectHome=yes` hides, whatever else the unit names.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];

/// A unit file is much shorter.
const LONGEST_FILE: u64 = 1 << 16;

/// Looks for such folders, where there is a unit below `root`.
pub(super) fn check(config: &Config, root: &Path, findings: &mut Findings) {
    let Some(unit) = Unit::installed(root).filter(|unit| unit.is_strict) else {
        return;
    };
    for (check, folder) in written(config, root) {
        if unit
            .writable
            .iter()
            .any(|writable| folder.starts_with(writable))
        {
            continue;
        }
        let cause = format!(
            "where systemd starts the service, it can't write to {}",
            folder.display()
        );
        if HIDDEN.iter().any(|hidden| folder.starts_with(hidden)) {
            let remedy =
                "choose a folder that is not below /home, /root or /run/user: the unit hides these";
            findings.warning(check, cause, remedy);
            continue;
        }
        let (name, folder) = (check.replace('.', "-"), folder.display());
        let remedy = format!(
            "give the unit a drop-in: printf '[Service]\\nReadWritePaths={folder}\\n' | install -D -m 644 /dev/stdin \
             /etc/systemd/system/{UNIT}.d/{name}.conf && systemctl daemon-reload && systemctl restart openhgs"
        );
        findings.warning(check, cause, remedy);
    }
}

/// The folders that the service writes, by the keys that name them.
fn written(config: &Config, root: &Path) -> Vec<(&'static str, PathBuf)> {
    let folder_of = |file: PathBuf| file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let mut written = vec![
        ("server.state", config.state_folder()),
        (
            "server.high_water_mark",
            folder_of(config.high_water_mark_file()),
        ),
    ];
    if config.listen.admin.enabled {
        written.push(("listen.admin.socket", folder_of(config.admin_socket())));
    }
    let is_soft = |path: &Path| path.to_string_lossy().contains("softhsm");
    if config
        .pkcs11
        .modules
        .iter()
        .any(|module| is_soft(&module.path))
    {
        written.extend(softhsm_tokens(root).map(|folder| ("pkcs11.module", folder)));
    }
    written
}

/// Where SoftHSM keeps tokens, by its own configuration.
fn softhsm_tokens(root: &Path) -> Option<PathBuf> {
    let file = env::var_os("SOFTHSM2_CONF")
        .map_or_else(|| root.join("etc/softhsm/softhsm2.conf"), PathBuf::from);
    let text = read(&file)?;
    let folder = assignments(&text)
        .filter(|(key, _)| *key == "directories.tokendir")
        .last();
    folder.map(|(_, folder)| PathBuf::from(folder))
}

/// What the unit and its drop-ins say about the file system.
struct Unit {
    is_strict: bool,
    writable: Vec<PathBuf>,
}

impl Unit {
    fn installed(root: &Path) -> Option<Self> {
        let mut unit = Self {
            is_strict: false,
            writable: Vec::new(),
        };
        let folders = UNIT_FOLDERS.map(|folder| root.join(folder));
        unit.take(&folders.iter().find_map(|folder| read(&folder.join(UNIT)))?);
        let drop_ins = folders
            .iter()
            .rev()
            .filter_map(|folder| fs::read_dir(folder.join(format!("{UNIT}.d"))).ok());
        let mut drop_ins: Vec<_> = drop_ins
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        drop_ins.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "conf")
        });
        drop_ins.sort_by_key(|file| file.file_name().map(ToOwned::to_owned));
        for text in drop_ins.iter().filter_map(|file| read(file)) {
            unit.take(&text);
        }
        Some(unit)
    }

    fn take(&mut self, text: &str) {
        for (key, value) in assignments(text) {
            let below = match key {
                "ProtectSystem" => {
                    self.is_strict = value == "strict";
                    continue;
                }
                "ReadWritePaths" if value.is_empty() => {
                    self.writable.clear();
                    continue;
                }
                "ReadWritePaths" => "/",
                "StateDirectory" => "/var/lib",
                "RuntimeDirectory" => "/run",
                _ => continue,
            };
            let paths = value
                .split_whitespace()
                .map(|path| path.trim_start_matches(['-', '+']));
            self.writable
                .extend(paths.map(|path| Path::new(below).join(path)));
        }
    }
}

fn assignments(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim(), value.trim()))
}

/// A file that this user can't read says nothing here.
fn read(file: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(file)
        .ok()?
        .take(LONGEST_FILE)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::config::{Layout, Pkcs11Module};

    /// A machine with the unit that is shipped.
    fn machine() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let unit = include_str!("../../../../packaging/systemd/openhgs.service");
        write(&root, "usr/lib/systemd/system/openhgs.service", unit);
        root
    }

    fn write(root: &TempDir, file: &str, text: &str) {
        let file = root.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn remedies(root: &TempDir, config: &Config) -> Vec<(&'static str, String)> {
        let mut findings = Findings::default();
        check(config, root.path(), &mut findings);
        let findings = findings.0.into_iter();
        findings
            .map(|finding| (finding.check, finding.remedy))
            .collect()
    }

    #[test]
    fn the_shipped_unit_lets_the_service_write_its_own_folders() {
        assert_eq!(
            remedies(&machine(), &Config::with_layout(Layout::system())),
            []
        );
    }

    #[test]
    fn a_folder_elsewhere_is_found_until_its_drop_in_is_there() {
        let root = machine();
        let mut config = Config::with_layout(Layout::system());
        config.server.state = Some("/srv/guardian".into());
        config.server.high_water_mark = Some("/mnt/other/mark".into());
        let found = remedies(&root, &config);
        let checks: Vec<_> = found.iter().map(|(check, _)| *check).collect();
        assert_eq!(checks, ["server.state", "server.high_water_mark"]);
        assert!(
            found[0].1.contains("ReadWritePaths=/srv/guardian\\n"),
            "{found:?}"
        );
        let drop_in = "etc/systemd/system/openhgs.service.d/server-state.conf";
        assert!(found[0].1.contains(drop_in), "{found:?}");
        write(&root, drop_in, "[Service]\nReadWritePaths=/srv/guardian\n");
        assert_eq!(remedies(&root, &config), found[1..]);
        write(
            &root,
            "etc/systemd/system/openhgs.service.d/z.conf",
            "[Service]\nProtectSystem=full\n",
        );
        assert_eq!(remedies(&root, &config), []);
    }

    #[test]
    fn a_folder_that_the_unit_hides_gets_no_drop_in() {
        let mut config = Config::with_layout(Layout::system());
        config.server.state = Some("/home/ann/guardian".into());
        let found = remedies(&machine(), &config);
        assert!(found[0].1.starts_with("choose a folder"), "{found:?}");
    }

    #[test]
    fn the_tokens_of_softhsm_are_where_its_configuration_says() {
        let root = machine();
        let mut config = Config::with_layout(Layout::system());
        config.pkcs11.modules = vec![Pkcs11Module::new("/usr/lib/softhsm/libsofthsm2.so")];
        let tokens = |folder: &str| {
            let text = format!("# tokens\ndirectories.tokendir = {folder}\n");
            write(&root, "etc/softhsm/softhsm2.conf", &text);
            remedies(&root, &config).len()
        };
        assert_eq!(tokens("/var/lib/softhsm/tokens/"), 0);
        assert_eq!(tokens("/srv/tokens"), 1);
    }

    #[test]
    fn a_machine_without_the_unit_has_no_such_folders() {
        let mut config = Config::with_layout(Layout::system());
        config.server.state = Some("/srv/guardian".into());
        assert_eq!(remedies(&tempfile::tempdir().unwrap(), &config), []);
    }
}
