#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_attest::policy::fuzzing::fuzz_boot(data));
