#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_store::fuzz_audit_archive(data));
