//! What hosts will measure after an update, from its files, before any host boots them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use hgs_attest::policy::{
    Baseline, Label, Prediction, PredictionError, Source, SourceKind, component_of_pcrlock,
    read_pcrlock,
};
use hgs_pki::Time;
use hgs_tcg::image::{OwnMokVariables, PeImage};
use hgs_terminal::{Failure, printable, read_input};
use serde::Serialize;

use super::named_value;
use crate::software::{Software, SoftwareFile};

/// Octets of the longest file of systemd-pcrlock, and of the longest variable.
const LONGEST_FILE: usize = 1024 * 1024;

/// Where predictions come from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Predictions {
    /// Debian packages (.deb), folders and files with signed kernels, unified kernel images, shims and GRUBs
    #[arg(value_name = "FILE|FOLDER")]
    sources: Vec<PathBuf>,
    /// What the files are, where their names do not tell
    #[arg(long = "as", value_enum, value_name = "KIND", requires = "sources")]
    kind: Option<ImageKind>,
    /// The data that a variable of Secure Boot has after an update: PK, KEK, db or dbx
    #[arg(long = "variable", value_name = "NAME=FILE", value_parser = named_value::<PathBuf>)]
    variables: Vec<(String, PathBuf)>,
    /// A component file of systemd-pcrlock; its name says which component it is about
    #[arg(long = "pcrlock", value_name = "FILE")]
    pcrlock: Vec<PathBuf>,
    /// The component that the files of systemd-pcrlock are about
    #[arg(long, value_name = "NAME", requires = "pcrlock")]
    component: Option<String>,
    /// The value that a PCR has at the end of a boot, as a vendor publishes it for its firmware
    #[arg(long = "final-value", value_name = "PCR=DIGEST", value_parser = named_value::<String>)]
    final_values: Vec<(String, String)>,
}

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ImageKind {
    /// A kernel that a boot loader starts
    Kernel,
    /// A unified kernel image
    Unified,
    /// A boot loader, such as GRUB
    Loader,
    /// shim
    Shim,
}

/// An alternative that was added.
#[derive(Debug, Serialize)]
pub(crate) struct Staged {
    component: String,
    alternative: String,
    source: String,
}

impl fmt::Display for Staged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            component,
            alternative,
            source,
        } = self;
        writeln!(formatter, "{component}: {alternative} (from {source})")
    }
}

impl Predictions {
    /// Adds to a baseline what is predicted. It is accepted until `expires`, unless a host boots it. What it gives are the
    /// alternatives that are new.
    pub(crate) fn stage_in(
        &self,
        baseline: &mut Baseline,
        expires: Time,
    ) -> Result<Vec<Staged>, Failure> {
        let mut staging = Staging {
            baseline,
            expires,
            staged: Vec::new(),
        };
        for path in &self.sources {
            staging.software(&Software::at(path)?, self.kind)?;
        }
        for (name, file) in &self.variables {
            staging.variable(name, file)?;
        }
        for file in &self.pcrlock {
            staging.pcrlock(file, self.component.as_deref())?;
        }
        for (pcr, value) in &self.final_values {
            staging.final_value(pcr, value)?;
        }
        Ok(staging.staged)
    }
}

struct Staging<'b> {
    baseline: &'b mut Baseline,
    expires: Time,
    staged: Vec<Staged>,
}

