use std::io::{BufRead as _, BufReader};
use std::thread::{self, JoinHandle};

use hgs_testkit::Mutations;

use super::*;

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#;
const PATIENCE: Duration = Duration::from_secs(20);

/// A QEMU that greets, and answers each command with the next of `answers` (`ID` stands for that of the command). Returns
/// what it was told.
fn fake(answers: &'static [&'static str]) -> (UnixStream, JoinHandle<Vec<Value>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let thread = thread::spawn(move || {
        let mut writer = theirs.try_clone().unwrap();
        writeln!(writer, "{GREETING}\r").unwrap();
        let mut told = Vec::new();
        let mut answers = [r#"{"return": {}, "id": ID}"#]
            .into_iter()
            .chain(answers.iter().copied());
        for line in BufReader::new(theirs).lines() {
            let Ok(line) = line else { break };
            let mut command: Value = serde_json::from_str(&line).unwrap();
            let id = command.as_object_mut().unwrap().remove("id").unwrap();
            told.push(command);
            let Some(answer) = answers.next() else { break };
            write!(writer, "{}", answer.replace("ID", &id.to_string())).unwrap();
            if answer.ends_with('}') {
                writeln!(writer).unwrap();
            }
        }
        told
    });
    (ours, thread)
}

fn monitor(answers: &'static [&'static str]) -> (Monitor, JoinHandle<Vec<Value>>) {
    let (stream, thread) = fake(answers);
    (Monitor::over(stream, PATIENCE).unwrap(), thread)
}

#[test]
fn commands_are_written_as_qemu_reads_them() {
    let done = r#"{"return": {}, "id": ID}"#;
    let (mut monitor, thread) = monitor(Box::leak(vec![done; 20].into_boxed_slice()));
    monitor.cont().unwrap();
    monitor.stop().unwrap();
    monitor.system_powerdown().unwrap();
    monitor.prepare_migration().unwrap();
    let parameters = MigrationParameters {
        tls_credentials: Some("migration"),
        tls_hostname: Some("destination"),
        max_bandwidth: Some(1 << 30),
        downtime_limit: Some(Duration::from_millis(300)),
    };
    monitor.set_migration_parameters(&parameters).unwrap();
    let folder = Path::new("/run/tls");
    monitor
        .add_tls_credentials("migration", folder, Endpoint::Client)
        .unwrap();
    monitor.remove_tls_credentials("migration").unwrap();
    let address = MigrationAddress::Tcp("[::1]:0".parse().unwrap());
    monitor.migrate_incoming(&address).unwrap();
    monitor
        .migrate(&MigrationAddress::Unix("/run/m.sock".into()))
        .unwrap();
    monitor.migrate_cancel().unwrap();
    monitor.quit().unwrap();
    drop(monitor);
    let expected = json!([
        {"execute": "qmp_capabilities"},
        {"execute": "cont"},
        {"execute": "stop"},
        {"execute": "system_powerdown"},
        {"execute": "migrate-set-capabilities", "arguments": {"capabilities": [
            {"capability": "events", "state": true}, {"capability": "return-path", "state": true}]}},
        {"execute": "migrate-set-parameters", "arguments": {
            "tls-creds": "migration", "tls-hostname": "destination", "max-bandwidth": 1 << 30, "downtime-limit": 300}},
        {"execute": "object-add", "arguments": {"qom-type": "tls-creds-x509", "id": "migration",
            "dir": "/run/tls", "endpoint": "client", "verify-peer": true}},
        {"execute": "object-del", "arguments": {"id": "migration"}},
        {"execute": "migrate-incoming", "arguments": {"uri": "tcp:[::1]:0"}},
        {"execute": "migrate", "arguments": {"uri": "unix:/run/m.sock"}},
        {"execute": "migrate_cancel"},
        {"execute": "quit"},
    ]);
    assert_eq!(Value::Array(thread.join().unwrap()), expected);
}

