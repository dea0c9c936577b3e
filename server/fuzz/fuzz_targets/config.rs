//! The configuration file: any text is read or refused with a message, and what is read can be written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use whimbrel_server::config::Config;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, Path::new("whimbrel.toml")) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(config) => {
            let written = toml::to_string(&config).expect("a configuration is plain TOML values");
            let again =
                Config::parse(&written, Path::new("written.toml")).expect("what is written can be read");
            assert_eq!(again, config);
            if let Err(error) = config.check() {
                assert!(!error.to_string().is_empty());
            }
        }
    }
});
