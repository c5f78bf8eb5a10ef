#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_tcg::fuzzing::fuzz_event_log(data));
