#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_server::http::fuzzing::fuzz_connection(data));
