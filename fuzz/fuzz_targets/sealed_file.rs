#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_client::sealed_file::fuzz_sealed_file(data));
