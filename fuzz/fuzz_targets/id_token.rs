#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_openid::fuzzing::fuzz_id_token(data));
