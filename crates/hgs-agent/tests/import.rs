//! What an owner delivers becomes a VM of the host, and a VM of the host becomes a folder, whole or not at all.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use hgs_agent::{
    Agent, AgentFolders, Client, ClientError, MachineState, MachineStatus, Request, Settings,
};
use hgs_client::Folders;
use tempfile::TempDir;

const DESCRIPTION: &str = r#"
name = "web1"
id = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
memory = "256MiB"
processors = 1
[firmware]
profile = "secure-boot"
variables = "firmware-vars.fd"
[disk]
file = "disk.img"
format = "raw"
"#;

/// The files of a delivered folder, none of which can be missing.
const PARTS: [&str; 7] = [
    "vm.toml",
    "disk.img",
    "firmware-vars.fd",
    "current",
    "gen-1/tpm2-00.permall",
    "gen-1/protector.xml",
    "gen-1/protection.sealed",
];

struct Host {
    root: TempDir,
    _agent: Agent,
}

impl Host {
    async fn new() -> Self {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let agent = Agent::start(Self::folders(root.path()), Settings::default()).await;
        Self {
            root,
            _agent: agent.unwrap(),
        }
    }

    fn folders(root: &Path) -> AgentFolders {
        AgentFolders {
            host: Folders::inside(root),
            runtime: root.join("run"),
        }
    }

    /// A folder as an owner delivers it: the files of anybody, that anybody may read.
    fn delivered(&self) -> PathBuf {
        let folder = self.root.path().join("delivered");
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(folder.join("gen-1")).unwrap();
        for (file, octets) in [
            ("vm.toml", DESCRIPTION),
            ("disk.img", "a disk"),
            ("firmware-vars.fd", "variables"),
            ("current", "gen-1\n"),
            ("gen-1/tpm2-00.permall", "a state"),
            ("gen-1/protector.xml", "<protector/>"),
            ("gen-1/protection.sealed", "sealed"),
        ] {
            fs::write(folder.join(file), octets).unwrap();
        }
        folder
    }

    async fn import(
        &self,
        folder: &Path,
        name: Option<&str>,
    ) -> Result<MachineStatus, ClientError> {
        self.ask(Request::Import {
            folder: folder.to_owned(),
            name: name.map(str::to_owned),
        })
        .await
    }

    async fn export(
        &self,
        name: &str,
        folder: &Path,
        remove: bool,
    ) -> Result<MachineStatus, ClientError> {
        self.ask(Request::Export {
            name: name.to_owned(),
            folder: folder.to_owned(),
            remove,
        })
        .await
    }

    async fn ask(&self, request: Request) -> Result<MachineStatus, ClientError> {
        let client = Client::new(&Self::folders(self.root.path()).socket());
        let asked = tokio::task::spawn_blocking(move || client.ask(&request, |_| ()));
        asked.await.unwrap()
    }

    fn vms(&self) -> PathBuf {
        Self::folders(self.root.path()).host.state.join("vms")
    }

    /// What is in the folder of VMs.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.vms()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_is_the_hosts_own_and_what_was_delivered_stays() {
    let host = Host::new().await;
    let folder = host.delivered();
    let status = host.import(&folder, None).await.unwrap();
    assert_eq!(
        (status.name.as_str(), status.state),
        ("web1", MachineState::Stopped)
    );
    let again = host.import(&folder, None).await.unwrap_err();
    assert!(again.to_string().contains("has a VM named web1"), "{again}");
    host.import(&folder, Some("web2")).await.unwrap();
    assert_eq!(host.names(), ["web1", "web2"]);
    let copied = host.vms().join("web2");
    let description = fs::read_to_string(copied.join("vm.toml")).unwrap();
    assert!(description.contains("name = \"web2\""), "{description}");
    for file in [
        "disk.img",
        "firmware-vars.fd",
        "gen-1/tpm2-00.permall",
        "gen-1/protection.sealed",
    ] {
        let path = copied.join(file);
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(folder.join(file)).unwrap()
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_one_of_its_parts_leaves_nothing() {
    let host = Host::new().await;
    for part in PARTS {
        let folder = host.delivered();
        fs::remove_file(folder.join(part)).unwrap();
        let error = host.import(&folder, None).await.unwrap_err().to_string();
        let name = Path::new(part).file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name), "{part}: {error}");
        assert!(host.names().is_empty(), "{part}: {:?}", host.names());
    }
    let error = host.import(&host.delivered(), Some("../web")).await;
    assert!(error.unwrap_err().to_string().contains("no name of a VM"));
    assert!(host.names().is_empty());
}