/// As QEMU 7.2 and 10.0 wrote it.
#[test]
fn answers_refusals_and_events_are_told_apart() {
    let (mut monitor, _thread) = monitor(&[
        "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"STOP\"}\r\n{\"timestamp\": {\"seconds\": 1, \"microseconds\": 3}, \"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n{\"return\": {\"status\": \"shutdown\", \"singlestep\": false, \"running\": false}, \"id\": ID}\r\n",
        r#"{"id": ID, "error": {"class": "GenericError", "desc": "There's no migration process in progress"}}"#,
        r#"{"return": {"status": "completed", "downtime": 150, "total-time": 370, "ram": {"total": 554508288, "transferred": 95000000, "remaining": 0}}, "id": ID}"#,
        r#"{"return": {"status": "setup", "socket-address": [{"port": "43017", "ipv4": true, "host": "127.0.0.1", "type": "inet"}]}, "id": ID}"#,
        r#"{"return": {"status": "failed", "error-desc": "Unable to write to socket: Broken pipe"}, "id": ID}"#,
        r#"{"return": {}, "id": ID}"#,
    ]);
    assert_eq!(monitor.query_status().unwrap(), RunState::Shutdown);
    let event = monitor.next_event(Duration::ZERO).unwrap().unwrap();
    assert_eq!(event.name, "STOP");
    let event = monitor.next_event(Duration::ZERO).unwrap().unwrap();
    assert_eq!(
        (event.name.as_str(), &event.data["guest"]),
        ("SHUTDOWN", &json!(true))
    );
    assert_eq!(monitor.next_event(Duration::ZERO).unwrap(), None);
    let error = monitor.migrate_cancel().unwrap_err();
    assert_eq!(
        error.to_string(),
        "QEMU refused `migrate_cancel`: There's no migration process in progress (GenericError)"
    );
    let migration = monitor.query_migrate().unwrap();
    assert_eq!(migration.status, MigrationStatus::Completed);
    assert_eq!(migration.downtime, Some(Duration::from_millis(150)));
    assert_eq!(
        (migration.total, migration.transferred),
        (554_508_288, 95_000_000)
    );
    let migration = monitor.query_migrate().unwrap();
    assert_eq!(
        migration.status,
        MigrationStatus::Active("setup".to_owned())
    );
    assert_eq!(
        migration.listening,
        Some("127.0.0.1:43017".parse().unwrap())
    );
    let migration = monitor.query_migrate().unwrap();
    assert_eq!(migration.status, MigrationStatus::Failed);
    assert!(migration.error.unwrap().contains("Broken pipe"));
    assert_eq!(
        monitor.query_migrate().unwrap().status,
        MigrationStatus::None
    );
}

#[test]
fn what_is_not_the_protocol_ends_the_connection() {
    for answer in [
        "no JSON\n",
        "[]\n",
        "{}\n",
        "{\"return\": {}, \"error\": {\"class\": \"a\", \"desc\": \"b\"}, \"id\": ID}\n",
        "{\"return\": {}, \"return\": {}, \"id\": ID}\n",
        "{\"return\": {}, \"id\": 77}\n",
        "{\"return\": {}}\n",
        "{\"error\": {\"class\": \"a\"}, \"id\": ID}\n",
        "{\"QMP\": {}}\n",
        "{\"return\": {\"status\": 7}, \"id\": ID}\n",
    ] {
        let (mut monitor, _thread) = monitor(Box::leak(Box::new([answer])));
        let error = monitor.query_status().unwrap_err();
        assert!(matches!(error, QmpError::Protocol(_)), "{answer}: {error}");
    }
    let (mut monitor, _thread) = monitor(&["{\"return\": {}}\n", "{\"return\": {}, \"id\": ID}\n"]);
    monitor.stop().unwrap_err();
    assert!(matches!(monitor.stop(), Err(QmpError::Closed)));
}

#[test]
fn a_line_has_a_limit_and_an_answer_has_a_time() {
    let endless: &'static str = Box::leak("x".repeat(LINE_LIMIT + 1).into_boxed_str());
    let (mut monitor, _thread) = monitor(Box::leak(Box::new([endless])));
    let error = monitor.query_status().unwrap_err();
    assert!(error.to_string().contains("octets"), "{error}");

    let (ours, theirs) = UnixStream::pair().unwrap();
    let error = Monitor::over(ours, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, QmpError::Timeout(_)), "{error}");
    drop(theirs);
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let error = Monitor::over(ours, PATIENCE).unwrap_err();
    assert!(matches!(error, QmpError::Closed), "{error}");
}

#[test]
fn events_that_nobody_asks_for_are_bounded() {
    let event = "{\"event\": \"RESUME\"}\n";
    let flood = format!(
        "{}{}",
        event.repeat(3 * EVENTS_LIMIT),
        "{\"return\": {}, \"id\": ID}\n"
    );
    let (mut monitor, _thread) = monitor(Box::leak(Box::new([&*flood.leak()])));
    monitor.cont().unwrap();
    assert_eq!(monitor.events.len(), EVENTS_LIMIT);
}

#[test]
fn any_octets_are_read_or_refused() {
    let corpus = [
        GREETING.as_bytes().to_vec(),
        b"{\"return\": {\"status\": \"active\", \"ram\": {\"total\": 1}}, \"id\": 3}\n".to_vec(),
        b"{\"event\": \"MIGRATION\", \"data\": {\"status\": \"setup\"}}\n{\"error\": {\"class\": \"a\", \"desc\": \"b\"}}\n".to_vec(),
    ];
    let tokens: [&[u8]; 5] = [
        b"\"return\"",
        b"null",
        b"\n",
        b"{",
        b"\"id\": 18446744073709551616",
    ];
    for octets in Mutations::of(&corpus, &tokens).take(3000) {
        fuzz_qmp_message(&octets);
    }
}
