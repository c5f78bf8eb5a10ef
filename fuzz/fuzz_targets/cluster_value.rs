#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_cluster::order::fuzz_values(data));