impl Staging<'_> {
    /// Predicts from each image of a source. Of packages and folders only what is known by its name is taken: they have
    /// more images than a host boots.
    fn software(&mut self, software: &Software, kind: Option<ImageKind>) -> Result<(), Failure> {
        let source = Source {
            kind: match software {
                Software::Package(_) => SourceKind::Package,
                Software::Folder(_) | Software::File(_) => SourceKind::File,
            },
            of: software.label()?,
        };
        let is_one_file = matches!(software, Software::File(_));
        let mut images = 0;
        software.each_file(&mut |file| {
            let named = kind
                .filter(|_| is_one_file)
                .or_else(|| kind_by_name(&file.path));
            let Some(named) = named else {
                return Ok(());
            };
            if kind.is_some_and(|wanted| wanted != named) {
                return Ok(());
            }
            images += 1;
            self.image(named, file, &source)
        })?;
        match images {
            0 => Err(Failure::refused(format!(
                "{} has no kernel, unified kernel image, shim or GRUB",
                source.of
            ))
            .remedy("name the file itself, and say with --as what it is")),
            _ => Ok(()),
        }
    }

    fn image(
        &mut self,
        kind: ImageKind,
        file: SoftwareFile<'_>,
        source: &Source,
    ) -> Result<(), Failure> {
        let path = file.path.clone();
        let octets = file.octets()?;
        let name = path.rsplit('/').next().unwrap_or(&path);
        let label = Label {
            name: match source.kind {
                SourceKind::Package => format!("{}, {name}", source.of),
                _ => path.clone(),
            },
            source: source.clone(),
            expires: self.expires,
        };
        let baseline = &*self.baseline;
        let predicted = match kind {
            ImageKind::Kernel if is_unified(&octets) => baseline.predict_unified(&label, &octets),
            ImageKind::Kernel => {
                baseline.predict_kernel(&label, &octets, name.strip_prefix("vmlinuz-"))
            }
            ImageKind::Unified => baseline.predict_unified(&label, &octets),
            ImageKind::Loader => baseline.predict_loader(&label, &octets),
            ImageKind::Shim => baseline.predict_shim(&label, &octets, &OwnMokVariables::default()),
        };
        self.stage(predicted, &path)
    }

    fn variable(&mut self, name: &str, file: &Path) -> Result<(), Failure> {
        let data = read_input(file, LONGEST_FILE)?.complete(file, "a variable")?;
        let label = self.label(
            format!("{name} of {}", file.display()),
            SourceKind::File,
            file,
        );
        let predicted = self.baseline.predict_variable(&label, name, &data);
        self.stage(predicted, &file.display())
    }

    fn pcrlock(&mut self, file: &Path, component: Option<&str>) -> Result<(), Failure> {
        let refused = |error: &dyn std::error::Error| {
            Failure::of(error)
                .with_exit(hgs_terminal::Exit::Refused)
                .while_doing(file.display())
        };
        let octets = read_input(file, LONGEST_FILE)?;
        let octets = octets.complete(file, "a file of systemd-pcrlock")?;
        let records = read_pcrlock(&octets).map_err(|error| refused(&error))?;
        // In a folder NAME.pcrlock.d the files are alternatives of one component, whose name is the folder's.
        let folder = file.parent().and_then(Path::file_name);
        let folder = folder.filter(|name| name.to_string_lossy().ends_with(".pcrlock.d"));
        let name = folder.or_else(|| file.file_name()).unwrap_or_default();
        let component = component.or_else(|| component_of_pcrlock(&name.to_string_lossy()));
        let Some(component) = component else {
            return Err(Failure::refused(format!(
                "the name of {} does not say which component it is about",
                file.display()
            ))
            .remedy("name the component with --component"));
        };
        let label = self.label(file.display().to_string(), SourceKind::Pcrlock, file);
        let predicted = self.baseline.predict_pcrlock(&label, component, &records);
        let predicted = predicted.map_err(|error| refused(&error))?;
        self.add(&predicted);
        Ok(())
    }

    fn final_value(&mut self, pcr: &str, value: &str) -> Result<(), Failure> {
        let number = pcr.parse().ok().filter(|pcr: &u8| *pcr < 24);
        let number = number
            .ok_or_else(|| Failure::refused(format!("there is no PCR {}", printable(pcr))))?;
        let name = format!("PCR {number}");
        let label = Label {
            source: Source {
                kind: SourceKind::Vendor,
                of: name.clone(),
            },
            name: name.clone(),
            expires: self.expires,
        };
        let added = self.baseline.stage_final_value(&label, number, value);
        if added.map_err(Failure::refused)? {
            self.staged.push(Staged {
                component: "final values".to_owned(),
                alternative: name,
                source: value.to_owned(),
            });
        }
        Ok(())
    }

    fn label(&self, name: String, kind: SourceKind, file: &Path) -> Label {
        Label {
            name,
            source: Source {
                kind,
                of: file.display().to_string(),
            },
            expires: self.expires,
        }
    }

    fn stage(
        &mut self,
        predicted: Result<Prediction, PredictionError>,
        file: &dyn fmt::Display,
    ) -> Result<(), Failure> {
        let prediction =
            predicted.map_err(|error| Failure::refused(error).while_doing(file.to_string()))?;
        self.add(&prediction);
        Ok(())
    }

    fn add(&mut self, prediction: &Prediction) {
        let before = names(self.baseline);
        self.baseline.stage(prediction);
        let after = names(self.baseline);
        let new = after.difference(&before).cloned();
        self.staged
            .extend(new.map(|(component, alternative, source)| Staged {
                component,
                alternative,
                source,
            }));
    }
}

/// Every alternative, by component, name and source.
fn names(baseline: &Baseline) -> BTreeSet<(String, String, String)> {
    let alternatives = baseline.alternatives();
    alternatives
        .map(|(component, alternative)| {
            (
                component.to_owned(),
                alternative.name.clone(),
                alternative.source.of.clone(),
            )
        })
        .collect()
}

/// What a file is that hosts boot, by its path in a package of Debian.
fn kind_by_name(path: &str) -> Option<ImageKind> {
    let name = path.rsplit('/').next()?;
    // Packages have the signed images of shim and GRUB under these names, beside those for CDs and networks.
    match name {
        "shimx64.efi.signed" | "shimaa64.efi.signed" | "shimx64.efi" | "shimaa64.efi" => {
            Some(ImageKind::Shim)
        }
        "grubx64.efi.signed"
        | "grubaa64.efi.signed"
        | "grubx64.efi"
        | "grubaa64.efi"
        | "systemd-bootx64.efi.signed"
        | "systemd-bootx64.efi" => Some(ImageKind::Loader),
        _ if name.starts_with("vmlinuz") => Some(ImageKind::Kernel),
        _ if path.contains("/EFI/Linux/") && name.ends_with(".efi") => Some(ImageKind::Unified),
        _ => None,
    }
}

/// Whether an image holds a kernel in a section.
fn is_unified(octets: &[u8]) -> bool {
    let image = PeImage::parse(octets);
    image.is_ok_and(|image| matches!(image.section(".linux"), Ok(Some(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_debian_are_known_by_their_paths() {
        for (path, kind) in [
            ("/boot/vmlinuz-6.1.0-56-amd64", Some(ImageKind::Kernel)),
            ("/usr/lib/shim/shimx64.efi.signed", Some(ImageKind::Shim)),
            ("/usr/lib/shim/mmx64.efi.signed", None),
            (
                "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
                Some(ImageKind::Loader),
            ),
            ("/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", None),
            ("/efi/EFI/Linux/debian-6.1.efi", Some(ImageKind::Unified)),
            ("/boot/initrd.img-6.1.0-56-amd64", None),
        ] {
            assert_eq!(kind_by_name(path), kind, "{path}");
        }
    }
}
