#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_agent::fuzz_migration_message(data));
