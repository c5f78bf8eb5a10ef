#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_server::fuzz_console_request(data));