/// The agent is root; a delivered folder is anybody's.
#[tokio::test(flavor = "multi_thread")]
async fn k20_a_link_in_a_delivered_folder_is_not_followed() {
    let host = Host::new().await;
    let secret = host.root.path().join("secret");
    fs::write(&secret, "of another").unwrap();
    for part in PARTS {
        let folder = host.delivered();
        fs::remove_file(folder.join(part)).unwrap();
        symlink(&secret, folder.join(part)).unwrap();
        host.import(&folder, None).await.unwrap_err();
        assert!(host.names().is_empty(), "{part}: {:?}", host.names());
    }
    let folder = host.delivered();
    fs::rename(folder.join("gen-1"), host.root.path().join("elsewhere")).unwrap();
    symlink(host.root.path().join("elsewhere"), folder.join("gen-1")).unwrap();
    host.import(&folder, None).await.unwrap_err();
    assert!(host.names().is_empty(), "{:?}", host.names());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_another_process_works_with_is_not_copied() {
    let host = Host::new().await;
    let folder = host.delivered();
    let lock = hgs_files::Lock::take_or_create(&folder.join("lock")).unwrap();
    let error = host.import(&folder, None).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("another process works with the VM"),
        "{error}"
    );
    drop(lock);
    host.import(&folder, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_a_whole_vm_that_is_imported_again() {
    let host = Host::new().await;
    host.import(&host.delivered(), None).await.unwrap();
    let out = host.root.path().join("out");
    host.export("web1", &out, false).await.unwrap();
    assert_eq!(host.names(), ["web1"]);
    for part in PARTS {
        let (exported, own) = (out.join(part), host.vms().join("web1").join(part));
        assert_eq!(
            fs::read(&exported).unwrap(),
            fs::read(own).unwrap(),
            "{part}"
        );
        let mode = fs::metadata(&exported).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{part}");
    }
    let mode = fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // Nothing is overwritten, and nothing is left of what fails.
    let error = host.export("web1", &out, true).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    let relative = host.export("web1", Path::new("out"), true).await;
    assert!(relative.unwrap_err().to_string().contains("absolute"));
    fs::rename(host.vms().join("web1/disk.img"), host.root.path().join("d")).unwrap();
    let other = host.root.path().join("other");
    let error = host.export("web1", &other, true).await.unwrap_err();
    assert!(error.to_string().contains("disk.img"), "{error}");
    let left = fs::read_dir(host.root.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name());
    assert!(
        left.into_iter()
            .all(|name| !name.to_string_lossy().contains("other"))
    );
    assert_eq!(host.names(), ["web1"]);
    fs::rename(host.root.path().join("d"), host.vms().join("web1/disk.img")).unwrap();

    host.export("web1", &other, true).await.unwrap();
    assert!(host.names().is_empty());
    host.import(&other, None).await.unwrap();
    assert_eq!(host.names(), ["web1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_while_another_process_works_with_the_vm_leaves_nothing() {
    let host = Host::new().await;
    host.import(&host.delivered(), None).await.unwrap();
    let lock = hgs_files::Lock::take_or_create(&host.vms().join("web1/lock")).unwrap();
    let out = host.root.path().join("out");
    let error = host.export("web1", &out, true).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("another process works with the VM"),
        "{error}"
    );
    assert!(!out.exists() && !host.root.path().join(".out.export").exists());
    drop(lock);
    host.export("web1", &out, true).await.unwrap();
}
