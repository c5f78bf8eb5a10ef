//! Keys, guardians and protectors that tests share.

mod forge;
mod guardians;
mod health;
mod key_work;
mod keys;
mod random;

pub use forge::{Forge, ForgedWrapping, encrypted_data, signature_element};
pub use guardians::{Guardian, certificate, now, self_signed, ten_years};
pub use health::{AttestationSigner, Host};
pub use key_work::Keys;
pub use keys::{KEYS, private_key, private_key_3072};
pub use random::{Repeatable, key_octets};
