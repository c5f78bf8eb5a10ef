//! `hgs events`: what is shown of what happens.

mod common;

use common::Home;
use common::followed::Followed;
use common::served::{Served, configure};
use serde_json::Value;

fn guardian() -> Home {
    let home = Home::new();
    configure(&home);
    home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
        .done();
    for host in ["host1", "host2"] {
        home.make_host_key(host);
    }
    home
}

fn add(home: &Home, host: &str) {
    home.hgs(&format!(
        "host add {host} --host-key {host}.pem --config hgs.toml"
    ))
    .done();
}

fn events(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_has_happened_is_shown_to_people_and_to_programs() {
    let home = guardian();
    home.hgs("events --config hgs.toml")
        .ended(1)
        .saying("no server listens");
    let served = Served::start(&home);
    add(&home, "host1");
    home.hgs("host revoke host1 --reason stolen --yes --config hgs.toml")
        .done();
    let shown = home.hgs("events --config hgs.toml").done();
    let lines: Vec<&str> = shown.out.lines().collect();
    assert!(lines[0].contains("readiness  node-1 is ready"), "{lines:?}");
    let last = lines[lines.len() - 1];
    assert!(
        last.contains("  revocation  revoke-host host1, by "),
        "{last}"
    );

    let told = events(&home.hgs("events --json --config hgs.toml").done().out);
    let caught_up = &told[told.len() - 1];
    assert_eq!(caught_up["kind"], "caught-up");
    let newest = caught_up["sequence"].as_u64().unwrap();
    let revoked = &told[told.len() - 2];
    assert_eq!(
        (&revoked["kind"], &revoked["host_name"]),
        (&"revocation".into(), &"host1".into())
    );
    assert_eq!(revoked["sequence"], newest);
    let since = newest - 1;
    let words = format!("events --json --kind revocation,host --since {since} --config hgs.toml");
    let told = events(&home.hgs(&words).done().out);
    assert_eq!(told, [revoked.clone(), caught_up.clone()]);
    home.hgs("events --kind eclipse --config hgs.toml")
        .ended(64);
    assert_eq!(served.stop().0, Some(0));
}

#[test]
fn who_follows_misses_nothing_while_the_server_is_started_again() {
    let home = guardian();
    let served = Served::start(&home);
    let mut followed = Followed::start(&home, &[]);
    followed.until("caught-up");
    add(&home, "host1");
    let seen = followed.until("host");
    assert_eq!(seen.len(), 1, "{seen:?}");
    // The server waits for no stream.
    assert_eq!(served.stop().0, Some(0));
    let served = Served::start(&home);
    add(&home, "host2");
    let seen = followed.until("host");
    let added: Vec<_> = seen
        .iter()
        .filter(|event| event["kind"] == "host")
        .map(|event| event["host_name"].clone())
        .collect();
    assert_eq!(added, ["host2"]);
    assert!(seen.iter().all(|event| event["kind"] != "gap"), "{seen:?}");
    drop(followed);
    assert_eq!(served.stop().0, Some(0));
}
