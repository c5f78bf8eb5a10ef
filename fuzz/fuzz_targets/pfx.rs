#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_custody::pfx::fuzz_pfx(data));
