#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hgs_xml::fuzzing::fuzz_document(data));
