#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_tcg::fuzzing::fuzz_ima_log(data));
