//! A guardian without listeners, for tests inside this crate.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hgs_pki::Time;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{Guardian, InitOptions, KeySize};
use crate::config::Layout;
use crate::{Clock, Config, Metrics};

/// A clock that stands still.
struct Still(Time);

impl Clock for Still {
    fn now(&self) -> Time {
        self.0
    }

    fn wait_until(&self, _: Time) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// A new guardian, and the folder that it lives in.
pub(crate) fn opened() -> (TempDir, Arc<Guardian>) {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("server.state = \"{}/state\"", folder.path().display());
    let config = Config::parse(&text, "test.toml".as_ref(), Layout::system()).unwrap();
    let now = Time::from_unix(1_795_287_600);
    let options = InitOptions {
        key_size: KeySize::Rsa2048,
        ..InitOptions::default()
    };
    Guardian::initialise(&config, options, now).unwrap();
    let (alive, _) = mpsc::channel(1);
    let opened = Guardian::open(&config, Arc::new(Still(now)), &Metrics::new(), alive);
    (folder, opened.unwrap())
}

#[test]
fn holdings_are_made_anew_when_keys_change_and_only_then() {
    let (_folder, guardian) = opened();
    let before = guardian.snapshot().unwrap();
    assert!(Arc::ptr_eq(
        &before.holdings,
        &guardian.snapshot().unwrap().holdings
    ));

    let act = || hgs_store::Act {
        time: guardian.clock.now(),
        actor: "test".to_owned(),
    };
    let settings = hgs_store::Settings {
        allow_key_material_caching: true,
        ..before.state.settings().clone()
    };
    let settings = hgs_store::Transaction::SetSettings(settings);
    guardian.store.transact(vec![settings], act()).unwrap();
    let after = guardian.snapshot().unwrap();
    assert!(after.state.settings().allow_key_material_caching);
    assert!(
        Arc::ptr_eq(&before.holdings, &after.holdings),
        "no key is parsed twice"
    );

    let signer = super::rotation::new_signer(KeySize::Rsa2048, guardian.clock.now()).unwrap();
    guardian.store.transact(vec![signer], act()).unwrap();
    let after = guardian.snapshot().unwrap();
    assert!(!Arc::ptr_eq(&before.holdings, &after.holdings));
    for record in before.state.certificates() {
        let thumbprint = record.thumbprint();
        let old = before.holdings.keys.find(&thumbprint).unwrap();
        let new = after.holdings.keys.find(&thumbprint).unwrap();
        assert!(std::ptr::addr_eq(old, new), "no key is parsed twice");
    }
}
