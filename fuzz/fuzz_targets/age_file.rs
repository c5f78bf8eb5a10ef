#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_custody::age::fuzzing::fuzz_age_file(data));
