#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_console::fuzzing::fuzz_console_form(data));
