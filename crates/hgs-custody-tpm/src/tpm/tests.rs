use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use super::*;

/// A TPM that answers what the test says, and remembers what it was asked.
#[derive(Debug, Clone)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<io::Result<Vec<u8>>>>>,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Transport for Scripted {
    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.asked.lock().unwrap().push(command.to_vec());
        let next = self.answers.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Ok(refusal(0x101)))
    }
}

fn refusal(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

fn scripted(answers: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> (Scripted, Device) {
    let script = Scripted {
        answers: Arc::new(Mutex::new(answers.into_iter().collect())),
        asked: Arc::default(),
    };
    (script, Device::of_this_machine())
}

fn opened(answers: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> (Scripted, Tpm) {
    let answers = std::iter::once(Ok(refusal(0))).chain(answers);
    let (script, device) = scripted(answers);
    let tpm = Tpm::begin(device, Box::new(script.clone()), None).unwrap();
    script.asked.lock().unwrap().clear();
    (script, tpm)
}

#[test]
fn what_the_tpm_wants_again_is_sent_again_as_it_was() {
    // TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY
    let busy = [0x908, 0x90a, 0x922].map(|code| Ok(refusal(code)));
    let (script, mut tpm) = opened(busy.into_iter().chain([Ok(refusal(0))]));
    assert_eq!(tpm.execute(&tpm::read_clock()).unwrap(), refusal(0));
    assert_eq!(
        *script.asked.lock().unwrap(),
        vec![tpm::read_clock(); 4],
        "the same octets: an HMAC is over them"
    );
}

#[test]
fn refusals_have_plain_words() {
    let shown = |code: u32| {
        let error = ResponseError::Refused(ResponseCode::new(code));
        TpmError::of_response("TPM2_Load", error).to_string()
    };
    assert!(shown(0x922).starts_with("the TPM stays busy: TPM_RC_RETRY"));
    assert!(shown(0x902).starts_with("the TPM has no room: TPM_RC_OBJECT_MEMORY"));
    assert!(shown(0x921).starts_with("the TPM is locked: TPM_RC_LOCKOUT"));
    assert!(shown(0x101).starts_with("TPM2_Load: the TPM refused the command: TPM_RC_FAILURE"));
}

#[test]
fn what_was_loaded_is_flushed_also_after_an_error() {
    let handle = [0x80, 0, 0, 7];
    let loaded = [&[0x80, 2, 0, 0, 0, 14, 0, 0, 0, 0][..], &handle].concat();
    let (script, mut tpm) = opened([Ok(loaded), Err(io::ErrorKind::BrokenPipe.into())]);
    tpm.execute(&Command::CreatePrimary(Primary::StorageRootKey).octets())
        .unwrap();
    let error = tpm.execute(&tpm::read_clock()).unwrap_err();
    assert!(matches!(error, TpmError::Broken { .. }), "{error}");
    drop(tpm);
    let asked = script.asked.lock().unwrap();
    let flush = flush_context(Handle::new(0x8000_0007));
    assert_eq!(asked.last(), Some(&flush));
}

#[test]
fn what_is_no_tpm_is_named() {
    let kind = |kind: io::ErrorKind| {
        let (script, device) = scripted([Err(kind.into())]);
        Tpm::begin(device, Box::new(script), None).unwrap_err()
    };
    let error = kind(io::ErrorKind::ResourceBusy);
    assert!(matches!(error, TpmError::InUse { .. }), "{error}");
    let error = kind(io::ErrorKind::WouldBlock);
    assert!(matches!(error, TpmError::InUse { .. }), "{error}");
    let (script, device) = scripted([Ok(vec![0x80, 1])]);
    let error = Tpm::begin(device, Box::new(script), None).unwrap_err();
    assert!(matches!(error, TpmError::Broken { .. }), "{error}");
    let none = Device::Character("/nonexistent/tpmrm0".into());
    let error = Tpm::open(&none, None).unwrap_err();
    assert!(matches!(error, TpmError::Absent { .. }), "{error}");
}

#[test]
fn a_file_in_place_of_a_device_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    std::fs::write(&path, b"127.0.0.1 localhost").unwrap();
    let error = Tpm::open(&Device::Character(path.clone()), None).unwrap_err();
    assert!(matches!(error, TpmError::Absent { .. }), "{error}");
    assert!(error.to_string().contains("no character device"), "{error}");
    assert_eq!(std::fs::read(path).unwrap(), b"127.0.0.1 localhost");
}

#[test]
fn slow_work_is_told_before_it_begins() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (_, tpm) = opened([]);
    let sink = Arc::clone(&told);
    let mut tpm = tpm.with_progress(move |slow| sink.lock().unwrap().push(slow));
    let _ = tpm.endorsement_key();
    let _ = tpm.storage_root_key();
    tpm.execute(&tpm::read_clock()).unwrap();
    assert_eq!(
        *told.lock().unwrap(),
        [Slow::EndorsementKey, Slow::StorageRootKey]
    );
}
