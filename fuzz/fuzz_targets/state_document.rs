#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_store::backup::fuzzing::fuzz_state_document(data));
