//! Kernel modules and what they need, from the files themselves: the index that `depmod` makes is missing in packages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::ImageError;
use super::program::{installed, run};

/// Octets of the largest module that is read.
const LIMIT: u64 = 64 << 20;
/// Files of a kernel's modules, at most.
const MOST_MODULES: usize = 50_000;

/// A module that is to be loaded.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) octets: Vec<u8>,
}

/// The modules `wanted`, each after those that it needs. What is built into the kernel is left out.
pub(super) fn with_dependencies(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>, ImageError> {
    let files = files(folder)?;
    let built_in = built_in(folder)?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // A module is pushed twice: first for what it needs, then for itself.
    let mut stack: Vec<(String, bool)> = Vec::new();
    let mut loaded: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for name in wanted {
        stack.push((canonical(name), false));
        while let Some((name, ready)) = stack.pop() {
            if ready {
                if let Some(octets) = loaded.remove(&name) {
                    order.push(Module { name, octets });
                }
                continue;
            }
            if built_in.contains(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let path = files.get(&name).ok_or_else(|| ImageError::NoModule {
                module: name.clone(),
                folder: folder.to_owned(),
            })?;
            let octets = read(path)?;
            let needs = needed(&octets);
            loaded.insert(name.clone(), octets);
            stack.push((name, true));
            stack.extend(needs.into_iter().map(|needed| (needed, false)));
        }
    }
    Ok(order)
}

/// Names of modules are compared with `_`, whatever their files are called.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of a module's file, without what its compression adds.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (name, ending) = name.split_once(".ko")?;
    matches!(ending, "" | ".xz" | ".gz" | ".zst").then(|| canonical(name))
}

fn files(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ImageError> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.join("kernel")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(ImageError::at(&folder))? {
            let entry = entry.map_err(ImageError::at(&folder))?;
            let kind = entry.file_type().map_err(ImageError::at(&folder))?;
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && files.len() < MOST_MODULES
                && let Some(name) = module_name(&path)
            {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

fn built_in(folder: &Path) -> Result<BTreeSet<String>, ImageError> {
    let list = hgs_files::read(&folder.join("modules.builtin"), 1 << 20)?;
    let list = String::from_utf8_lossy(&list);
    Ok(list
        .lines()
        .filter_map(|line| module_name(Path::new(line)))
        .collect())
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    let (program, package) = match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => ("xz", "xz-utils"),
        Some("gz") => ("gzip", "gzip"),
        Some("zst") => ("zstd", "zstd"),
        _ => return Ok(hgs_files::read(path, LIMIT as usize)?),
    };
    let arguments = [
        "--decompress".as_ref(),
        "--stdout".as_ref(),
        path.as_os_str(),
    ];
    Ok(run(&installed(program, package)?, arguments)?.stdout)
}

/// The modules that `depends=` of a module's `.modinfo` names.
fn needed(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let place = module.windows(KEY.len()).position(|octets| octets == KEY);
    let text = place.map_or(&[][..], |place| &module[place + KEY.len()..]);
    let text = text.split(|octet| *octet == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(canonical).collect()
}
