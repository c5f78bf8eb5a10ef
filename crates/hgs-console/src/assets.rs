//! The style sheet, the script and the icon. The digest of its contents is in the name of each, so that browsers may keep it.

use std::sync::LazyLock;

use hgs_crypto::{hash, hex};

use crate::Path;

/// A file of the console.
#[derive(Debug)]
pub struct Asset {
    path: String,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its contents.
    pub contents: &'static str,
}

impl Asset {
    fn new(
        name: &str,
        extension: &str,
        content_type: &'static str,
        contents: &'static str,
    ) -> Self {
        let digest = hex::encode(&hash::sha256(contents.as_bytes())[..8]);
        Self {
            path: format!("/assets/{name}-{digest}.{extension}"),
            content_type,
            contents,
        }
    }

    pub(crate) fn path(&'static self) -> Path {
        Path::fixed(&self.path)
    }
}

pub(crate) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let contents = include_str!("assets/style.css");
    Asset::new("style", "css", "text/css; charset=utf-8", contents)
});

pub(crate) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let contents = include_str!("assets/script.js");
    Asset::new("script", "js", "text/javascript; charset=utf-8", contents)
});

pub(crate) static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let contents = include_str!("assets/icon.svg");
    Asset::new("icon", "svg", "image/svg+xml", contents)
});

/// The file at `path`.
#[must_use]
pub fn find(path: &str) -> Option<&'static Asset> {
    let all: [&'static Asset; 3] = [&STYLE, &SCRIPT, &ICON];
    all.into_iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acts work without the script, so it stays a small one.
    #[test]
    fn the_script_is_short() {
        assert!(SCRIPT.contents.lines().count() < 200);
        assert!(find(SCRIPT.path().as_str()).is_some());
        assert!(find("/assets/script.js").is_none());
    }
}
