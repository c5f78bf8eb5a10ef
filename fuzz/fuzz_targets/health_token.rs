#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_attest::fuzzing::fuzz_health_token(data));
