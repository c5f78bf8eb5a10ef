//! The guardian's keys in a token instead of its state.

use std::path::PathBuf;

use hgs_custody::{PinSource, Pkcs11Uri};
use hgs_server::CertificateSource;
use hgs_server::config::{Pkcs11, Pkcs11Module};

/// The variable with the token's PIN.
const PIN_VARIABLE: &str = "HGS_PKCS11_PIN";

/// Options that name a token.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With keys in a token, whose PIN is in HGS_PKCS11_PIN")]
pub(super) struct TokenOptions {
    /// The PKCS#11 module, a shared object
    #[arg(long, value_name = "FILE", requires = "token")]
    pkcs11_module: Option<PathBuf>,
    /// The label of the token
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    token: Option<String>,
}

impl TokenOptions {
    /// The token, if one was named.
    pub(super) fn given(self) -> Option<Token> {
        Some(Token {
            module: self.pkcs11_module?,
            label: self.token?,
        })
    }
}

/// A token for the guardian's two keys.
#[derive(Debug)]
pub(super) struct Token {
    module: PathBuf,
    pub(super) label: String,
}

impl Token {
    /// The section of the configuration that lets the guardian use it.
    pub(super) fn configuration(&self) -> Pkcs11 {
        Pkcs11 {
            pin_source: Some(PinSource::Environment(PIN_VARIABLE.to_owned())),
            modules: vec![Pkcs11Module::new(&self.module)],
            ..Pkcs11::default()
        }
    }

    /// A key in it. The name is always the same, so that quickstarts don't fill the token.
    pub(super) fn key(&self, usage: &str) -> CertificateSource {
        let uri = Pkcs11Uri {
            token: Some(self.label.clone()),
            object: Some(format!("openhgs-quickstart-{usage}")),
            ..Pkcs11Uri::default()
        };
        CertificateSource::InToken {
            key: Box::new(uri.into()),
            certificate: None,
        }
    }
}
